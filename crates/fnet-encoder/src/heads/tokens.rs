//! The head for each position of a sequence.

use super::{Back, ClassTargets};
use crate::dropout_sites;
use crate::gemm::{Matrix, Out};
use crate::loss::Loss;
use crate::modules::{Builder, Linear, Pass};
use crate::workspace::{HeadActivations, set_len};

/// Dropout and a linear layer on the last layer's output, as `ForTokenClassification` in Transformers.
pub(crate) struct TokenClassifier {
    output: Linear,
}

impl TokenClassifier {
    pub fn new(b: &mut Builder, labels: usize) -> Self {
        Self { output: b.linear("classifier", b.config.hidden_size, labels) }
    }

    /// Fills `head.logits` with `[rows, labels]`.
    pub fn forward(&self, p: Pass, rows: &[f32], head: &mut HeadActivations) {
        let p = p.without_int8();
        let HeadActivations { active, logits, .. } = head;
        active.clear();
        active.extend_from_slice(rows);
        if let Some(dropout) = p.dropout {
            dropout.apply(dropout_sites::CLASSIFIER, active);
        }
        set_len(logits, rows.len() / self.output.inputs() * self.output.outputs());
        self.output.forward(p, active, logits);
    }

    /// The loss after `forward`. With `back`, also the gradients, down to that of the rows.
    pub fn loss(
        &self,
        p: Pass,
        targets: ClassTargets,
        head: &mut HeadActivations,
        back: Option<Back>,
    ) -> Loss {
        let scale = back.as_ref().map_or(1.0, |back| back.scale);
        let loss = targets.loss(&mut head.logits, scale, &mut head.losses);
        if let Some(Back { gradients, d_rows, partial, .. }) = back {
            let HeadActivations { active, logits, .. } = head;
            self.output.backward_parameters(p, gradients, logits, active, partial);
            self.output.backward_input(p, Matrix::new(logits, self.output.outputs()), d_rows, Out::Set);
            if let Some(dropout) = p.dropout {
                dropout.apply(dropout_sites::CLASSIFIER, d_rows);
            }
        }
        loss
    }
}
