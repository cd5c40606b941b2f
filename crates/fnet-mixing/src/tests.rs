use proptest::prelude::*;

use crate::reference::{dft2_real, relative_error};
use crate::{FourierMixer, MixError, RaggedMixer, Simd};

/// Values that look random and depend only on the seed.
fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 * 2.0 - 1.0
        })
        .collect()
}

fn is_smooth(mut n: usize) -> bool {
    for p in [2, 3, 5, 7] {
        while n.is_multiple_of(p) {
            n /= p;
        }
    }
    n == 1
}

fn tolerance(seq_len: usize, hidden: usize) -> f64 {
    if is_smooth(seq_len) && is_smooth(hidden) { 2e-6 } else { 1e-5 }
}

#[cfg(feature = "rayon")]
fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

/// Without threads, everything runs on the current one.
#[cfg(not(feature = "rayon"))]
struct Here;

#[cfg(not(feature = "rayon"))]
impl Here {
    fn install<T>(&self, run: impl FnOnce() -> T) -> T {
        run()
    }
}

#[cfg(not(feature = "rayon"))]
fn pool(_threads: usize) -> Here {
    Here
}

/// The levels that this machine has.
fn levels() -> impl Iterator<Item = Simd> {
    Simd::ALL.into_iter().filter(|level| level.is_available())
}

/// Every entry point at every level against the float64 DFT.
fn check_shape(seq_len: usize, hidden: usize) {
    let x = noise(seq_len * hidden, (seq_len * 1000 + hidden) as u32);
    let exact = dft2_real(&x, seq_len, hidden);
    for level in levels() {
        let mixer = FourierMixer::with_simd(seq_len, hidden, level).unwrap();
        check_entry_points(&mixer, &x, &exact);
    }
}

fn check_entry_points(mixer: &FourierMixer, x: &[f32], exact: &[f64]) {
    let (seq_len, hidden, level) = (mixer.seq_len(), mixer.hidden(), mixer.simd());
    let tolerance = tolerance(seq_len, hidden);
    let mut y = vec![f32::NAN; x.len()];
    mixer.mix(x, &mut y).unwrap();
    let error = relative_error(&y, exact);
    assert!(error <= tolerance, "{seq_len} x {hidden}, {level}: error {error:e}");

    let mut in_place = x.to_vec();
    mixer.mix_in_place(&mut in_place).unwrap();
    assert!(in_place == y, "{seq_len} x {hidden}, {level}, in place");

    let mut sum = x.to_vec();
    mixer.mix_add(x, &mut sum).unwrap();
    let expected: Vec<f32> = x.iter().zip(&y).map(|(a, b)| a + b).collect();
    assert!(sum == expected, "{seq_len} x {hidden}, {level}, added");
}

#[test]
fn small_shapes_match_the_dft() {
    for seq_len in 1..=64 {
        for hidden in 1..=64 {
            check_shape(seq_len, hidden);
        }
    }
}

#[test]
fn large_and_prime_shapes_match_the_dft() {
    for (seq_len, hidden) in
        [(1, 768), (512, 1), (128, 256), (131, 256), (509, 96), (100, 300), (64, 509), (257, 257), (61, 122)]
    {
        check_shape(seq_len, hidden);
    }
}

