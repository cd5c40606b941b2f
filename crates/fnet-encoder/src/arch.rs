//! Compiles a loop once for each SIMD level and picks one at run time.
//!
//! The loops are plain Rust that the compiler vectorises; no sum is reordered and no product is
//! fused with an addition, so every level gives the same bits.

use std::sync::OnceLock;

use fnet_mixing::Simd;

/// Declares a function whose body is compiled for baseline x86-64, AVX2 and AVX-512.
macro_rules! multiversion {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block
    ) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)] // an operation's values and gradients, each in its buffer
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn portable($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    portable($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    portable($($arg),*)
                }
                match $crate::arch::level() {
                    // SAFETY: `level` has checked that the CPU has the features of both. Every test of `ops` runs
                    // through here, and `every_level_gives_the_same_bits` through all of them.
                    fnet_mixing::Simd::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    fnet_mixing::Simd::Avx2 => return unsafe { avx2($($arg),*) },
                    _ => {}
                }
            }
            portable($($arg),*)
        }
    };
}
pub(crate) use multiversion;

/// The level that `FNET_SIMD` names, or the best one of this CPU. An unknown name is refused when a model is built.
#[inline]
pub(crate) fn chosen_level() -> Simd {
    static CHOSEN: OnceLock<Simd> = OnceLock::new();
    *CHOSEN.get_or_init(|| Simd::default_level().unwrap_or(Simd::Portable))
}

/// The level that [`multiversion`] functions run as.
#[cfg(not(test))]
#[inline]
pub(crate) fn level() -> Simd {
    chosen_level()
}

/// As in normal use, unless a test has set another level.
#[cfg(test)]
pub(crate) fn level() -> Simd {
    SET_LEVEL.read().unwrap().unwrap_or_else(chosen_level)
}

#[cfg(test)]
static SET_LEVEL: std::sync::RwLock<Option<Simd>> = std::sync::RwLock::new(None);

/// Independent partial sums: enough for two AVX-512 registers' worth of additions in flight.
const LANES: usize = 32;

/// Sum of `f(index)` over `0..len`, in an order that depends on `len` alone.
#[inline(always)]
pub(crate) fn sum_by(len: usize, f: impl Fn(usize) -> f32) -> f32 {
    let [sum] = sums_by(len, |i| [f(i)]);
    sum
}

/// Several such sums.
#[inline(always)]
pub(crate) fn sums_by<const N: usize>(len: usize, f: impl Fn(usize) -> [f32; N]) -> [f32; N] {
    let mut sums = [[0.0_f32; LANES]; N];
    let whole = len / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for i in 0..LANES {
            let values = f(start + i);
            for (lanes, value) in sums.iter_mut().zip(values) {
                lanes[i] += value;
            }
        }
    }
    for i in whole..len {
        for (lanes, value) in sums.iter_mut().zip(f(i)) {
            lanes[i - whole] += value;
        }
    }
    sums.map(|mut lanes| {
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
            width /= 2;
        }
        lanes[0]
    })
}

/// 1.5 * 2^23: adding it leaves the nearest integer in the low bits, ties to even.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// `exp(x)` for `x` from -87 to 88 (clamped), relative error below 2e-7. NaN stays NaN.
///
/// `exp(x) = 2^n exp(r)` with `|r| <= ln 2 / 2` and a polynomial for `exp(r)` (the Cephes library's
/// coefficients). Free of branches, so loops over it vectorise.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = if x > 88.0 { 88.0 } else { x };
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let e = p * (r * r) + r + 1.0;
    e * power_of_two(shifted)
}

/// `2^x` for `x` from -126 to 127 (clamped), relative error below 3e-7. NaN stays NaN.
///
/// `2^x = 2^n 2^r` with `|r| <= 1/2` and a polynomial for `2^r`, fitted for the least relative error.
#[inline(always)]
pub(crate) fn exp2(x: f32) -> f32 {
    let x = if x > 127.0 { 127.0 } else { x };
    let x = if x < -126.0 { -126.0 } else { x };
    let shifted = x + ROUND;
    let r = x - (shifted - ROUND);
    let p = 1.330_060_5e-3;
    let p = p * r + 9.669_691e-3;
    let p = p * r + 5.550_558_5e-2;
    let p = p * r + 2.402_228_3e-1;
    let p = p * r + std::f32::consts::LN_2;
    let p = p * r + 1.0;
    p * power_of_two(shifted)
}

/// `2^n`, from `n + ROUND`.
#[inline(always)]
fn power_of_two(shifted: f32) -> f32 {
    f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23)
}

/// `tanh(x)`, relative error below 4e-7. NaN stays NaN.
///
/// A polynomial in `x²` for small `x` (the Cephes library's coefficients), [`exp`] for the rest. Free of branches.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let shrunk = exp(-2.0 * size);
    let large = ((1.0 - shrunk) / (1.0 + shrunk)).copysign(x);
    let z = x * x;
    let p = -5.704_988_7e-3;
    let p = p * z + 2.063_908_8e-2;
    let p = p * z - 5.373_971_5e-2;
    let p = p * z + 1.333_144_2e-1;
    let p = p * z - 3.333_328e-1;
    let small = x + x * z * p;
    if size < 0.625 { small } else { large }
}

