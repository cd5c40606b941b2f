//! What stands on the encoder: the MLM head, and the pooler with a classifier or regressor.

use crate::activated::Activated;
use crate::dropout_sites;
use crate::gemm::{Matrix, Out, Stored};
use crate::loss::Loss;
use crate::modules::{Before, Builder, Linear, Norm, Pass};
use crate::ops::dropout::Dropout;
use crate::ops::{cosine, layer_norm, linear, mse, pair_features, softmax_cross_entropy, tanh};
use crate::parameters::{Gradients, Tensor};
use crate::pooling::Pairs;
use crate::readout::Readout;
use crate::workspace::{HeadActivations, set_len};
use crate::{EncoderError, ModelConfig};

/// Most masked tokens whose logits are held at once: fewer would have the vocabulary's matrix read more often.
pub(crate) const LOGIT_ROWS: usize = 512;

/// The MLM head's bias where its matrix is its own.
pub(crate) const UNTIED_BIAS: &str = "cls.predictions.decoder.bias";

/// What a model predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Nothing: hidden states alone.
    Encoder,
    /// The token at masked places.
    MaskedLm,
    /// The token at masked places, and whether a sequence's two segments belong together as they stand:
    /// class 0 where they do (next sentence prediction, Devlin et al. 2019, section 3.1, and its kin).
    PreTraining,
    /// Whether a sequence's two segments belong together: class 0 where they do.
    NextSentence,
    /// A class of each sequence.
    Classification {
        /// Number of classes, at least 1.
        labels: usize,
    },
    /// A number for each sequence.
    Regression,
}

impl Head {
    /// Whether tokens at masked places are predicted.
    pub fn predicts_tokens(self) -> bool {
        matches!(self, Self::MaskedLm | Self::PreTraining)
    }

    /// Width of the output for a whole sequence; 0 where there is none.
    pub fn outputs(self) -> usize {
        match self {
            Self::Encoder | Self::MaskedLm => 0,
            Self::PreTraining | Self::NextSentence => 2,
            Self::Classification { labels } => labels,
            Self::Regression => 1,
        }
    }
}

/// The masked tokens of a batch and what stood there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MlmTargets {
    /// Places among the batch's packed tokens.
    pub places: Vec<u32>,
    /// The original token of each place.
    pub labels: Vec<u32>,
}

