//! Small discrete Fourier transforms in registers: `X[k] = sum over n of z[n] exp(-2 pi i n k / r)`.
//!
//! Traits, not closures: code compiled for a SIMD level must be inlined into it, and only functions can be forced
//! to.

use std::f32::consts::FRAC_1_SQRT_2;

use crate::vector::{Complex, Vector};

/// A transform of `R` elements.
pub(super) trait Butterfly<const R: usize> {
    /// Transforms in place.
    ///
    /// # Safety
    /// For an odd `R`, `roots` is as [`odd`] wants it.
    unsafe fn apply<V: Vector>(z: &mut [Complex<V>; R], roots: *const f32);
}

/// The butterflies of all radices known at compile time.
pub(super) struct Small;

impl Butterfly<2> for Small {
    #[inline(always)]
    unsafe fn apply<V: Vector>(z: &mut [Complex<V>; 2], _: *const f32) {
        *z = [z[0] + z[1], z[0] - z[1]];
    }
}

impl Butterfly<4> for Small {
    #[inline(always)]
    unsafe fn apply<V: Vector>(z: &mut [Complex<V>; 4], _: *const f32) {
        four(z);
    }
}

impl Butterfly<8> for Small {
    #[inline(always)]
    unsafe fn apply<V: Vector>(z: &mut [Complex<V>; 8], _: *const f32) {
        eight(z);
    }
}

macro_rules! odd_butterflies {
    ($($radix:literal)*) => {$(
        impl Butterfly<$radix> for Small {
            #[inline(always)]
            unsafe fn apply<V: Vector>(z: &mut [Complex<V>; $radix], roots: *const f32) {
                // SAFETY: the caller's promise. Tests: `fft::tests`.
                unsafe { odd::<V, { $radix / 2 }>(z, roots) }
            }
        }
    )*};
}
odd_butterflies!(3 5 7);

#[inline(always)]
fn four<V: Vector>(z: &mut [Complex<V>; 4]) {
    let (a, b) = (z[0] + z[2], z[0] - z[2]);
    let (c, d) = (z[1] + z[3], z[1] - z[3]);
    *z = [a + c, b.minus_i(d), a - c, b.plus_i(d)];
}

#[inline(always)]
fn eight<V: Vector>(z: &mut [Complex<V>; 8]) {
    let mut even = [z[0], z[2], z[4], z[6]];
    let mut odd = [z[1], z[3], z[5], z[7]];
    four(&mut even);
    four(&mut odd);
    let [e0, e1, e2, e3] = even;
    let [o0, o1, o2, o3] = odd;
    // SAFETY: `z` holds values of V, so the CPU has its level. Tests: `fft::tests`.
    let half = unsafe { V::splat(FRAC_1_SQRT_2) };
    // Times exp(-i pi / 4), and times -exp(-3 i pi / 4) conjugated.
    let o1 = Complex { re: (o1.re + o1.im) * half, im: (o1.im - o1.re) * half };
    let o3 = Complex { re: (o3.im - o3.re) * half, im: (o3.im + o3.re) * half };
    let z3 = Complex { re: e3.re + o3.re, im: e3.im - o3.im };
    let z7 = Complex { re: e3.re - o3.re, im: e3.im + o3.im };
    *z = [e0 + o0, e1 + o1, e2.minus_i(o2), z3, e0 - o0, e1 - o1, e2.plus_i(o2), z7];
}

/// An odd length, by the definition: `n` and `-n` share their products. At most `2 * PAIRS + 1` elements.
///
/// # Safety
/// `roots` holds a pair of cos and sin of `2 pi t / z.len()` for each `t` below `z.len()`.
#[inline(always)]
pub(super) unsafe fn odd<V: Vector, const PAIRS: usize>(z: &mut [Complex<V>], roots: *const f32) {
    let (p, first) = (z.len(), z[0]);
    let mut sums = [first; PAIRS];
    let mut differences = [first; PAIRS];
    for n in 1..=p / 2 {
        sums[n - 1] = z[n] + z[p - n];
        differences[n - 1] = z[n] - z[p - n];
        z[0] = z[0] + sums[n - 1];
    }
    for k in 1..=p / 2 {
        // Sums of cos * sum and of sin * difference.
        let mut even = first;
        // SAFETY: `z` holds values of V; `t` stays below p. Tests: `fft::tests`.
        let zero = unsafe { V::splat(0.0) };
        let mut odd = Complex { re: zero, im: zero };
        let mut t = 0;
        for n in 0..p / 2 {
            t += k;
            if t >= p {
                t -= p;
            }
            // SAFETY: as above.
            let (cos, sin) = unsafe { (V::splat(*roots.add(2 * t)), V::splat(*roots.add(2 * t + 1))) };
            even.re = sums[n].re.mul_add(cos, even.re);
            even.im = sums[n].im.mul_add(cos, even.im);
            odd.re = differences[n].re.mul_add(sin, odd.re);
            odd.im = differences[n].im.mul_add(sin, odd.im);
        }
        z[k] = even.minus_i(odd);
        z[p - k] = even.plus_i(odd);
    }
}
