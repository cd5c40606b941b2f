//! FNet's mixing inside another framework: an operation of burn with its backward, on burn's processor backend.
//!
//! `cargo run --release` in this folder mixes a batch, compares values and gradients with burn's own on the DFT by
//! matrix products, and prints both differences.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Flex, TensorMetadata};
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use fnet_mixing::{FourierMixer, MixError};

/// The node of the graph; what backward needs is its state.
#[derive(Debug)]
struct Mix;

impl Backward<Flex, 1> for Mix {
    type State = FourierMixer;

    /// The operator is linear and symmetric: its gradient is itself.
    fn backward(self, ops: Ops<FourierMixer, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        unary::<Flex, _>(ops.parents, ops.node, gradients, |dy| mix_values(&ops.state, &dy));
    }
}

/// `y = Re(FFT2(x))` over the last two axes, whatever the strides of `x`.
fn mix_values(mixer: &FourierMixer, x: &FlexTensor) -> FlexTensor {
    let x = x.to_contiguous();
    let mut y = vec![0.0; x.shape().num_elements()];
    mixer.mix(x.storage(), &mut y).expect("the plan is made for these axes");
    FlexTensor::from_data(TensorData::new(y, x.shape()))
}

/// `y = Re(FFT2(x))` over the last two axes of a tensor of an autodiff device.
///
/// # Errors
///
/// If an axis is empty.
///
/// # Panics
///
/// If the tensor is on another device, not float32, or has fewer than two axes.
fn mix<const D: usize>(x: Tensor<D>) -> Result<Tensor<D>, MixError> {
    assert_eq!(x.dtype(), DType::F32, "mixing is computed in float32");
    let [.., seq_len, hidden] = x.dims()[..] else { panic!("mixing needs two axes") };
    let mixer = FourierMixer::new(seq_len, hidden)?;
    let x =
        x.try_into_primitive::<Autodiff<Flex>>().expect("a tensor of an autodiff device on the processor");
    let y = mix_values(&mixer, &x.primitive());
    let y = match Mix.prepare::<NoCheckpointing>([x.node()]).compute_bound().stateful() {
        OpsKind::Tracked(node) => node.finish(mixer, y),
        OpsKind::UnTracked(node) => node.finish(y),
    };
    Ok(Tensor::from_primitive::<Autodiff<Flex>>(y))
}

/// `cos` and `sin` of `2 pi j k / len` as `[1, len, len]`.
fn dft(len: usize, device: &Device) -> [Tensor<3>; 2] {
    let angle = |i: usize| std::f64::consts::TAU * (i / len * (i % len) % len) as f64 / len as f64;
    [f64::cos as fn(f64) -> f64, f64::sin].map(|f| {
        let values: Vec<f32> = (0..len * len).map(|i| f(angle(i)) as f32).collect();
        Tensor::from_data(TensorData::new(values, [1, len, len]), device)
    })
}

/// The same by matrix products: `Re((C - iS) x (C - iS)) = C x C - S x S`.
fn mix_by_products(x: Tensor<3>) -> Tensor<3> {
    let [_, seq_len, hidden] = x.dims();
    let ([row_cos, row_sin], [cos, sin]) = (dft(hidden, &x.device()), dft(seq_len, &x.device()));
    cos.matmul(x.clone().matmul(row_cos)) - sin.matmul(x.matmul(row_sin))
}

/// Largest differences of values and of gradients, over the largest of each.
fn compare(shape: [usize; 3]) -> Result<[f32; 2], MixError> {
    let device = Device::flex().autodiff();
    let normal = || Tensor::<3>::random(shape, Distribution::Normal(0.0, 1.0), &device);
    let (x, weights) = (normal().require_grad(), normal());
    let gradient = |y: &Tensor<3>| {
        // Not linear in y, so that a gradient that ignored y would be wrong.
        let gradients = (y.clone() * y.clone() * weights.clone()).sum().backward();
        x.grad(&gradients).expect("x is tracked")
    };
    let difference = |a: Tensor<3>, b: Tensor<3>| {
        let largest: f32 = b.clone().abs().max().into_scalar();
        let most: f32 = (a - b).abs().max().into_scalar();
        most / largest
    };
    let (y, expected) = (mix(x.clone())?, mix_by_products(x.clone()));
    let gradients = difference(gradient(&y), gradient(&expected));
    Ok([difference(y, expected), gradients])
}

fn main() -> Result<(), MixError> {
    let [values, gradients] = compare([2, 48, 64])?;
    println!("differences from the DFT by matrix products: values {values:.1e}, gradients {gradients:.1e}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_gradients_are_burns_own() {
        for shape in [[1, 1, 1], [2, 7, 5], [3, 16, 24], [1, 31, 48]] {
            let [values, gradients] = compare(shape).unwrap();
            assert!(values <= 1e-5 && gradients <= 1e-5, "{shape:?}: {values:e}, {gradients:e}");
        }
    }

    #[test]
    fn a_view_is_mixed_as_its_copy() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::random([6, 4], Distribution::Normal(0.0, 1.0), &device);
        let view = mix(x.clone().transpose()).unwrap().into_data();
        let copied = Tensor::<2>::from_data(x.transpose().into_data(), &device);
        view.assert_eq(&mix(copied).unwrap().into_data(), true);
    }
}
