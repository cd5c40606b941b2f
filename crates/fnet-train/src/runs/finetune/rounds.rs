//! Rows that several processes take through a trunk, a batch each in turn, in the order in which one process would.

use crate::error::Result;
use crate::runs::running::Running;
use crate::team::gather_all;

/// How far a batch is: the part of the data that has been seen with it, and its tokens.
pub(super) type Done = (f64, usize);

/// The batches of a round, one for each process.
pub(super) struct Rounds<'a> {
    running: &'a Running,
    /// Batches so far.
    batches: usize,
    /// This process's of the round.
    own: (Done, Vec<f32>, Vec<f32>),
}

impl<'a> Rounds<'a> {
    pub fn new(running: &'a Running) -> Self {
        Self { running, batches: 0, own: Default::default() }
    }

    /// Whether this process runs the batch of a number.
    pub fn runs(running: &Running, batch: usize) -> bool {
        running.team.as_ref().is_none_or(|team| batch % team.size() == team.rank())
    }

    /// The next batch, with its rows if this process has run it. At the end of a round all batches go to `take`, in their
    /// order; returns whether a process was asked to stop.
    ///
    /// # Errors
    /// If a round is too large to travel.
    pub fn add(
        &mut self,
        done: Done,
        x: &[f32],
        y: &[f32],
        mut take: impl FnMut(Done, &[f32], &[f32]),
    ) -> Result<bool> {
        let Some(team) = &self.running.team else {
            take(done, x, y);
            return Ok(self.running.stop.is_set());
        };
        if Self::runs(self.running, self.batches) {
            self.own = (done, x.to_vec(), y.to_vec());
        }
        self.batches += 1;
        if self.batches.is_multiple_of(team.size()) { self.end(take) } else { Ok(false) }
    }

    /// As [`add`](Self::add), of a round that may lack batches.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn end(&mut self, mut take: impl FnMut(Done, &[f32], &[f32])) -> Result<bool> {
        let Some(team) = &self.running.team else { return Ok(false) };
        let (done, x, y) = std::mem::take(&mut self.own);
        let about = [done.0.to_bits(), done.1 as u64, u64::from(self.running.stop.is_set())];
        let all = team.share(bytemuck::cast_slice(&about));
        let number = |rank: usize, i: usize| {
            let bytes = all[rank][8 * i..].first_chunk();
            bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
        };
        let rows = gather_all(&**team, &x)?.into_iter().zip(gather_all(&**team, &y)?);
        for (rank, (x, y)) in rows.enumerate().filter(|(rank, _)| number(*rank, 1) > 0) {
            take((f64::from_bits(number(rank, 0)), number(rank, 1) as usize), &x, &y);
        }
        Ok((0..team.size()).any(|rank| number(rank, 2) == 1))
    }
}
