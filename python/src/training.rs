//! Fine-tuning from Python: in a thread of its own, so that Ctrl-C reaches Python and ends the run with a checkpoint.

use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fnet_train::folder::RunFolder;
use fnet_train::runs::finetune::FinetuneSettings;
use fnet_train::runs::running::Running;
use fnet_train::runs::similarity::SimilaritySettings;
use fnet_train::settings::{Settings, from_table, unknown};
use fnet_train::train::stop::Stop;
use fnet_train::{Error, Result, runs};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use rayon::ThreadPoolBuilder;
use serde_json::Value;
use toml::Table;

use crate::raised;
use crate::threads::pool;

/// Time between looks for Ctrl-C.
const PAUSE: Duration = Duration::from_millis(100);

/// Fine-tunes by settings in JSON, into `out`, or goes on with the run there; returns its results in JSON.
#[pyfunction]
#[pyo3(signature = (settings, out, resume, overwrite, quiet, threads))]
pub fn finetune(
    py: Python,
    settings: String,
    out: PathBuf,
    resume: bool,
    overwrite: bool,
    quiet: bool,
    threads: usize,
) -> PyResult<String> {
    let settings: Table =
        serde_json::from_str(&settings).map_err(|e| PyValueError::new_err(e.to_string()))?;
    pool(threads)?; // refuses in a forked child
    let stop = Stop::default();
    let resume_command = Some(format!("fnet.finetune(resume={:?})", out.display().to_string()));
    let running = Running {
        resume,
        quiet,
        overwrite: overwrite || resume,
        stop: stop.clone(),
        resume_command,
        ..Running::default()
    };
    let (send, receive) = channel();
    let receive = Mutex::new(receive); // Python may go on in another thread
    // A pool of its own: a thread of the common one that waits could begin a whole run.
    let own = ThreadPoolBuilder::new().num_threads(threads).build();
    let own = own.map_err(|e| PyRuntimeError::new_err(e.to_string()))?;
    std::thread::spawn(move || {
        let _ = send.send(own.install(|| run(settings, out, &running))); // whoever asked may have gone
    });
    let mut interrupted = None;
    let results = loop {
        match py.detach(|| receive.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(PAUSE)) {
            Ok(results) => break results,
            Err(RecvTimeoutError::Timeout) => {
                if let Err(signal) = py.check_signals() {
                    stop.ask();
                    interrupted = Some(signal);
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("training has failed"));
            }
        }
    };
    match (results, interrupted) {
        (Ok(results), None) => Ok(results.to_string()),
        (Ok(_), Some(signal)) => Err(signal),
        (Err(error @ Error::Interrupted { .. }), Some(signal)) => {
            // The signal's own type, with what to do next.
            let message = error.to_string();
            let raised = signal.get_type(py).call1((message,))?;
            Err(PyErr::from_value(raised))
        }
        (Err(error), _) => Err(raised(error)),
    }
}

fn run(settings: Table, out: PathBuf, running: &Running) -> Result<Value> {
    if running.resume {
        let folder = RunFolder::existing(&out)?;
        return match folder.settings_table()?.contains_key("objective") {
            true => runs::similarity::run(&folder, &folder.settings()?, running),
            false => runs::finetune::run(&folder, &folder.settings()?, running),
        };
    }
    if settings.contains_key("objective") {
        let mut settings: SimilaritySettings = read(settings)?;
        settings.resolve()?;
        return runs::similarity::run(&RunFolder::new(&out, running.overwrite)?, &settings, running);
    }
    let mut settings: FinetuneSettings = read(settings)?;
    settings.resolve()?;
    runs::finetune::run(&RunFolder::new(&out, running.overwrite)?, &settings, running)
}

fn read<S: Settings>(table: Table) -> Result<S> {
    if let Some(key) = unknown::<S>(&table) {
        return Err(Error::usage(format!("unknown setting `{key}`")));
    }
    from_table(table)
}
