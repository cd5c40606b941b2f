//! Text corpora: documents out of files, token shards on disk, training sequences out of shards.

pub mod documents;
pub mod sequences;
pub mod shards;