/// What each example of a batch should be predicted as: each text, or each pair of texts in towers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ClassTargets<'a> {
    /// Class numbers; [`IGNORED`](softmax_cross_entropy::IGNORED) where there is none.
    Classes(&'a [u32]),
    /// Numbers.
    Values(&'a [f32]),
}

/// Dense, activation, layer norm, then an output matrix over the vocabulary with a bias.
pub(crate) struct MlmHead {
    transform: Linear,
    activation: Activated,
    norm: Norm,
    bias: Tensor,
    /// The word embeddings, where they are tied.
    output: Tensor,
}

impl MlmHead {
    pub fn new(b: &mut Builder, words: Tensor) -> Result<Self, EncoderError> {
        let (c, hidden) = (b.config, b.config.hidden_size);
        // Transformers computes with the decoder's own bias, which is the other one where embeddings are tied.
        let bias = if c.tie_word_embeddings { "cls.predictions.bias" } else { UNTIED_BIAS };
        Ok(Self {
            bias: b.zeros(bias, c.vocab_size),
            transform: b.linear("cls.predictions.transform.dense", hidden, hidden),
            activation: Activated::new(b, "cls.predictions.transform.transform_act_fn")?,
            norm: b.norm("cls.predictions.transform.LayerNorm"),
            output: if c.tie_word_embeddings {
                words
            } else {
                b.table("cls.predictions.decoder.weight", c.vocab_size, hidden)
            },
        })
    }

    /// Fills `head.active` from `rows`.
    fn transform(&self, p: Pass, rows: &[f32], head: &mut HeadActivations) {
        let (len, hidden) = (rows.len(), self.transform.outputs());
        head.activated.set_len(len / hidden, hidden);
        set_len(&mut head.active, len);
        set_len(&mut head.dense, len);
        self.transform.forward_without_bias(p, Matrix::new(rows, hidden), &mut head.dense);
        let activated = &mut head.activated;
        self.activation.forward(p, &head.dense, self.transform.bias, Stored::Floats, &mut activated.input);
        let scale = self.norm.scale(p.values);
        layer_norm::forward(&activated.input, scale, &mut head.active, &mut activated.stats);
    }

    /// Logits `[rows, vocabulary]` of `rows`.
    pub fn logits<'w>(&self, p: Pass, rows: &[f32], head: &'w mut HeadActivations) -> &'w [f32] {
        self.transform(p, rows, head);
        let bias = self.bias.of(p.values);
        let HeadActivations { active, logits, .. } = head;
        set_len(logits, active.len() / self.transform.outputs() * bias.len());
        linear::forward(p.products, active, self.output.of(p.values), bias, logits);
        logits
    }

    /// Cross-entropy of `rows`. With `back`, also the gradient of `scale` times the summed loss.
    pub fn loss(
        &self,
        p: Pass,
        rows: &[f32],
        labels: &[u32],
        head: &mut HeadActivations,
        mut back: Option<Back>,
    ) -> Loss {
        let (bias, table) = (self.bias.of(p.values), self.output.of(p.values));
        let (vocab, hidden) = (bias.len(), table.len() / bias.len());
        let scale = back.as_ref().map_or(1.0, |back| back.scale);
        self.transform(p, rows, head);
        set_len(&mut head.d_active, head.active.len());
        let mut total = Loss::default();
        let blocks = labels.len().div_ceil(LOGIT_ROWS).max(1);
        let block_rows = labels.len().div_ceil(blocks).max(1);
        for (block, labels) in labels.chunks(block_rows).enumerate() {
            let (rows, first) = (labels.len(), block * block_rows * hidden);
            let active = &head.active[first..][..rows * hidden];
            set_len(&mut head.logits, rows * vocab);
            set_len(&mut head.losses, rows);
            let logits = &mut head.logits;
            let active = Matrix::new(active, hidden);
            linear::forward_without_bias(p.products, active, table, vocab, logits);
            softmax_cross_entropy::forward_backward(logits, bias, labels, scale, &mut head.losses);
            total.add_rows(&head.losses);
            if let Some(Back { gradients, partial, .. }) = &mut back {
                let d_active = &mut head.d_active[first..][..rows * hidden];
                let d_logits = Matrix::new(logits, vocab);
                linear::backward_input(p.products, d_logits, table, vocab, d_active, Out::Set);
                if let Some(d_output) = gradients.of(self.output) {
                    linear::backward_weight(p.products, d_logits, active, vocab, d_output);
                }
                if let Some(d_bias) = gradients.of(self.bias) {
                    linear::backward_bias(logits, d_bias, partial);
                }
            }
        }
        if let Some(back) = back {
            self.backward(p, rows, head, back);
        }
        total
    }

    fn backward(&self, p: Pass, rows: &[f32], head: &mut HeadActivations, back: Back) {
        let Back { gradients, d_rows, partial, .. } = back;
        set_len(&mut head.scratch, head.d_active.len());
        let d_dense = &mut head.scratch;
        let before = Before::default();
        self.norm.backward(p, gradients, before, &mut head.d_active, &head.activated, d_dense, partial);
        let bias = self.transform.bias;
        self.activation.backward(p, gradients, &mut head.dense, bias, Stored::Floats, d_dense, partial);
        let hidden = self.transform.outputs();
        let (d_dense, rows) = (Matrix::new(d_dense, hidden), Matrix::new(rows, hidden));
        self.transform.backward_weight(p, gradients, d_dense, rows);
        self.transform.backward_input(p, d_dense, d_rows, Out::Set);
    }
}

/// Where a head's backward pass leaves its gradients.
pub(crate) struct Back<'a, 'b> {
    /// Factor of the summed loss.
    pub scale: f32,
    pub gradients: &'a mut Gradients<'b>,
    /// Of the rows that the head reads.
    pub d_rows: &'a mut [f32],
    /// Sums over blocks of rows.
    pub partial: &'a mut Vec<f32>,
}

/// What is read of each text, through a dense layer and tanh; without tanh where two texts' cosine is taken.
pub(crate) struct Pooler {
    pub readout: Readout,
    dense: Linear,
    has_tanh: bool,
}

impl Pooler {
    pub fn new(b: &mut Builder, head: Head, words: Tensor) -> Self {
        let readout = Readout::new(b, words);
        let is_cosine = compares_by_cosine(b.config, head);
        let outputs = if is_cosine { readout.width() } else { b.config.hidden_size };
        let name = format!("{}.pooler.dense", b.config.prefix());
        Self { dense: b.linear(&name, readout.width(), outputs), readout, has_tanh: !is_cosine }
    }

    /// Values that are left of a text.
    pub fn outputs(&self) -> usize {
        self.dense.outputs()
    }

    /// Fills `head.dense` with `[texts, outputs]`, from `rows` of the last layer.
    pub fn forward(&self, p: Pass, rows: &[f32], head: &mut HeadActivations) {
        self.readout.forward(p, rows, &mut head.readout);
        set_len(&mut head.dense, p.batch.texts() * self.outputs());
        self.dense.forward(p, &head.readout.read, &mut head.dense);
        if self.has_tanh {
            tanh::forward(&mut head.dense);
        }
    }

    /// From `head.d_dense`, the gradient of `head.dense`, to that of `rows`.
    fn backward(&self, p: Pass, rows: &[f32], head: &mut HeadActivations, back: Back) {
        let Back { gradients, d_rows, partial, .. } = back;
        let HeadActivations { readout: kept, dense, d_dense, .. } = head;
        if self.has_tanh {
            tanh::backward(dense, d_dense);
        }
        self.dense.backward_parameters(p, gradients, d_dense, &kept.read, partial);
        set_len(&mut kept.d_read, kept.read.len());
        self.dense.backward_input(p, Matrix::new(d_dense, self.outputs()), &mut kept.d_read, Out::Set);
        self.readout.backward(p, gradients, rows, kept, d_rows);
    }
}

