//! From token ids to the last layer's output.

use fnet_encoder::mixers::MixerKind;
use fnet_encoder::{Model, ModelConfig, xielu_factors};

use crate::OnnxError;
use crate::activation::activation;
use crate::graph::{Graph, Value, float};
use crate::mixers::{self, SequenceWaves};
use crate::proto::DataType;

/// Where weights come from.
pub struct Source<'a> {
    pub model: &'a Model,
    pub config: &'a ModelConfig,
}

impl Source<'_> {
    /// What the encoder's tensors' names begin with.
    pub fn prefix(&self) -> &str {
        &self.config.model_type
    }

    /// The name of the table of word embeddings.
    pub fn word_embeddings(&self) -> String {
        format!("{}.embeddings.word_embeddings.weight", self.prefix())
    }

    pub fn tensor(&self, name: &str) -> Result<&[f32], OnnxError> {
        self.model.parameters().get(name).ok_or_else(|| OnnxError::Missing(name.into()))
    }

    /// `x wᵀ`, where `shape` is `[outputs, inputs]`.
    pub fn product(
        &self,
        g: &mut Graph,
        x: &Value,
        name: &str,
        shape: [usize; 2],
    ) -> Result<Value, OnnxError> {
        Ok(g.product(x, name, shape, self.tensor(name)?))
    }

    /// `x wᵀ + b`, where `shape` is `[outputs, inputs]`.
    pub fn linear(
        &self,
        g: &mut Graph,
        x: &Value,
        name: &str,
        shape: [usize; 2],
    ) -> Result<Value, OnnxError> {
        let y = self.product(g, x, &format!("{name}.weight"), shape)?;
        self.biased(g, &y, name, shape[0])
    }

    /// A linear layer of a head, which is never stored in 8 bits.
    pub fn head_linear(
        &self,
        g: &mut Graph,
        x: &Value,
        name: &str,
        shape: [usize; 2],
    ) -> Result<Value, OnnxError> {
        let weight = format!("{name}.weight");
        let y = g.exact_product(x, &weight, shape, self.tensor(&weight)?);
        self.biased(g, &y, name, shape[0])
    }

    fn biased(&self, g: &mut Graph, y: &Value, name: &str, outputs: usize) -> Result<Value, OnnxError> {
        let bias = format!("{name}.bias");
        let bias = g.floats(&bias, &[outputs], self.tensor(&bias)?);
        Ok(g.add(y, &bias))
    }

    pub fn norm(&self, g: &mut Graph, x: &Value, name: &str) -> Result<Value, OnnxError> {
        let [scale, shift] = ["weight", "bias"].map(|part| format!("{name}.{part}"));
        let width = self.config.hidden_size;
        let scale = g.floats(&scale, &[width], self.tensor(&scale)?);
        let shift = g.floats(&shift, &[width], self.tensor(&shift)?);
        Ok(g.op(
            "LayerNormalization",
            &[x, &scale, &shift],
            vec![float("epsilon", self.config.layer_norm_eps)],
        ))
    }

    /// An activation by its name; `place` is where its learnt weights are, if it has any.
    pub fn activation(&self, g: &mut Graph, name: &str, x: &Value, place: &str) -> Result<Value, OnnxError> {
        let weight = |part: &str| {
            let weight = self.tensor(&format!("{place}.{part}"))?;
            weight.first().copied().ok_or_else(|| OnnxError::Unsupported(format!("an empty {place}.{part}")))
        };
        let factors = match name {
            "prelu" => [weight("weight")?, 0.0, 0.0, 0.0],
            "xielu" => {
                let [above, below] = [weight("alpha_p")?, weight("alpha_n")?];
                xielu_factors([above, below, weight("beta")?, weight("eps")?])
            }
            _ => [0.0; 4],
        };
        activation(g, name, x, factors)
    }
}

/// The tokens of a batch, each text in a row.
pub struct Tokens {
    /// `[rows, length]`
    pub ids: Value,
    segments: Value,
    /// 1 where tokens are mixed, 0 in the padding, `[rows, length]`.
    pub mixed: Value,
    /// 1 where heads read, `[rows, length]`.
    pub own: Value,
    /// The same as truth values.
    pub is_own: Value,
    /// How many are mixed, `[rows]`.
    pub lengths: Value,
    /// 0, 1, .. of a row.
    pub places: Value,
    /// Positions of a row, as a list of one.
    pub length: Value,
    /// A list of the number 1.
    pub one: Value,
    pub waves: Option<SequenceWaves>,
}

