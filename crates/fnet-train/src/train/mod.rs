//! The training loop, its objectives and its settings.

pub(crate) mod bag_of_words;
pub(crate) mod bag_start;
mod dense;
pub(crate) mod finetune;
pub(crate) mod in_turn;
pub mod leaves;
pub(crate) mod mlm;
pub(crate) mod pretrain;
pub mod recipe;
pub mod schedule;
pub(crate) mod signals;
pub(crate) mod similarity;
pub(crate) mod standardize;
pub mod stop;
pub(crate) mod text_vectors;
pub(crate) mod tf_idf;
mod time_spent;
pub(crate) mod trainer;
pub(crate) mod whitening;

pub use pretrain::Learns;
