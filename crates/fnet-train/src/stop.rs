//! Ctrl-C and SIGTERM: the first asks for a checkpoint, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the run was asked to stop.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens for signals from now on.
    pub fn on_signal() -> Self {
        let stop = Self::default();
        let flag = stop.0.clone();
        // A second handler is refused by the library; then the first one goes on serving.
        let _ = ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            eprintln!("\nstopping: writing a checkpoint (again to end at once)");
        });
        stop
    }

    /// Whether a signal came.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
