//! The two kinds of numbers that states have.

use ndarray::LinalgScalar;

/// `f32` or `f64`.
pub trait Real: LinalgScalar + Default + PartialOrd + Send + Sync + std::fmt::Debug {
    /// Rounded.
    fn of(value: f64) -> Self;

    /// Exactly.
    fn to_f64(self) -> f64;

    /// `self * a + b`, rounded once.
    fn multiply_add(self, a: Self, b: Self) -> Self;

    /// The hyperbolic tangent, with an absolute error of a few roundings of 1, without a branch.
    fn tanh<const FUSED: bool>(self) -> Self;
}

/// `x * a + b`: with one rounding where the CPU has an instruction for it.
#[inline(always)]
pub(crate) fn fma<T: Real, const FUSED: bool>(x: T, a: T, b: T) -> T {
    if FUSED { x.multiply_add(a, b) } else { x * a + b }
}

/// `tanh x = 1 - 2 / (e^(2x) + 1)`, where `e^y = 2^n e^r` with `n` the nearest integer to `y / ln 2`.
///
/// Adding 1.5 times the first number whose neighbours are 1 apart rounds to an integer, which then stands in the lowest bits.
macro_rules! real {
    ($real:ty, $bits:ty, $magic:expr, $exponent:expr, $one:expr, $most:expr, $high:expr, $low:expr, [$($c:expr),+]) => {
        impl Real for $real {
            #[inline(always)]
            fn of(value: f64) -> Self {
                value as Self
            }

            #[inline(always)]
            fn to_f64(self) -> f64 {
                self.into()
            }

            #[inline(always)]
            fn multiply_add(self, a: Self, b: Self) -> Self {
                self.mul_add(a, b)
            }

            #[inline(always)]
            fn tanh<const FUSED: bool>(self) -> Self {
                const MAGIC: $real = $magic;
                let y = (2.0 * self).clamp(-$most, $most);
                let shifted = fma::<$real, FUSED>(y, <$real>::of(std::f64::consts::LOG2_E), MAGIC);
                let n = shifted - MAGIC;
                let r = fma::<$real, FUSED>(n, -$low, fma::<$real, FUSED>(n, -$high, y));
                let mut e: $real = 0.0;
                for c in [$($c),+] {
                    e = fma::<$real, FUSED>(e, r, c);
                }
                let two_to_n = <$real>::from_bits((shifted.to_bits().wrapping_add($one)) << $exponent);
                1.0 - 2.0 / fma::<$real, FUSED>(e, two_to_n, 1.0)
            }
        }
    };
}

real!(
    f64,
    u64,
    6_755_399_441_055_744.0,
    52,
    1023,
    40.0,
    0.693_147_180_369_123_8,
    1.908_214_929_270_587_7e-10,
    [
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0
    ]
);
real!(
    f32,
    u32,
    12_582_912.0,
    23,
    127,
    20.0,
    0.693_145_75,
    1.428_606_8e-6,
    [1.0 / 5_040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0]
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tanh_is_that_of_the_standard_library() {
        for i in -60_000..60_000 {
            let x = f64::from(i) * 5e-4 * if i % 2 == 0 { 1.0 } else { 1e-3 };
            let expected = x.tanh();
            for own in [Real::tanh::<true>(x), Real::tanh::<false>(x)] {
                assert!((own - expected).abs() < 6e-16, "{x}: {own} {expected}");
            }
            for own in [Real::tanh::<true>(x as f32), Real::tanh::<false>(x as f32)] {
                assert!((f64::from(own) - f64::from(x as f32).tanh()).abs() < 3e-7, "{x}: {own}");
            }
        }
        for x in [f64::INFINITY, 1e300, 50.0] {
            assert_eq!((Real::tanh::<false>(x), Real::tanh::<false>(-x)), (1.0, -1.0));
        }
        assert!(Real::tanh::<false>(f64::NAN).is_nan() && Real::tanh::<false>(f32::NAN).is_nan());
    }
}
