//! The order of words in registers. All of it is compiled with the features of its caller, AVX-512.

use std::arch::x86_64::*;
use std::mem::transmute;

/// The first 12 words of each of four lines without gaps.
#[inline(always)]
pub unsafe fn join([a, b, c, d]: [__m512i; 4]) -> [__m512i; 3] {
    /// `count` words from `first` of one line on, then the next line's first.
    const fn then(first: u32, count: u32) -> [u32; 16] {
        let mut from = [0; 16];
        let mut i = 0;
        while i < 16 {
            from[i as usize] = if i < count { first + i } else { 16 + i - count };
            i += 1;
        }
        from
    }
    // SAFETY: the caller has the features; an index is 512 bits.
    unsafe {
        [
            _mm512_permutex2var_epi32(a, transmute::<[u32; 16], __m512i>(const { then(0, 12) }), b),
            _mm512_permutex2var_epi32(b, transmute::<[u32; 16], __m512i>(const { then(4, 8) }), c),
            _mm512_permutex2var_epi32(c, transmute::<[u32; 16], __m512i>(const { then(8, 4) }), d),
        ]
    }
}

/// Turns lanes of 16 words into words of `4 * GROUPS` lanes, one after another without gaps.
#[inline(always)]
pub unsafe fn transpose<const GROUPS: usize>(lanes: [[__m512i; 4]; GROUPS]) -> [[__m512i; GROUPS]; 4] {
    // SAFETY: the caller has the features.
    unsafe {
        // Then quarter q of groups[g][i] has word 4 q + i of the group's four lanes,
        let mut groups = lanes;
        for group in &mut groups {
            *group = within_quarters(*group);
        }
        // and the words' groups follow one another.
        let mut words = [[_mm512_setzero_si512(); GROUPS]; 4];
        for i in 0..GROUPS {
            let mut four = [_mm512_setzero_si512(); 4];
            for (j, line) in four.iter_mut().enumerate() {
                *line = groups[(4 * i + j) % GROUPS][(4 * i + j) / GROUPS];
            }
            four = quarters(four);
            for (words, line) in words.iter_mut().zip(four) {
                words[i] = line;
            }
        }
        words
    }
}

/// Transposes 4 x 4 words in each quarter of four registers.
#[inline(always)]
unsafe fn within_quarters(lines: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: the caller has the features.
    unsafe {
        let [a, b, c, d] = lines;
        let (a, b) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (c, d) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        [
            _mm512_unpacklo_epi64(a, c),
            _mm512_unpackhi_epi64(a, c),
            _mm512_unpacklo_epi64(b, d),
            _mm512_unpackhi_epi64(b, d),
        ]
    }
}

/// Transposes 4 x 4 quarters of four registers.
#[inline(always)]
unsafe fn quarters([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    const EVEN: i32 = 0x88;
    const ODD: i32 = 0xDD;
    // SAFETY: the caller has the features.
    unsafe {
        let (even, even_too) = (_mm512_shuffle_i32x4::<EVEN>(a, b), _mm512_shuffle_i32x4::<EVEN>(c, d));
        let (odd, odd_too) = (_mm512_shuffle_i32x4::<ODD>(a, b), _mm512_shuffle_i32x4::<ODD>(c, d));
        [
            _mm512_shuffle_i32x4::<EVEN>(even, even_too),
            _mm512_shuffle_i32x4::<EVEN>(odd, odd_too),
            _mm512_shuffle_i32x4::<ODD>(even, even_too),
            _mm512_shuffle_i32x4::<ODD>(odd, odd_too),
        ]
    }
}
