//! Encoders as ONNX models.
//!
//! [`export`] writes a text model of `fnet-encoder`, with any head, mixer and pooling, by standard operators of opset 17.
//! Inputs are `input_ids`, `attention_mask` and `token_type_ids`, int64 `[batch, length]`, or `[batch, 2, length]` where a
//! model reads pairs in towers; both axes may have any size,
//! but for models that mix padding in, whose length is fixed. Masks are ones, then zeros: padding stands on the right. Each
//! sequence is mixed at its own length, so an answer does not depend on its batch (with [`Weights::Int8`] it does, a
//! little).
//!
//! The Fourier transform of a layer (Lee-Thorp et al. 2021, equation 3) is
//! `C x cos - S x sin`: `cos` and `sin` hold the lower half of the frequencies over the hidden axis, of which the others
//! are mirror images, and `C` and `S` those of each sequence's own length, which the graph computes from the mask.
//!
//! ```
//! use fnet_encoder::{Head, Model, ModelConfig};
//!
//! let config = ModelConfig { vocab_size: 100, ..ModelConfig::preset("tiny").unwrap_or_default() };
//! let model = Model::new(config, Head::Classification { labels: 2 }, 1)?;
//! let bytes = fnet_onnx::export(&model, fnet_onnx::Weights::Float32)?;
//! assert!(bytes.len() > 4 * model.parameters().len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod activation;
mod encoder;
mod graph;
mod heads;
mod mixers;
mod proto;
mod readout;

use fnet_encoder::{Model, Pairs};
pub use graph::Weights;
use graph::{Graph, info};
use prost::Message;
use proto::{DataType, Entry, OperatorSet};

/// Why a model cannot be exported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// Something that has no place in the format, or none here.
    #[error("{0} cannot be exported")]
    Unsupported(String),
    /// A tensor that the model should have.
    #[error("the model lacks {0}")]
    Missing(String),
    /// Protocol Buffers end at 2 GiB.
    #[error("the model takes {0} bytes; a file of ONNX holds less than 2 GiB. Try bfloat16 or int8 weights")]
    TooLarge(usize),
}

/// The operators' version, the first with layer norms.
const OPSET: i64 = 17;
/// The format's version that goes with it.
const IR: i64 = 8;
/// Bytes that a message may have.
const MOST_BYTES: usize = (1 << 31) - 1;

/// A model as the bytes of an ONNX file.
///
/// # Errors
/// If it reads vectors instead of tokens, its activation is xIELU, or it is too large.
pub fn export(model: &Model, weights: Weights) -> Result<Vec<u8>, OnnxError> {
    let config = model.config();
    if config.input_width.is_some() {
        return Err(OnnxError::Unsupported("a model of vectors".into()));
    }
    let mut g = Graph::new(weights);
    let source = encoder::Source { model, config };
    let outputs = heads::write(&mut g, &source)?;
    let is_pair = config.classifier_pairs != Pairs::Together && model.head().reads_texts();
    // Where padding is mixed in, every sequence has one length.
    let length = config.fixed_length().map_or("length".to_string(), |length| length.to_string());
    let axes: &[&str] = if is_pair { &["batch", "2", &length] } else { &["batch", &length] };
    let inputs =
        ["input_ids", "attention_mask", "token_type_ids"].map(|name| info(name, DataType::Int64, axes));
    let outputs = outputs.into_iter().map(|(name, axes)| {
        let axes = axes.into_iter().map(|axis| if axis == "length" { length.as_str() } else { axis });
        let axes: Vec<&str> = std::iter::once("batch").chain(axes).collect();
        info(name, DataType::Float, &axes)
    });
    let names = fnet_encoder::pretrained::labels_of(config, model.head()).unwrap_or_default();
    let file = proto::Model {
        ir_version: IR,
        producer_name: "fnet".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(g.finish("fnet", inputs.into(), outputs.collect())),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        metadata: names
            .into_iter()
            .enumerate()
            .map(|(i, value)| Entry { key: format!("label_{i}"), value })
            .collect(),
    };
    let bytes = file.encoded_len();
    if bytes > MOST_BYTES {
        return Err(OnnxError::TooLarge(bytes));
    }
    Ok(file.encode_to_vec())
}
