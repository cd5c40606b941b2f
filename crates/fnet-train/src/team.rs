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

    /// Cuts `whole`, which `root` alone gives, into slices that end at `ends`, and fills `own` with this rank's.
    fn scatter(&self, root: usize, whole: &[u8], ends: &[usize], own: &mut [u8]);

    /// Fills `whole` with the slices of all, by rank.
    fn gather(&self, own: &[u8], ends: &[usize], whole: &mut [u8]);
}
