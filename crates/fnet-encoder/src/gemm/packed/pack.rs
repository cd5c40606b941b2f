//! Packs blocks of 16 lanes by 16 words with AVX-512.

use std::arch::x86_64::*;

use super::super::Matrix;

/// Lanes and words of a block that is packed at once.
pub const BLOCK: usize = 16;

/// Where a block is written: so many lines of so many words.
#[derive(Clone, Copy)]
struct To {
    start: *mut u32,
    step: usize,
    lines: usize,
    width: usize,
}

/// Order of packed words.
#[derive(Clone, Copy, PartialEq)]
pub enum Layout {
    /// `[lane][word]`
    LanesFirst,
    /// `[word][lane]`
    WordsFirst,
}

/// What a word holds.
#[derive(Clone, Copy, PartialEq)]
pub enum Values {
    /// A value of float32.
    One,
    /// Two values, rounded to bfloat16.
    Two,
}

impl Values {
    /// How many.
    pub const fn of_word(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

/// Packs `lanes` rows of `from`, `length` values long, into `all` lanes of `to`, at most
/// [`BLOCK`], whose lines lie `step` apart; what is missing is zero.
pub fn pack_block(
    from: Matrix,
    [lanes, length]: [usize; 2],
    (values, layout): (Values, Layout),
    to: &mut [u32],
    step: usize,
    all: usize,
) {
    assert!(lanes <= all && all <= BLOCK && length <= values.of_word() * BLOCK);
    assert!(from.reaches(lanes, length));
    assert!(from.column == 1 || from.row == 1 && values == Values::Two);
    let [lines, width] = match layout {
        Layout::LanesFirst => [all, BLOCK],
        Layout::WordsFirst => [BLOCK, all],
    };
    assert!((lines - 1) * step + width <= to.len());
    let to = To { start: to.as_mut_ptr(), step, lines, width };
    // SAFETY: the assertions are what both functions ask for, and levels that pack are only chosen where
    // the features are there. Covered by `matches_float64`.
    unsafe {
        match values {
            Values::One => pack_floats(from, [lanes, length], layout, to),
            Values::Two => pack_pairs(from, [lanes, length], layout, to),
        }
    }
}

/// Has the first rows, `length` values of each, brought nearer as far as the matrix reaches.
pub fn fetch_rows(from: Matrix, rows: usize, length: usize) {
    for row in 0..rows {
        for value in (0..length).step_by(16) {
            let value = from.values.as_ptr().wrapping_add(row * from.row + value);
            // SAFETY: a prefetch reads nothing, wherever it points; every x86-64 CPU has it.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(value.cast()) };
        }
    }
}

/// Packs `lanes` rows of `from`, `length` values long, where rows are columns of memory, as `[word][lane]` in
/// parts of `all` lanes: reads memory in its order.
pub fn pack_across(
    from: Matrix,
    [lanes, length]: [usize; 2],
    [all, depth]: [usize; 2],
    values: Values,
    to: &mut [u32],
) {
    assert!(from.row == 1 && from.reaches(lanes, length) && length <= values.of_word() * depth);
    // SAFETY: the assertion is what both functions ask for, and levels that pack are only chosen where the
    // features are there. Covered by `matches_float64`.
    unsafe {
        match values {
            Values::One => floats_across(from, [lanes, length], [all, depth], to),
            Values::Two => pairs_across(from, [lanes, length], [all, depth], to),
        }
    }
}

/// Words ahead of the current ones that are fetched: the CPU does not see by itself that they come next.
const AHEAD: usize = 4;

/// The loops of [`pack_across`] around `$word`, the words of some neighbouring lanes, from the place of their
/// first values and how many of these are there.
macro_rules! across {
    ($name:ident, $features:literal, $values:literal, $word:expr) => {
        #[target_feature(enable = $features)]
        unsafe fn $name(from: Matrix, [lanes, length]: [usize; 2], [all, depth]: [usize; 2], to: &mut [u32]) {
            for word in 0..depth {
                for (part, to) in to.chunks_exact_mut(all * depth).enumerate() {
                    for (i, to) in to[word * all..][..all].chunks_mut(BLOCK).enumerate() {
                        let first = part * all + i * BLOCK;
                        let mut places = [(0, 0); $values];
                        for (i, place) in places.iter_mut().enumerate() {
                            let k = word * $values + i;
                            let count =
                                if k < length { lanes.saturating_sub(first).min(to.len()) } else { 0 };
                            *place = (k * from.column + first, count);
                            let ahead = place.0 + AHEAD * $values * from.column;
                            // A prefetch reads nothing, wherever it points.
                            _mm_prefetch::<_MM_HINT_T0>(from.values.as_ptr().wrapping_add(ahead).cast());
                        }
                        let these = ((1_u32 << to.len()) - 1) as __mmask16;
                        // SAFETY: the caller's operand reaches what is read; `to` holds what is written.
                        unsafe {
                            _mm512_mask_storeu_epi32(to.as_mut_ptr().cast(), these, $word(from, places))
                        };
                    }
                }
            }
        }
    };
}

across!(floats_across, "avx512f,avx512bw", 1, |from, [(at, count)]: [(usize, usize); 1]| {
    _mm512_castps_si512(load(from, at, count))
});

across!(pairs_across, "avx512f,avx512bw,avx512bf16", 2, |from, places| load_pairs(from, places));

/// Reads values from two places on, as [`load`]: each word holds one of both, rounded to bfloat16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn load_pairs(from: Matrix, places: [(usize, usize); 2]) -> __m512i {
    let [low, high] = places.map(|(at, count)| {
        // SAFETY: the caller's operand reaches what is read.
        let rounded = _mm512_cvtneps_pbh(unsafe { load(from, at, count) });
        // SAFETY: both are 256 bits without invalid values.
        _mm512_cvtepu16_epi32(unsafe { std::mem::transmute::<__m256bh, __m256i>(rounded) })
    });
    _mm512_or_si512(low, _mm512_slli_epi32::<16>(high))
}

/// Reads `count` values from `at` on, zeros after them.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn load(from: Matrix, at: usize, count: usize) -> __m512 {
    let first = ((1_u32 << count.min(16)) - 1) as __mmask16;
    // SAFETY: only those `count` values are read, which the caller's operand reaches.
    unsafe { _mm512_maskz_loadu_ps(first, from.values.as_ptr().wrapping_add(at)) }
}

