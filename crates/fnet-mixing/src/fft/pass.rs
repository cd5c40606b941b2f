//! One pass of an FFT: the same butterfly over all blocks, with its twiddle factors.
#![allow(clippy::needless_range_loop)] // counted loops over registers are what the compiler unrolls

use std::f64::consts::TAU;

use super::bluestein::Bluestein;
use super::butterflies::{Butterfly, Small, odd};
use super::multiply::Multiply;
use super::{LARGEST_DIRECT_PRIME, root};
use crate::arch::{Kernel, Simd};
use crate::vector::{Complex, Vector};

/// A pass of radix `radix` over blocks of `block` elements.
pub(super) struct Pass {
    pub radix: usize,
    pub block: usize,
    /// `exp(-2 pi i j q / block)` for `j` in `1..block / radix`, then `q` in `1..radix`.
    twiddles: Vec<[f32; 2]>,
    /// `cos` and `sin` of `2 pi t / radix`, for odd radices.
    roots: Vec<[f32; 2]>,
    /// For a large prime.
    bluestein: Option<Box<Bluestein>>,
}

impl Pass {
    pub fn new(radix: usize, block: usize, largest_power: usize) -> Self {
        let twiddles = (1..block / radix).flat_map(|j| (1..radix).map(move |q| root(j * q, block))).collect();
        let large = !radix.is_multiple_of(2) && radix > LARGEST_DIRECT_PRIME;
        let roots = if radix.is_multiple_of(2) || large { 0 } else { radix };
        let angle = |t: usize| (TAU * t as f64 / radix as f64).sin_cos();
        let roots = (0..roots).map(|t| [angle(t).1 as f32, angle(t).0 as f32]).collect();
        let bluestein = large.then(|| Box::new(Bluestein::new(radix, largest_power)));
        Self { radix, block, twiddles, roots, bluestein }
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        let large = self.bluestein.as_ref().map_or(0, |large| large.bytes());
        size_of_val(&self.twiddles[..]) + size_of_val(&self.roots[..]) + large
    }

    /// Complex elements of scratch.
    pub fn scratch_len(&self) -> usize {
        self.bluestein.as_ref().map_or(0, |b| b.scratch_len())
    }

    /// Runs over `blocks` blocks.
    ///
    /// # Safety
    /// As [`Fft::forward`](super::Fft::forward), for `blocks * block` elements.
    pub unsafe fn run(&self, simd: Simd, lanes: usize, data: *mut f32, blocks: usize, scratch: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.radix {
                2..=5 | 7 | 8 => simd.run(lanes, SmallRadix::<false> { pass: self, data, blocks }),
                _ => self.run_prime(simd, lanes, data, blocks, scratch),
            }
        }
    }

    /// Runs backwards: twiddle factors come before the butterfly, and real and imaginary parts are swapped.
    ///
    /// # Safety
    /// As [`run`](Self::run). The radix is 2, 3, 4, 5, 7 or 8.
    pub unsafe fn run_transposed(&self, simd: Simd, lanes: usize, data: *mut f32, blocks: usize) {
        // SAFETY: the caller's promise.
        unsafe { simd.run(lanes, SmallRadix::<true> { pass: self, data, blocks }) }
    }

    /// A prime that is not known at compile time.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn run_prime(&self, simd: Simd, lanes: usize, data: *mut f32, blocks: usize, scratch: *mut f32) {
        let (element, count) = (2 * lanes, self.block / self.radix);
        let step = count * element;
        for b in 0..blocks {
            for j in 0..count {
                // SAFETY: element `j + q block / radix` of block `b` is inside the data for q < radix.
                unsafe {
                    let data = data.add((b * self.block + j) * element);
                    match &self.bluestein {
                        Some(bluestein) => bluestein.run(simd, lanes, data, step, scratch),
                        None => simd.run(lanes, Direct { pass: self, data, step }),
                    }
                    if j > 0 {
                        let twiddles = &self.twiddles[(j - 1) * (self.radix - 1)..][..self.radix - 1];
                        let data = data.add(step);
                        simd.run(
                            lanes,
                            Multiply { from: data, to: data, steps: [step; 2], factors: twiddles },
                        );
                    }
                }
            }
        }
    }
}

/// A pass of a radix known at compile time; if `TRANSPOSED`, backwards.
struct SmallRadix<'a, const TRANSPOSED: bool> {
    pass: &'a Pass,
    data: *mut f32,
    blocks: usize,
}