/// Whether a head's answer is a cosine of two texts' vectors.
fn compares_by_cosine(config: &ModelConfig, head: Head) -> bool {
    head == Head::Regression && config.classifier_pairs != Pairs::Together
}

/// What the output layer sees of an example.
#[derive(Clone, Copy)]
enum Comparison {
    /// One text's vector.
    None,
    /// Two texts' vectors side by side, their distance and their product in each dimension.
    Features { symmetric: bool },
    /// The cosine of two texts' vectors.
    Cosine,
}

/// A linear layer on the pooler's output, after dropout where the task is the user's own. Pairs in towers are
/// compared first.
pub(crate) struct Classifier {
    output: Linear,
    comparison: Comparison,
    drops: bool,
}

impl Classifier {
    pub fn new(b: &mut Builder, head: Head, pooler: &Pooler) -> Self {
        let drops = !matches!(head, Head::PreTraining | Head::NextSentence);
        let name = if drops { "classifier" } else { "cls.seq_relationship" };
        let comparison = match b.config.classifier_pairs {
            Pairs::Together => Comparison::None,
            _ if compares_by_cosine(b.config, head) => Comparison::Cosine,
            pairs => Comparison::Features { symmetric: pairs == Pairs::SymmetricTowers },
        };
        let inputs = match comparison {
            Comparison::None => pooler.outputs(),
            Comparison::Features { symmetric } => pair_features::count(symmetric) * pooler.outputs(),
            Comparison::Cosine => 1,
        };
        Self { output: b.linear(name, inputs, head.outputs()), comparison, drops }
    }

    fn dropout(&self, p: Pass) -> Option<Dropout> {
        p.dropout.filter(|_| self.drops && !matches!(self.comparison, Comparison::Cosine))
    }

    /// Fills `head.logits` with `[examples, outputs]`, from `rows`.
    pub fn forward(&self, p: Pass, pooler: &Pooler, rows: &[f32], head: &mut HeadActivations) {
        pooler.forward(p, rows, head);
        let (width, texts) = (pooler.outputs(), p.batch.texts());
        let HeadActivations { dense, active, logits, .. } = head;
        let examples = match self.comparison {
            Comparison::None => {
                active.clear();
                active.extend_from_slice(dense);
                texts
            }
            Comparison::Features { symmetric } => {
                set_len(active, dense.len() / 2 * pair_features::count(symmetric));
                pair_features::forward(dense, width, symmetric, active);
                texts / 2
            }
            Comparison::Cosine => {
                set_len(active, texts / 2);
                cosine::forward(dense, width, active);
                texts / 2
            }
        };
        if let Some(dropout) = self.dropout(p) {
            dropout.apply(dropout_sites::CLASSIFIER, active);
        }
        set_len(logits, examples * self.output.outputs());
        self.output.forward(p, active, logits);
    }

    /// The loss of `head.logits`, which turn into their gradient.
    pub fn loss(targets: ClassTargets, scale: f32, head: &mut HeadActivations) -> Loss {
        let mut loss = Loss::default();
        match targets {
            ClassTargets::Classes(labels) => {
                set_len(&mut head.losses, labels.len());
                let HeadActivations { logits, losses, .. } = head;
                softmax_cross_entropy::forward_backward(logits, &[], labels, scale, losses);
                loss.add_rows(losses);
            }
            ClassTargets::Values(values) => {
                loss.sum = mse::forward_backward(&mut head.logits, values, scale);
                loss.count = values.len();
            }
        }
        loss
    }

    /// From the gradient of the logits, through the pooler, to that of `rows`.
    pub fn backward(&self, p: Pass, pooler: &Pooler, rows: &[f32], head: &mut HeadActivations, back: Back) {
        let HeadActivations { dense, active, d_active, d_dense, logits, .. } = head;
        set_len(d_active, active.len());
        self.output.backward_parameters(p, back.gradients, logits, active, back.partial);
        self.output.backward_input(p, Matrix::new(logits, self.output.outputs()), d_active, Out::Set);
        if let Some(dropout) = self.dropout(p) {
            dropout.apply(dropout_sites::CLASSIFIER, d_active);
        }
        set_len(d_dense, dense.len());
        match self.comparison {
            Comparison::None => d_dense.copy_from_slice(d_active),
            Comparison::Features { symmetric } => {
                pair_features::backward(dense, d_active, pooler.outputs(), symmetric, d_dense);
            }
            Comparison::Cosine => cosine::backward(dense, active, d_active, pooler.outputs(), d_dense),
        }
        pooler.backward(p, rows, head, back);
    }
}