#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn pack_floats(from: Matrix, [lanes, length]: [usize; 2], layout: Layout, to: To) {
    let mut block = [_mm512_setzero_si512(); BLOCK];
    for (lane, line) in block.iter_mut().enumerate().take(lanes) {
        // SAFETY: the caller's operand reaches what is read.
        *line = _mm512_castps_si512(unsafe { load(from, lane * from.row, length) });
    }
    // SAFETY: the caller's promise.
    unsafe { write(block, Layout::LanesFirst, layout, to) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_pairs(from: Matrix, [lanes, length]: [usize; 2], layout: Layout, to: To) {
    let mut block = [_mm512_setzero_si512(); BLOCK];
    // SAFETY (all loads): the caller's operand reaches what is read.
    let have = if from.column == 1 {
        for (lane, line) in block.iter_mut().enumerate().take(lanes) {
            let at = lane * from.row;
            // SAFETY: as said above.
            let (low, high) =
                unsafe { (load(from, at, length), load(from, at + 16, length.saturating_sub(16))) };
            // SAFETY: both are 512 bits without invalid values.
            *line = unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) };
        }
        Layout::LanesFirst
    } else {
        let place = |k: usize| (k * from.column, if k < length { lanes } else { 0 });
        for (pair, line) in block.iter_mut().enumerate().take(length.div_ceil(2)) {
            // SAFETY: as said above.
            *line = unsafe { load_pairs(from, [2 * pair, 2 * pair + 1].map(place)) };
        }
        Layout::WordsFirst
    };
    // SAFETY: the caller's promise.
    unsafe { write(block, have, layout, to) }
}

/// Writes a block in the order that is asked for.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn write(mut block: [__m512i; BLOCK], have: Layout, layout: Layout, to: To) {
    if have != layout {
        transpose(&mut block);
    }
    let first = ((1_u32 << to.width) - 1) as __mmask16;
    for (i, line) in block.into_iter().enumerate().take(to.lines) {
        // SAFETY: `to` holds its lines.
        unsafe { _mm512_mask_storeu_epi32(to.start.add(i * to.step).cast(), first, line) };
    }
}

/// Transposes 16 x 16 values of 32 bits: within quarters of registers, then the quarters.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(block: &mut [__m512i; BLOCK]) {
    for four in block.chunks_exact_mut(4) {
        let low = |a, b| _mm512_unpacklo_epi32(a, b);
        let high = |a, b| _mm512_unpackhi_epi32(a, b);
        let (a, b) = (low(four[0], four[1]), high(four[0], four[1]));
        let (c, d) = (low(four[2], four[3]), high(four[2], four[3]));
        four[0] = _mm512_unpacklo_epi64(a, c);
        four[1] = _mm512_unpackhi_epi64(a, c);
        four[2] = _mm512_unpacklo_epi64(b, d);
        four[3] = _mm512_unpackhi_epi64(b, d);
    }
    const EVEN: i32 = 0x88;
    const ODD: i32 = 0xDD;
    for i in 0..4 {
        let (a, b, c, d) = (block[i], block[4 + i], block[8 + i], block[12 + i]);
        let (even, even_too) = (_mm512_shuffle_i32x4::<EVEN>(a, b), _mm512_shuffle_i32x4::<EVEN>(c, d));
        let (odd, odd_too) = (_mm512_shuffle_i32x4::<ODD>(a, b), _mm512_shuffle_i32x4::<ODD>(c, d));
        block[i] = _mm512_shuffle_i32x4::<EVEN>(even, even_too);
        block[8 + i] = _mm512_shuffle_i32x4::<ODD>(even, even_too);
        block[4 + i] = _mm512_shuffle_i32x4::<EVEN>(odd, odd_too);
        block[12 + i] = _mm512_shuffle_i32x4::<ODD>(odd, odd_too);
    }
}