impl<const TRANSPOSED: bool> Kernel for SmallRadix<'_, TRANSPOSED> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { pass, data, blocks } = self;
        // SAFETY: the caller of `Pass::run` vouches for the data. Tests: `fft::tests`.
        unsafe {
            match pass.radix {
                2 => butterflies::<V, 2, TRANSPOSED>(pass, data, blocks),
                3 => butterflies::<V, 3, TRANSPOSED>(pass, data, blocks),
                4 => butterflies::<V, 4, TRANSPOSED>(pass, data, blocks),
                5 => butterflies::<V, 5, TRANSPOSED>(pass, data, blocks),
                7 => butterflies::<V, 7, TRANSPOSED>(pass, data, blocks),
                8 => butterflies::<V, 8, TRANSPOSED>(pass, data, blocks),
                _ => {}
            }
        }
    }
}

/// # Safety
/// As [`Pass::run`], with `R` the radix.
#[inline(always)]
unsafe fn butterflies<V: Vector, const R: usize, const TRANSPOSED: bool>(
    pass: &Pass,
    data: *mut f32,
    blocks: usize,
) where
    Small: Butterfly<R>,
{
    let roots = pass.roots.as_ptr().cast::<f32>();
    let element = 2 * V::LANES;
    let count = pass.block / R;
    for b in 0..blocks {
        // SAFETY: element `j + q block / R` of block `b` is inside the data for j < block / R, q < R; the
        // table has R - 1 twiddles for each j > 0.
        unsafe {
            let data = data.add(b * pass.block * element);
            let mut twiddles = pass.twiddles.as_ptr().cast::<f32>();
            butterfly::<V, R, TRANSPOSED, false>(data, count * element, twiddles, roots);
            for j in 1..count {
                butterfly::<V, R, TRANSPOSED, true>(data.add(j * element), count * element, twiddles, roots);
                twiddles = twiddles.add(2 * (R - 1));
            }
        }
    }
}

/// One butterfly on `R` elements, `step` values apart.
///
/// # Safety
/// As [`Pass::run`], with `R` the radix.
#[inline(always)]
unsafe fn butterfly<V: Vector, const R: usize, const TRANSPOSED: bool, const TWIDDLED: bool>(
    data: *mut f32,
    step: usize,
    twiddles: *const f32,
    roots: *const f32,
) where
    Small: Butterfly<R>,
{
    let (re, im) = if TRANSPOSED { (V::LANES, 0) } else { (0, V::LANES) };
    // SAFETY: the caller's promise.
    unsafe {
        let mut z = [Complex { re: V::load(data.add(re)), im: V::load(data.add(im)) }; R];
        for q in 1..R {
            let from = data.add(q * step);
            z[q] = Complex { re: V::load(from.add(re)), im: V::load(from.add(im)) };
            if TRANSPOSED && TWIDDLED {
                let w = twiddles.add(2 * (q - 1));
                z[q] = z[q].times(V::splat(*w), V::splat(*w.add(1)));
            }
        }
        Small::apply(&mut z, roots);
        for q in 0..R {
            if !TRANSPOSED && TWIDDLED && q > 0 {
                let w = twiddles.add(2 * (q - 1));
                z[q] = z[q].times(V::splat(*w), V::splat(*w.add(1)));
            }
            z[q].re.store(data.add(q * step + re));
            z[q].im.store(data.add(q * step + im));
        }
    }
}

/// A prime of up to [`LARGEST_DIRECT_PRIME`] elements, `step` values apart.
struct Direct<'a> {
    pass: &'a Pass,
    data: *mut f32,
    step: usize,
}

impl Kernel for Direct<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { pass, data, step } = self;
        // SAFETY: `radix` elements can be read and written; the plan sends no larger prime here.
        unsafe {
            let mut z = [Complex::<V>::load(data); LARGEST_DIRECT_PRIME];
            let z = &mut z[..pass.radix];
            for q in 1..z.len() {
                z[q] = Complex::load(data.add(q * step));
            }
            odd::<V, { LARGEST_DIRECT_PRIME / 2 }>(z, pass.roots.as_ptr().cast());
            for q in 0..z.len() {
                z[q].store(data.add(q * step));
            }
        }
    }
}
