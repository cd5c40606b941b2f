//! Text corpora: documents from files, token shards on disk, training sequences from shards.

pub mod documents;
pub mod sequences;
pub mod shards;