/// Shapes up to 4096 x 1024 are too large for the full reference DFT: the same sum is taken one output at a time.
#[test]
fn large_shapes_match_the_dft_at_some_places() {
    let mut draw = noise(4 * 200, 77).into_iter().map(|v| f64::from(v) * 0.5 + 0.5);
    let mut below = |n: usize| (draw.next().unwrap() * n as f64) as usize % n;
    for _ in 0..200 {
        let (seq_len, hidden) = (1 + below(4096), 1 + below(1024));
        let (k, j) = (below(seq_len), below(hidden));
        let x = noise(seq_len * hidden, (seq_len + hidden) as u32);
        let angle = |n: usize, of: usize| std::f64::consts::TAU * n as f64 / of as f64;
        let (mut exact, mut power) = (0.0, 0.0);
        let columns: Vec<(f64, f64)> = (0..hidden).map(|m| angle(j * m % hidden, hidden).sin_cos()).collect();
        for (n, row) in x.chunks_exact(hidden).enumerate() {
            let (sin, cos) = angle(k * n % seq_len, seq_len).sin_cos();
            for (v, (row_sin, row_cos)) in row.iter().zip(&columns) {
                exact += f64::from(*v) * (cos * row_cos - sin * row_sin);
                power += f64::from(*v).powi(2);
            }
        }
        for level in levels() {
            let mut y = vec![f32::NAN; x.len()];
            FourierMixer::with_simd(seq_len, hidden, level).unwrap().mix(&x, &mut y).unwrap();
            // The output's root mean square is that of a random sum of as many values.
            let error = (f64::from(y[k * hidden + j]) - exact).abs() / power.sqrt();
            assert!(error <= tolerance(seq_len, hidden), "{seq_len} x {hidden}, {level}: error {error:e}");
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads_or_batch() {
    // Large enough to be split inside a sample as well.
    for (seq_len, hidden) in [(300, 256), (7, 24), (131, 33)] {
        for level in levels() {
            let mixer = FourierMixer::with_simd(seq_len, hidden, level).unwrap();
            let len = seq_len * hidden;
            let x = noise(5 * len, 3);
            let mut one = vec![0.0; x.len()];
            pool(1).install(|| mixer.mix(&x, &mut one)).unwrap();
            for threads in [2, 3, 8] {
                let mut many = vec![0.0; x.len()];
                pool(threads).install(|| mixer.mix(&x, &mut many)).unwrap();
                assert!(one == many, "{threads} threads");
                let mut alone = vec![0.0; len];
                pool(threads).install(|| mixer.mix(&x[3 * len..][..len], &mut alone)).unwrap();
                assert!(alone == one[3 * len..][..len], "alone, {threads} threads");
            }
        }
    }
}

#[test]
fn ragged_is_each_sequence_alone() {
    let hidden = 48;
    let lengths = [5, 1, 0, 128, 7, 31, 31, 64, 3];
    let mut offsets = vec![0];
    for length in lengths {
        offsets.push(offsets.last().unwrap() + length);
    }
    let x = noise(offsets[lengths.len()] * hidden, 5);
    for level in levels() {
        let mut alone = vec![0.0; x.len()];
        for range in offsets.windows(2).filter(|w| w[0] < w[1]) {
            let values = range[0] * hidden..range[1] * hidden;
            let mixer = FourierMixer::with_simd(range[1] - range[0], hidden, level).unwrap();
            mixer.mix(&x[values.clone()], &mut alone[values]).unwrap();
        }
        let mixer = RaggedMixer::with_simd(hidden, level);
        for threads in [1, 3] {
            let (mut y, mut sum, mut in_place) = (vec![f32::NAN; x.len()], x.clone(), x.clone());
            pool(threads).install(|| {
                mixer.mix(&offsets, &x, &mut y).unwrap();
                mixer.mix_add(&offsets, &x, &mut sum).unwrap();
                mixer.mix_in_place(&offsets, &mut in_place).unwrap();
            });
            assert!(y == alone && in_place == alone, "{level}, {threads} threads");
            assert!(sum.iter().zip(&x).zip(&y).all(|((sum, x), y)| *sum == x + y));
        }
    }
}

#[test]
fn wrong_offsets_are_errors() {
    let mixer = RaggedMixer::new(4);
    let x = vec![0.0; 12];
    let mut y = x.clone();
    mixer.mix(&[], &[], &mut []).unwrap();
    for offsets in [&[][..], &[0], &[0, 2], &[0, 4], &[1, 3], &[0, 2, 1, 3], &[0, usize::MAX]] {
        let refused = mixer.mix(offsets, &x, &mut y);
        assert!(matches!(refused, Err(MixError::WrongOffsets { .. })), "{offsets:?}");
    }
    assert!(matches!(RaggedMixer::new(0).mix(&[0, 0, 1], &[], &mut []), Err(MixError::EmptyShape { .. })));
    assert!(matches!(mixer.mix(&[0, 3], &x, &mut y[..8]), Err(MixError::LengthMismatch { .. })));
}

#[test]
fn levels_have_names() {
    for level in Simd::ALL {
        assert_eq!(level.to_string().parse(), Ok(level));
        let made = FourierMixer::with_simd(4, 4, level);
        assert_eq!(made.is_ok(), level.is_available());
    }
    assert!(matches!("sse9".parse::<Simd>(), Err(MixError::UnknownSimd { .. })));
}

#[test]
fn wrong_lengths_are_errors() {
    assert!(matches!(FourierMixer::new(0, 4), Err(MixError::EmptyShape { .. })));
    assert!(matches!(FourierMixer::new(4, 0), Err(MixError::EmptyShape { .. })));
    assert!(matches!(FourierMixer::new(usize::MAX, 2), Err(MixError::TooLarge { .. })));
    assert!(matches!(FourierMixer::new(1 << 40, 1 << 20), Err(MixError::TooLarge { .. })));
    let mixer = FourierMixer::new(4, 6).unwrap();
    let mut y = vec![0.0; 24];
    assert!(matches!(mixer.mix(&[0.0; 23], &mut y), Err(MixError::LengthMismatch { .. })));
    assert!(matches!(mixer.mix(&[0.0; 25], &mut [0.0; 25]), Err(MixError::PartialSample { .. })));
    assert!(matches!(mixer.mix_in_place(&mut y[..5]), Err(MixError::PartialSample { .. })));
    mixer.mix(&[], &mut []).unwrap();
}

#[test]
fn nan_stays_inside_its_sample() {
    let mixer = FourierMixer::new(4, 6).unwrap();
    let mut x = noise(48, 1);
    x[30] = f32::NAN;
    let mut y = vec![0.0; 48];
    mixer.mix(&x, &mut y).unwrap();
    assert!(y[..24].iter().all(|v| v.is_finite()));
    assert!(y[24..].iter().any(|v| v.is_nan()));
}

#[cfg(feature = "ndarray")]
#[test]
fn array_views() {
    use ndarray::Array3;
    let mixer = FourierMixer::new(5, 6).unwrap();
    let x = Array3::from_shape_vec((2, 5, 6), noise(60, 9)).unwrap();
    let mut y = Array3::zeros((2, 5, 6));
    mixer.mix_array(x.view(), y.view_mut()).unwrap();
    let mut flat = vec![0.0; 60];
    mixer.mix(x.as_slice().unwrap(), &mut flat).unwrap();
    assert_eq!(y.as_slice().unwrap(), flat);
    let mut swapped = Array3::zeros((2, 6, 5));
    let message = mixer.mix_array(x.view(), swapped.view_mut()).unwrap_err().to_string();
    assert_eq!(message, "the view's samples are 6 x 5, the mixer's 5 x 6");
    assert_eq!(
        mixer.mix_array(x.view().permuted_axes([0, 2, 1]).permuted_axes([0, 2, 1]), y.view_mut()),
        Ok(())
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn symmetric(seq_len in 1usize..80, hidden in 1usize..80, level in 0..Simd::ALL.len(), seed in any::<u32>()) {
        let level = levels().nth(level).unwrap_or(Simd::Portable);
        let mixer = FourierMixer::with_simd(seq_len, hidden, level).unwrap();
        let len = seq_len * hidden;
        let (x, z) = (noise(len, seed), noise(len, !seed));
        let (mut mixed_x, mut mixed_z) = (vec![0.0; len], vec![0.0; len]);
        mixer.mix(&x, &mut mixed_x).unwrap();
        mixer.mix(&z, &mut mixed_z).unwrap();
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let size = dot(&mixed_x, &mixed_x).sqrt() * dot(&z, &z).sqrt();
        prop_assert!((dot(&mixed_x, &z) - dot(&x, &mixed_z)).abs() <= 1e-5 * size + 1e-6);
    }

    #[test]
    fn twice_is_the_even_part(
        seq_len in 1usize..60,
        hidden in 1usize..60,
        level in 0..Simd::ALL.len(),
        seed in any::<u32>(),
    ) {
        let level = levels().nth(level).unwrap_or(Simd::Portable);
        let mixer = FourierMixer::with_simd(seq_len, hidden, level).unwrap();
        let len = seq_len * hidden;
        let x = noise(len, seed);
        let mut y = x.clone();
        mixer.mix_in_place(&mut y).unwrap();
        mixer.mix_in_place(&mut y).unwrap();
        for n in 0..seq_len {
            for m in 0..hidden {
                let opposite = (seq_len - n) % seq_len * hidden + (hidden - m) % hidden;
                let even = 0.5 * (x[n * hidden + m] + x[opposite]) * len as f32;
                prop_assert!((y[n * hidden + m] - even).abs() <= 1e-4 * len as f32);
            }
        }
    }
}

#[test]
fn plans_of_many_lengths_are_bounded() {
    let ragged = RaggedMixer::new(3);
    let mut most = 0;
    // Large primes have the largest plans.
    for length in (20_001..20_400).step_by(2) {
        let x: Vec<f32> = (0..3 * length).map(|i| (i % 7) as f32).collect();
        let mut y = vec![0.0; x.len()];
        ragged.mix(&[0, length], &x, &mut y).unwrap();
        most = most.max(ragged.plan_bytes());
        if length % 100 == 1 {
            let mut alone = vec![0.0; x.len()];
            FourierMixer::new(length, 3).unwrap().mix(&x, &mut alone).unwrap();
            assert_eq!(y, alone, "{length}");
        }
    }
    let bound = RaggedMixer::MOST_PLAN_BYTES;
    assert!((bound / 2..bound + 4096).contains(&most), "{most}");
}

/// Small enough for Miri, which watches every access: all entry points, odd, prime and large prime lengths.
#[test]
fn miri_sees_every_entry_point() {
    for (seq_len, hidden) in [(1, 1), (2, 3), (5, 4), (9, 8), (13, 2), (67, 1), (3, 17)] {
        let mixer = FourierMixer::new(seq_len, hidden).unwrap();
        let x: Vec<f32> = (0..2 * seq_len * hidden).map(|i| (i % 5) as f32).collect();
        let (mut y, mut z) = (vec![0.0; x.len()], x.clone());
        mixer.mix(&x, &mut y).unwrap();
        mixer.mix_in_place(&mut z).unwrap();
        assert_eq!(y, z);
        mixer.mix_add(&x, &mut z).unwrap();
        let mut ragged = vec![0.0; x.len()];
        RaggedMixer::new(hidden).mix(&[0, seq_len, seq_len, 2 * seq_len], &x, &mut ragged).unwrap();
        assert_eq!(y, ragged);
    }
}
