//! One step of a reservoir's units, at the best level of SIMD that the CPU has.
//!
//! The loops are written once, over blocks of units that the compiler makes vectors of; each level compiles them with its own
//! instructions. No sum goes across units, so neither vectors nor threads change its order.

use std::sync::OnceLock;

use crate::connections::Connections;
use crate::real::{Real, fma};

/// The instructions that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The best of this CPU, or that which `FNET_SIMD` names if the CPU has it.
    pub fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| {
            let named = std::env::var("FNET_SIMD").unwrap_or_default();
            let all = Self::available();
            let by_name = all.iter().find(|level| format!("{level:?}").to_lowercase() == named);
            *by_name.or(all.last()).unwrap_or(&Self::Portable)
        })
    }

    /// Those of this CPU, slowest first.
    pub fn available() -> Vec<Self> {
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Self::Avx2);
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                {
                    all.push(Self::Avx512);
                }
            }
        }
        all
    }
}

/// A matrix of connections with the values that it multiplies, laid out for [`Connections::lay_out`].
pub(crate) type Drive<'a, T> = (&'a Connections<T>, &'a [T]);

/// The next state of a range of blocks of units: `(1 - a) x + a tanh(bias + sum of the drives)`, where `a` is the leak.
/// Slices are those of the range, except the drives, which are whole.
pub(crate) struct Units<'a, T> {
    pub first_block: usize,
    pub leak: T,
    pub bias: &'a [T],
    pub drives: &'a [Drive<'a, T>],
    pub state: &'a [T],
    pub next: &'a mut [T],
}

/// Fills `next`.
pub(crate) fn step<T: Real>(level: Level, units: Units<T>) {
    match level {
        Level::Portable => body::<T, false>(units),
        // SAFETY: a level is only made by `available`, which has found its features. Covered by the test
        // `levels_agree` below, at each level that the machine has.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2(units) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512(units) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<T: Real>(units: Units<T>) {
    body::<T, true>(units);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
fn avx512<T: Real>(units: Units<T>) {
    body::<T, true>(units);
}

#[inline(always)]
fn body<T: Real, const FUSED: bool>(units: Units<T>) {
    let Units { first_block, leak, bias, drives, state, next } = units;
    let block = drives.first().map_or(1, |(connections, _)| connections.block());
    let stay = T::of(1.0) - leak;
    let own = bias.chunks_exact(block).zip(state.chunks_exact(block));
    for (i, (next, (bias, state))) in next.chunks_exact_mut(block).zip(own).enumerate() {
        next.copy_from_slice(bias);
        for (connections, values) in drives {
            let values = &values[(first_block + i) * block..];
            let weights = connections.weights_of(first_block + i);
            let (fours, rest) = connections.shifts().as_chunks::<4>();
            let (of_fours, of_rest) = weights.split_at(fours.len() * 4 * block);
            // Four at once: each sum is loaded and stored once for four products.
            for (weights, shifts) in of_fours.chunks_exact(4 * block).zip(fours) {
                let (a, others) = weights.split_at(block);
                let (b, others) = others.split_at(block);
                let (c, d) = others.split_at(block);
                let [u, v, w, x] = shifts.map(|shift| &values[shift..][..block]);
                let pairs = a.iter().zip(u).zip(b.iter().zip(v)).zip(c.iter().zip(w).zip(d.iter().zip(x)));
                for (sum, (((a, u), (b, v)), ((c, w), (d, x)))) in next.iter_mut().zip(pairs) {
                    let two = fma::<T, FUSED>(*b, *v, fma::<T, FUSED>(*a, *u, *sum));
                    *sum = fma::<T, FUSED>(*d, *x, fma::<T, FUSED>(*c, *w, two));
                }
            }
            for (weights, shift) in of_rest.chunks_exact(block).zip(rest) {
                for ((sum, weight), value) in next.iter_mut().zip(weights).zip(&values[*shift..][..block]) {
                    *sum = fma::<T, FUSED>(*weight, *value, *sum);
                }
            }
        }
        for (next, state) in next.iter_mut().zip(state) {
            *next = fma::<T, FUSED>(stay, *state, leak * next.tanh::<FUSED>());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Real>(tolerance: f64) {
        let (units, sources) = (70, 45);
        let dense = |i: usize, j: usize| ((i * 31 + j * 17) % 23) as f64 / 23.0 - 0.5;
        let matrix = ndarray::Array2::from_shape_fn((units, sources), |(i, j)| dense(i, j));
        let connections = Connections::<T>::from_dense(matrix.view());
        let values: Vec<T> = (0..sources).map(|j| T::of((j as f64).sin())).collect();
        let mut laid = vec![T::default(); connections.laid_out_len()];
        connections.lay_out(&values, &mut laid);
        let padded = connections.padded();
        let state: Vec<T> = (0..padded).map(|i| T::of((i as f64 * 0.7).cos())).collect();
        let bias = vec![T::of(0.125); padded];
        for level in Level::available() {
            let mut next = vec![T::default(); padded];
            let drives = [(&connections, laid.as_slice())];
            let leak = T::of(0.25);
            step(
                level,
                Units { first_block: 0, leak, bias: &bias, drives: &drives, state: &state, next: &mut next },
            );
            for i in 0..units {
                let sum: f64 = (0..sources).map(|j| dense(i, j) * values[j].to_f64()).sum();
                let expected = 0.75 * state[i].to_f64() + 0.25 * (0.125 + sum).tanh();
                assert!((next[i].to_f64() - expected).abs() < tolerance, "{level:?} {i}");
            }
        }
    }

    #[test]
    fn levels_agree() {
        check::<f64>(1e-14);
        check::<f32>(2e-6);
    }
}
