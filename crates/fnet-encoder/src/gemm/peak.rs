//! The peak of this machine's cores: a plain kernel on registers alone, against which products are judged.

use std::time::Instant;

use super::level::{Level, Products};
use crate::arch::multiversion;

/// Independent sums: enough for two multiply-adds per cycle at a latency of five in any register width.
const SUMS: usize = 12 * 16;
/// Multiply-adds of each sum in one call.
const ROUNDS: usize = 20_000;

/// Flops per second on all threads of the current pool: the best of the calls within `seconds`.
pub fn flops_per_second(products: Products, seconds: f64) -> f64 {
    let mut best = 0.0_f64;
    let begun = Instant::now();
    while begun.elapsed().as_secs_f64() < seconds {
        let started = Instant::now();
        let flops: f64 = rayon::broadcast(|_| kernel(products)).iter().sum();
        best = best.max(flops / started.elapsed().as_secs_f64());
    }
    best
}

/// Runs the kernel once on this thread; returns its flops.
fn kernel(products: Products) -> f64 {
    match products.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Bf16 => super::packed::repeat_tile(super::packed::Dot),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Vnni => {
            let [rows, columns] = super::packed::Vnni::scales([1, 1]);
            let (x, w, starts) = (vec![1.0; rows], vec![1.0; columns], vec![0; columns]);
            let kernel = super::packed::Vnni::new(&x, &w, &starts);
            4.0 * super::packed::repeat_tile(kernel) // four values to a word
        }
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => super::packed::repeat_tile(super::packed::Float),
        #[cfg(target_arch = "x86_64")]
        Level::Amx => super::packed::repeat_tile(super::packed::amx::Amx::<super::packed::amx::Cpu>::new()),
        _ => {
            let mut sums = [1.0; SUMS];
            multiply_add(&mut sums, std::hint::black_box([0.999, 1e-3]), has_fused());
            std::hint::black_box(sums);
            (2 * SUMS * ROUNDS) as f64
        }
    }
}

fn has_fused() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

multiversion! {
    fn multiply_add(sums: &mut [f32; SUMS], factors: [f32; 2], fused: bool) {
        let mut own = *sums;
        if fused {
            for _ in 0..ROUNDS {
                for sum in &mut own {
                    *sum = sum.mul_add(factors[0], factors[1]);
                }
            }
        } else {
            for _ in 0..ROUNDS {
                for sum in &mut own {
                    *sum = *sum * factors[0] + factors[1];
                }
            }
        }
        *sums = own;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_has_a_peak() {
        for products in super::super::Precision::ALL.into_iter().flat_map(Products::all) {
            assert!(flops_per_second(products, 0.0) == 0.0);
            let flops = kernel(products);
            assert!(flops > 1e6, "{products:?}: {flops}");
        }
    }
}
