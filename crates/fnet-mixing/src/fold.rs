//! The fold algorithm: mixing one sample through half of the rows and half of the columns.
//!
//! `Re(FFT2(x))` sees only the part of `x` that is even under `(n, m) -> (-n, -m)`. Indices are
//! modulo `seq_len` (S) and `hidden` (D):
//!
//! 1. fold    `w[n, m] = (x[n, m] + x[-n, -m]) / 2`, real FFT of each row: `A[n, :]`, n = 0..=S/2
//! 2. spread  `r[n, j] = Re A - Im A`, `r[-n, j] = Re A + Im A` (Im A is zero where n = -n); real FFT of
//!    each column `j = 0..=D/2`: `Z`; `u[k] = Re Z + Im Z`, `u[-k] = Re Z - Im Z`
//! 3. unfold  `y[k, j] = u[k, j]`, `y[-k, -j] = u[k, j]`
//!
//! About `1.25 N log2 N` flops for `N = S D`, a quarter of the complex two-dimensional FFT. Each
//! pass writes disjoint chunks, so the same code runs serially or in parallel with the same bits.

use std::cell::Cell;

use rayon::prelude::*;
use realfft::num_complex::Complex32;

use crate::plan::Plan;

/// Columns that pass 2 gathers at a time, and the tile of the transposes: one cache line of f32.
const TILE: usize = 16;

/// What the last pass does with the values that are in the output.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Write {
    Set,
    Add,
}

/// Intermediates of one sample: row spectra `[S/2+1, D/2+1]` and mixed columns `[D/2+1, S]`.
#[derive(Default)]
struct Intermediates {
    spectra: Vec<Complex32>,
    columns: Vec<f32>,
}

/// Buffers of one FFT call.
#[derive(Default)]
struct FftBuffers {
    real: Vec<f32>,
    complex: Vec<Complex32>,
    scratch: Vec<Complex32>,
}

thread_local! {
    static INTERMEDIATES: Cell<Intermediates> = Cell::default();
    static FFT_BUFFERS: Cell<FftBuffers> = Cell::default();
}

/// Lends a thread's buffers out. Taken, not borrowed: a stolen rayon job may come back here.
fn with_buffers<B: Default, R>(
    slot: &'static std::thread::LocalKey<Cell<B>>,
    work: impl FnOnce(&mut B) -> R,
) -> R {
    let mut buffers = slot.take();
    let result = work(&mut buffers);
    slot.set(buffers);
    result
}

fn sized<T: Clone + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
    &mut buffer[..len]
}

/// `index -> -index mod len`.
fn mirrored(index: usize, len: usize) -> usize {
    if index == 0 { 0 } else { len - index }
}

/// Runs `work(chunk index, chunk)` over chunks of `data`, in parallel if asked to.
fn for_each_chunk<T: Send>(
    data: &mut [T],
    chunk: usize,
    parallel: bool,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    if parallel {
        data.par_chunks_mut(chunk).enumerate().for_each(|(i, c)| work(i, c));
    } else {
        data.chunks_mut(chunk).enumerate().for_each(|(i, c)| work(i, c));
    }
}

impl Plan {
    pub fn mix_sample(&self, input: &[f32], output: &mut [f32], write: Write, parallel: bool) {
        with_buffers(&INTERMEDIATES, |buffers| {
            let (spectra, columns) = self.intermediates(buffers);
            self.fold_rows(input, spectra, parallel);
            self.mix_columns(spectra, columns, parallel);
            self.unfold(columns, output, write, parallel);
        });
    }

    pub fn mix_sample_in_place(&self, data: &mut [f32], parallel: bool) {
        with_buffers(&INTERMEDIATES, |buffers| {
            let (spectra, columns) = self.intermediates(buffers);
            self.fold_rows(data, spectra, parallel);
            self.mix_columns(spectra, columns, parallel);
            self.unfold(columns, data, Write::Set, parallel);
        });
    }

