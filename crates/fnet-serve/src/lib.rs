//! Vectors and predictions of texts over HTTP.
//!
//! One thread computes: it takes texts of all waiting requests, up to a budget of positions, runs them in one batch, and answers.
//! Connections are served by others, which only tokenise. A text's answer is bit for bit what the library gives for it alone.

mod answers;
mod api;
mod engine;
mod metrics;
mod server;

pub use engine::Models;
pub use server::{Options, Server};
