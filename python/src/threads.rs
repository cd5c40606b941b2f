//! Pools of threads by size, so that each call may say how many it wants.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Pools by their number of threads.
type Pools = HashMap<usize, Arc<ThreadPool>>;

/// The process that has pools, and these.
static POOLS: Mutex<Option<(u32, Pools)>> = Mutex::new(None);
/// No machine has more.
const MOST_THREADS: usize = 1 << 12;

/// The pool of so many threads; of all cores for 0.
///
/// # Errors
/// In a process that was forked from one with pools: threads do not survive a fork, and waiting for them never ends.
pub fn pool(threads: usize) -> PyResult<Arc<ThreadPool>> {
    let process = std::process::id();
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let (owner, pools) = pools.get_or_insert_with(|| (process, HashMap::new()));
    if *owner != process {
        return Err(PyRuntimeError::new_err(
            "fnet_mixing was used before this process was forked, and its threads are gone: start processes by \
             multiprocessing's \"spawn\" or \"forkserver\", or use it in the children alone",
        ));
    }
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if threads == 0 { cores() } else { threads.min(MOST_THREADS) };
    if let Some(pool) = pools.get(&threads) {
        return Ok(pool.clone());
    }
    let built = ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = Arc::new(built.map_err(|e| PyRuntimeError::new_err(e.to_string()))?);
    pools.insert(threads, pool.clone());
    Ok(pool)
}
