use super::*;

/// Against the definition in float64, all lanes with different data.
fn check(len: usize, simd: Simd, lanes: usize) {
    let fft = Fft::new(len, if simd == Simd::Avx512 { 8 } else { 4 });
    let value = |n: usize, part: usize| ((n * 37 + part * 11) as f32 * 0.713).sin();
    let element = 2 * lanes;
    let mut data: Vec<f32> = (0..len * element).map(|i| value(i / element, i % element)).collect();
    let mut scratch = vec![f32::NAN; fft.scratch_len() * element];
    // SAFETY: the level was asked for; both buffers hold what the plan asks for.
    unsafe { fft.forward(simd, lanes, data.as_mut_ptr(), scratch.as_mut_ptr()) };
    for k in 0..len {
        let z = &data[fft.positions[k] as usize * element..][..element];
        for lane in [0, lanes - 1] {
            let (mut re, mut im) = (0.0, 0.0);
            for n in 0..len {
                let (sin, cos) = (-TAU * (n * k % len) as f64 / len as f64).sin_cos();
                let (a, b) = (f64::from(value(n, lane)), f64::from(value(n, lane + lanes)));
                re += a * cos - b * sin;
                im += a * sin + b * cos;
            }
            let error = (f64::from(z[lane]) - re).abs().max((f64::from(z[lane + lanes]) - im).abs());
            assert!(
                error <= 4e-6 * (len as f64).sqrt(),
                "{simd}, length {len}, frequency {k}: error {error:e}"
            );
        }
    }
}

#[test]
fn every_length_matches_the_definition() {
    for simd in Simd::ALL.into_iter().filter(|level| level.is_available()) {
        for len in (1..=130).chain([192, 243, 254, 256, 262, 343, 360, 509, 512, 768, 1009]) {
            check(len, simd, simd.lanes());
        }
        check(60, simd, 4);
        check(134, simd, 4);
    }
}

#[test]
fn inverse_restores() {
    for len in [1, 2, 6, 8, 60, 128, 135] {
        let fft = Fft::new(len, 8);
        let original: Vec<f32> = (0..len * 8).map(|n| (n as f32 * 0.713).sin()).collect();
        let mut data = original.clone();
        // SAFETY: any CPU has the portable level; `data` holds `len` elements of its four lanes.
        unsafe {
            fft.forward(Simd::Portable, 4, data.as_mut_ptr(), std::ptr::null_mut());
            fft.inverse(Simd::Portable, 4, data.as_mut_ptr());
        }
        for (a, b) in data.iter().zip(&original) {
            assert!((a / len as f32 - b).abs() <= 1e-6, "length {len}");
        }
    }
}
