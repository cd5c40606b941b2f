//! Times softmax attention without its projections, forward, and forward with backward, for 4,096 tokens of 12 heads of 64:
//! `cargo run --release -p xtask --bin time_attention -- THREADS [SEQ_LEN ..]`. Prints one JSON object a length.

use std::error::Error;
use std::time::Instant;

use fnet_encoder::ops::attention::{self, Rows, Scores};
use rayon::prelude::*;

const TOKENS: usize = 4_096;
const HEADS: usize = 12;
const WIDTH: usize = 64;

fn rows(values: &[f32]) -> Rows<'_> {
    Rows { values, stride: WIDTH, len: values.len() / WIDTH, width: WIDTH }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let threads: usize = arguments.next().unwrap_or("2".into()).parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let lengths: Vec<usize> = arguments.map(|a| a.parse()).collect::<Result<_, _>>()?;
    let lengths = if lengths.is_empty() { vec![128, 512, 2_048, 4_096] } else { lengths };
    let values =
        |seed: f32| (0..TOKENS * HEADS * WIDTH).map(|i| (i as f32 * seed).sin()).collect::<Vec<f32>>();
    let [q, k, v, d_o] = [0.37, 0.53, 0.71, 0.91].map(values);
    let [mut o, mut dq, mut dk, mut dv] = [(); 4].map(|()| q.clone());
    for len in lengths {
        let part = len * WIDTH;
        let mut sums = vec![0.0; TOKENS * HEADS];
        let mut forward = |o: &mut [f32]| {
            (
                o.par_chunks_mut(part),
                sums.par_chunks_mut(len),
                q.par_chunks(part),
                k.par_chunks(part),
                v.par_chunks(part),
            )
                .into_par_iter()
                .for_each_init(Scores::default, |w, (o, sums, q, k, v)| {
                    attention::forward(rows(q), rows(k), rows(v), o, sums, w);
                });
            sums.clone()
        };
        let best = |work: &mut dyn FnMut()| {
            let (begun, mut best) = (Instant::now(), f64::INFINITY);
            while begun.elapsed().as_secs_f64() < 1.0 {
                let started = Instant::now();
                work();
                best = best.min(started.elapsed().as_secs_f64());
            }
            best * 1e3
        };
        let forward_ms = best(&mut || drop(forward(&mut o)));
        let both_ms = best(&mut || {
            let sums = forward(&mut o);
            let inputs = (q.par_chunks(part), k.par_chunks(part), v.par_chunks(part));
            let results = (o.par_chunks(part), d_o.par_chunks(part), sums.par_chunks(len));
            let out = (dq.par_chunks_mut(part), dk.par_chunks_mut(part), dv.par_chunks_mut(part));
            let inputs = inputs.into_par_iter().zip(results.into_par_iter()).zip(out.into_par_iter());
            inputs.for_each_init(Scores::default, |w, (((q, k, v), (o, d_o, sums)), (dq, dk, dv))| {
                attention::backward([rows(q), rows(k), rows(v)], [rows(o), rows(d_o)], sums, [dq, dk, dv], w);
            });
        });
        println!(
            "{{\"seq_len\": {len}, \"threads\": {threads}, \"forward_ms\": {forward_ms:.2}, \"both_ms\": {both_ms:.2}}}"
        );
    }
    Ok(())
}
