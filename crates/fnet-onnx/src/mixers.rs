//! Mixing of padded sequences, each at its own length, by matrix products.

use std::f64::consts::TAU;

use fnet_encoder::EncoderError;
use fnet_encoder::mixers::{MixerKind, Reservoir};

use crate::OnnxError;
use crate::encoder::{Source, Tokens};
use crate::graph::{Graph, Value, graph, info, int, ints};
use crate::proto::DataType;

/// Cosines and sines of `2 pi j k / length` over each sequence, `[sequences, length, length]`, zero in the padding: made
/// once for all layers.
pub struct SequenceWaves {
    cosines: Value,
    sines: Value,
}

impl SequenceWaves {
    pub fn new(g: &mut Graph, tokens: &Tokens) -> Self {
        // Exact in whole numbers before it becomes an angle.
        let (row, column) = (g.unsqueeze(&tokens.places, 1), g.unsqueeze(&tokens.places, 0));
        let products = g.mul(&row, &column);
        let one = g.int(1);
        let lengths = g.max(&tokens.lengths, &one);
        let lengths = g.reshape(&lengths, &[-1, 1, 1]);
        let turns = g.op("Mod", &[&products, &lengths], vec![]);
        let (turns, lengths) = (g.cast(&turns, DataType::Float), g.cast(&lengths, DataType::Float));
        let turns = g.scaled(&turns, TAU as f32);
        let angles = g.div(&turns, &lengths);
        let (down, across) = (g.unsqueeze(&tokens.mixed, 2), g.unsqueeze(&tokens.mixed, 1));
        let own = g.mul(&down, &across);
        let [cosines, sines] = ["Cos", "Sin"].map(|wave| {
            let wave = g.one(wave, &angles);
            g.mul(&wave, &own)
        });
        Self { cosines, sines }
    }
}

/// Cosines or sines of the lower half of the frequencies over the hidden axis, `[hidden, hidden / 2 + 1]`.
fn hidden_waves(g: &mut Graph, hidden: usize, name: &str, wave: fn(f64) -> f64) -> Value {
    let half = hidden / 2 + 1;
    let value = |i: usize| wave(TAU * ((i / half) * (i % half) % hidden) as f64 / hidden as f64) as f32;
    g.made(name, &[hidden, half], || (0..hidden * half).map(value).collect())
}

/// The whole axis from its lower half, and from its mirror image, which holds the upper half in reverse.
fn whole(g: &mut Graph, lower: &Value, mirrored: &Value, hidden: usize) -> Value {
    let half = hidden / 2 + 1;
    let both = g.concat(&[lower, mirrored], -1);
    let from = || (0..half).chain((half..hidden).map(|k| half + hidden - k)).map(|at| at as i64).collect();
    let from = g.list("hidden_order", from, hidden);
    g.gather(&both, &from, -1)
}

