//! Text corpora: documents from files, token shards on disk, training sequences from shards.

pub mod documents;
pub(crate) mod sequences;
pub(crate) mod shards;

pub use sequences::Layout;
