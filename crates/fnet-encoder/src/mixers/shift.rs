use super::SymmetricMixer;
use super::sequences::mix_each;
use crate::EncoderError;
use crate::modules::Pass;

/// Token shift, without parameters: `y_t = [b_{t+1}, a_{t-1}]`, where `a_t` and `b_t` are the first and the second
/// half of `x_t`, and zero beyond the ends of a sequence. Each token receives half of each neighbour, in the hidden
/// units where it does not keep that half itself. Each layer sees one token further.
///
/// Moving parts of the hidden units along the token axis instead of mixing them by weights follows Wu et al. 2018
/// ("Shift: A Zero FLOP, Zero Parameter Alternative to Spatial Convolutions"). Swapping the halves makes the
/// operator symmetric, and learns far better than shifting them in place.
#[derive(Debug, Clone, Copy)]
pub struct Shift {
    hidden: usize,
}

impl Shift {
    /// The shift of tokens of `hidden` values; if the number is odd, the middle one receives nothing.
    pub fn new(hidden: usize) -> Self {
        Self { hidden }
    }
}

impl SymmetricMixer for Shift {
    fn mix(&self, p: Pass, x: &[f32], y: &mut [f32], add: bool) -> Result<(), EncoderError> {
        let (width, half) = (self.hidden, self.hidden / 2);
        mix_each(p, width, x, y, |tokens, x, y| {
            for (t, y) in y.chunks_exact_mut(width).enumerate() {
                if !add {
                    y.fill(0.0);
                }
                if t + 1 < tokens {
                    crate::ops::add(&mut y[..half], &x[(t + 2) * width - half..][..half]);
                }
                if t > 0 {
                    crate::ops::add(&mut y[width - half..], &x[(t - 1) * width..][..half]);
                }
            }
        });
        Ok(())
    }

    fn flops(&self, _: usize) -> f64 {
        0.0
    }
}
