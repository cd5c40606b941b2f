//! A graph in the making: operators by name, constants, and weights as they are stored.

use std::collections::HashSet;
use std::rc::Rc;

use half::bf16;

use crate::proto::{
    Attribute, AttributeKind, DataType, Dimension, GraphMessage, Node, Shape, Tensor, TensorType, Type,
    ValueInfo,
};

/// How matrices are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weights {
    /// As they are, in float32.
    #[default]
    Float32,
    /// In bfloat16: half of the size, three digits. All is computed in float32.
    Bfloat16,
    /// Matrices of linear layers in int8, a scale for each output, those of heads in float32, other tables in bfloat16; the
    /// layers' inputs are rounded to 8 bits as they come, with a scale for each token, as `Precision::Int8` of the encoder
    /// does. On x86-64 without VNNI, onnxruntime's sums of such products saturate, and answers are worse.
    Int8,
}

/// The largest whole number that an input or a weight is rounded to.
const MOST_OF_8_BITS: f32 = 127.0;
/// Rows of smaller values are all but zero.
const LEAST: f32 = 1e-30;
/// Products of fewer columns, or of an inner axis no longer than this, stay floats, as they do in the encoder's own 8 bits.
const NARROW: usize = 16;
const SHALLOW: usize = 2;

/// A value of the graph, by its name.
#[derive(Debug, Clone)]
pub struct Value(pub Rc<str>);

#[derive(Default)]
pub struct Graph {
    nodes: Vec<Node>,
    initializers: Vec<Tensor>,
    stored: HashSet<String>,
    weights: Weights,
    /// What names begin with: those of a loop's body are apart from its surroundings'.
    prefix: &'static str,
}

impl Graph {
    pub fn new(weights: Weights) -> Self {
        Self { weights, ..Self::default() }
    }

    /// The body of a loop.
    pub fn body() -> Self {
        Self { prefix: "body_", ..Self::default() }
    }

    pub fn input(name: &str) -> Value {
        Value(name.into())
    }

    /// One operator with one output.
    pub fn op(&mut self, kind: &str, inputs: &[&Value], attributes: Vec<Attribute>) -> Value {
        self.ops(kind, inputs, attributes, 1).remove(0)
    }

    /// One operator with several outputs.
    pub fn ops(
        &mut self,
        kind: &str,
        inputs: &[&Value],
        attribute: Vec<Attribute>,
        outputs: usize,
    ) -> Vec<Value> {
        let name = format!("{}{kind}_{}", self.prefix, self.nodes.len());
        let outputs: Vec<String> = match outputs {
            1 => vec![name.clone()],
            _ => (0..outputs).map(|i| format!("{name}_{i}")).collect(),
        };
        self.nodes.push(Node {
            input: inputs.iter().map(|value| value.0.to_string()).collect(),
            output: outputs.clone(),
            name,
            op_type: kind.into(),
            attribute,
        });
        outputs.into_iter().map(|name| Value(name.as_str().into())).collect()
    }

    /// Gives a value the name of an output.
    pub fn output(&mut self, name: &str, value: &Value) -> Value {
        self.nodes.push(Node {
            input: vec![value.0.to_string()],
            output: vec![name.into()],
            name: format!("output_{name}"),
            op_type: "Identity".into(),
            attribute: Vec::new(),
        });
        Value(name.into())
    }

    fn store(
        &mut self,
        name: String,
        shape: &[usize],
        kind: DataType,
        raw_data: impl FnOnce() -> Vec<u8>,
    ) -> Value {
        if self.stored.insert(name.clone()) {
            let dims = shape.iter().map(|size| *size as i64).collect();
            let tensor = Tensor { dims, data_type: kind.into(), name: name.clone(), raw_data: raw_data() };
            self.initializers.push(tensor);
        }
        Value(name.as_str().into())
    }

    /// A constant; equal names are one.
    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Value {
        self.store(name.into(), shape, DataType::Float, || bytes_of(values))
    }

    /// A constant that is computed if there is none of its name yet.
    pub fn made(&mut self, name: &str, shape: &[usize], values: impl FnOnce() -> Vec<f32>) -> Value {
        self.store(name.into(), shape, DataType::Float, || bytes_of(&values()))
    }

    /// A number.
    pub fn float(&mut self, value: f32) -> Value {
        let name = format!("{}float_{value:e}", self.prefix);
        self.floats(&name, &[], &[value])
    }

    /// A list of whole numbers.
    pub fn ints(&mut self, values: &[i64]) -> Value {
        let name: Vec<String> = values.iter().map(i64::to_string).collect();
        let name = format!("{}ints_{}", self.prefix, name.join("_"));
        self.list(&name, || values.to_vec(), values.len())
    }

    /// A list of `len` whole numbers that is computed if there is none of its name yet.
    pub fn list(&mut self, name: &str, values: impl FnOnce() -> Vec<i64>, len: usize) -> Value {
        let raw = || values().iter().flat_map(|v| v.to_le_bytes()).collect();
        self.store(name.into(), &[len], DataType::Int64, raw)
    }

