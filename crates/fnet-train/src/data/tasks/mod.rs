//! Labelled tasks: GLUE's table, files of rows, labels, metrics, prediction files.

pub mod classes;
pub mod dataset;
pub mod encoding;
pub mod files;
pub mod glue;
pub mod label_sets;
pub mod metrics;
pub mod rows;
