//! What products come to: operations and time, by thread.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// What the products of a thread came to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// Floating-point operations: two for each product of two numbers.
    pub flops: u64,
    /// How long they took.
    pub time: Duration,
}

thread_local! {
    static TALLY: Cell<Tally> = const { Cell::new(Tally { flops: 0, time: Duration::ZERO }) };
}

/// All products that this thread has asked for since it last asked this, on however many threads they
/// ran.
pub fn take_tally() -> Tally {
    TALLY.take()
}

/// Counts a product that began at `begun`.
pub(super) fn count(flops: u64, begun: Instant) {
    let before = TALLY.get();
    TALLY.set(Tally { flops: before.flops + flops, time: before.time + begun.elapsed() });
}
