//! What makes a training sequence, and the order of sequences.

use rand::seq::SliceRandom;

use super::shards::Shards;
use crate::random::{Fingerprint, generator};

/// How units (sentences) become sequences. Sequences never cross documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Full length, across paragraphs.
    Chunks,
    /// A paragraph each, at its own length.
    Paragraphs,
    /// A sentence each, at its own length.
    Sentences,
}

/// The place of a sequence: tokens `start..start + len` of a shard, the last `second` of them as its second
/// segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    shard: u32,
    start: u32,
    len: u32,
    second: u32,
    ends_document: bool,
}

impl Place {
    /// Its first and its second segment; the second is empty if it is not a pair.
    pub fn segments(self) -> [Self; 2] {
        let first = Self { len: self.len - self.second, second: 0, ..self };
        [first, Self { start: first.start + first.len, len: self.second, second: 0, ..self }]
    }
}

/// The sequences of a corpus, without special tokens.
pub struct Sequences {
    shards: Shards,
    places: Vec<Place>,
    order: Vec<u32>,
    shuffled: Option<(u64, u64)>,
    left_out: usize,
}

/// Shorter sequences than this, in tokens, teach nothing and are left out.
pub const SHORTEST: usize = 3;

impl Sequences {
    /// Lays out all sequences of at most `longest` tokens.
    pub fn new(shards: Shards, layout: Layout, longest: usize) -> Self {
        let longest = longest.max(1);
        let mut places = Vec::new();
        let mut left_out = 0;
        for (number, shard) in shards.shards.iter().enumerate() {
            let mut start = 0;
            let mut push = |places: &mut Vec<Place>, start: usize, end: usize| {
                // A stretch that is too long is cut into pieces of equal length.
                let pieces = (end - start).div_ceil(longest);
                for piece in 0..pieces {
                    let from = start + (end - start) * piece / pieces;
                    let to = start + (end - start) * (piece + 1) / pieces;
                    if to - from < SHORTEST {
                        left_out += 1;
                    } else {
                        let (shard, start, len) = (number as u32, from as u32, (to - from) as u32);
                        places.push(Place { shard, start, len, second: 0, ends_document: false });
                    }
                }
            };
            for unit in (0..shard.units()).map(|i| shard.unit(i)) {
                match layout {
                    Layout::Sentences => push(&mut places, unit.start, unit.end),
                    Layout::Paragraphs if unit.ends_paragraph || unit.ends_document => {
                        push(&mut places, start, unit.end);
                        start = unit.end;
                    }
                    Layout::Chunks => {
                        while unit.end - start >= longest {
                            push(&mut places, start, start + longest);
                            start += longest;
                        }
                        if unit.ends_document {
                            push(&mut places, start, unit.end);
                            start = unit.end;
                        }
                    }
                    Layout::Paragraphs => {}
                }
                if unit.ends_document
                    && let Some(last) = places.last_mut()
                {
                    last.ends_document = true;
                }
            }
            let end = shard.units().checked_sub(1).map_or(0, |i| shard.unit(i).end);
            if layout != Layout::Sentences && start < end {
                push(&mut places, start, end);
            }
        }
        Self { shards, places, order: Vec::new(), shuffled: None, left_out }
    }

    /// Joins neighbours in the same document into pairs, each sequence in one pair; those without a neighbour stay
    /// single.
    pub fn paired(self) -> Self {
        let mut places = Vec::with_capacity(self.places.len() / 2);
        let mut rest = self.places.as_slice();
        while let [first, after @ ..] = rest {
            let follows = |second: &&Place| {
                !first.ends_document && second.shard == first.shard && second.start == first.start + first.len
            };
            if let Some(second) = after.first().filter(follows) {
                places.push(Place { len: first.len + second.len, second: second.len, ..*first });
                rest = &after[1..];
            } else {
                places.push(*first);
                rest = after;
            }
        }
        Self { places, ..self }
    }

    /// Splits off the last `count` sequences of the corpus, for validation without a separate file.
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

    /// How many were left out because they are too short.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// All places, in the order of the corpus.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Tokens in one pass over all sequences.
    pub fn tokens(&self) -> usize {
        self.places.iter().map(|p| p.len as usize).sum()
    }

    /// A fingerprint of all their tokens.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut fingerprint = Fingerprint::default();
        let mut tokens = Vec::new();
        for place in &self.places {
            fingerprint.add(u64::from(place.len) << 32 | u64::from(place.second));
            tokens.clear();
            self.read(*place, &mut tokens);
            tokens.iter().for_each(|id| fingerprint.add(u64::from(*id)));
        }
        fingerprint
    }

    /// Sequence number `index` of pass `epoch`, in an order determined by the seed and the pass.
    pub fn shuffled(&mut self, seed: u64, epoch: u64, index: usize) -> Place {
        if self.shuffled != Some((seed, epoch)) {
            self.order = (0..self.places.len() as u32).collect();
            self.order.shuffle(&mut generator(seed, "shuffle", epoch));
            self.shuffled = Some((seed, epoch));
        }
        self.places[self.order[index] as usize]
    }

    /// Appends the tokens at a place.
    pub fn read(&self, place: Place, out: &mut Vec<u32>) {
        let start = place.start as usize;
        self.shards.shards[place.shard as usize].read(start, start + place.len as usize, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tokenizer::{Kind, Tokenizer};

    #[test]
    fn pairs_are_neighbours_of_one_document() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = folder.path().join("a.txt");
        let text = "one one one one\ntwo two two two\nthree three three\n\nfour four four\n\nfive five five five five\nsix six six\n";
        std::fs::write(&corpus, text).unwrap();
        let tokenizer = Tokenizer::train(Kind::Wordpiece, 60, false, text.lines().map(String::from)).unwrap();
        let shards =
            Shards::open_or_make(&folder.path().join("shards"), &[corpus], &tokenizer, true).unwrap();
        let sequences = Sequences::new(shards, Layout::Paragraphs, 100).paired();
        let text = |place: Place| {
            let mut ids = Vec::new();
            sequences.read(place, &mut ids);
            tokenizer.decode(&ids)
        };
        let found: Vec<_> = sequences.places().iter().map(|place| place.segments().map(text)).collect();
        let expected = [
            ["one one one one", "two two two two"],
            ["three three three", ""],
            ["four four four", ""],
            ["five five five five five", "six six six"],
        ];
        assert_eq!(found, expected);
    }
}
