//! Exact search among vectors of texts, in memory or in a file.

mod index;
mod top;

pub use index::{Index, IndexWriter};
pub use top::{Found, dot, pairs_above, top};
