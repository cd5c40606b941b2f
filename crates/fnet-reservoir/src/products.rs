//! The seam to the library of matrix products in float32, which has kernels for AVX-512.

use ndarray::{ArrayView2, ArrayViewMut2};

/// `y = aᵀ b`, for `a` `[k, m]`, `b` `[k, n]` and `y` `[m, n]`.
///
/// # Panics
/// If the sizes do not fit.
pub(crate) fn transposed_times(a: ArrayView2<f32>, b: ArrayView2<f32>, mut y: ArrayViewMut2<f32>) {
    let ((k, m), n) = (a.dim(), b.ncols());
    assert!(b.nrows() == k && y.dim() == (m, n), "{k} x {m} and {:?} into {:?}", b.dim(), y.dim());
    if m == 0 || n == 0 {
        return;
    }
    let [a_stride, b_stride, y_stride] =
        [a.strides(), b.strides(), y.strides()].map(|strides| [strides[0], strides[1]]);
    // SAFETY: pointers and strides are those of views of these sizes, which ndarray guarantees to lie in memory that is
    // borrowed for this call, `y` alone for writing; sizes were checked above. With `k` 0 nothing is read. Covered by the
    // test below.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            y.as_mut_ptr(),
            y_stride[1],
            y_stride[0],
            false, // what is in `y` is not read
            a.as_ptr(),
            a_stride[0],
            a_stride[1],
            b.as_ptr(),
            b_stride[1],
            b_stride[0],
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, s};

    use super::*;

    #[test]
    fn products_are_those_of_ndarray() {
        for (k, m, n) in [(1, 1, 1), (7, 33, 5), (64, 40, 96), (0, 3, 2)] {
            let of = |i: usize, j: usize| ((i * 7 + j * 13) % 17) as f32 - 8.0;
            let (a, b) = (
                Array2::from_shape_fn((k, m + 2), |(i, j)| of(i, j)),
                Array2::from_shape_fn((k, n), |(i, j)| of(j, i)),
            );
            let a = a.slice(s![.., 2..]); // rows that do not follow one another
            let mut y = Array2::from_elem((m, n), f32::NAN);
            transposed_times(a, b.view(), y.view_mut());
            assert_eq!(y, a.t().dot(&b), "{k} {m} {n}");
        }
    }
}
