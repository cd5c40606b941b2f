//! The heads on the encoder: the MLM head, and the pooler with a classifier or regressor.

mod bag;
mod classifier;
mod comparison;
mod matching;
mod mlm;
mod pooler;
mod sentence;
mod tokens;

use crate::loss::Loss;
use crate::ops::softmax_cross_entropy::{self, RowLoss};
use crate::ops::{logistic, mse};
use crate::parameters::Gradients;
use crate::workspace::set_len;

pub use bag::BAG_WORDS;
pub(crate) use classifier::Classifier;
pub(crate) use mlm::{LOGIT_ROWS, MlmHead, UNTIED_BIAS};
pub(crate) use pooler::Pooler;
pub(crate) use sentence::Sentence;
pub use sentence::{SentenceConfig, SentenceDense};
pub(crate) use tokens::TokenClassifier;

/// What a model predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Nothing: hidden states alone.
    Encoder,
    /// A vector of each text, made as [`ModelConfig::sentence`](crate::ModelConfig::sentence) says.
    Sentence,
    /// Masked tokens.
    MaskedLm,
    /// Masked tokens, and whether a sequence's two segments belong together as they are: class 0 if they do (next
    /// sentence prediction, Devlin et al. 2019, section 3.1, and similar objectives).
    PreTraining,
    /// Whether a sequence's two segments belong together: class 0 if they do.
    NextSentence,
    /// A class of each sequence.
    Classification {
        /// Number of classes, at least 1.
        labels: usize,
    },
    /// A number for each sequence.
    Regression,
    /// A class, several labels at once, or numbers, of each position.
    Tokens {
        /// Number of labels, at least 1.
        labels: usize,
    },
}

impl Head {
    /// Whether masked tokens are predicted.
    pub fn predicts_tokens(self) -> bool {
        matches!(self, Self::MaskedLm | Self::PreTraining)
    }

    /// Whether the output is for whole sequences, through the pooler.
    pub fn reads_texts(self) -> bool {
        self.outputs() > 0 && !matches!(self, Self::Tokens { .. })
    }

    /// Whether a readout for vectors of texts is stored with it, if only for other uses of the model.
    pub fn keeps_sentence(self) -> bool {
        matches!(self, Self::Encoder | Self::Sentence | Self::MaskedLm | Self::PreTraining)
    }

    /// Width of the output for a whole sequence, or for each position; 0 if there is neither.
    pub fn outputs(self) -> usize {
        match self {
            Self::Encoder | Self::Sentence | Self::MaskedLm => 0,
            Self::PreTraining | Self::NextSentence => 2,
            Self::Classification { labels } | Self::Tokens { labels } => labels,
            Self::Regression => 1,
        }
    }
}

/// The masked tokens of a batch and what they were.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MlmTargets {
    /// Their indices among the batch's packed tokens.
    pub places: Vec<u32>,
    /// The original token at each.
    pub labels: Vec<u32>,
}

/// The targets of a batch's examples: texts, pairs of texts in towers, or positions for [`Head::Tokens`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ClassTargets<'a> {
    /// Class numbers; [`IGNORED`](softmax_cross_entropy::IGNORED) if there is none.
    Classes(&'a [u32]),
    /// Class numbers, and the weight of each class in the loss.
    Weighted(&'a [u32], &'a [f32]),
    /// Numbers: one of each example, or of each position `[positions, labels]`.
    Values(&'a [f32]),
    /// Several labels at once, `[examples, labels]`: 1 where a label holds, 0 where not, NaN where nobody knows.
    Labels(&'a [f32]),
}

impl ClassTargets<'_> {
    /// The loss of `logits`, which are replaced by its gradient times `scale`.
    fn loss(self, logits: &mut [f32], scale: f32, losses: &mut Vec<RowLoss>) -> Loss {
        let mut loss = Loss::default();
        match self {
            ClassTargets::Classes(labels) => {
                set_len(losses, labels.len());
                softmax_cross_entropy::forward_backward(logits, &[], labels, scale, losses);
                loss.add_rows(losses);
            }
            ClassTargets::Weighted(labels, weights) => {
                set_len(losses, labels.len());
                softmax_cross_entropy::forward_backward(logits, &[], labels, scale, losses);
                for ((row, label), loss) in logits.chunks_mut(weights.len()).zip(labels).zip(&mut *losses) {
                    let weight = weights.get(*label as usize).copied().unwrap_or(0.0); // for ignored labels
                    row.iter_mut().for_each(|v| *v *= weight);
                    loss.loss *= weight;
                }
                loss.add_rows(losses);
            }
            ClassTargets::Labels(labels) => loss = logistic::forward_backward(logits, labels, scale),
            ClassTargets::Values(values) => {
                loss.sum = mse::forward_backward(logits, values, scale);
                loss.count = values.len();
            }
        }
        loss
    }
}

/// Where a head's backward pass leaves its gradients.
pub(crate) struct Back<'a, 'b> {
    /// Factor of the summed loss.
    pub scale: f32,
    pub gradients: &'a mut Gradients<'b>,
    /// Gradient of the rows that the head reads.
    pub d_rows: &'a mut [f32],
    /// Sums over blocks of rows.
    pub partial: &'a mut Vec<f32>,
}
