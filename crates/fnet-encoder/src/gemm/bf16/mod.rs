//! Products of bfloat16 operands, summed in float32.
//!
//! Operands come in float32 and are rounded to bfloat16 (to nearest, ties to even) on the way into
//! packed panels; results are float32. What computes them is chosen at run time, see [`Bf16Level`].
//! A result's sum runs over the inner axis in order, in blocks of [`DEPTH`]: it does not depend on
//! the other rows or on threads. Levels differ in their last bits.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod blocks;
mod rounded;

use std::sync::OnceLock;

use super::{Operand, Out};

/// What computes bfloat16 products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bf16Level {
    /// Intel's tile registers, `tdpbf16ps`.
    Amx,
    /// AVX-512's `vdpbf16ps`, on CPUs that run it faster than float32's `vfmadd`: AMD's from Zen 4 on.
    Avx512Bf16,
    /// Operands are rounded to bfloat16 and multiplied as float32: right on every CPU, no faster.
    Rounded,
}

impl Bf16Level {
    /// From fast to slow.
    pub const ALL: [Self; 3] = [Self::Amx, Self::Avx512Bf16, Self::Rounded];

    /// Its name in the log, in a run's folder and in `FNET_BF16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amx => "amx",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::Rounded => "rounded",
        }
    }

    /// Whether this CPU, and for tiles this kernel, can run it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => amx::is_available() && avx512::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => avx512::is_available(),
            Self::Rounded => true,
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Whether an available level is faster than those after it.
    fn is_worth_it(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self == Self::Avx512Bf16 {
            return avx512::is_fast();
        }
        true
    }

    /// The level that is used: the fastest of this machine, or the one that `FNET_BF16` names.
    ///
    /// # Errors
    /// If `FNET_BF16` names no level of this machine.
    pub fn chosen() -> Result<Self, String> {
        static CHOSEN: OnceLock<Result<Bf16Level, String>> = OnceLock::new();
        CHOSEN.get_or_init(|| Self::choose(std::env::var("FNET_BF16").ok().as_deref())).clone()
    }

    fn choose(name: Option<&str>) -> Result<Self, String> {
        let here = |level: &Self| level.is_available();
        let Some(name) = name else {
            let worth = |level: &Self| here(level) && level.is_worth_it();
            return Ok(Self::ALL.into_iter().find(worth).unwrap_or(Self::Rounded));
        };
        Self::ALL.into_iter().filter(here).find(|level| level.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.into_iter().filter(here).map(Self::name).collect();
            format!("FNET_BF16={name}: this machine has {}", names.join(", "))
        })
    }
}

/// `y (+)= x w` at a level that is available.
pub(super) fn product(level: Bf16Level, shape: [usize; 3], x: Operand, w: Operand, y: &mut [f32], out: Out) {
    match level {
        // The packed kernels have nothing to gain from a classifier's few columns or from no depth.
        _ if shape[1] < super::NARROW || shape[2] <= super::SHALLOW => rounded::product(shape, x, w, y, out),
        #[cfg(target_arch = "x86_64")]
        Bf16Level::Amx => blocks::product(amx::Amx::<amx::Cpu>::new(), shape, x, w, y, out),
        #[cfg(target_arch = "x86_64")]
        Bf16Level::Avx512Bf16 => blocks::product(avx512::Dot, shape, x, w, y, out),
        _ => rounded::product(shape, x, w, y, out),
    }
}

/// The nearest bfloat16, ties to even, as float32. NaN stays NaN.
#[inline(always)]
pub(super) fn round(x: f32) -> f32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) & 0xFFFF_0000;
    f32::from_bits(if x.is_nan() { (bits | 0x0040_0000) & 0xFFFF_0000 } else { nearest })
}

/// The tiles' kernel on emulated tile registers.
#[cfg(all(test, target_arch = "x86_64"))]
pub(super) fn emulated_product(shape: [usize; 3], x: Operand, w: Operand, y: &mut [f32], out: Out) {
    if shape[2] == 0 {
        return rounded::product(shape, x, w, y, out);
    }
    blocks::product(amx::Amx::<amx::emulated::Emulated>::new(), shape, x, w, y, out);
}
