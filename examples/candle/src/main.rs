//! FNet's mixing inside another framework: a `CustomOp1` of candle with its backward.
//!
//! `cargo run --release -p candle-mixing` mixes a batch, compares values and gradients with candle's own
//! on the DFT by matrix products, and prints both differences.

use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, Var};
use fnet_mixing::FourierMixer;

/// `y = Re(FFT2(x))` over the last two axes.
struct Mix(FourierMixer);

impl Mix {
    /// For tensors `[.., seq_len, hidden]`.
    fn new(seq_len: usize, hidden: usize) -> Result<Self> {
        FourierMixer::new(seq_len, hidden).map(Self).map_err(candle_core::Error::wrap)
    }
}

impl CustomOp1 for Mix {
    fn name(&self) -> &'static str {
        "fourier-mixing"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("mixing needs a contiguous tensor; call `contiguous()` before it")
        };
        let x = &storage.as_slice::<f32>()?[start..end];
        let mut y = vec![0.0; x.len()];
        self.0.mix(x, &mut y).map_err(candle_core::Error::wrap)?;
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    /// The operator is linear and symmetric: its gradient is itself.
    fn bwd(&self, _x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(dy.contiguous()?.apply_op1(Self(self.0.clone()))?))
    }
}

/// `cos` and `sin` of `2 pi j k / len` as `[len, len]`.
fn dft(len: usize) -> Result<[Tensor; 2]> {
    let angle = |i: usize| std::f64::consts::TAU * (i / len * (i % len) % len) as f64 / len as f64;
    let table = |f: fn(f64) -> f64| {
        let values: Vec<f32> = (0..len * len).map(|i| f(angle(i)) as f32).collect();
        Tensor::from_vec(values, (len, len), &Device::Cpu)
    };
    Ok([table(f64::cos)?, table(f64::sin)?])
}

/// The same by matrix products: `Re((C - iS) x (C - iS)) = C x C - S x S`.
fn mix_by_products(x: &Tensor) -> Result<Tensor> {
    let (_, seq_len, hidden) = x.dims3()?;
    let ([row_cos, row_sin], [cos, sin]) = (dft(hidden)?, dft(seq_len)?);
    cos.broadcast_matmul(&x.broadcast_matmul(&row_cos)?)?
        - sin.broadcast_matmul(&x.broadcast_matmul(&row_sin)?)?
}

/// Largest differences of values and of gradients, over the largest of each.
fn compare(batch: usize, seq_len: usize, hidden: usize) -> Result<[f32; 2]> {
    let x = Var::from_tensor(&Tensor::randn(0f32, 1.0, (batch, seq_len, hidden), &Device::Cpu)?)?;
    let weights = Tensor::randn(0f32, 1.0, (batch, seq_len, hidden), &Device::Cpu)?;
    let run = |y: Tensor| -> Result<[Tensor; 2]> {
        // Not linear in y, so that a gradient that ignored y would be wrong.
        let gradients = (&y * &y)?.mul(&weights)?.sum_all()?.backward()?;
        let dx = gradients.get(&x).ok_or_else(|| candle_core::Error::Msg("no gradient".into()))?;
        Ok([y, dx.clone()])
    };
    let [y, dx] = run(x.apply_op1(Mix::new(seq_len, hidden)?)?)?;
    let [expected, expected_dx] = run(mix_by_products(&x)?)?;
    let difference = |a: &Tensor, b: &Tensor| -> Result<f32> {
        let largest = b.abs()?.flatten_all()?.max(0)?.to_dtype(DType::F32)?.to_scalar::<f32>()?;
        Ok((a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()? / largest)
    };
    Ok([difference(&y, &expected)?, difference(&dx, &expected_dx)?])
}

fn main() -> Result<()> {
    let [values, gradients] = compare(2, 48, 64)?;
    println!("differences from the DFT by matrix products: values {values:.1e}, gradients {gradients:.1e}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_gradients_are_candles_own() {
        for (batch, seq_len, hidden) in [(1, 1, 1), (2, 7, 5), (3, 16, 24), (1, 31, 48)] {
            let [values, gradients] = compare(batch, seq_len, hidden).unwrap();
            assert!(values <= 1e-5 && gradients <= 1e-5, "{seq_len} x {hidden}: {values:e}, {gradients:e}");
        }
    }

    #[test]
    fn a_view_is_refused() {
        let x = Tensor::zeros((4, 6), DType::F32, &Device::Cpu).unwrap().t().unwrap();
        assert!(x.apply_op1(Mix::new(6, 4).unwrap()).is_err());
    }
}
