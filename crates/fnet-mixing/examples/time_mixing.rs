//! Times `FourierMixer::mix`, out of place:
//! `cargo run --release -p fnet-mixing --example time_mixing -- --shape 8,512,768 --threads 1 --json`

use std::time::{Duration, Instant};

use fnet_mixing::FourierMixer;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| {
        let at = arguments.iter().position(|a| a == flag)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let shape: Vec<usize> =
        value("--shape").unwrap_or("8,512,768").split(',').map(str::parse).collect::<Result<_, _>>()?;
    let [batch, seq_len, hidden] = shape.as_slice().try_into().map_err(|_| "--shape BATCH,SEQ_LEN,HIDDEN")?;
    let threads: usize = value("--threads").unwrap_or("1").parse()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let mixer = FourierMixer::new(seq_len, hidden)?;
    let x: Vec<f32> = (0..batch * seq_len * hidden).map(|i| (i as f32 * 0.37).sin()).collect();
    let mut y = vec![0.0; x.len()];
    let best = pool.install(|| -> Result<Duration, fnet_mixing::MixError> {
        let (started, mut best) = (Instant::now(), Duration::MAX);
        while started.elapsed() < Duration::from_secs(1) {
            let begun = Instant::now();
            mixer.mix(&x, &mut y)?;
            best = best.min(begun.elapsed());
        }
        Ok(best)
    })?;
    let simd = mixer.simd();
    let best_ms = best.as_secs_f64() * 1e3;
    if arguments.iter().any(|a| a == "--json") {
        println!(r#"{{"shape":{shape:?},"threads":{threads},"simd":"{simd}","best_ms":{best_ms:.4}}}"#);
    } else {
        println!("{batch} x {seq_len} x {hidden}, {threads} threads, {simd}: {best_ms:.3} ms");
    }
    Ok(())
}
