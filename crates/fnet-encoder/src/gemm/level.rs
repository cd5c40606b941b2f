//! How matrix products are computed: in which precision, and at which level.

use serde::{Deserialize, Serialize};

use super::Stored;
#[cfg(target_arch = "x86_64")]
use super::packed;

/// The type of products' operands; sums, weights and everything else are float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// float32
    #[default]
    F32,
    /// Rounded to bfloat16 (to nearest, ties to even) and summed in float32.
    Bf16,
    /// Linear layers' operands rounded to 8 bits, with a scale of its own for each token and for each output, and summed
    /// as whole numbers; products over the sequence, and those of heads (but MLM's), are float32. For inference: `fnet`
    /// does not train by it.
    Int8,
}

/// The kernels that compute products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Intel's tile registers, `tdpbf16ps`. For bfloat16.
    Amx,
    /// AVX-512's `vdpbf16ps`, the default only on AMD's CPUs: Intel's run it slower than `vfmadd`. For bfloat16.
    Avx512Bf16,
    /// AVX-512's `vpdpbusd`. For 8 bits.
    Avx512Vnni,
    /// Our own AVX-512 kernels. For float32.
    Avx512,
    /// A library's float32 products, on any CPU. For bfloat16 and 8 bits the operands are rounded first: correct, since
    /// a product of two such values is exact in float32, but no faster than float32.
    Library,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Int8];

    /// Its name in the log, in a run's folder and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

impl Level {
    /// From fast to slow.
    pub const ALL: [Self; 5] = [Self::Amx, Self::Avx512Bf16, Self::Avx512Vnni, Self::Avx512, Self::Library];

    /// Its name in the log, in a run's folder and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amx => "amx",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::Avx512Vnni => "avx512-vnni",
            Self::Avx512 => "avx512",
            Self::Library => "library",
        }
    }

    /// Whether this CPU, and for tiles this operating system, can run it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => packed::has_avx512_bf16() && packed::amx::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => packed::has_avx512_bf16(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => packed::has_avx512_vnni(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => packed::has_avx512(),
            Self::Library => true,
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Whether it computes products of this precision.
    pub fn can(self, precision: Precision) -> bool {
        match self {
            Self::Amx | Self::Avx512Bf16 => precision == Precision::Bf16,
            Self::Avx512Vnni => precision == Precision::Int8,
            Self::Avx512 => precision == Precision::F32,
            Self::Library => true,
        }
    }

    /// Whether an available level is faster than those after it.
    fn is_worth_it(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self == Self::Avx512Bf16 {
            return packed::is_dot_fast();
        }
        // The feature asks for matrixmultiply.
        self != Self::Avx512 || cfg!(not(feature = "matrixmultiply"))
    }
}

/// How a model's products are computed: in which precision, and at which level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Products {
    precision: Precision,
    level: Level,
}

impl Products {
    /// The fastest on this machine.
    pub fn new(precision: Precision) -> Self {
        let fastest = Self::all(precision).find(|products| products.level.is_worth_it());
        fastest.unwrap_or(Self { precision, level: Level::Library })
    }

    /// Products at one level; `None` if this machine or this precision lacks it.
    pub fn with_level(precision: Precision, level: Level) -> Option<Self> {
        (level.is_available() && level.can(precision)).then_some(Self { precision, level })
    }

    /// Every level of this machine.
    pub fn all(precision: Precision) -> impl Iterator<Item = Self> {
        Level::ALL.into_iter().filter_map(move |level| Self::with_level(precision, level))
    }

    /// For the few products that are too sensitive to be rounded to 8 bits: float32 in their place.
    pub(crate) fn without_int8(self) -> Self {
        match self {
            Self { precision: Precision::Int8, level: Level::Avx512Vnni } => {
                Self { precision: Precision::F32, level: Level::Avx512 }
            }
            Self { precision: Precision::Int8, level } => Self { precision: Precision::F32, level },
            other => other,
        }
    }

    /// The precision of the operands.
    pub fn precision(self) -> Precision {
        self.precision
    }

    /// The kernels that compute them.
    pub fn level(self) -> Level {
        self.level
    }

    /// How an operand that nothing else reads is stored.
    pub(crate) fn stored(self) -> Stored {
        match self.precision {
            Precision::F32 | Precision::Int8 => Stored::Floats,
            Precision::Bf16 => Stored::Halves,
        }
    }
}
