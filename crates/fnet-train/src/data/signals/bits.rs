//! Strings of bits, generated: memory and exclusive or (Lu et al. 2021, section 2.1).

use fnet_encoder::Head;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::generated::Task;
use super::{Reading, Shape, Signal, Target};
use crate::error::Result;
use crate::settings::{in_range, refused};

/// Bits in a vector of the memory task, as in the paper.
const CHUNK: usize = 50;

/// A task on strings of random bits. A bit is -1 or 1 in a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "task")]
pub enum Bits {
    /// Several strings are shown, then one of them with half of its bits hidden (0), which is to be restored. What is
    /// visible alone gives 0.75 of the bits.
    Memory {
        /// Strings shown.
        strings: usize,
        /// Bits in each, a multiple of 50.
        bits: usize,
    },
    /// The bit by bit exclusive or of two strings, asked at the positions of the second.
    Xor {
        /// Bits in each.
        bits: usize,
    },
}

impl Bits {
    /// Refuses sizes that [`named`](Self::named) does not give.
    pub(super) fn check(self) -> std::result::Result<(), String> {
        let (strings, bits, unit) = match self {
            Self::Memory { strings, bits } => (strings, bits, CHUNK),
            Self::Xor { bits } => (2, bits, 1),
        };
        let fits =
            (1..=1_000).contains(&strings) && (1..=100_000).contains(&bits) && bits.is_multiple_of(unit);
        if fits { Ok(()) } else { Err(format!("{strings} strings of {bits} bits")) }
    }

    /// A task by name, in the paper's size unless told.
    ///
    /// # Errors
    /// If a size is out of range, or does not apply.
    pub fn named(name: &str, strings: Option<usize>, bits: Option<usize>) -> Result<Option<Self>> {
        in_range("strings", strings.map(|n| n as f64), 1.0, 1_000.0)?;
        in_range("bits", bits.map(|n| n as f64), 1.0, 100_000.0)?;
        Ok(Some(match name {
            "bit-memory" => {
                let bits = bits.unwrap_or(1_000);
                if !bits.is_multiple_of(CHUNK) {
                    return Err(refused(&format!("bits {bits}"), format!("must be a multiple of {CHUNK}")));
                }
                Self::Memory { strings: strings.unwrap_or(5), bits }
            }
            "bit-xor" if strings.is_some_and(|n| n != 2) => {
                return Err(refused("strings", "bit-xor has two strings"));
            }
            "bit-xor" => Self::Xor { bits: bits.unwrap_or(5) },
            _ => return Ok(None),
        }))
    }
}

fn sign(bit: bool) -> f32 {
    if bit { 1.0 } else { -1.0 }
}

impl Task for Bits {
    const EXAMPLES: [usize; 2] = [4_000, 500];
    const PURPOSES: [&'static str; 2] = ["bits", "valid bits"];
    const VALIDATION_SEED: u64 = 20_210_509;

    fn shape(self) -> Shape {
        let (width, longest, labels) = match self {
            Self::Memory { strings, bits } => (CHUNK, (strings + 1) * bits / CHUNK, CHUNK),
            Self::Xor { bits } => (1, 2 * bits, 1),
        };
        Shape { width, longest, head: Head::Tokens { labels }, classes: Vec::new() }
    }

    fn reading(self) -> Reading {
        Reading::Bits(self)
    }

    fn example(self, random: &mut ChaCha8Rng, into: &mut Signal) {
        let mut draw = |count: usize| -> Vec<bool> { (0..count).map(|_| random.random()).collect() };
        let Signal { vectors, target, .. } = into;
        let mut labels;
        match self {
            Self::Memory { strings, bits } => {
                let shown = draw(strings * bits);
                let hidden = draw(bits);
                let asked = random.random_range(0..strings) * bits;
                let asked = &shown[asked..asked + bits];
                vectors.extend(shown.iter().map(|bit| sign(*bit)));
                vectors.extend(
                    asked.iter().zip(&hidden).map(|(bit, hidden)| if *hidden { 0.0 } else { sign(*bit) }),
                );
                labels = vec![f32::NAN; strings * bits];
                labels.extend(asked.iter().map(|bit| f32::from(*bit)));
            }
            Self::Xor { bits } => {
                let both = draw(2 * bits);
                let (first, second) = both.split_at(bits);
                vectors.extend(both.iter().map(|bit| sign(*bit)));
                labels = vec![f32::NAN; bits];
                labels.extend(first.iter().zip(second).map(|(a, b)| f32::from(a ^ b)));
            }
        }
        *target = Target::Labels(labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::signals::Source;
    use crate::data::signals::generated::Generated;

    fn example(task: Bits, pass: u64, index: usize) -> (Vec<f32>, Vec<f32>) {
        let mut signal = Signal::default();
        Generated::new(task, Some(3)).read(pass, index, &mut signal).unwrap();
        let Target::Labels(labels) = signal.target else { panic!() };
        (signal.vectors, labels)
    }

    #[test]
    fn memory_asks_for_one_of_the_strings() {
        let task = Bits::named("bit-memory", Some(3), Some(100)).unwrap().unwrap();
        let (x, labels) = example(task, 0, 7);
        assert_eq!((x.len(), labels.len()), (400, 400));
        let (shown, asked) = (&x[..300], &x[300..]);
        let wanted = &labels[300..];
        assert!(labels[..300].iter().all(|l| l.is_nan()));
        let is_it = |string: &[f32]| string.iter().zip(wanted).all(|(bit, l)| *bit == 2.0 * l - 1.0);
        assert_eq!(shown.chunks(100).filter(|string| is_it(string)).count(), 1);
        let visible = asked.iter().filter(|bit| **bit != 0.0).count();
        assert!((30..70).contains(&visible), "{visible}");
        assert!(asked.iter().zip(wanted).all(|(bit, l)| *bit == 0.0 || *bit == 2.0 * l - 1.0));
    }

    #[test]
    fn exclusive_or_of_bits() {
        let task = Bits::named("bit-xor", None, None).unwrap().unwrap();
        let (x, labels) = example(task, 0, 0);
        assert_eq!((x.len(), labels.len()), (10, 10));
        for i in 0..5 {
            assert_eq!(labels[5 + i], f32::from(x[i] != x[5 + i]));
        }
        assert_ne!(x, example(task, 1, 0).0, "each pass has its own");
        assert_eq!(x, example(task, 0, 0).0);
    }

    #[test]
    fn sizes_are_checked() {
        for (name, strings, bits) in
            [("bit-memory", None, Some(60)), ("bit-memory", Some(0), None), ("bit-xor", Some(3), None)]
        {
            assert!(Bits::named(name, strings, bits).is_err(), "{name}");
        }
        assert_eq!(Bits::named("mnist", None, None).unwrap(), None);
    }
}
