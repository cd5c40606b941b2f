//! Operands of products: where their values are.

use super::Stored;

/// Whether a product replaces what the output holds or is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Out {
    /// `y = product`
    Set,
    /// `y += product`
    Add,
}

/// An operand: its values and the distance between rows and between columns.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub(super) buffer: &'a [f32],
    pub(super) stored: Stored,
    /// Index of the first value, then the distance to the next row and column, in values.
    pub(super) first: usize,
    pub(super) row: usize,
    pub(super) column: usize,
}

impl<'a> Matrix<'a> {
    /// Rows that begin every `stride` values.
    pub fn new(values: &'a [f32], stride: usize) -> Self {
        Self::stored(Stored::Floats, values, stride)
    }

    /// Rows that begin every `stride` places of the buffer.
    pub fn stored(stored: Stored, buffer: &'a [f32], stride: usize) -> Self {
        Self { buffer, stored, first: 0, row: stride.saturating_mul(stored.of_place()), column: 1 }
    }

    /// How many rows a buffer of rows holds.
    pub(crate) fn rows(self) -> usize {
        (self.buffer.len() * self.stored.of_place()).checked_div(self.row).unwrap_or(0)
    }

    /// The transpose.
    pub fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }

    pub(super) fn skip_rows(self, rows: usize) -> Self {
        Self { first: self.first + rows * self.row, ..self }
    }

    pub(super) fn skip_columns(self, columns: usize) -> Self {
        Self { first: self.first + columns * self.column, ..self }
    }

    /// Values from the first to the last element; `None` if no memory can hold so many.
    pub(super) fn reach(self, rows: usize, columns: usize) -> Option<usize> {
        let (Some(below), Some(beside)) = (rows.checked_sub(1), columns.checked_sub(1)) else {
            return Some(0);
        };
        let (below, beside) = (below.checked_mul(self.row)?, beside.checked_mul(self.column)?);
        below.checked_add(beside)?.checked_add(1)
    }

    pub(super) fn reaches(self, rows: usize, columns: usize) -> bool {
        let held = self.buffer.len() * self.stored.of_place();
        let end = self
            .reach(rows, columns)
            .and_then(|reach| if reach == 0 { Some(0) } else { self.first.checked_add(reach) });
        end.is_some_and(|end| end <= held)
    }

    /// The values from the first one on, of a matrix of float32.
    pub(super) fn floats(self) -> &'a [f32] {
        assert_eq!(self.stored, Stored::Floats);
        &self.buffer[self.first.min(self.buffer.len())..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Strides near the largest number must not wrap around and pass for small ones.
    #[test]
    fn strides_that_no_memory_holds_are_refused() {
        let values = [1.0; 8];
        for stride in [usize::MAX, usize::MAX / 2, 1 << 62] {
            for matrix in [Matrix::new(&values, stride), Matrix::stored(Stored::Halves, &values, stride)] {
                assert!(!matrix.reaches(2, 1) && !matrix.reaches(3, 2), "{stride}");
                assert!(!matrix.transposed().reaches(1, 2), "{stride}");
                assert!(matrix.reaches(1, 4) && matrix.reaches(0, usize::MAX), "{stride}");
            }
        }
        assert!(!Matrix::new(&values, 4).reaches(usize::MAX, 2));
        assert!(Matrix::new(&values, 4).reaches(2, 4) && !Matrix::new(&values, 4).reaches(2, 5));
    }
}
