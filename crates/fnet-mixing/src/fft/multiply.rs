use crate::arch::Kernel;
use crate::vector::{Complex, Vector};

/// `to = from * factor` for each factor, elements `steps` values apart.
pub(super) struct Multiply<'a> {
    pub from: *const f32,
    pub to: *mut f32,
    pub steps: [usize; 2],
    pub factors: &'a [[f32; 2]],
}

impl Kernel for Multiply<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for i in 0..self.factors.len() {
            let w = self.factors[i];
            // SAFETY: there is an element at both places for each factor.
            unsafe {
                let (from, to) = (self.from.add(i * self.steps[0]), self.to.add(i * self.steps[1]));
                Complex::<V>::load(from).times(V::splat(w[0]), V::splat(w[1])).store(to);
            }
        }
    }
}