    fn intermediates<'a>(&self, b: &'a mut Intermediates) -> (&'a mut [Complex32], &'a mut [f32]) {
        (
            sized(&mut b.spectra, self.half_rows() * self.half_columns()),
            sized(&mut b.columns, self.half_columns() * self.seq_len),
        )
    }

    /// Pass 1: fold, and the FFT along the hidden axis of rows `0..=S/2`.
    fn fold_rows(&self, input: &[f32], spectra: &mut [Complex32], parallel: bool) {
        let d = self.hidden;
        for_each_chunk(spectra, self.half_columns(), parallel, |n, spectrum| {
            let row = &input[n * d..][..d];
            let opposite = &input[mirrored(n, self.seq_len) * d..][..d];
            with_buffers(&FFT_BUFFERS, |b| {
                let folded = sized(&mut b.real, d);
                folded[0] = 0.5 * (row[0] + opposite[0]);
                for ((w, x), o) in folded[1..].iter_mut().zip(&row[1..]).zip(opposite[1..].iter().rev()) {
                    *w = 0.5 * (x + o);
                }
                let scratch = sized(&mut b.scratch, self.row_fft.get_scratch_len());
                self.row_fft
                    .process_with_scratch(folded, spectrum, scratch)
                    .expect("the plan sized every buffer");
            });
        });
    }

    /// Pass 2: spread, the FFT along the sequence axis of columns `0..=D/2`, and Re ± Im of it.
    fn mix_columns(&self, spectra: &[Complex32], columns: &mut [f32], parallel: bool) {
        let (s, width) = (self.seq_len, self.half_columns());
        for_each_chunk(columns, TILE * s, parallel, |tile, columns| {
            let (first, count) = (tile * TILE, columns.len() / s);
            for n in 0..self.half_rows() {
                let opposite = mirrored(n, s);
                let a = &spectra[n * width + first..][..count];
                for (c, a) in a.iter().enumerate() {
                    // On its own mirror image a row is even, so its spectrum is real.
                    let im = if opposite == n { 0.0 } else { a.im };
                    columns[c * s + n] = a.re - im;
                    columns[c * s + opposite] = a.re + im;
                }
            }
            with_buffers(&FFT_BUFFERS, |b| {
                let spectrum = sized(&mut b.complex, self.half_rows());
                let scratch = sized(&mut b.scratch, self.column_fft.get_scratch_len());
                for column in columns.chunks_exact_mut(s) {
                    self.column_fft
                        .process_with_scratch(column, spectrum, scratch)
                        .expect("the plan sized every buffer");
                    column[0] = spectrum[0].re;
                    for (k, z) in spectrum.iter().enumerate().skip(1) {
                        column[k] = z.re + z.im;
                        column[s - k] = z.re - z.im;
                    }
                }
            });
        });
    }

    /// Pass 3: transpose back, each value to its place and to the mirrored one.
    fn unfold(&self, columns: &[f32], output: &mut [f32], write: Write, parallel: bool) {
        let (s, d) = (self.seq_len, self.hidden);
        for_each_chunk(output, TILE * d, parallel, |tile, rows| {
            let first = tile * TILE;
            let mut put = |i: usize, column: usize, value: f32| {
                let y = &mut rows[i * d + column];
                *y = if write == Write::Add { *y + value } else { value };
            };
            let count = TILE.min(s - first);
            for j0 in (0..self.half_columns()).step_by(TILE) {
                let j1 = (j0 + TILE).min(self.half_columns());
                for i in 0..count {
                    let (k, opposite) = (first + i, mirrored(first + i, s));
                    for j in j0..j1 {
                        put(i, j, columns[j * s + k]);
                    }
                    for j in j0.max(1)..j1.min(d.div_ceil(2)) {
                        put(i, d - j, columns[j * s + opposite]);
                    }
                }
            }
        });
    }
}