impl Tokens {
    /// From the graph's inputs, whose last axis is the row's.
    pub fn new(g: &mut Graph, source: &Source) -> Self {
        let [ids, mask, segments] = ["input_ids", "attention_mask", "token_type_ids"].map(Graph::input);
        let shape = g.one("Shape", &ids);
        let (end, one) = (g.ints(&[i64::MAX]), g.ints(&[1]));
        let length = g.slice(&shape, 0, -1, &end);
        let any = g.ints(&[-1]);
        let rows = g.concat(&[&any, &length], 0);
        let [ids, mask, segments] = [ids, mask, segments].map(|x| g.op("Reshape", &[&x, &rows], vec![]));
        let (zero, step) = (g.int(0), g.int(1));
        let count = g.squeeze(&length, 0);
        let places = g.op("Range", &[&zero, &count, &step], vec![]);
        let mask = g.cast(&mask, DataType::Bool);
        let pad = g.int(source.config.pad_token_id.map_or(-1, i64::from));
        let is_pad = g.op("Equal", &[&ids, &pad], vec![]);
        let is_word = g.one("Not", &is_pad);
        let is_own = g.op("And", &[&mask, &is_word], vec![]);
        let own = g.cast(&is_own, DataType::Float);
        let mut mixed = g.cast(&mask, DataType::Float);
        if source.config.fixed_length().is_some() {
            // Where anything is, all is mixed.
            mixed = g.op("ReduceMax", &[&mixed], vec![crate::graph::ints("axes", &[1])]);
            let expand = g.one("Shape", &ids);
            mixed = g.op("Expand", &[&mixed, &expand], vec![]);
        }
        let lengths = g.cast(&mixed, DataType::Int64);
        let lengths = g.sum(&lengths, 1);
        let lengths = g.squeeze(&lengths, 1);
        let mut tokens =
            Self { ids, segments, mixed, own, is_own, lengths, places, length, one, waves: None };
        let waves = [MixerKind::Fourier, MixerKind::FourierSeq, MixerKind::Hartley];
        if source.config.layer_mixers().iter().any(|mixer| waves.contains(mixer)) {
            tokens.waves = Some(SequenceWaves::new(g, &tokens));
        }
        tokens
    }
}

/// What the encoder makes of tokens.
pub struct Encoded {
    /// Word embeddings, `[rows, length, hidden]`.
    pub words: Value,
    /// Output of the embeddings and of each layer, zero where nothing is mixed.
    pub outputs: Vec<Value>,
}

/// The words' vectors, and the layers' as far as they are read.
pub fn encode(
    g: &mut Graph,
    source: &Source,
    tokens: &Tokens,
    runs_layers: bool,
) -> Result<Encoded, OnnxError> {
    let (config, prefix) = (source.config, source.prefix());
    let hidden = config.hidden_size;
    let table = |g: &mut Graph, name: &str, rows| {
        let name = format!("{prefix}.embeddings.{name}.weight");
        Ok::<_, OnnxError>(g.table(&name, &[rows, hidden], source.tensor(&name)?))
    };
    let all = table(g, "word_embeddings", config.vocab_size)?;
    let words = g.gather(&all, &tokens.ids, 0);
    if !runs_layers {
        return Ok(Encoded { words, outputs: Vec::new() });
    }
    let positions = table(g, "position_embeddings", config.max_position_embeddings)?;
    let positions = g.gather(&positions, &tokens.places, 0);
    let kinds = table(g, "token_type_embeddings", config.type_vocab_size)?;
    let kinds = g.gather(&kinds, &tokens.segments, 0);
    let sum = g.add(&words, &positions);
    let sum = g.add(&sum, &kinds);
    let mut x = source.norm(g, &sum, &format!("{prefix}.embeddings.LayerNorm"))?;
    if source.model.parameters().get(&format!("{prefix}.embeddings.projection.weight")).is_some() {
        x = source.linear(g, &x, &format!("{prefix}.embeddings.projection"), [hidden, hidden])?;
    }
    let mut outputs = vec![x.clone()];
    for (index, mixer) in config.layer_mixers().into_iter().enumerate() {
        let layer = format!("{prefix}.encoder.layer.{index}");
        let mixed = mixers::mix(g, source, mixer, index, &x, tokens)?;
        let sum = mixed.map_or(x.clone(), |mixed| g.add(&x, &mixed));
        let mixing = if mixer == MixerKind::Attention { "attention" } else { "fourier" };
        x = source.norm(g, &sum, &format!("{layer}.{mixing}.output.LayerNorm"))?;
        let wide = config.intermediate_size;
        let inner = source.linear(g, &x, &format!("{layer}.intermediate.dense"), [wide, hidden])?;
        let place = format!("{layer}.intermediate.intermediate_act_fn");
        let inner = source.activation(g, &config.hidden_act, &inner, &place)?;
        let inner = source.linear(g, &inner, &format!("{layer}.output.dense"), [hidden, wide])?;
        let sum = g.add(&x, &inner);
        x = source.norm(g, &sum, &format!("{layer}.output.LayerNorm"))?;
        outputs.push(x.clone());
    }
    let own = g.unsqueeze(&tokens.mixed, 2);
    for output in &mut outputs {
        *output = g.mul(output, &own);
    }
    Ok(Encoded { words, outputs })
}
