//! The reference for the mixing kernels: the plain discrete Fourier transform in float64.

use std::f64::consts::TAU;

/// `Re(FFT2(x))` of one `[seq_len, hidden]` sample straight from the definition, in float64.
///
/// One axis at a time, so it takes `S D (S + D)` steps: for tests, not for use.
///
/// # Panics
/// If `x` does not hold `seq_len * hidden` values.
pub fn dft2_real(x: &[f32], seq_len: usize, hidden: usize) -> Vec<f64> {
    assert_eq!(x.len(), seq_len * hidden);
    let (row, column) = (roots(hidden), roots(seq_len));
    let mut spectra = vec![(0.0, 0.0); x.len()];
    for (row_in, row_out) in x.chunks_exact(hidden).zip(spectra.chunks_exact_mut(hidden)) {
        for (j, out) in row_out.iter_mut().enumerate() {
            for (m, v) in row_in.iter().enumerate() {
                let (c, s) = row[j * m % hidden];
                out.0 += f64::from(*v) * c;
                out.1 += f64::from(*v) * s;
            }
        }
    }
    let mut y = vec![0.0; x.len()];
    for k in 0..seq_len {
        for n in 0..seq_len {
            let (c, s) = column[k * n % seq_len];
            let spectrum = &spectra[n * hidden..][..hidden];
            for (out, (re, im)) in y[k * hidden..][..hidden].iter_mut().zip(spectrum) {
                *out += re * c - im * s;
            }
        }
    }
    y
}

/// `exp(-2 pi i t / len)` for `t = 0..len`.
fn roots(len: usize) -> Vec<(f64, f64)> {
    (0..len).map(|t| (TAU * t as f64 / len as f64).sin_cos()).map(|(s, c)| (c, -s)).collect()
}

/// Largest error of `y` against `exact`, over the root mean square of `exact`.
pub fn relative_error(y: &[f32], exact: &[f64]) -> f64 {
    let largest = y.iter().zip(exact).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    let power: f64 = exact.iter().map(|v| v * v).sum();
    let rms = (power / exact.len() as f64).sqrt();
    if rms == 0.0 { largest } else { largest / rms }
}