    /// A whole number.
    pub fn int(&mut self, value: i64) -> Value {
        let raw = || value.to_le_bytes().to_vec();
        self.store(format!("{}int_{value}", self.prefix), &[], DataType::Int64, raw)
    }

    /// A table of weights, stored as the graph stores them.
    pub fn table(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Value {
        match self.weights {
            Weights::Bfloat16 | Weights::Int8 => {
                let raw = || values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
                let halves = self.store(name.into(), shape, DataType::Bfloat16, raw);
                self.cast(&halves, DataType::Float)
            }
            Weights::Float32 => self.floats(name, shape, values),
        }
    }

    /// `x wᵀ` by a matrix `[outputs, inputs]` that is never stored in 8 bits.
    pub fn exact_product(
        &mut self,
        x: &Value,
        name: &str,
        [outputs, inputs]: [usize; 2],
        w: &[f32],
    ) -> Value {
        let turned: Vec<f32> = (0..inputs * outputs).map(|i| w[i % outputs * inputs + i / outputs]).collect();
        let name = format!("{name}.transposed");
        let w = match self.weights {
            Weights::Int8 => self.floats(&name, &[inputs, outputs], &turned),
            _ => self.table(&name, &[inputs, outputs], &turned),
        };
        self.matmul(x, &w)
    }

    /// `x wᵀ` by a matrix `[outputs, inputs]`.
    pub fn product(&mut self, x: &Value, name: &str, [outputs, inputs]: [usize; 2], w: &[f32]) -> Value {
        if self.weights != Weights::Int8 || outputs < NARROW || inputs <= SHALLOW {
            return self.exact_product(x, name, [outputs, inputs], w);
        }
        let largest_of =
            |row: &[f32]| row.iter().fold(LEAST, |most, v| if v.abs() <= most { most } else { v.abs() });
        // What is not finite stays so.
        let largest: Vec<f32> = w.chunks_exact(inputs).map(largest_of).collect();
        let scales: Vec<f32> = largest.iter().map(|most| most / MOST_OF_8_BITS).collect();
        let raw = || {
            let byte = |input: usize, output: usize| {
                (w[output * inputs + input] * (MOST_OF_8_BITS / largest[output])).round_ties_even() as i8
                    as u8
            };
            (0..inputs * outputs).map(|i| byte(i / outputs, i % outputs)).collect()
        };
        let w = self.store(format!("{name}.int8"), &[inputs, outputs], DataType::Int8, raw);
        let scales = self.floats(&format!("{name}.scales"), &[outputs], &scales);
        // Each row of x is rounded by a scale of its own, so that no answer depends on the rest of its batch; and without
        // a sign, which runtimes multiply fastest.
        let rows = self.reshape(x, &[-1, inputs as i64]);
        let highest = self.op("ReduceMax", &[&rows], vec![ints("axes", &[-1]), int("keepdims", 0)]);
        let lowest = self.op("ReduceMin", &[&rows], vec![ints("axes", &[-1]), int("keepdims", 0)]);
        let lowest = self.one("Neg", &lowest);
        let least = self.float(LEAST);
        let largest = self.op("Max", &[&highest, &lowest, &least], vec![]);
        let unit = self.scaled(&largest, 1.0 / MOST_OF_8_BITS);
        let middle = self.store("uint8_128".into(), &[], DataType::Uint8, || vec![128]);
        let count = self.one("Shape", &unit);
        let middles = self.op("Expand", &[&middle, &count], vec![]);
        let rounded = self.op("QuantizeLinear", &[&rows, &unit, &middles], vec![int("axis", 0)]);
        let sums = self.op("MatMulInteger", &[&rounded, &w, &middle], vec![]);
        let sums = self.cast(&sums, DataType::Float);
        // One after the other: onnxruntime takes the product of two scales for those of whole matrices.
        let sums = self.mul(&sums, &scales);
        let unit = self.unsqueeze(&unit, 1);
        let y = self.mul(&sums, &unit);
        let (shape, last) = (self.one("Shape", x), self.ints(&[-1]));
        let leading = self.slice(&shape, 0, 0, &last);
        let width = self.ints(&[outputs as i64]);
        let shape = self.concat(&[&leading, &width], 0);
        self.op("Reshape", &[&y, &shape], vec![])
    }

    /// The same by a table that other parts look up, stored once where its form allows it.
    pub fn product_by_table(&mut self, x: &Value, name: &str, shape: [usize; 2], w: &[f32]) -> Value {
        if self.weights == Weights::Int8 {
            return self.product(x, name, shape, w);
        }
        let table = self.table(name, &shape, w);
        let turned = self.transpose(&table, &[1, 0]);
        self.matmul(x, &turned)
    }

    pub fn add(&mut self, a: &Value, b: &Value) -> Value {
        self.op("Add", &[a, b], vec![])
    }

    pub fn sub(&mut self, a: &Value, b: &Value) -> Value {
        self.op("Sub", &[a, b], vec![])
    }

    pub fn mul(&mut self, a: &Value, b: &Value) -> Value {
        self.op("Mul", &[a, b], vec![])
    }

    pub fn div(&mut self, a: &Value, b: &Value) -> Value {
        self.op("Div", &[a, b], vec![])
    }

    pub fn max(&mut self, a: &Value, b: &Value) -> Value {
        self.op("Max", &[a, b], vec![])
    }

    pub fn matmul(&mut self, a: &Value, b: &Value) -> Value {
        self.op("MatMul", &[a, b], vec![])
    }

    pub fn one(&mut self, kind: &str, x: &Value) -> Value {
        self.op(kind, &[x], vec![])
    }

    pub fn scaled(&mut self, x: &Value, factor: f32) -> Value {
        let factor = self.float(factor);
        self.mul(x, &factor)
    }

    pub fn cast(&mut self, x: &Value, to: DataType) -> Value {
        self.op("Cast", &[x], vec![int("to", i32::from(to).into())])
    }

    pub fn gather(&mut self, table: &Value, at: &Value, axis: i64) -> Value {
        self.op("Gather", &[table, at], vec![int("axis", axis)])
    }

    pub fn unsqueeze(&mut self, x: &Value, axis: i64) -> Value {
        let axes = self.ints(&[axis]);
        self.op("Unsqueeze", &[x, &axes], vec![])
    }

    pub fn squeeze(&mut self, x: &Value, axis: i64) -> Value {
        let axes = self.ints(&[axis]);
        self.op("Squeeze", &[x, &axes], vec![])
    }

    pub fn transpose(&mut self, x: &Value, order: &[i64]) -> Value {
        self.op("Transpose", &[x], vec![ints("perm", order)])
    }

    pub fn concat(&mut self, parts: &[&Value], axis: i64) -> Value {
        if let [only] = parts { (*only).clone() } else { self.op("Concat", parts, vec![int("axis", axis)]) }
    }

    /// Sum over an axis, which stays.
    pub fn sum(&mut self, x: &Value, axis: i64) -> Value {
        let axes = self.ints(&[axis]);
        self.op("ReduceSum", &[x, &axes], vec![int("keepdims", 1)])
    }

    /// `x[start..end]` on an axis.
    pub fn slice(&mut self, x: &Value, axis: i64, start: i64, end: &Value) -> Value {
        let (starts, axes) = (self.ints(&[start]), self.ints(&[axis]));
        self.op("Slice", &[x, &starts, end, &axes], vec![])
    }

    /// `[shape]` with a 0 for each axis that stays as it is and a -1 for one that is as long as needed.
    pub fn reshape(&mut self, x: &Value, shape: &[i64]) -> Value {
        let shape = self.ints(shape);
        self.op("Reshape", &[x, &shape], vec![])
    }

    /// The vectors of length one, or zero.
    pub fn unit(&mut self, x: &Value, least: f32) -> Value {
        let length = self.op("ReduceL2", &[x], vec![ints("axes", &[-1]), int("keepdims", 1)]);
        let least = self.float(least);
        let length = self.max(&length, &least);
        self.div(x, &length)
    }

    /// All of it as a message.
    pub fn finish(self, name: &str, inputs: Vec<ValueInfo>, outputs: Vec<ValueInfo>) -> GraphMessage {
        GraphMessage {
            node: self.nodes,
            name: name.into(),
            initializer: self.initializers,
            input: inputs,
            output: outputs,
        }
    }
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub fn int(name: &str, value: i64) -> Attribute {
    Attribute { name: name.into(), int: Some(value), kind: AttributeKind::Int.into(), ..Attribute::default() }
}

pub fn ints(name: &str, values: &[i64]) -> Attribute {
    Attribute {
        name: name.into(),
        ints: values.into(),
        kind: AttributeKind::Ints.into(),
        ..Attribute::default()
    }
}

pub fn float(name: &str, value: f32) -> Attribute {
    Attribute {
        name: name.into(),
        float: Some(value),
        kind: AttributeKind::Float.into(),
        ..Attribute::default()
    }
}

pub fn graph(name: &str, value: GraphMessage) -> Attribute {
    Attribute {
        name: name.into(),
        graph: Some(value),
        kind: AttributeKind::Graph.into(),
        ..Attribute::default()
    }
}

/// An input or output: each axis a name, or a size.
pub fn info(name: &str, element: DataType, axes: &[&str]) -> ValueInfo {
    let axis = |axis: &&str| match axis.parse() {
        Ok(size) => Dimension { value: Some(size), name: None },
        Err(_) => Dimension { value: None, name: Some((*axis).into()) },
    };
    let shape = Some(Shape { dim: axes.iter().map(axis).collect() });
    let tensor = Some(TensorType { element: element.into(), shape });
    ValueInfo { name: name.into(), kind: Some(Type { tensor }) }
}
