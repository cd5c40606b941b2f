//! Packs operands with AVX-512, in memory order.
//!
//! A *line* is a register of 16 words, read from memory at once: neighbours in one lane where memory runs along the
//! lanes, one word of 16 lanes where it runs across them. If the packed order is the other way round, it is
//! transposed, a block of lines at a time.

mod transpose;
mod word;

use std::arch::x86_64::*;
use std::ops::Range;

use transpose::{join, transpose};
pub use word::halve;
use word::{Float, Halves, Pair, Word};

use crate::gemm::Stored;
use crate::gemm::matrix::Matrix;

/// Words of a line: packed parts are a multiple of it deep.
pub const BLOCK: usize = 16;
/// Lanes of narrow parts; others are a multiple of [`BLOCK`] wide.
const NARROW: usize = 12;

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
    /// The number of values.
    pub const fn of_word(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

/// What is packed: the first `lanes` rows of `from`, `length` values long, in parts of `all` lanes by `depth`
/// words; what is missing is zero.
#[derive(Clone, Copy)]
struct Job<'a> {
    from: Matrix<'a>,
    lanes: usize,
    length: usize,
    all: usize,
    depth: usize,
}

/// Packs the first `lanes` rows of `from`, `length` values long, as strips or panels of `all` lanes by `depth`
/// words each; what is missing is zero.
pub fn pack(
    from: Matrix,
    [lanes, length]: [usize; 2],
    [all, depth]: [usize; 2],
    (values, layout): (Values, Layout),
    to: &mut [u32],
) {
    assert!(from.reaches(lanes, length) && (from.column == 1 || from.row == 1));
    assert!(from.stored == Stored::Floats || values == Values::Two);
    assert!(depth.is_multiple_of(BLOCK) && length <= values.of_word() * depth);
    assert!(all.is_multiple_of(BLOCK) || all == NARROW && layout == Layout::WordsFirst);
    assert!(to.len().is_multiple_of(all * depth) && lanes * depth <= to.len());
    let job = Job { from, lanes, length, all, depth };
    // SAFETY: the assertions are what these functions ask for, and levels that pack are only chosen where
    // the features are there. Covered by `matches_float64`.
    unsafe {
        match values {
            Values::One => pack_floats(job, layout, to),
            Values::Two if from.stored == Stored::Halves => pack_halves(job, layout, to),
            Values::Two => pack_pairs(job, layout, to),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn pack_floats(job: Job, layout: Layout, to: &mut [u32]) {
    // SAFETY: the caller's promise; these are the features of `Float`.
    unsafe { pack_words::<Float>(job, layout, to) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_pairs(job: Job, layout: Layout, to: &mut [u32]) {
    // SAFETY: the caller's promise; these are the features of `Pair`.
    unsafe { pack_words::<Pair>(job, layout, to) }
}

#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn pack_halves(job: Job, layout: Layout, to: &mut [u32]) {
    // SAFETY: the caller's promise; these are the features of `Halves`.
    unsafe { pack_words::<Halves>(job, layout, to) }
}

/// The first value.
#[inline(always)]
fn start_of<W: Word>(from: Matrix) -> *const W::Value {
    from.buffer.as_ptr().cast::<W::Value>().wrapping_add(from.first)
}

#[inline(always)]
unsafe fn pack_words<W: Word>(job: Job, layout: Layout, to: &mut [u32]) {
    // SAFETY: the caller's promise.
    unsafe {
        match (job.from.column == 1, layout) {
            (true, Layout::WordsFirst) if job.all == NARROW => along::<W, 3>(job, to),
            (true, Layout::WordsFirst) => along::<W, 4>(job, to),
            (true, Layout::LanesFirst) => along_as_it_lies::<W>(job, to),
            (false, Layout::WordsFirst) if job.all == NARROW => across::<W, true>(job, to),
            (false, Layout::WordsFirst) => across::<W, false>(job, to),
            (false, Layout::LanesFirst) => across_transposed::<W>(job, to),
        }
    }
}

/// From memory along the lanes to `[word][lane]`, in blocks of `4 * GROUPS` lanes.
#[inline(always)]
unsafe fn along<W: Word, const GROUPS: usize>(job: Job, to: &mut [u32]) {
    let Job { from, lanes, length, all, depth } = job;
    let (width, line) = (4 * GROUPS, W::VALUES * BLOCK);
    let blocks = depth / BLOCK;
    // Narrow words have no gaps between them, as full registers.
    let step = if all == NARROW { BLOCK } else { all };
    for (part, to) in to.chunks_exact_mut(all * depth).enumerate() {
        for (block, to) in to.chunks_exact_mut(all * BLOCK).enumerate() {
            let start = block * line;
            // Prefetches the next part, whole rows at a time: memory is fastest when read in order.
            let [first, end] = [block, block + 1].map(|block| (part + 1) * all + all * block / blocks);
            fetch_rows::<W>(from, first..end, length);
            for lane in (0..all).step_by(width) {
                let first = part * all + lane;
                let at = start_of::<W>(from).wrapping_add(first * from.row + start);
                let to = to[lane..].as_mut_ptr();
                let size = [lanes.saturating_sub(first).min(width), length.saturating_sub(start).min(line)];
                // SAFETY: the operand reaches its lanes' ends; the last line written ends with the block.
                unsafe {
                    if size == [width, line] {
                        along_block::<W, GROUPS>(at, from.row, [width, line], to, step);
                    } else {
                        along_block::<W, GROUPS>(at, from.row, size, to, step);
                    }
                }
            }
        }
    }
}

/// Reads a line of each of up to `4 * GROUPS` lanes, `stride` apart, and writes them transposed.
#[inline(always)]
unsafe fn along_block<W: Word, const GROUPS: usize>(
    at: *const W::Value,
    stride: usize,
    [lanes, length]: [usize; 2],
    to: *mut u32,
    step: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut lines = [[_mm512_setzero_si512(); 4]; GROUPS];
        for (lane, line) in lines.as_flattened_mut().iter_mut().enumerate() {
            let length = if lane < lanes { length } else { 0 };
            *line = W::neighbours(at.wrapping_add(lane * stride), length);
        }
        write(transpose(lines).as_flattened(), to, step);
    }
}

/// From memory along the lanes to `[lane][word]`.
#[inline(always)]
unsafe fn along_as_it_lies<W: Word>(job: Job, to: &mut [u32]) {
    let Job { from, lanes, length, depth, .. } = job;
    for (lane, to) in to.chunks_exact_mut(depth).enumerate() {
        let length = if lane < lanes { length } else { 0 };
        for (i, to) in to.chunks_exact_mut(BLOCK).enumerate() {
            let start = i * W::VALUES * BLOCK;
            let at = start_of::<W>(from).wrapping_add(lane * from.row + start);
            // SAFETY: the operand reaches the lane's end; `to` holds a line.
            unsafe {
                _mm512_storeu_si512(to.as_mut_ptr().cast(), W::neighbours(at, length.saturating_sub(start)));
            }
        }
    }
}

/// Words to prefetch ahead of the current ones: the CPU does not see on its own that they come next.
const AHEAD: usize = 4;

/// From memory across the lanes to `[word][lane]`: four words over all the lanes at a time.
#[inline(always)]
unsafe fn across<W: Word, const IS_NARROW: bool>(job: Job, to: &mut [u32]) {
    let Job { from, lanes, length, all, depth } = job;
    let width = if IS_NARROW { NARROW } else { BLOCK };
    for word in (0..depth).step_by(4) {
        for (part, to) in to.chunks_exact_mut(all * depth).enumerate() {
            for lane in (0..all).step_by(width) {
                let first = part * all + lane;
                let at = start_of::<W>(from).wrapping_add(word * W::VALUES * from.column + first);
                for value in 0..4 * W::VALUES {
                    let ahead = (AHEAD * W::VALUES + value) * from.column;
                    // SAFETY: a prefetch reads nothing, wherever it points.
                    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(ahead).cast()) };
                }
                let size = [
                    lanes.saturating_sub(first).min(width),
                    length.saturating_sub(word * W::VALUES).min(4 * W::VALUES),
                ];
                let to = to[word * all + lane..].as_mut_ptr();
                // SAFETY: the operand reaches its lanes' ends; the last line written ends within the part.
                unsafe {
                    let words = if size == [width, 4 * W::VALUES] {
                        four_words::<W>(at, from.column, [width, 4 * W::VALUES])
                    } else {
                        four_words::<W>(at, from.column, size)
                    };
                    if IS_NARROW {
                        write(&join(words), to, BLOCK);
                    } else {
                        write(&words, to, all);
                    }
                }
            }
        }
    }
}

/// Four words of up to 16 lanes.
#[inline(always)]
unsafe fn four_words<W: Word>(
    at: *const W::Value,
    stride: usize,
    [lanes, length]: [usize; 2],
) -> [__m512i; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut words = [_mm512_setzero_si512(); 4];
        for (i, word) in words.iter_mut().enumerate() {
            let first = i * W::VALUES;
            let at = at.wrapping_add(first * stride);
            *word = W::of_lanes(at, stride, length.saturating_sub(first), lanes);
        }
        words
    }
}

