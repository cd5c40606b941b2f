//! Tiles of bfloat16 pairs by AVX-512's `vdpbf16ps`.

use std::arch::x86_64::*;

use super::pack::Layout;
use super::{COLUMNS, Kernel};

/// Whether `vdpbf16ps` does more work a second than `vfmadd`: not on Intel's cores, where it starts
/// every fourth time as often (measured on Emerald Rapids: 83 against 161 Gflop/s).
pub fn is_fast() -> bool {
    let vendor = __cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx] == [b"Auth", b"enti", b"cAMD"].map(|s| u32::from_le_bytes(*s))
}

/// Tiles of 12 rows: 24 sums, two vectors of w and one value of x fill the 32 registers best.
#[derive(Clone, Copy)]
pub struct Dot;

impl Kernel for Dot {
    const ROWS: usize = 12;
    const STRIP: Layout = Layout::PairsFirst;

    unsafe fn tile(self, depth: usize, x: *const u32, w: *const u32, y: *mut f32, stride: usize, add: bool) {
        // SAFETY: the caller's promise.
        unsafe { tile(depth, x, w, y, stride, add) }
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tile(depth: usize, x: *const u32, w: *const u32, y: *mut f32, stride: usize, add: bool) {
    // SAFETY: `x`, `w` and `y` hold what `Kernel::tile` says; two registers make a row of COLUMNS.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; Dot::ROWS];
        if add {
            for (i, [a, b]) in sums.iter_mut().enumerate() {
                *a = _mm512_loadu_ps(y.add(i * stride));
                *b = _mm512_loadu_ps(y.add(i * stride + 16));
            }
        }
        for p in 0..depth {
            let column = |half: usize| -> __m512bh {
                std::mem::transmute(_mm512_loadu_si512(w.add(p * COLUMNS + 16 * half).cast()))
            };
            let (left, right) = (column(0), column(1));
            for (i, [a, b]) in sums.iter_mut().enumerate() {
                let pair: __m512bh = std::mem::transmute(_mm512_set1_epi32(*x.add(p * Dot::ROWS + i) as i32));
                *a = _mm512_dpbf16_ps(*a, pair, left);
                *b = _mm512_dpbf16_ps(*b, pair, right);
            }
        }
        for (i, [a, b]) in sums.into_iter().enumerate() {
            _mm512_storeu_ps(y.add(i * stride), a);
            _mm512_storeu_ps(y.add(i * stride + 16), b);
        }
    }
}
