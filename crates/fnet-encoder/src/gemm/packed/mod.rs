//! Products by our own kernels, summed in float32: the loops around a tile, over blocks that fit the caches.
//!
//! A *word* of 32 bits is one value of float32, two neighbours of the inner axis rounded to bfloat16, or four of 8
//! bits, rounded before. Columns of
//! w are packed in panels of [`COLUMNS`], rows of x in strips of a tile's height, as `[word][column]` and
//! `[word][row]`, or `[row][word]` for tile registers; incomplete tiles are filled with zeros. Both buffers are
//! kept per thread.
//!
//! A result's sum runs over the inner axis in order, in blocks of one length: it depends neither on
//! the other rows nor on threads.

pub mod amx;
mod avx512;
mod pack;
mod vnni;

use std::cell::Cell;

pub use avx512::{Dot, Float, is_dot_fast};
use fnet_mixing::Simd;
pub use pack::halve;
use pack::{BLOCK, Layout, Values, pack};
use rayon::prelude::*;
pub use vnni::Vnni;

use super::matrix::{Matrix, Out};
use crate::arch::chosen_level;

/// Columns of a tile and of a panel of w.
const COLUMNS: usize = 32;
/// Most rows that a tile of any kernel has.
const MOST_ROWS: usize = 32;
/// Words of w that are packed at once: 6 MiB, so that x is packed once for most products.
const PANEL_WORDS: usize = 3 << 19;

/// Computes one tile.
pub trait TileKernel: Copy + Send + Sync {
    /// Rows of a tile.
    const ROWS: usize;

    /// What a word holds.
    const VALUES: Values;

    /// Most words of the inner axis that are packed at once.
    const DEPTH: usize;

    /// Most rows of x that a task packs at once.
    const HEIGHT: usize;

    /// How a strip of x is packed.
    const STRIP: Layout;

    /// Prepares a thread for tiles.
    fn begin(self) {}

    /// Ends what `begin` began.
    fn end(self) {}

    /// `y[ROWS][COLUMNS] (+)= x w` for `depth` words, with a row of `y` every `stride` values; the tile begins at `at`,
    /// a row and a column of the product.
    ///
    /// # Safety
    /// `x` holds a strip of `ROWS` by `depth`, `w` `depth` rows of `COLUMNS`, `y` a tile; `depth` is a
    /// multiple of `BLOCK`; the CPU can run the kernel, and this thread has called `begin`.
    #[allow(clippy::too_many_arguments)] // a tile: where it is, its operands, its results
    unsafe fn tile(
        self,
        at: [usize; 2],
        depth: usize,
        x: *const u32,
        w: *const u32,
        y: *mut f32,
        stride: usize,
        add: bool,
    );
}

/// Whether the CPU has what [`Float`] and its packing need, and `FNET_SIMD` allows it.
pub fn has_avx512() -> bool {
    chosen_level() == Simd::Avx512
}

/// Whether the CPU has what [`Dot`] and its packing need.
pub fn has_avx512_bf16() -> bool {
    has_avx512() && is_x86_feature_detected!("avx512bf16")
}

/// Whether the CPU has what [`Vnni`] and its packing need.
pub fn has_avx512_vnni() -> bool {
    has_avx512() && is_x86_feature_detected!("avx512vnni")
}

thread_local! {
    static PANELS: Cell<Vec<u32>> = Cell::default();
    static ROWS: Cell<Vec<u32>> = Cell::default();
}

/// `y (+)= x w`, with at least one value along the inner axis.
pub fn product<K: TileKernel>(
    kernel: K,
    [m, n, k]: [usize; 3],
    x: Matrix,
    w: Matrix,
    y: &mut [f32],
    out: Out,
) {
    let threads = rayon::current_num_threads();
    let tasks = m.div_ceil(K::HEIGHT).next_multiple_of(threads);
    // Even blocks of the inner axis, by its length alone: no row depends on another.
    let word = K::VALUES.of_word();
    let values = k.div_ceil(k.div_ceil(word * K::DEPTH)).next_multiple_of(word * BLOCK);
    let w = w.transposed();
    let mut buffer = PANELS.take();
    let widest = PANEL_WORDS / (values / word) / COLUMNS * COLUMNS;
    for first in (0..n).step_by(widest) {
        let width = widest.min(n - first);
        for start in (0..k).step_by(values) {
            let length = values.min(k - start);
            let depth = length.div_ceil(word).next_multiple_of(BLOCK);
            let part = Part { n, first, width, length, depth, add: out == Out::Add || start > 0 };
            let panels = aligned(&mut buffer, width.next_multiple_of(COLUMNS) * depth);
            // Where memory runs across the panels, a task packs as many as it can, to read longer runs.
            let panels_of_task = if w.column == 1 { 1 } else { (width / COLUMNS / threads).max(1) };
            let together = panels_of_task * COLUMNS;
            panels.par_chunks_mut(together * depth).enumerate().for_each(|(i, panels)| {
                let columns = w.skip_rows(first + i * together).skip_columns(start);
                let lanes = together.min(width - i * together);
                let form = (K::VALUES, Layout::WordsFirst);
                pack(columns, [lanes, length], [COLUMNS, depth], form, panels);
            });
            let x = x.skip_columns(start);
            strips_of_tasks(y, K::ROWS * n, tasks).into_par_iter().for_each(|(strip, y)| {
                rows_product(kernel, strip * K::ROWS, x, panels, y, part);
            });
        }
    }
    PANELS.set(buffer);
}

