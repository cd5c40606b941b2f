//! Arrays of NumPy and PyTorch as slices: the one place where their addresses become memory.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// An array's values, in place.
#[derive(Clone, Copy)]
pub struct Values {
    address: usize,
    len: usize,
}

/// The input and the output of a call.
pub enum Pair<'a, T> {
    /// The output is the input.
    Same(&'a mut [T]),
    /// They do not overlap.
    Two(&'a [T], &'a mut [T]),
}

impl Values {
    /// `len` values of `T` at an address.
    ///
    /// # Errors
    /// If that cannot be an array.
    pub fn new<T>(address: usize, len: usize) -> PyResult<Self> {
        let bytes = len.checked_mul(size_of::<T>()).filter(|bytes| *bytes <= isize::MAX as usize);
        let end = bytes.and_then(|bytes| address.checked_add(bytes));
        if end.is_none() || !address.is_multiple_of(align_of::<T>()) || (address == 0 && len > 0) {
            return Err(PyValueError::new_err("the array's values are not aligned in memory"));
        }
        Ok(Self { address, len })
    }
}

/// Input and output as slices.
///
/// # Errors
/// If they overlap and are not the same.
///
/// # Safety
/// Both must be values of arrays that outlive `'a`, and that nobody else writes, nor reads the output, in the meantime.
/// PyTorch and NumPy give no such promise across threads; as with their own operations, a program that writes an array in
/// one thread while another computes with it has a race of its own.
pub unsafe fn pair<'a, T>(input: Values, output: Values) -> PyResult<Pair<'a, T>> {
    let end = |values: Values| values.address + values.len * size_of::<T>();
    if input.len == 0 {
        return Ok(Pair::Same(&mut []));
    }
    if input.address == output.address && input.len == output.len {
        // SAFETY: as the caller promises; alignment and length are checked. Test: `test_out` in `test_mix.py`.
        return Ok(Pair::Same(unsafe {
            std::slice::from_raw_parts_mut(output.address as *mut T, output.len)
        }));
    }
    if input.address < end(output) && output.address < end(input) {
        return Err(PyValueError::new_err(
            "`out` overlaps the input: give another array, or the input itself",
        ));
    }
    // SAFETY: as above, and they do not overlap. Tests: `test_mix.py`.
    Ok(unsafe {
        Pair::Two(
            std::slice::from_raw_parts(input.address as *const T, input.len),
            std::slice::from_raw_parts_mut(output.address as *mut T, output.len),
        )
    })
}
