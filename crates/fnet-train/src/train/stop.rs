//! Ctrl-C and SIGTERM: the first asks for a checkpoint, the second exits at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};

/// Whether the run was asked to stop.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    armed: AtomicBool,
    set: AtomicBool,
}

/// All listeners. One handler serves them all: a process can have only one.
static LISTENERS: Mutex<Vec<Weak<Flags>>> = Mutex::new(Vec::new());
static HANDLER: Once = Once::new();

impl Stop {
    /// Listens for signals from now on; there may be several listeners, such as two trainers in one program. If the
    /// program already has its own handler, no signal arrives here.
    pub fn on_signal() -> Self {
        let stop = Self::default();
        let mut listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|flags| flags.strong_count() > 0);
        listeners.push(Arc::downgrade(&stop.0));
        drop(listeners);
        HANDLER.call_once(|| {
            let _ = ctrlc::set_handler(|| {
                if !signal() {
                    std::process::exit(130);
                }
                eprintln!("\nstopping: writing a checkpoint (again to end at once)");
            });
        });
        stop
    }

    /// From now on the first signal asks for a checkpoint.
    pub fn arm(&self) {
        self.0.armed.store(true, Ordering::SeqCst);
    }

    /// Asks for a checkpoint and an end, as a signal would.
    pub fn ask(&self) {
        self.0.set.store(true, Ordering::SeqCst);
    }

    /// Whether a signal came, or somebody asked.
    pub fn is_set(&self) -> bool {
        self.0.set.load(Ordering::SeqCst)
    }
}

/// Notifies all listeners. False if that is not enough: before training there is nothing to save, and a second
/// signal means that nobody wants to wait.
fn signal() -> bool {
    let listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner);
    let armed = |flags: &Arc<Flags>| flags.armed.load(Ordering::SeqCst);
    let armed: Vec<Arc<Flags>> = listeners.iter().filter_map(Weak::upgrade).filter(armed).collect();
    let news = armed.iter().filter(|flags| !flags.set.swap(true, Ordering::SeqCst)).count();
    news > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_trainers_of_one_program_both_hear() {
        let (first, second, late) = (Stop::on_signal(), Stop::on_signal(), Stop::on_signal());
        assert!(!signal(), "nobody trains");
        first.arm();
        second.arm();
        assert!(signal());
        assert!(first.is_set() && second.is_set() && !late.is_set());
        assert!(!signal(), "the second time");
        drop((first, second));
        late.arm();
        assert!(signal() && late.is_set());
    }
}
