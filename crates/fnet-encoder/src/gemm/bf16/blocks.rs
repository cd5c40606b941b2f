//! The loops around a tile kernel: blocks that fit the caches, packed as the kernel reads them.
//!
//! Two neighbouring values of the inner axis, rounded to bfloat16, are a *pair*, 32 bits. Rows of x
//! are packed as `[row][pair]`, columns of w in panels of [`COLUMNS`] as `[pair][column]`; what is
//! missing to a whole tile is zero.

use std::cell::Cell;

use rayon::prelude::*;

use super::super::{Operand, Out};
use super::avx512::{BLOCK, pack_block};

/// Columns of a tile and of a panel of w.
pub const COLUMNS: usize = 32;
/// Most rows that a tile of any kernel has.
pub const MOST_ROWS: usize = 32;
/// Length of the inner axis that is packed at once: a panel of w is 32 KiB.
const DEPTH: usize = 512;
/// Columns of w that are packed at once: 512 KiB.
const WIDTH: usize = 512;
/// Rows of x that a task packs at once: 96 KiB.
const HEIGHT: usize = 96;
/// Pairs are filled up to a multiple of this, a tile register's width.
pub const PAIRS: usize = 16;

/// Computes one tile.
pub trait Kernel: Copy + Send + Sync {
    /// Rows of a tile; divides `HEIGHT`.
    const ROWS: usize;

    /// Readies a thread for tiles.
    fn begin(self);

    /// Ends what `begin` began.
    fn end(self);

    /// `y[ROWS][COLUMNS] (+)= x w` for `pairs` pairs, with a row of `y` every `stride` values.
    ///
    /// # Safety
    /// `x` holds `ROWS` rows of `pairs`, `w` `pairs` rows of `COLUMNS`, `y` a tile; `pairs` is a
    /// multiple of `PAIRS`; the CPU can run the kernel, and this thread has called `begin`.
    unsafe fn tile(self, pairs: usize, x: *const u32, w: *const u32, y: *mut f32, stride: usize, add: bool);
}

thread_local! {
    static PANELS: Cell<Vec<u32>> = Cell::default();
    static ROWS: Cell<Vec<u32>> = Cell::default();
}

/// `y (+)= x w`.
pub fn product<K: Kernel>(kernel: K, [m, n, k]: [usize; 3], x: Operand, w: Operand, y: &mut [f32], out: Out) {
    let tasks = rayon::current_num_threads();
    let rows = m.div_ceil(tasks).next_multiple_of(K::ROWS).clamp(K::ROWS, HEIGHT);
    let mut panels = PANELS.take();
    for first in (0..n).step_by(WIDTH) {
        let width = WIDTH.min(n - first);
        for start in (0..k).step_by(DEPTH) {
            let depth = DEPTH.min(k - start);
            let pairs = depth.div_ceil(2).next_multiple_of(PAIRS);
            let add = out == Out::Add || start > 0;
            panels.resize(width.div_ceil(COLUMNS) * COLUMNS * pairs, 0);
            let columns = w.transposed().skip_columns(start);
            panels.par_chunks_mut(COLUMNS * pairs).enumerate().for_each(|(i, panel)| {
                let at = i * COLUMNS;
                let lanes = COLUMNS.min(width - at);
                pack(columns.skip_rows(first + at), [lanes, depth], pairs, COLUMNS, Layout::PairsFirst, panel);
            });
            let x = x.skip_columns(start);
            y.par_chunks_mut(rows * n).enumerate().for_each(|(i, y)| {
                let x = x.skip_rows(i * rows);
                rows_product(kernel, x, &panels, y, Place { n, first, width, depth, pairs, add });
            });
        }
    }
    PANELS.set(panels);
}

/// Which part of a product is computed.
#[derive(Clone, Copy)]
struct Place {
    n: usize,
    first: usize,
    width: usize,
    depth: usize,
    pairs: usize,
    add: bool,
}

/// The packed columns times a task's rows.
fn rows_product<K: Kernel>(kernel: K, x: Operand, panels: &[u32], y: &mut [f32], place: Place) {
    let Place { n, first, width, depth, pairs, add } = place;
    let rows = y.len() / n;
    let mut packed = ROWS.take();
    packed.resize(rows.next_multiple_of(K::ROWS) * pairs, 0);
    pack(x, [rows, depth], pairs, rows.next_multiple_of(K::ROWS), Layout::LanesFirst, &mut packed);
    kernel.begin();
    for (panel, left) in panels.chunks_exact(COLUMNS * pairs).zip((0..width).step_by(COLUMNS)) {
        let columns = COLUMNS.min(width - left);
        for (x, top) in packed.chunks_exact(K::ROWS * pairs).zip((0..rows).step_by(K::ROWS)) {
            let high = K::ROWS.min(rows - top);
            let at = top * n + first + left;
            if columns == COLUMNS && high == K::ROWS {
                let y = &mut y[at..at + (high - 1) * n + columns];
                // SAFETY: both packed operands are whole chunks, `y` has just been cut to the tile;
                // levels are only chosen where they are available. Covered by `matches_float64`.
                unsafe { kernel.tile(pairs, x.as_ptr(), panel.as_ptr(), y.as_mut_ptr(), n, add) };
                continue;
            }
            let mut tile = [0.0; MOST_ROWS * COLUMNS];
            let rows = || (0..high).map(|i| (at + i * n, i * COLUMNS));
            if add {
                rows().for_each(|(y0, t0)| tile[t0..t0 + columns].copy_from_slice(&y[y0..y0 + columns]));
            }
            // SAFETY: as above; `tile` holds the largest tile.
            unsafe { kernel.tile(pairs, x.as_ptr(), panel.as_ptr(), tile.as_mut_ptr(), COLUMNS, add) };
            rows().for_each(|(y0, t0)| y[y0..y0 + columns].copy_from_slice(&tile[t0..t0 + columns]));
        }
    }
    kernel.end();
    ROWS.set(packed);
}

/// Order of packed pairs.
#[derive(Clone, Copy, PartialEq)]
pub enum Layout {
    /// `[lane][pair]`
    LanesFirst,
    /// `[pair][lane]`
    PairsFirst,
}

/// Rounds and packs the first `lanes` rows of `from`, `depth` long; fills up with zeros to `all`
/// lanes of `pairs`.
fn pack(
    from: Operand,
    [lanes, depth]: [usize; 2],
    pairs: usize,
    all: usize,
    layout: Layout,
    to: &mut [u32],
) {
    for lane in (0..all).step_by(BLOCK) {
        for pair in (0..pairs).step_by(BLOCK) {
            let size = [lanes.saturating_sub(lane).min(BLOCK), depth.saturating_sub(2 * pair).min(2 * BLOCK)];
            let block = from.skip_rows(lane).skip_columns(2 * pair);
            let (at, step) = match layout {
                Layout::LanesFirst => (lane * pairs + pair, pairs),
                Layout::PairsFirst => (pair * all + lane, all),
            };
            let lines = if layout == Layout::LanesFirst { BLOCK.min(all - lane) } else { BLOCK };
            let to = &mut to[at..];
            pack_block(block, size, layout, to, step, lines);
        }
    }
}
