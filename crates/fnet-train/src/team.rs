//! Processes that train one model together. What they are connected by is the program's business.

use std::fmt::Debug;

use crate::error::{Error, Result};

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

/// The values that each process gives, by rank.
///
/// # Errors
/// If they are more than can travel at once.
pub(crate) fn gather_all(team: &dyn Team, own: &[f32]) -> Result<Vec<Vec<f32>>> {
    let lengths = team.share(&(own.len() as u64).to_le_bytes());
    let length = |bytes: &Vec<u8>| bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes) as usize);
    let lengths: Vec<usize> = lengths.iter().map(length).collect();
    let ends = lengths.iter().scan(0, |end, length| {
        *end += length * size_of::<f32>();
        Some(*end)
    });
    let ends: Vec<usize> = ends.collect();
    if ends.last().is_some_and(|end| *end > i32::MAX as usize) {
        return Err(Error::usage(
            "so many rows cannot travel at once: MPI counts 2 GB at most; take fewer processes",
        ));
    }
    let mut whole = vec![0.0_f32; lengths.iter().sum()];
    team.gather(bytemuck::cast_slice(own), &ends, bytemuck::cast_slice_mut(&mut whole));
    let mut rest = whole.as_slice();
    let part = |length| {
        let (part, after) = rest.split_at(length);
        rest = after;
        part.to_vec()
    };
    Ok(lengths.into_iter().map(part).collect())
}
