//! Ctrl-C and SIGTERM: the first asks for a checkpoint, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the run was asked to stop.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    armed: AtomicBool,
    set: AtomicBool,
}

impl Stop {
    /// Listens for signals from now on.
    pub fn on_signal() -> Self {
        let stop = Self::default();
        let flag = stop.0.clone();
        // A second handler is refused by the library; then the first one goes on serving.
        let _ = ctrlc::set_handler(move || {
            // Before training there is nothing to save.
            if !flag.armed.load(Ordering::SeqCst) || flag.set.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            eprintln!("\nstopping: writing a checkpoint (again to end at once)");
        });
        stop
    }

    /// From now on the first signal asks for a checkpoint.
    pub fn arm(&self) {
        self.0.armed.store(true, Ordering::SeqCst);
    }

    /// Whether a signal came.
    pub fn is_set(&self) -> bool {
        self.0.set.load(Ordering::SeqCst)
    }
}
