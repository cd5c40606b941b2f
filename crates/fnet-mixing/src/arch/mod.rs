//! SIMD levels, chosen at run time.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::MixError;
use crate::vector::Vector;

/// The instructions that the kernels use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Simd {
    /// Plain Rust, on any CPU.
    Portable,
    /// AVX2 with FMA, 8 lanes.
    Avx2,
    /// AVX-512 (F, VL, DQ, BW), 16 lanes.
    Avx512,
}

impl Simd {
    /// All levels, slowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// Whether this CPU has the level.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512bw")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The level that new mixers use: the one named by the environment variable `FNET_SIMD` (`portable`, `avx2`,
    /// `avx512`), else the best of this CPU. Looked up once.
    ///
    /// # Errors
    /// If `FNET_SIMD` names no level, or one that this CPU lacks.
    pub fn default_level() -> Result<Self, MixError> {
        static LEVEL: OnceLock<Result<Simd, MixError>> = OnceLock::new();
        LEVEL
            .get_or_init(|| match std::env::var("FNET_SIMD") {
                Ok(name) => name.parse::<Self>()?.checked(),
                Err(_) => Ok(Self::ALL.into_iter().rfind(|l| l.is_available()).unwrap_or(Self::Portable)),
            })
            .clone()
    }

    /// This level, if the CPU has it.
    pub(crate) fn checked(self) -> Result<Self, MixError> {
        if self.is_available() { Ok(self) } else { Err(MixError::SimdUnavailable { level: self }) }
    }

    /// Lanes of the widest register.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Self::Portable => 4,
            Self::Avx2 => 8,
            Self::Avx512 => 16,
        }
    }

    /// Runs a kernel compiled for this level on registers of `lanes`: 4, 8 or 16, at most [`lanes`](Self::lanes).
    ///
    /// # Safety
    /// The CPU has the level ([`checked`](Self::checked)).
    #[inline]
    pub(crate) unsafe fn run<K: Kernel>(self, lanes: usize, kernel: K) {
        debug_assert!(lanes <= self.lanes());
        // SAFETY: the caller vouches for the level. Tests: `tests.rs` runs every level.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => avx512(lanes, kernel),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => avx2(lanes, kernel),
                // Levels that do not exist here are refused by `checked`.
                _ => kernel.run::<portable::Lanes<4>>(),
            }
        }
    }
}

/// Code that is compiled once for each level and register width.
pub(crate) trait Kernel {
    /// Runs it. Implementations must be `#[inline(always)]`, as must everything they call on vectors: only then is
    /// it compiled for the level.
    ///
    /// # Safety
    /// The CPU has the level of `V`.
    unsafe fn run<V: Vector>(self);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<K: Kernel>(lanes: usize, kernel: K) {
    // SAFETY: the features are enabled here, and the caller vouches for the CPU.
    unsafe {
        match lanes {
            8 => kernel.run::<x86_64::F32x8>(),
            _ => kernel.run::<x86_64::F32x4>(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
unsafe fn avx512<K: Kernel>(lanes: usize, kernel: K) {
    // SAFETY: the features are enabled here, and the caller vouches for the CPU.
    unsafe {
        match lanes {
            16 => kernel.run::<x86_64::F32x16>(),
            8 => kernel.run::<x86_64::F32x8>(),
            _ => kernel.run::<x86_64::F32x4>(),
        }
    }
}

impl fmt::Display for Simd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        })
    }
}

impl FromStr for Simd {
    type Err = MixError;

    fn from_str(name: &str) -> Result<Self, MixError> {
        let level = Self::ALL.into_iter().find(|level| level.to_string() == name);
        level.ok_or_else(|| MixError::UnknownSimd { name: name.to_string() })
    }
}
