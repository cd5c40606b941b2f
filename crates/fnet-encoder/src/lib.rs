//! FNet encoders: layers with a forward pass and a hand-written backward pass, heads, weights.
//!
//! A [`Model`] is an FNet encoder (Lee-Thorp et al. 2021) with one [`Head`]. Architecture, tensor names and
//! initialisation follow Hugging Face's `modeling_fnet.py`, so a folder written by [`pretrained::save`] opens
//! there, and vice versa.
//!
//! Sequences are packed in a [`Batch`] one after another, without padding, and each is mixed at its own length: an
//! example's output is the same, bit for bit, alone or in any batch, with any number of threads. Text is handled by
//! `fnet-train`.
//!
//! ```
//! use fnet_encoder::{Batch, Head, Mode, Model, ModelConfig, Workspace};
//!
//! let config = ModelConfig { vocab_size: 100, ..ModelConfig::preset("tiny").unwrap() };
//! let model = Model::new(config, Head::Classification { labels: 2 }, 42)?;
//! let mut batch = Batch::new();
//! batch.push(&[1, 7, 9, 2], &[0; 4]);
//! batch.push(&[1, 8, 2], &[0; 3]);
//! let mut workspace = Workspace::new();
//! let mut forward = model.forward(&batch, Mode::Infer, &mut workspace)?;
//! assert_eq!(forward.logits()?.len(), 4);     // [sequences, labels]
//! # Ok::<(), fnet_encoder::EncoderError>(())
//! ```

mod activated;
mod arch;
mod batch;
mod config;
mod cost;
mod dropout_sites;
mod embeddings;
mod encoder;
mod error;
mod fingerprint;
mod forward;
#[cfg(feature = "internals")]
pub mod gemm;
#[cfg(not(feature = "internals"))]
mod gemm;
mod heads;
mod loss;
pub mod mixers;
mod model;
mod modules;
#[cfg(feature = "internals")]
pub mod ops;
#[cfg(not(feature = "internals"))]
mod ops;
mod optimizer;
mod parameters;
mod plans;
mod pooling;
pub mod pretrained;
mod readout;
pub mod similarity;
#[cfg(test)]
mod testing;
mod trunk;
pub mod whole_file;
mod workspace;

pub use activated::xielu_factors;
pub use batch::Batch;
pub use config::{ModelConfig, PRESETS, Padding, TokenIds};
pub use error::EncoderError;
pub use fingerprint::Fingerprint;
pub use forward::{Forward, Losses, Mode, Targets, Told};
pub use gemm::{Level, Precision, Products, Tally, take_tally};
pub use heads::{BAG_WORDS, ClassTargets, Head, MlmTargets, SentenceConfig, SentenceDense};
pub use loss::Loss;
pub use model::Model;
pub use modules::{Builder, Pass};
pub use ops::dropout::Dropout;
pub use ops::softmax_cross_entropy::IGNORED;
pub use optimizer::{AdamW, Moments, gradient_norm};
pub use parameters::{Gradients, Init, Parameters, Tensor, TensorInfo, Values};
pub use pooling::{Pairs, Pool, Pooling};
pub use trunk::Trunk;
pub use workspace::{Buffers, Scratch, Workspace};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