/// What is mixed into layer `index`'s input `x`.
pub fn mix(
    g: &mut Graph,
    source: &Source,
    kind: MixerKind,
    index: usize,
    x: &Value,
    tokens: &Tokens,
) -> Result<Option<Value>, OnnxError> {
    let hidden = source.config.hidden_size;
    let layer = format!("{}.encoder.layer.{index}", source.prefix());
    let masked = |g: &mut Graph, x: &Value| {
        let own = g.unsqueeze(&tokens.mixed, 2);
        g.mul(x, &own)
    };
    let waves = || {
        tokens.waves.as_ref().ok_or_else(|| OnnxError::Unsupported("a Fourier layer without waves".into()))
    };
    Ok(Some(match kind {
        MixerKind::None => return Ok(None),
        MixerKind::Fourier | MixerKind::Hartley => {
            let waves = waves()?;
            let (cosines, sines) = (
                hidden_waves(g, hidden, "hidden_cosines", f64::cos),
                hidden_waves(g, hidden, "hidden_sines", f64::sin),
            );
            let (a, b) = (g.matmul(x, &cosines), g.matmul(x, &sines));
            let (p, q) = (g.matmul(&waves.cosines, &a), g.matmul(&waves.sines, &b));
            let (mut lower, mut upper) = (g.sub(&p, &q), g.add(&p, &q));
            if kind == MixerKind::Hartley {
                // Less the imaginary part: the sine of the sum of both angles.
                let (r, s) = (g.matmul(&waves.sines, &a), g.matmul(&waves.cosines, &b));
                let (sum, difference) = (g.add(&r, &s), g.sub(&r, &s));
                (lower, upper) = (g.add(&lower, &sum), g.add(&upper, &difference));
            }
            whole(g, &lower, &upper, hidden)
        }
        MixerKind::FourierSeq => g.matmul(&waves()?.cosines, x),
        MixerKind::FourierHidden => {
            let cosines = hidden_waves(g, hidden, "hidden_cosines", f64::cos);
            let lower = g.matmul(x, &cosines);
            whole(g, &lower, &lower, hidden)
        }
        MixerKind::Attention => attention(g, source, &layer, x, tokens)?,
        MixerKind::Linear | MixerKind::Random => {
            let longest = source.config.max_position_embeddings;
            let inner = source.product(g, x, &format!("{layer}.mixing.hidden.weight"), [hidden, hidden])?;
            let inner = masked(g, &inner);
            let name = format!("{layer}.mixing.sequence.weight");
            let matrix = g.table(&name, &[longest, longest], source.tensor(&name)?);
            let matrix = g.slice(&matrix, 0, 0, &tokens.length);
            let matrix = g.slice(&matrix, 1, 0, &tokens.length);
            g.matmul(&matrix, &inner)
        }
        MixerKind::Mlp => {
            let (longest, inside) = (source.config.max_position_embeddings, hidden.div_ceil(2));
            let part = |g: &mut Graph, name: &str, shape: &[usize], axis| {
                let name = format!("{layer}.mixing.{name}");
                let whole = g.table(&name, shape, source.tensor(&name)?);
                Ok::<_, OnnxError>(match axis {
                    Some(axis) => g.slice(&whole, axis, 0, &tokens.length),
                    None => whole,
                })
            };
            let first = part(g, "in.weight", &[inside, longest], Some(1))?;
            let first_bias = part(g, "in.bias", &[inside, 1], None)?;
            let second = part(g, "out.weight", &[longest, inside], Some(0))?;
            let second_bias = part(g, "out.bias", &[longest, 1], Some(0))?;
            let x = masked(g, x);
            let inner = g.matmul(&first, &x);
            let inner = g.add(&inner, &first_bias);
            let inner = source.activation(g, "gelu_new", &inner, "")?;
            let y = g.matmul(&second, &inner);
            g.add(&y, &second_bias)
        }
        MixerKind::Shift => {
            let x = masked(g, x);
            let half = hidden / 2;
            let pads = g.ints(&[0, 1, 0, 0, 1, 0]);
            let around = g.op("Pad", &[&x, &pads], vec![]);
            let end = g.ints(&[i64::MAX]);
            let next = g.slice(&around, 1, 2, &end);
            let next = g.slice(&next, 2, (hidden - half) as i64, &end);
            let before = g.slice(&around, 1, 0, &tokens.length);
            let halves = g.ints(&[half as i64]);
            let before = g.slice(&before, 2, 0, &halves);
            if hidden.is_multiple_of(2) {
                g.concat(&[&next, &before], 2)
            } else {
                let one = g.ints(&[1]);
                let middle = g.slice(&x, 2, 0, &one);
                let middle = g.scaled(&middle, 0.0);
                g.concat(&[&next, &middle, &before], 2)
            }
        }
        MixerKind::Reservoir => reservoir(g, source, index, x, tokens)?,
        #[allow(unreachable_patterns)] // mixers that come later
        _ => return Err(OnnxError::Unsupported(format!("the mixer `{}`", kind.name()))),
    }))
}

