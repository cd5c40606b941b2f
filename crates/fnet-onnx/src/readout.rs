//! The vectors that are read of a text, side by side.

use fnet_encoder::{Pool, Pooling};

use crate::OnnxError;
use crate::encoder::{Encoded, Source, Tokens};
use crate::graph::{Graph, Value, int, ints};
use crate::proto::DataType;

/// Whether any of it is read of the layers.
pub fn reads_layers(pooling: &Pooling) -> bool {
    pooling.pools().iter().any(|pool| !matches!(pool, Pool::Embeddings | Pool::Weighted))
}

/// `[rows, width]`; `place` is where the readout's own weights are.
pub fn read(
    g: &mut Graph,
    source: &Source,
    pooling: &Pooling,
    place: &str,
    tokens: &Tokens,
    encoded: &Encoded,
) -> Result<(Value, usize), OnnxError> {
    let (mut parts, mut width) = (Vec::new(), 0);
    let hidden = source.config.hidden_size;
    let last = encoded.outputs.last().unwrap_or(&encoded.words);
    for pool in pooling.pools() {
        width += hidden;
        let own = &tokens.own;
        parts.push(match pool {
            Pool::Mean => mean(g, last, own),
            Pool::Embeddings => mean(g, &encoded.words, own),
            Pool::Layers => {
                width += source.config.num_hidden_layers * hidden;
                let all: Vec<&Value> = encoded.outputs.iter().collect();
                let all = g.concat(&all, -1);
                mean(g, &all, own)
            }
            Pool::SqrtMean => sqrt_mean(g, last, own),
            Pool::PositionMean => {
                let axis = g.int(1);
                let count = g.op("CumSum", &[own, &axis], vec![]);
                let shares = g.mul(own, &count);
                mean(g, last, &shares)
            }
            Pool::Weighted => {
                let name = format!("{place}.word_weights");
                let table = g.floats(&name, &[source.config.vocab_size], source.tensor(&name)?);
                let weights = g.gather(&table, &tokens.ids, 0);
                let weights = g.mul(&weights, own);
                let zero = g.float(0.0);
                let is_zero = g.op("Equal", &[&weights, &zero], vec![]);
                let counts = g.one("Not", &is_zero);
                let counts = g.cast(&counts, DataType::Float);
                let (sum, count) = (weighted_sum(g, &encoded.words, &weights), g.sum(&counts, 1));
                let one = g.float(1.0);
                let count = g.max(&count, &one);
                g.div(&sum, &count)
            }
            Pool::First => {
                let whole = g.cast(&tokens.is_own, DataType::Int64);
                row(g, &whole, last, &tokens.places)
            }
            Pool::Last => {
                let whole = g.cast(&tokens.is_own, DataType::Int64);
                let places = g.mul(&whole, &tokens.places);
                row(g, &places, last, &tokens.places)
            }
            Pool::Max => {
                let (own, least) = (g.unsqueeze(&tokens.is_own, 2), g.float(f32::NEG_INFINITY));
                let x = g.op("Where", &[&own, last, &least], vec![]);
                let largest = g.op("ReduceMax", &[&x], vec![ints("axes", &[1]), int("keepdims", 0)]);
                or_zero(g, &largest, tokens)
            }
            Pool::Query => {
                let name = format!("{place}.query");
                let query = g.floats(&name, &[hidden, 1], source.tensor(&name)?);
                let scores = g.matmul(last, &query);
                let scores = g.squeeze(&scores, 2);
                let scores = g.scaled(&scores, 1.0 / (hidden as f32).sqrt());
                let least = g.float(f32::NEG_INFINITY);
                let scores = g.op("Where", &[&tokens.is_own, &scores, &least], vec![]);
                let shares = g.op("Softmax", &[&scores], vec![int("axis", 1)]);
                let sum = weighted_sum(g, last, &shares);
                or_zero(g, &sum, tokens)
            }
            Pool::Input => return Err(OnnxError::Unsupported("vectors of inputs".into())),
        });
    }
    let parts: Vec<&Value> = parts.iter().collect();
    Ok((g.concat(&parts, -1), width))
}

/// Zero for rows without a token, which fill up a batch: no infinity spreads from them.
fn or_zero(g: &mut Graph, x: &Value, tokens: &Tokens) -> Value {
    let count = g.sum(&tokens.own, 1);
    let (has_any, zero) = (g.cast(&count, DataType::Bool), g.float(0.0));
    g.op("Where", &[&has_any, x, &zero], vec![])
}

/// `[rows, width]` of `x` `[rows, length, width]` by weights `[rows, length]`.
fn weighted_sum(g: &mut Graph, x: &Value, weights: &Value) -> Value {
    let weights = g.unsqueeze(weights, 1);
    let sum = g.matmul(&weights, x);
    g.squeeze(&sum, 1)
}

fn mean(g: &mut Graph, x: &Value, weights: &Value) -> Value {
    let (sum, all) = (weighted_sum(g, x, weights), g.sum(weights, 1));
    let one = g.float(1.0);
    let all = g.max(&all, &one);
    g.div(&sum, &all)
}

/// The mean times the root of the number of tokens.
pub fn sqrt_mean(g: &mut Graph, x: &Value, own: &Value) -> Value {
    let (mean, count) = (mean(g, x, own), g.sum(own, 1));
    let root = g.one("Sqrt", &count);
    g.mul(&mean, &root)
}

/// Of each text the row where `best` is largest, the first of them.
fn row(g: &mut Graph, best: &Value, x: &Value, places: &Value) -> Value {
    let at = g.op("ArgMax", &[best], vec![int("axis", 1), int("keepdims", 1)]);
    let chosen = g.op("Equal", &[&at, places], vec![]);
    let chosen = g.cast(&chosen, DataType::Float);
    weighted_sum(g, x, &chosen)
}
