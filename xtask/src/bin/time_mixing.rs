//! Times mixing out of place:
//! `cargo run --release -p xtask --bin time_mixing -- --shape 8,512,768 --threads 1 --json`.
//! `--shape ragged` is 64 sequences of lengths 5 to 128, hidden 256, in one call.

use std::time::{Duration, Instant};

use fnet_mixing::{FourierMixer, MixError, RaggedMixer, Simd};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| {
        let at = arguments.iter().position(|a| a == flag)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let threads: usize = value("--threads").unwrap_or("1").parse()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let name = value("--shape").unwrap_or("8,512,768");
    let (best, shape) = if name == "ragged" {
        let mut offsets = vec![0];
        offsets.extend((0..64).scan(0, |end, i| {
            *end += 5 + i * 123 / 63;
            Some(*end)
        }));
        let mixer = RaggedMixer::new(256);
        let best = pool.install(|| time(offsets[64] * 256, |x, y| mixer.mix(&offsets, x, y)))?;
        (best, format!("{name:?}"))
    } else {
        let shape: Vec<usize> = name.split(',').map(str::parse).collect::<Result<_, _>>()?;
        let [batch, seq_len, hidden] =
            shape.as_slice().try_into().map_err(|_| "--shape BATCH,SEQ_LEN,HIDDEN")?;
        let mixer = FourierMixer::new(seq_len, hidden)?;
        let best = pool.install(|| time(batch * seq_len * hidden, |x, y| mixer.mix(x, y)))?;
        (best, format!("{shape:?}"))
    };
    let (simd, best_ms) = (Simd::default_level()?, best.as_secs_f64() * 1e3);
    if arguments.iter().any(|a| a == "--json") {
        println!(r#"{{"shape":{shape},"threads":{threads},"simd":"{simd}","best_ms":{best_ms:.4}}}"#);
    } else {
        println!("{shape}, {threads} threads, {simd}: {best_ms:.3} ms");
    }
    Ok(())
}

/// The best time in one second.
fn time(
    len: usize,
    mix: impl Fn(&[f32], &mut [f32]) -> Result<(), MixError> + Send,
) -> Result<Duration, MixError> {
    let x: Vec<f32> = (0..len).map(|i| (i as f32 * 0.37).sin()).collect();
    let mut y = vec![0.0; len];
    let (started, mut best) = (Instant::now(), Duration::MAX);
    while started.elapsed() < Duration::from_secs(1) {
        let begun = Instant::now();
        mix(&x, &mut y)?;
        best = best.min(begun.elapsed());
    }
    Ok(best)
}
