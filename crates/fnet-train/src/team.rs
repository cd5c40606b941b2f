//! Processes that train one model together. What they are connected by is the program's business.

use std::fmt::Debug;

/// This process among those that train together: all call the same methods in the same order, and wait for each other.
pub trait Team: Debug + Send + Sync {
    /// Its number, from 0. Number 0 leads: it alone writes and speaks.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// The bytes of all, by rank; all give the same number of bytes.
    fn share(&self, own: &[u8]) -> Vec<Vec<u8>>;

    /// Sends each rank its part of `send`, which ends at its number's entry of `send_ends`, and fills `receive` with what all
    /// send to this one, by rank.
    fn swap(&self, send: &[u8], send_ends: &[usize], receive: &mut [u8], receive_ends: &[usize]);

    /// Fills `whole` with the slices of all, by rank.
    fn gather(&self, own: &[u8], ends: &[usize], whole: &mut [u8]);
}
