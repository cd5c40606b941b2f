//! The head for whole examples: texts, or pairs of texts in towers.

use super::bag::Bag;
use super::comparison::Comparison;
use super::matching::{self, Matching};
use super::{Back, ClassTargets, Head, Pooler};
use crate::dropout_sites;
use crate::gemm::{Matrix, Out};
use crate::loss::Loss;
use crate::modules::{Builder, Linear, Pass};
use crate::ops::dropout::Dropout;
use crate::parameters::Tensor;
use crate::workspace::{HeadActivations, set_len};

/// A linear layer on the pooler's output, after dropout if the task is the user's own. Pairs in towers are compared
/// first, without dropout.
pub(crate) struct Classifier {
    output: Linear,
    comparison: Comparison,
    drops: bool,
    bag: Option<Bag>,
    matching: Option<Matching>,
}

impl Classifier {
    pub fn new(b: &mut Builder, head: Head, pooler: &Pooler, words: Tensor) -> Self {
        let own_task = !matches!(head, Head::PreTraining | Head::NextSentence);
        let name = if own_task { "classifier" } else { "cls.seq_relationship" };
        let comparison = Comparison::new(b.config, head);
        let of_pairs = comparison != Comparison::One;
        let has_matching = b.config.classifier_matching && own_task && of_pairs;
        let matched = if has_matching { matching::VALUES } else { 0 };
        let output = b.linear(name, comparison.inputs(pooler.outputs()) + matched, head.outputs());
        let has_bag = b.config.classifier_bag && own_task && !of_pairs;
        let bag = has_bag.then(|| Bag::new(b, head));
        let matching = has_matching.then(|| Matching::new(b, words, comparison.is_symmetric()));
        Self { output, comparison, drops: own_task && !of_pairs, bag, matching }
    }

    /// Whether nothing but the pooled vectors is read.
    pub fn reads_pooled_alone(&self) -> bool {
        self.bag.is_none() && self.matching.is_none()
    }

    /// Number of inputs of the output layer.
    fn inputs(&self, pooler: &Pooler) -> usize {
        let matched = if self.matching.is_some() { matching::VALUES } else { 0 };
        self.comparison.inputs(pooler.outputs()) + matched
    }

    fn dropout(&self, p: Pass) -> Option<Dropout> {
        p.head_dropout.filter(|_| self.drops)
    }

    /// Fills `head.logits` with `[examples, outputs]`, from `rows`, and those of the bag where there is one.
    pub fn forward(&self, p: Pass, pooler: &Pooler, rows: &[f32], head: &mut HeadActivations) {
        let p = p.without_int8();
        pooler.forward(p, rows, head);
        let HeadActivations { dense, active, compared, logits, bag, matching, .. } = head;
        match &self.matching {
            None => self.comparison.forward(dense, pooler.outputs(), active),
            Some(words) => {
                self.comparison.forward(dense, pooler.outputs(), compared);
                words.forward(p, matching);
                beside(compared, &matching.values, self.comparison.inputs(pooler.outputs()), active);
            }
        }
        if let Some(dropout) = self.dropout(p) {
            dropout.apply(dropout_sites::CLASSIFIER, active);
        }
        set_len(logits, active.len() / self.inputs(pooler) * self.output.outputs());
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

    /// The loss after `forward`, summed over both opinions if there are two: each learns on its own. With `back`,
    /// also the gradients, down to that of `rows`.
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
    fn backward(&self, p: Pass, pooler: &Pooler, rows: &[f32], head: &mut HeadActivations, mut back: Back) {
        let HeadActivations { dense, active, compared, d_active, d_dense, logits, matching, .. } = head;
        set_len(d_active, active.len());
        self.output.backward_parameters(p, back.gradients, logits, active, back.partial);
        self.output.backward_input(p, Matrix::new(logits, self.output.outputs()), d_active, Out::Set);
        if let Some(dropout) = self.dropout(p) {
            dropout.apply(dropout_sites::CLASSIFIER, d_active);
        }
        let seen = match &self.matching {
            None => &*active,
            Some(words) => {
                apart(d_active, self.comparison.inputs(pooler.outputs()), &mut matching.d_values);
                words.backward(p, matching, &mut back);
                &*compared
            }
        };
        self.comparison.backward(dense, seen, d_active, pooler.outputs(), d_dense);
        pooler.backward(p, rows, head, back);
    }
}

/// Fills `y` with rows of `width` values of `a` and `VALUES` of `b`.
fn beside(a: &[f32], b: &[f32], width: usize, y: &mut Vec<f32>) {
    y.clear();
    for (a, b) in a.chunks_exact(width).zip(b.chunks_exact(matching::VALUES)) {
        y.extend_from_slice(a);
        y.extend_from_slice(b);
    }
}

/// The reverse: keeps the first `width` values of each row, and fills `b` with the others.
fn apart(rows: &mut Vec<f32>, width: usize, b: &mut Vec<f32>) {
    let whole = width + matching::VALUES;
    b.clear();
    for i in 0..rows.len() / whole {
        b.extend_from_slice(&rows[i * whole + width..][..matching::VALUES]);
        rows.copy_within(i * whole..i * whole + width, i * width);
    }
    rows.truncate(rows.len() / whole * width);
}