/// Cuts `y` into strips of `len` values and divides them evenly among the tasks; returns the index of each task's
/// first strip, and its values.
fn strips_of_tasks(mut y: &mut [f32], len: usize, tasks: usize) -> Vec<(usize, &mut [f32])> {
    let strips = y.len().div_ceil(len);
    let mut parts = Vec::with_capacity(tasks);
    for task in 0..tasks {
        let [first, end] = [task, task + 1].map(|t| strips * t / tasks);
        let (part, rest) = y.split_at_mut(((end - first) * len).min(y.len()));
        y = rest;
        if !part.is_empty() {
            parts.push((first, part));
        }
    }
    parts
}

/// Space for `len` words, starting on a cache line: loads across lines are slower.
fn aligned(buffer: &mut Vec<u32>, len: usize) -> &mut [u32] {
    const LINE: usize = 64;
    buffer.resize(buffer.len().max(len + LINE / 4), 0);
    let start = buffer.as_ptr().align_offset(LINE);
    &mut buffer[start..][..len]
}

/// Computes one tile over and over, from the first-level cache; returns its flops.
#[cfg(feature = "internals")]
pub fn repeat_tile<K: TileKernel>(kernel: K) -> f64 {
    const DEPTH: usize = 64;
    const ROUNDS: usize = 4_000;
    let (x, w) = ([0_u32; MOST_ROWS * DEPTH], [0_u32; COLUMNS * DEPTH]);
    let mut y = [0.0; MOST_ROWS * COLUMNS];
    kernel.begin();
    for _ in 0..ROUNDS {
        // SAFETY: the buffers hold the largest strip, panel and tile; levels are only chosen where they
        // are available. Covered by `every_level_has_a_peak`.
        unsafe { kernel.tile([0, 0], DEPTH, x.as_ptr(), w.as_ptr(), y.as_mut_ptr(), COLUMNS, true) };
    }
    kernel.end();
    std::hint::black_box(y);
    (2 * K::VALUES.of_word() * DEPTH * K::ROWS * COLUMNS * ROUNDS) as f64
}

/// Which part of a product is computed.
#[derive(Clone, Copy)]
struct Part {
    /// Columns of y, and which of them: `width` from `first` on.
    n: usize,
    first: usize,
    width: usize,
    /// Values of the inner axis, and the words that they are packed in.
    length: usize,
    depth: usize,
    add: bool,
}

/// The packed columns times a task's rows, of x the ones `from` on.
fn rows_product<K: TileKernel>(kernel: K, from: usize, x: Matrix, panels: &[u32], y: &mut [f32], part: Part) {
    let Part { n, first, width, length, depth, add } = part;
    let rows = y.len() / n;
    let all = rows.next_multiple_of(K::ROWS);
    let mut buffer = ROWS.take();
    let packed = aligned(&mut buffer, all * depth);
    pack(x.skip_rows(from), [rows, length], [K::ROWS, depth], (K::VALUES, K::STRIP), packed);
    kernel.begin();
    for (panel, left) in panels.chunks_exact(COLUMNS * depth).zip((0..width).step_by(COLUMNS)) {
        let columns = COLUMNS.min(width - left);
        for (x, top) in packed.chunks_exact(K::ROWS * depth).zip((0..rows).step_by(K::ROWS)) {
            let high = K::ROWS.min(rows - top);
            let (place, at) = ([from + top, first + left], top * n + first + left);
            if columns == COLUMNS && high == K::ROWS {
                let y = &mut y[at..at + (high - 1) * n + columns];
                // SAFETY: both packed operands are whole chunks, `y` has just been cut to the tile;
                // levels are only chosen where they are available. Covered by `matches_float64`.
                unsafe { kernel.tile(place, depth, x.as_ptr(), panel.as_ptr(), y.as_mut_ptr(), n, add) };
                continue;
            }
            let mut tile = [0.0; MOST_ROWS * COLUMNS];
            let rows = || (0..high).map(|i| (at + i * n, i * COLUMNS));
            if add {
                rows().for_each(|(y0, t0)| tile[t0..t0 + columns].copy_from_slice(&y[y0..y0 + columns]));
            }
            // SAFETY: as above; `tile` holds the largest tile.
            unsafe {
                kernel.tile(place, depth, x.as_ptr(), panel.as_ptr(), tile.as_mut_ptr(), COLUMNS, add);
            }
            rows().for_each(|(y0, t0)| y[y0..y0 + columns].copy_from_slice(&tile[t0..t0 + columns]));
        }
    }
    kernel.end();
    ROWS.set(buffer);
}
