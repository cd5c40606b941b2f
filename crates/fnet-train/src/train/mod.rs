//! The training loop, its objectives and its settings.

pub mod bag_of_words;
pub mod bag_start;
mod dense;
pub mod finetune;
pub mod mlm;
pub mod pretrain;
pub mod recipe;
pub mod schedule;
pub mod stop;
pub mod trainer;
pub mod whitening;
