//! AVX-512 with bfloat16: packing for both packed levels, and tiles by `vdpbf16ps`.

use std::arch::x86_64::*;

use super::super::Operand;
use super::blocks::{COLUMNS, Kernel, Layout};

/// Lanes and pairs of a block that is packed at once.
pub const BLOCK: usize = 16;

/// Whether the CPU has what this file uses.
pub fn is_available() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
}

/// Whether `vdpbf16ps` does more work a second than `vfmadd`: not on Intel's cores, where it starts
/// every fourth time as often (measured on Emerald Rapids: 83 against 161 Gflop/s).
pub fn is_fast() -> bool {
    let vendor = __cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx] == [b"Auth", b"enti", b"cAMD"].map(|s| u32::from_le_bytes(*s))
}

/// Rounds and packs a block of `lanes` rows of `from`, `depth` long, into the first `lines` lines of
/// `to`, which lie `step` apart; what is missing to a whole block is zero.
pub fn pack_block(
    from: Operand,
    [lanes, depth]: [usize; 2],
    layout: Layout,
    to: &mut [u32],
    step: usize,
    lines: usize,
) {
    assert!(lanes <= BLOCK && depth <= 2 * BLOCK && lines <= BLOCK);
    assert!(from.reaches(lanes, depth) && (from.row == 1 || from.column == 1));
    assert!((lines - 1) * step + BLOCK <= to.len());
    // SAFETY: the assertions are what the function asks for, and levels that pack are only chosen
    // where `is_available` holds. Covered by `matches_float64`.
    unsafe { pack_block_avx512(from, [lanes, depth], layout, to.as_mut_ptr(), step, lines) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_block_avx512(
    from: Operand,
    [lanes, depth]: [usize; 2],
    layout: Layout,
    to: *mut u32,
    step: usize,
    lines: usize,
) {
    let first = |count: usize| ((1_u32 << count.min(16)) - 1) as __mmask16;
    let load = |at: usize, count: usize| {
        // SAFETY: only the `count` values from `at` are read, which `from` reaches.
        unsafe { _mm512_maskz_loadu_ps(first(count), from.values.as_ptr().wrapping_add(at)) }
    };
    let mut block = [_mm512_setzero_si512(); BLOCK];
    let have = if from.column == 1 {
        for (lane, line) in block.iter_mut().enumerate().take(lanes) {
            let at = lane * from.row;
            let (low, high) = (load(at, depth), load(at + 16, depth.saturating_sub(16)));
            // SAFETY: both are 512 bits without invalid values.
            *line = unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) };
        }
        Layout::LanesFirst
    } else {
        let row = |k: usize| {
            let values = load(k * from.column, if k < depth { lanes } else { 0 });
            // SAFETY: both are 256 bits without invalid values.
            let rounded = unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values)) };
            _mm512_cvtepu16_epi32(rounded)
        };
        for (pair, line) in block.iter_mut().enumerate().take(depth.div_ceil(2)) {
            *line = _mm512_or_si512(row(2 * pair), _mm512_slli_epi32::<16>(row(2 * pair + 1)));
        }
        Layout::PairsFirst
    };
    if have != layout {
        transpose(&mut block);
    }
    for (i, line) in block.into_iter().enumerate().take(lines) {
        // SAFETY: `to` holds `lines` lines of a block, `step` apart.
        unsafe { _mm512_storeu_si512(to.add(i * step).cast(), line) };
    }
}

/// Transposes 16 x 16 values of 32 bits: within quarters of registers, then the quarters.
#[target_feature(enable = "avx512f")]
fn transpose(block: &mut [__m512i; BLOCK]) {
    for four in block.chunks_exact_mut(4) {
        let low = |a, b| _mm512_unpacklo_epi32(a, b);
        let high = |a, b| _mm512_unpackhi_epi32(a, b);
        let (a, b) = (low(four[0], four[1]), high(four[0], four[1]));
        let (c, d) = (low(four[2], four[3]), high(four[2], four[3]));
        four[0] = _mm512_unpacklo_epi64(a, c);
        four[1] = _mm512_unpackhi_epi64(a, c);
        four[2] = _mm512_unpacklo_epi64(b, d);
        four[3] = _mm512_unpackhi_epi64(b, d);
    }
    const EVEN: i32 = 0x88;
    const ODD: i32 = 0xDD;
    for i in 0..4 {
        let (a, b, c, d) = (block[i], block[4 + i], block[8 + i], block[12 + i]);
        let (even, even_too) = (_mm512_shuffle_i32x4::<EVEN>(a, b), _mm512_shuffle_i32x4::<EVEN>(c, d));
        let (odd, odd_too) = (_mm512_shuffle_i32x4::<ODD>(a, b), _mm512_shuffle_i32x4::<ODD>(c, d));
        block[i] = _mm512_shuffle_i32x4::<EVEN>(even, even_too);
        block[8 + i] = _mm512_shuffle_i32x4::<ODD>(even, even_too);
        block[4 + i] = _mm512_shuffle_i32x4::<EVEN>(odd, odd_too);
        block[12 + i] = _mm512_shuffle_i32x4::<ODD>(odd, odd_too);
    }
}

/// Tiles of 12 rows: 24 sums, two vectors of w and one value of x fill the 32 registers best.
#[derive(Clone, Copy)]
pub struct Dot;

impl Kernel for Dot {
    const ROWS: usize = 12;

    fn begin(self) {}

    fn end(self) {}

    unsafe fn tile(self, pairs: usize, x: *const u32, w: *const u32, y: *mut f32, stride: usize, add: bool) {
        // SAFETY: the caller's promise.
        unsafe { tile(pairs, x, w, y, stride, add) }
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tile(pairs: usize, x: *const u32, w: *const u32, y: *mut f32, stride: usize, add: bool) {
    // SAFETY: `x`, `w` and `y` hold what `Kernel::tile` says; two registers make a row of COLUMNS.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; Dot::ROWS];
        if add {
            for (i, [a, b]) in sums.iter_mut().enumerate() {
                *a = _mm512_loadu_ps(y.add(i * stride));
                *b = _mm512_loadu_ps(y.add(i * stride + 16));
            }
        }
        for p in 0..pairs {
            let column = |half: usize| -> __m512bh {
                std::mem::transmute(_mm512_loadu_si512(w.add(p * COLUMNS + 16 * half).cast()))
            };
            let (left, right) = (column(0), column(1));
            for (i, [a, b]) in sums.iter_mut().enumerate() {
                let pair: __m512bh = std::mem::transmute(_mm512_set1_epi32(*x.add(i * pairs + p) as i32));
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
