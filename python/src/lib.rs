//! What `fnet_mixing` and `fnet` call. Arguments are checked in Python, where they can be named; what could be memory
//! of somebody else is checked here, too.

mod memory;
mod mixing;
mod model;
mod threads;
mod training;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Errors of the library as Python raises them: of files as `OSError`, of settings and values as `ValueError`.
fn raised(error: fnet_train::Error) -> PyErr {
    let message = error.to_string();
    match error {
        fnet_train::Error::Io { .. } => PyOSError::new_err(message),
        _ => PyValueError::new_err(message),
    }
}

#[pymodule(gil_used = false)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(mixing::mix, module)?)?;
    module.add_function(wrap_pyfunction!(training::finetune, module)?)?;
    module.add_class::<model::Model>()
}