fn attention(
    g: &mut Graph,
    source: &Source,
    layer: &str,
    x: &Value,
    tokens: &Tokens,
) -> Result<Value, OnnxError> {
    let (hidden, heads) = (source.config.hidden_size, source.config.attention_heads());
    let width = hidden / heads;
    let part = |g: &mut Graph, name: &str, order: &[i64]| {
        let y = source.linear(g, x, &format!("{layer}.attention.self.{name}"), [hidden, hidden])?;
        let y = g.reshape(&y, &[0, 0, heads as i64, width as i64]);
        Ok::<_, OnnxError>(g.transpose(&y, order))
    };
    let query = part(g, "query", &[0, 2, 1, 3])?;
    let key = part(g, "key", &[0, 2, 3, 1])?;
    let value = part(g, "value", &[0, 2, 1, 3])?;
    let scores = g.matmul(&query, &key);
    let scores = g.scaled(&scores, 1.0 / (width as f32).sqrt());
    // A large negative number where there is padding.
    let one = g.float(1.0);
    let padding = g.sub(&one, &tokens.mixed);
    let padding = g.scaled(&padding, -1e30);
    let padding = g.unsqueeze(&padding, 1);
    let padding = g.unsqueeze(&padding, 1);
    let scores = g.add(&scores, &padding);
    let shares = g.op("Softmax", &[&scores], vec![int("axis", -1)]);
    let context = g.matmul(&shares, &value);
    let context = g.transpose(&context, &[0, 2, 1, 3]);
    let context = g.reshape(&context, &[0, 0, hidden as i64]);
    source.linear(g, &context, &format!("{layer}.attention.output.dense"), [hidden, hidden])
}

/// Leaky units read forwards and backwards. In the padding their state is zero, so that reading backwards begins at the
/// sequence's own end.
fn reservoir(
    g: &mut Graph,
    source: &Source,
    index: usize,
    x: &Value,
    tokens: &Tokens,
) -> Result<Value, OnnxError> {
    let hidden = source.config.hidden_size;
    let config = source.config.reservoir.unwrap_or_default();
    let unsupported = |e: EncoderError| OnnxError::Unsupported(e.to_string());
    let [input, forwards, backwards] = Reservoir::new(hidden, index, config).map_err(unsupported)?.weights();
    let name = |part: &str| format!("{}.encoder.layer.{index}.reservoir.{part}", source.prefix());
    let share = g.product(x, &name("input"), [hidden, hidden], &input);
    let share = g.transpose(&share, &[1, 0, 2]);
    let own = g.transpose(&tokens.mixed, &[1, 0]);
    let own = g.unsqueeze(&own, 2);
    let back = hidden / 2;
    let mut states = Vec::new();
    let ahead = hidden - back;
    for (way, start, units, values) in
        [("forwards", 0, ahead, forwards), ("backwards", ahead, back, backwards)]
    {
        if units == 0 {
            continue;
        }
        let end = g.ints(&[(start + units) as i64]);
        let share = g.slice(&share, 2, start as i64, &end);
        let weight = name(way);
        let turned: Vec<f32> = (0..units * units).map(|i| values[i % units * units + i / units]).collect();
        let matrix = g.floats(&format!("{weight}.transposed"), &[units, units], &turned);
        let first = g.slice(&own, 0, 0, &tokens.one);
        let first = g.squeeze(&first, 0);
        let zeros = g.floats(&format!("zeros_{units}"), &[1, units], &vec![0.0; units]);
        let start = g.mul(&first, &zeros);
        let mut body = Graph::body();
        let [state, step, here] = ["state", "step", "here"].map(Graph::input);
        let recurrent = body.matmul(&state, &matrix);
        let sum = body.add(&step, &recurrent);
        let active = body.one("Tanh", &sum);
        let change = body.sub(&active, &state);
        let change = body.scaled(&change, config.leak);
        let after = body.add(&state, &change);
        let after = body.mul(&after, &here);
        body.output("state_after", &after);
        body.output("state_read", &after);
        let units = units.to_string();
        let rows = |name| info(name, DataType::Float, &["rows", &units]);
        let inputs = vec![rows("state"), rows("step"), info("here", DataType::Float, &["rows", "1"])];
        let body = body.finish("reservoir_step", inputs, vec![rows("state_after"), rows("state_read")]);
        let direction = i64::from(way == "backwards");
        let attributes = vec![
            graph("body", body),
            int("num_scan_inputs", 2),
            ints("scan_input_directions", &[direction; 2]),
            ints("scan_output_directions", &[direction]),
        ];
        states.push(g.ops("Scan", &[&start, &share, &own], attributes, 2).remove(1));
    }
    let states: Vec<&Value> = states.iter().collect();
    let states = g.concat(&states, 2);
    Ok(g.transpose(&states, &[1, 0, 2]))
}
