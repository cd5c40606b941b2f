//! The small trait that a SIMD level implements; every kernel is written once over it.

use std::ops::{Add, Mul, Sub};

/// A register of `f32` lanes.
///
/// Values come only from the unsafe constructors, whose caller vouches that the CPU has the level. So code that
/// holds a value may compute with it, and the arithmetic is safe.
pub(crate) trait Vector: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> {
    /// `f32` values in a register: a power of two.
    const LANES: usize;

    /// `LANES` registers.
    type Tile: AsRef<[Self]> + AsMut<[Self]>;

    /// All lanes `value`.
    ///
    /// # Safety
    /// The CPU has the level.
    unsafe fn splat(value: f32) -> Self;

    /// # Safety
    /// The CPU has the level, and `LANES` values can be read at `from`.
    unsafe fn load(from: *const f32) -> Self;

    /// Lanes `low..high` from `from + low ..`, the others zero. `high` is at most `LANES`.
    ///
    /// # Safety
    /// The CPU has the level, and those lanes' values can be read; `from` itself may lie outside.
    unsafe fn load_lanes(from: *const f32, low: usize, high: usize) -> Self;

    /// # Safety
    /// `LANES` values can be written at `to`.
    unsafe fn store(self, to: *mut f32);

    /// Writes only lanes `low..high`. `high` is at most `LANES`.
    ///
    /// # Safety
    /// Those lanes' places can be written; `to` itself may lie outside.
    unsafe fn store_lanes(self, to: *mut f32, low: usize, high: usize);

    /// Prefetches the cache line at `at`, which may be anywhere.
    fn prefetch(at: *const f32);

    /// `self * b + c`.
    fn mul_add(self, b: Self, c: Self) -> Self;

    /// `c - self * b`.
    fn neg_mul_add(self, b: Self, c: Self) -> Self;

    /// The lanes in the opposite order.
    fn reverse(self) -> Self;

    /// `LANES` times `value`.
    fn tile(value: Self) -> Self::Tile;

    /// Lane `i` of register `j` goes to lane `j` of register `i`.
    fn transpose(tile: &mut Self::Tile);
}

/// As many complex numbers as a register has lanes.
#[derive(Clone, Copy)]
pub(crate) struct Complex<V> {
    pub re: V,
    pub im: V,
}

impl<V: Vector> Complex<V> {
    /// An element of data: its real parts, then its imaginary parts.
    ///
    /// # Safety
    /// The CPU has the level, and `2 * LANES` values can be read at `from`.
    #[inline(always)]
    pub unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise. Tests: `fft::tests`.
        unsafe { Self { re: V::load(from), im: V::load(from.add(V::LANES)) } }
    }

    /// Writes an element of data.
    ///
    /// # Safety
    /// `2 * LANES` values can be written at `to`.
    #[inline(always)]
    pub unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise. Tests: `fft::tests`.
        unsafe {
            self.re.store(to);
            self.im.store(to.add(V::LANES));
        }
    }

    /// `self * (re + i im)`.
    #[inline(always)]
    pub fn times(self, re: V, im: V) -> Self {
        Self { re: self.im.neg_mul_add(im, self.re * re), im: self.im.mul_add(re, self.re * im) }
    }

    /// `self - i other`.
    #[inline(always)]
    pub fn minus_i(self, other: Self) -> Self {
        Self { re: self.re + other.im, im: self.im - other.re }
    }

    /// `self + i other`.
    #[inline(always)]
    pub fn plus_i(self, other: Self) -> Self {
        Self { re: self.re - other.im, im: self.im + other.re }
    }
}

impl<V: Vector> Add for Complex<V> {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self { re: self.re + other.re, im: self.im + other.im }
    }
}

impl<V: Vector> Sub for Complex<V> {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self { re: self.re - other.re, im: self.im - other.im }
    }
}
