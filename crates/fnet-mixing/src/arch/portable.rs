//! Arrays that the compiler vectorises as best it can: correct on any target.

use std::ops::{Add, Mul, Sub};

use crate::vector::Vector;

/// `N` lanes as a plain array.
#[derive(Clone, Copy)]
pub(crate) struct Lanes<const N: usize>([f32; N]);

impl<const N: usize> Lanes<N> {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self.0;
        for (a, b) in out.iter_mut().zip(other.0) {
            *a = f(*a, b);
        }
        Self(out)
    }
}

impl<const N: usize> Add for Lanes<N> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
}

impl<const N: usize> Sub for Lanes<N> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
}

impl<const N: usize> Mul for Lanes<N> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
}

impl<const N: usize> Vector for Lanes<N> {
    const LANES: usize = N;
    type Tile = [Self; N];

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; N])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for N values; an array of f32 has the alignment of f32.
        // Tests: all of `tests.rs` at the portable level.
        Self(unsafe { from.cast::<[f32; N]>().read() })
    }

    #[inline(always)]
    unsafe fn load_lanes(from: *const f32, low: usize, high: usize) -> Self {
        let mut lanes = [0.0; N];
        for (i, lane) in lanes.iter_mut().enumerate().take(high).skip(low) {
            // SAFETY: as in `load`, for the lanes `low..high` alone.
            *lane = unsafe { from.wrapping_add(i).read() };
        }
        Self(lanes)
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as in `load`.
        unsafe { to.cast::<[f32; N]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn store_lanes(self, to: *mut f32, low: usize, high: usize) {
        for (i, lane) in self.0.iter().enumerate().take(high).skip(low) {
            // SAFETY: as in `load_lanes`.
            unsafe { to.wrapping_add(i).write(*lane) };
        }
    }

    #[inline(always)]
    fn prefetch(_: *const f32) {}

    // Without a fused instruction in the baseline, `f32::mul_add` would call a library function.
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        self * b + c
    }

    #[inline(always)]
    fn neg_mul_add(self, b: Self, c: Self) -> Self {
        c - self * b
    }

    #[inline(always)]
    fn reverse(self) -> Self {
        let mut lanes = self.0;
        lanes.reverse();
        Self(lanes)
    }

    #[inline(always)]
    fn tile(value: Self) -> Self::Tile {
        [value; N]
    }

    #[inline(always)]
    fn transpose(tile: &mut Self::Tile) {
        for i in 0..N {
            for j in 0..i {
                (tile[i].0[j], tile[j].0[i]) = (tile[j].0[i], tile[i].0[j]);
            }
        }
    }
}
