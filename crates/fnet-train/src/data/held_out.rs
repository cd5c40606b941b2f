//! A part of the training examples to judge by: always the same one, whatever is tried on it.

use rand::seq::SliceRandom;

use crate::error::Result;
use crate::random::generator;
use crate::settings::refused;

/// Which of so many examples are learnt from, and which are held out: a `share` of them, both in their order.
pub(crate) fn split(examples: usize, share: f64) -> [Vec<usize>; 2] {
    let mut order: Vec<usize> = (0..examples).collect();
    order.shuffle(&mut generator(0, "held out", 0));
    let count = ((examples as f64 * share).round() as usize).max(1).min(examples.saturating_sub(1));
    let mut rest = order.split_off(count);
    order.sort_unstable();
    rest.sort_unstable();
    [rest, order]
}

/// Refuses to hold out none.
pub(crate) fn check(held_out: usize) -> Result<()> {
    match held_out {
        0 => Err(refused("held_out", "there are too few examples to hold some out")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_on_one_side() {
        for (examples, share, held) in [(0, 0.5, 0), (1, 0.5, 0), (2, 0.01, 1), (10, 0.2, 2), (10, 0.99, 9)] {
            let [learnt, out] = split(examples, share);
            let mut all = [learnt, out.clone()].concat();
            all.sort_unstable();
            assert_eq!((out.len(), all), (held, (0..examples).collect()), "{examples} {share}");
        }
        assert_eq!(split(1_000, 0.3), split(1_000, 0.3));
    }
}
