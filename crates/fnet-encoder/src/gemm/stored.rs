//! How a buffer of float32 holds rows of values: as they are, or rounded to bfloat16 in half the space.

/// Values that are written at once.
pub(crate) const BLOCK: usize = 64;

/// How a buffer's rows hold their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// One in each place.
    Floats,
    /// Rounded to bfloat16, as products would round them, in the first half of the row's places: two per place, the
    /// first in the lower bits. Less memory traffic, and products have the same bits.
    Halves,
}

impl Stored {
    /// Values in a place.
    pub(super) fn of_place(self) -> usize {
        match self {
            Self::Floats => 1,
            Self::Halves => 2,
        }
    }

    /// Writes a row's values from `start` on, a multiple of [`BLOCK`]; `block` may be longer than the rest. Later
    /// blocks of the same row may still be unread floats.
    #[inline(always)]
    pub(crate) fn write(self, row: &mut [f32], start: usize, block: &[f32; BLOCK]) {
        let len = BLOCK.min(row.len() - start);
        match self {
            Self::Floats => row[start..][..len].copy_from_slice(&block[..len]),
            Self::Halves => {
                let row = &mut row[start / 2..][..len.div_ceil(2)];
                if let Ok(whole) = row.try_into() {
                    halve(block, whole);
                } else {
                    let mut pairs = [0.0; BLOCK / 2];
                    halve(block, &mut pairs);
                    row.copy_from_slice(&pairs[..row.len()]);
                }
            }
        }
    }

    /// Value `index` of a buffer.
    #[inline(always)]
    pub(super) fn get(self, buffer: &[f32], index: usize) -> f32 {
        match self {
            Self::Floats => buffer[index],
            Self::Halves => {
                let pair = buffer[index / 2].to_bits();
                f32::from_bits(if index.is_multiple_of(2) { pair << 16 } else { pair & 0xFFFF_0000 })
            }
        }
    }
}

/// Rounds a block to bfloat16.
#[inline(always)]
fn halve(block: &[f32; BLOCK], pairs: &mut [f32; BLOCK / 2]) {
    #[cfg(target_arch = "x86_64")]
    if super::packed::halve(block, pairs) {
        return;
    }
    halve_anywhere(block, pairs);
}

#[inline(always)]
fn halve_anywhere(block: &[f32; BLOCK], pairs: &mut [f32; BLOCK / 2]) {
    for (pair, values) in pairs.iter_mut().zip(block.chunks_exact(2)) {
        let [low, high] = [values[0], values[1]].map(|value| round(value).to_bits());
        *pair = f32::from_bits(low >> 16 | high);
    }
}

/// The nearest bfloat16, ties to even, as float32. NaN stays NaN.
#[inline(always)]
pub(super) fn round(x: f32) -> f32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) & 0xFFFF_0000;
    f32::from_bits(if x.is_nan() { (bits | 0x0040_0000) & 0xFFFF_0000 } else { nearest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    #[test]
    fn rows_hold_what_products_would_round_to() {
        for width in [1, 2, 63, 64, 65, 200] {
            let values: Vec<f32> = noise(width, 1).iter().map(|v| v * 1e3).collect();
            // In place, block after block.
            let mut row = values.clone();
            for start in (0..width).step_by(BLOCK) {
                let mut block = [0.0; BLOCK];
                let rest = &row[start..row.len().min(start + BLOCK)];
                block[..rest.len()].copy_from_slice(rest);
                Stored::Halves.write(&mut row, start, &block);
            }
            for (i, value) in values.iter().enumerate() {
                assert_eq!(Stored::Halves.get(&row, i), round(*value), "{i} of {width}");
            }
        }
    }

    #[test]
    fn every_way_of_rounding_is_the_same() {
        let mut block = [0.0; BLOCK];
        block.copy_from_slice(&noise(BLOCK, 2));
        block[..6].copy_from_slice(&[
            1.0 + 1.0 / 256.0,
            1.0 + 3.0 / 256.0,
            f32::MAX,
            -f32::INFINITY,
            -0.0,
            1e-30,
        ]);
        let (mut here, mut anywhere) = ([0.0; BLOCK / 2], [0.0; BLOCK / 2]);
        halve(&block, &mut here);
        halve_anywhere(&block, &mut anywhere);
        assert_eq!(here.map(f32::to_bits), anywhere.map(f32::to_bits));
        block.fill(f32::NAN);
        halve(&block, &mut here);
        assert!((0..BLOCK).all(|i| Stored::Halves.get(&here, i).is_nan()));
    }
}