/// From memory across the lanes to `[lane][word]`.
#[inline(always)]
unsafe fn across_transposed<W: Word>(job: Job, to: &mut [u32]) {
    let Job { from, lanes, length, depth, .. } = job;
    for word in (0..depth).step_by(BLOCK) {
        for (i, to) in to.chunks_exact_mut(BLOCK * depth).enumerate() {
            let first = i * BLOCK;
            let at = start_of::<W>(from).wrapping_add(word * W::VALUES * from.column + first);
            let (lanes, length) = (lanes.saturating_sub(first), length.saturating_sub(word * W::VALUES));
            // SAFETY: the operand reaches its lanes' ends; 16 lines of `depth` words are a chunk.
            unsafe {
                let mut lines = [[_mm512_setzero_si512(); 4]; 4];
                for (i, lines) in lines.iter_mut().enumerate() {
                    let first = 4 * W::VALUES * i;
                    let at = at.wrapping_add(first * from.column);
                    *lines = four_words::<W>(at, from.column, [lanes, length.saturating_sub(first)]);
                }
                write(transpose(lines).as_flattened(), to[word..].as_mut_ptr(), depth);
            }
        }
    }
}

/// Prefetches these rows, `length` values of each, whether they exist or not.
#[inline(always)]
fn fetch_rows<W: Word>(from: Matrix, rows: Range<usize>, length: usize) {
    for row in rows {
        for value in (0..length).step_by(64 / size_of::<W::Value>()) {
            let value = start_of::<W>(from).wrapping_add(row * from.row + value);
            // SAFETY: a prefetch reads nothing, wherever it points; every x86-64 CPU has it.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(value.cast()) };
        }
    }
}

/// Writes lines `step` words apart.
#[inline(always)]
unsafe fn write(lines: &[__m512i], to: *mut u32, step: usize) {
    for (i, line) in lines.iter().enumerate() {
        // SAFETY: the caller has room for them.
        unsafe { _mm512_storeu_si512(to.add(i * step).cast(), *line) };
    }
}
