//! What makes a training sequence, and in which order they come.

use rand::seq::SliceRandom;

use super::shards::Shards;
use crate::random::generator;

/// How units (sentences) become sequences. Sequences never cross documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Full length, across paragraphs.
    Chunks,
    /// A paragraph each, at its own length.
    Paragraphs,
    /// A sentence each, at its own length.
    Sentences,
}

/// Where a sequence lies: tokens `start..start + len` of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    shard: u32,
    start: u32,
    len: u32,
}

/// The sequences of a corpus, without special tokens.
pub struct Sequences {
    shards: Shards,
    places: Vec<Place>,
    order: Vec<u32>,
    shuffled: Option<(u64, u64)>,
}

/// Shorter sequences than this teach nothing and are left out.
const SHORTEST: usize = 3;

impl Sequences {
    /// Lays out all sequences of at most `longest` tokens.
    pub fn new(shards: Shards, layout: Layout, longest: usize) -> Self {
        let longest = longest.max(1);
        let mut places = Vec::new();
        for (number, shard) in shards.shards.iter().enumerate() {
            let mut start = 0;
            let mut push = |start: usize, end: usize| {
                // A stretch that is too long is cut into pieces of equal length.
                let pieces = (end - start).div_ceil(longest);
                for piece in 0..pieces {
                    let from = start + (end - start) * piece / pieces;
                    let to = start + (end - start) * (piece + 1) / pieces;
                    if to - from >= SHORTEST {
                        let (start, len) = (from as u32, (to - from) as u32);
                        places.push(Place { shard: number as u32, start, len });
                    }
                }
            };
            for unit in (0..shard.units()).map(|i| shard.unit(i)) {
                match layout {
                    Layout::Sentences => push(unit.start, unit.end),
                    Layout::Paragraphs if unit.ends_paragraph || unit.ends_document => {
                        push(start, unit.end);
                        start = unit.end;
                    }
                    Layout::Chunks => {
                        while unit.end - start >= longest {
                            push(start, start + longest);
                            start += longest;
                        }
                        if unit.ends_document {
                            push(start, unit.end);
                            start = unit.end;
                        }
                    }
                    Layout::Paragraphs => {}
                }
            }
            let end = shard.units().checked_sub(1).map_or(0, |i| shard.unit(i).end);
            if layout != Layout::Sentences && start < end {
                push(start, end);
            }
        }
        Self { shards, places, order: Vec::new(), shuffled: None }
    }

    /// Splits off the last `count` sequences of the corpus, for validation without a file of its own.
    pub fn split_off(&mut self, count: usize) -> Vec<Place> {
        let at = self.places.len().saturating_sub(count);
        self.places.split_off(at)
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// All places, in the order of the corpus.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Tokens in one pass over all sequences.
    pub fn tokens(&self) -> usize {
        self.places.iter().map(|p| p.len as usize).sum()
    }

    /// Sequence number `index` of pass `epoch`, in an order that the seed and the pass decide.
    pub fn shuffled(&mut self, seed: u64, epoch: u64, index: usize, out: &mut Vec<u32>) {
        if self.shuffled != Some((seed, epoch)) {
            self.order = (0..self.places.len() as u32).collect();
            self.order.shuffle(&mut generator(seed, "shuffle", epoch));
            self.shuffled = Some((seed, epoch));
        }
        self.read(self.places[self.order[index] as usize], out);
    }

    /// The tokens at a place.
    pub fn read(&self, place: Place, out: &mut Vec<u32>) {
        out.clear();
        let start = place.start as usize;
        self.shards.shards[place.shard as usize].read(start, start + place.len as usize, out);
    }
}
