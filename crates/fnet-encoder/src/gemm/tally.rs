//! The cost of products: operations and time, per thread.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The cost of a thread's products.
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

/// The cost of all products that this thread has requested since the last call, on however many threads they ran.
pub fn take_tally() -> Tally {
    TALLY.take()
}

/// Counts a product that began at `begun`.
pub(super) fn count(flops: u64, begun: Instant) {
    let before = TALLY.get();
    TALLY.set(Tally { flops: before.flops + flops, time: before.time + begun.elapsed() });
}
