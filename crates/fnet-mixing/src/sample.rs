//! Mixing one sample: the three steps of `fold` over all strips, one after another or spread over threads.

use std::cell::Cell;

use crate::fold::{Fold, Spread, Unfold, Write};
use crate::plan::{Plan, Strip};

/// One cache line, so that buffers start on one.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "read and written through pointers")] [f32; 16]);

thread_local! {
    static SPECTRA: Cell<Vec<Line>> = Cell::default();
    static STRIP_BUFFER: Cell<Vec<Line>> = Cell::default();
}

/// Lends a thread's buffer of `len` values. Taken, not borrowed: a stolen rayon job may come back here.
fn with_buffer<R>(
    slot: &'static std::thread::LocalKey<Cell<Vec<Line>>>,
    len: usize,
    work: impl FnOnce(*mut f32) -> R,
) -> R {
    let mut buffer = slot.take();
    let lines = len.div_ceil(16);
    if buffer.len() < lines {
        buffer.resize(lines, Line([0.0; 16]));
    }
    let result = work(buffer.as_mut_ptr().cast());
    slot.set(buffer);
    result
}

/// A pointer through which several threads write separate places.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: each strip reads what no other strip writes, and writes only its own places (see `mix_sample`). Tests:
// `bits_do_not_depend_on_threads_or_batch`.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn get(self) -> *mut f32 {
        self.0
    }
}

impl Plan {
    /// Mixes the sample at `input` into the one at `output`, which may be the same.
    ///
    /// # Safety
    /// `sample_len` values can be read at `input` and written at `output`, by nobody else meanwhile.
    pub unsafe fn mix_sample(&self, input: *const f32, output: *mut f32, write: Write, parallel: bool) {
        with_buffer(&SPECTRA, self.spectra_len(), |spectra| {
            let (input, output, spectra) = (Shared(input.cast_mut()), Shared(output), Shared(spectra));
            // A strip of rows writes the rows n and -n of the spectra and later of the output, a strip of columns
            // its own part of the spectra: no two strips of a step share any.
            for_each(&self.row_strips, parallel, |strip| {
                with_buffer(&STRIP_BUFFER, self.row_buffer_len(), |buffer| {
                    let (simd, lanes) = (self.simd, strip.lanes);
                    let scratch = buffer.wrapping_add(self.hidden * 2 * lanes);
                    // SAFETY: `Simd::checked` has checked the level; the buffers have the lengths of the plan.
                    unsafe {
                        simd.run(lanes, Fold { plan: self, strip, input: input.get(), buffer });
                        self.row_fft.forward(simd, lanes, buffer, scratch);
                        simd.run(lanes, Spread { plan: self, strip, buffer, spectra: spectra.get() });
                    }
                });
            });
            for_each(&self.column_strips, parallel, |strip| {
                with_buffer(&STRIP_BUFFER, self.column_buffer_len(), |scratch| {
                    let columns = spectra.get().wrapping_add(strip.first * self.seq_len);
                    // SAFETY: as above.
                    unsafe { self.column_fft.forward(self.simd, strip.lanes, columns, scratch) };
                });
            });
            for_each(&self.row_strips, parallel, |strip| {
                let rows = strip.first..strip.end().min(self.half_rows());
                for strips in self.column_strips.chunk_by(|a, b| a.lanes == b.lanes) {
                    let (rows, spectra, output) = (rows.clone(), spectra.get(), output.get());
                    // SAFETY: as above.
                    unsafe {
                        let kernel = Unfold { plan: self, strips, rows, spectra, output, write };
                        self.simd.run(strips[0].lanes, kernel);
                    }
                }
            });
        });
    }
}

fn for_each(strips: &[Strip], parallel: bool, work: impl Fn(Strip) + Sync) {
    #[cfg(feature = "rayon")]
    if parallel {
        use rayon::prelude::*;
        return strips.par_iter().for_each(|strip| work(*strip));
    }
    let _ = parallel;
    strips.iter().for_each(|strip| work(*strip));
}
