//! The head for whole examples: texts, or pairs of texts in towers.

use super::bag::Bag;
use super::comparison::Comparison;
use super::{Back, ClassTargets, Head, Pooler};
use crate::dropout_sites;
use crate::gemm::{Matrix, Out};
use crate::loss::Loss;
use crate::modules::{Builder, Linear, Pass};
use crate::ops::dropout::Dropout;
use crate::workspace::{HeadActivations, set_len};

/// A linear layer on the pooler's output, after dropout where the task is the user's own. Pairs in towers are
/// compared first, without dropout.
pub(crate) struct Classifier {
    output: Linear,
    comparison: Comparison,
    drops: bool,
    bag: Option<Bag>,
}

impl Classifier {
    pub fn new(b: &mut Builder, head: Head, pooler: &Pooler) -> Self {
        let own_task = !matches!(head, Head::PreTraining | Head::NextSentence);
        let name = if own_task { "classifier" } else { "cls.seq_relationship" };
        let comparison = Comparison::new(b.config, head);
        let output = b.linear(name, comparison.inputs(pooler.outputs()), head.outputs());
        let has_bag = b.config.classifier_bag && own_task && comparison == Comparison::One;
        let bag = has_bag.then(|| Bag::new(b, head));
        Self { output, comparison, drops: own_task && comparison == Comparison::One, bag }
    }

    fn dropout(&self, p: Pass) -> Option<Dropout> {
        p.dropout.filter(|_| self.drops)
    }

    /// Fills `head.logits` with `[examples, outputs]`, from `rows`, and those of the bag where there is one.
    pub fn forward(&self, p: Pass, pooler: &Pooler, rows: &[f32], head: &mut HeadActivations) {
        pooler.forward(p, rows, head);
        let HeadActivations { dense, active, logits, bag, .. } = head;
        self.comparison.forward(dense, pooler.outputs(), active);
        if let Some(dropout) = self.dropout(p) {
            dropout.apply(dropout_sites::CLASSIFIER, active);
        }
        let inputs = self.comparison.inputs(pooler.outputs());
        set_len(logits, active.len() / inputs * self.output.outputs());
        self.output.forward(p, active, logits);
        if let Some(own) = &self.bag {
            own.forward(p, bag);
        }
    }

    /// The answer: the logits, or the mean of both opinions.
    pub fn answer(&self, head: &mut HeadActivations) {
        if self.bag.is_some() {
            for (y, other) in head.logits.iter_mut().zip(&head.bag.logits) {
                *y = 0.5 * (*y + other);
            }
        }
    }

    /// The loss after `forward`, of both opinions together where there are two: each learns for itself. With
    /// `back`, also the gradients, down to that of `rows`.
    pub fn loss(
        &self,
        p: Pass,
        pooler: &Pooler,
        rows: &[f32],
        targets: ClassTargets,
        head: &mut HeadActivations,
        mut back: Option<Back>,
    ) -> Loss {
        let scale = back.as_ref().map_or(1.0, |back| back.scale);
        let mut loss = targets.loss(&mut head.logits, scale, &mut head.losses);
        if let Some(own) = &self.bag {
            loss.sum += own.loss(p, targets, &mut head.bag, back.as_mut()).sum;
        }
        if let Some(back) = back {
            self.backward(p, pooler, rows, head, back);
        }
        loss
    }

    /// From the gradient of the logits, through the pooler, to that of `rows`.
    fn backward(&self, p: Pass, pooler: &Pooler, rows: &[f32], head: &mut HeadActivations, back: Back) {
        let HeadActivations { dense, active, d_active, d_dense, logits, .. } = head;
        set_len(d_active, active.len());
        self.output.backward_parameters(p, back.gradients, logits, active, back.partial);
        self.output.backward_input(p, Matrix::new(logits, self.output.outputs()), d_active, Out::Set);
        if let Some(dropout) = self.dropout(p) {
            dropout.apply(dropout_sites::CLASSIFIER, d_active);
        }
        self.comparison.backward(dense, active, d_active, pooler.outputs(), d_dense);
        pooler.backward(p, rows, head, back);
    }
}