/// `Φ(x)`, the cumulative normal distribution, relative error below 5e-7, also in the lower tail.
///
/// `Φ(x) = erfc(-x / √2) / 2` with the Chebyshev fit of `erfc` in Press et al., Numerical Recipes, section 6.2.
#[inline(always)]
pub(crate) fn normal_cdf(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * z);
    let p = 0.170_872_77;
    let p = p * t - 0.822_152_23;
    let p = p * t + 1.488_515_9;
    let p = p * t - 1.135_204;
    let p = p * t + 0.278_868_07;
    let p = p * t - 0.186_288_06;
    let p = p * t + 0.096_784_18;
    let p = p * t + 0.374_091_96;
    let p = p * t + 1.000_023_7;
    let p = p * t - 1.265_512_2;
    let tail = 0.5 * t * exp(p - z * z);
    if x > 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tanh_is_accurate() {
        for i in -3000..=3000 {
            let x = i as f32 * 0.004;
            let exact = f64::from(x).tanh();
            assert!((f64::from(tanh(x)) - exact).abs() <= 4e-7 * exact.abs(), "tanh({x})");
        }
        assert!(tanh(f32::NAN).is_nan() && tanh(f32::INFINITY) == 1.0 && tanh(-1e9) == -1.0);
        assert!(tanh(0.0) == 0.0 && tanh(1e-30) == 1e-30);
    }

    #[test]
    fn exp_is_accurate() {
        for i in -8700..=8800 {
            let x = i as f32 * 0.01;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() <= 3e-7 * exact, "exp({x})");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::INFINITY).is_finite());
        assert!(exp(f32::NEG_INFINITY) >= 0.0);
    }

    #[test]
    fn exp2_is_accurate() {
        for i in -12600..=12700 {
            let x = i as f32 * 0.01;
            let exact = f64::from(x).exp2();
            assert!((f64::from(exp2(x)) - exact).abs() <= 3e-7 * exact, "exp2({x})");
        }
        assert!(exp2(f32::NAN).is_nan() && exp2(0.0) == 1.0 && exp2(-3.0) == 0.125);
        assert!(exp2(f32::INFINITY).is_finite() && exp2(f32::NEG_INFINITY) >= 0.0);
    }

    #[test]
    fn sums_every_element_once() {
        for len in 0..100 {
            assert_eq!(sum_by(len, |i| i as f32), (len * len.saturating_sub(1) / 2) as f32);
        }
    }

    /// A training step of a model that has every operation, at each level of this machine. Other tests may run at
    /// any level meanwhile: the bits are the same.
    #[test]
    fn every_level_gives_the_same_bits() {
        use crate::mixers::MixerKind::{Attention, Linear, Mlp, Reservoir, Shift};
        use crate::{
            Batch, ClassTargets, Dropout, Head, Mode, Model, ModelConfig, Moments, Targets, Workspace,
        };
        let run = |level| {
            *SET_LEVEL.write().unwrap() = Some(level);
            let config = ModelConfig {
                vocab_size: 50,
                hidden_size: 36,
                intermediate_size: 70,
                num_hidden_layers: 5,
                max_position_embeddings: 40,
                num_attention_heads: Some(3),
                mixers: vec![Attention, Linear, Mlp, Reservoir, Shift],
                reservoir: Some(Default::default()),
                classifier_pooling: "mean+max+query+embeddings".parse().unwrap(),
                ..ModelConfig::default()
            };
            let mut model = Model::new(config, Head::Classification { labels: 3 }, 1).unwrap();
            let mut batch = Batch::new();
            for len in [37, 1, 12] {
                batch.push(&(0..len).map(|i| i * 7 % 46 + 4).collect::<Vec<u32>>(), &[]);
            }
            let (mut w, mut gradients) = (Workspace::new(), vec![0.0; model.parameters().len()]);
            let mode = Mode::Train(Dropout { rate: 0.1, key: 5 });
            let targets = Targets::examples(ClassTargets::Classes(&[0, 2, 1]), 1.0);
            model.forward(&batch, mode, &mut w).unwrap().backward(targets, &mut gradients).unwrap();
            let mut moments = Moments::new(model.parameters());
            let stepped = gradients.clone();
            crate::AdamW::default().step(model.parameters_mut(), &mut gradients, &mut moments, 1, 0.01, 1.0);
            (stepped, model.parameters().values().to_vec())
        };
        let expected = run(Simd::Portable);
        assert!(expected.0.iter().any(|g| *g != 0.0));
        for level in Simd::ALL.into_iter().filter(|level| level.is_available()) {
            assert!(run(level) == expected, "{level}");
        }
        *SET_LEVEL.write().unwrap() = None;
    }
}
