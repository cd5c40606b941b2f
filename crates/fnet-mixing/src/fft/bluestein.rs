//! A transform of large prime length as a convolution of smooth length (Bluestein 1970).
//!
//! With the chirp `c[n] = exp(-i pi n^2 / p)`: `X[k] = c[k] sum over n of (x[n] c[n]) conj(c[k - n])`.

use std::f64::consts::PI;

use super::Fft;
use super::multiply::Multiply;
use crate::arch::Simd;

pub(super) struct Bluestein {
    /// Of the convolution.
    fft: Fft,
    chirp: Vec<[f32; 2]>,
    /// The transform of the conjugated chirp, over the convolution's length, in the order of `fft`.
    filter: Vec<[f32; 2]>,
}

impl Bluestein {
    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.fft.bytes() + size_of_val(&self.chirp[..]) + size_of_val(&self.filter[..])
    }

    pub fn new(prime: usize, largest_power: usize) -> Self {
        let len = convolution_len(2 * prime - 1);
        let fft = Fft::new(len, largest_power);
        // n^2 modulo 2 p keeps the angle small and so exact.
        let angle = |n: usize| PI * ((n as u128 * n as u128) % (2 * prime as u128)) as f64 / prime as f64;
        let chirp: Vec<[f32; 2]> =
            (0..prime).map(|n| [angle(n).cos() as f32, -angle(n).sin() as f32]).collect();
        // The portable level's registers have four lanes, of which one is used here.
        let mut filter = vec![[0.0_f32; 8]; len];
        for (n, c) in chirp.iter().enumerate() {
            (filter[n][0], filter[n][4]) = (c[0] / len as f32, -c[1] / len as f32);
            filter[(len - n) % len] = filter[n];
        }
        // SAFETY: any CPU has the portable level; `filter` holds `len` elements of two times four values, and a
        // smooth length needs no scratch. Tests: `fft::tests`.
        unsafe { fft.forward(Simd::Portable, 4, filter.as_mut_ptr().cast(), std::ptr::null_mut()) };
        Self { fft, chirp, filter: filter.iter().map(|f| [f[0], f[4]]).collect() }
    }

    pub fn scratch_len(&self) -> usize {
        self.fft.len
    }

    /// # Safety
    /// The CPU has the level; `prime` elements can be read and written at `data`, `step` values apart;
    /// `scratch` holds `scratch_len` elements.
    pub unsafe fn run(&self, simd: Simd, lanes: usize, data: *mut f32, step: usize, scratch: *mut f32) {
        let (element, len) = (2 * lanes, self.fft.len);
        // SAFETY: the caller's promise; all indices are below the two lengths. Tests: `fft::tests`.
        unsafe {
            let (to, steps) = (scratch, [step, element]);
            simd.run(lanes, Multiply { from: data, to, steps, factors: &self.chirp });
            scratch.add(self.chirp.len() * element).write_bytes(0, (len - self.chirp.len()) * element);
            self.fft.forward(simd, lanes, scratch, std::ptr::null_mut());
            simd.run(lanes, Multiply { from: scratch, to, steps: [element; 2], factors: &self.filter });
            self.fft.inverse(simd, lanes, scratch);
            let steps = [element, step];
            simd.run(lanes, Multiply { from: scratch, to: data, steps, factors: &self.chirp });
        }
    }
}

/// The smallest length of at least `least` that transforms fast: `2^a 3^b 5^c` with few odd factors.
fn convolution_len(least: usize) -> usize {
    let odd = [1, 3, 5, 9, 15];
    let lengths = odd.iter().map(|odd| odd * least.div_ceil(*odd).next_power_of_two());
    lengths.min().unwrap_or(least.next_power_of_two())
}
