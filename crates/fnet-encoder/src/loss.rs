use crate::ops::softmax_cross_entropy::RowLoss;

/// A summed loss over `count` predictions.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Loss {
    /// Sum of the losses of all predictions.
    pub sum: f64,
    /// Number of predictions.
    pub count: usize,
    /// Predictions whose likeliest class was correct (not for regression).
    pub correct: usize,
}

impl Loss {
    /// Mean loss; NaN if there are no predictions.
    pub fn mean(self) -> f64 {
        self.sum / self.count as f64
    }

    /// Fraction of correct predictions; NaN if there are none.
    pub fn accuracy(self) -> f64 {
        self.correct as f64 / self.count as f64
    }

    /// Adds another part's loss.
    pub fn add(&mut self, other: Self) {
        self.sum += other.sum;
        self.count += other.count;
        self.correct += other.correct;
    }

    pub(crate) fn add_rows(&mut self, rows: &[RowLoss]) {
        self.sum += rows.iter().map(|r| f64::from(r.loss)).sum::<f64>();
        self.count += rows.iter().filter(|r| !r.ignored).count();
        self.correct += rows.iter().filter(|r| r.correct).count();
    }
}
