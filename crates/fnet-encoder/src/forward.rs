//! What follows a forward pass: outputs, losses, and the backward pass. None of it can be called for another batch,
//! with other dropout, or before the pass has run.

use crate::heads::{Back, ClassTargets, MlmHead, MlmTargets};
use crate::loss::Loss;
use crate::modules::Pass;
use crate::ops::dropout::Dropout;
use crate::ops::softmax_cross_entropy::IGNORED;
use crate::parameters::Gradients;
use crate::workspace::{Workspace, set_len};
use crate::{Batch, EncoderError, Head, Model};

/// What a forward pass is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Outputs and losses: layers share their buffers.
    Infer,
    /// A training step: every layer's activations are kept for the backward pass. A rate of 0 trains without dropout.
    Train(Dropout),
}

impl Mode {
    pub(crate) fn dropout(self) -> Option<Dropout> {
        match self {
            Self::Infer => None,
            Self::Train(dropout) => Some(dropout),
        }
    }

    pub(crate) fn check(self) -> Result<(), EncoderError> {
        match self {
            Self::Train(Dropout { rate, .. }) if !(0.0..1.0).contains(&rate) => {
                Err(EncoderError::Config(format!("a dropout rate of {rate}; it must be from 0 to below 1")))
            }
            _ => Ok(()),
        }
    }
}

/// What heads should predict, and the factors of their losses in the gradient.
#[derive(Debug, Clone, Copy, Default)]
pub struct Targets<'a> {
    masked: Option<(&'a MlmTargets, f32)>,
    examples: Option<(ClassTargets<'a>, f32)>,
}

impl<'a> Targets<'a> {
    /// Masked tokens. The gradient is that of `scale` times the summed loss.
    pub fn masked(targets: &'a MlmTargets, scale: f32) -> Self {
        Self { masked: Some((targets, scale)), examples: None }
    }

    /// Classes or numbers of whole examples. The gradient is that of `scale` times the summed loss.
    pub fn examples(targets: ClassTargets<'a>, scale: f32) -> Self {
        Self { masked: None, examples: Some((targets, scale)) }
    }

    /// Both, for [`Head::PreTraining`].
    pub fn and_examples(self, targets: ClassTargets<'a>, scale: f32) -> Self {
        Self { examples: Some((targets, scale)), ..self }
    }
}

/// Hears of gradients that are complete: the index that they begin at, and all from there on.
pub type Told<'a> = Option<&'a mut dyn FnMut(usize, &[f32])>;

/// The losses of a batch; zero where there are no targets.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Losses {
    /// Of masked tokens.
    pub masked: Loss,
    /// Of whole examples.
    pub examples: Loss,
}

/// A forward pass that has run. It borrows the model, the batch and the workspace.
pub struct Forward<'a> {
    pub(crate) model: &'a Model,
    pub(crate) pass: Pass<'a>,
    pub(crate) w: &'a mut Workspace,
}

impl<'a> Forward<'a> {
    /// The batch that was run.
    pub fn batch(&self) -> &'a Batch {
        self.pass.batch
    }

    /// The last layer's output for all tokens, `[tokens, hidden]`; empty if no layer has run.
    pub fn hidden(&mut self) -> &[f32] {
        let places: Vec<u32> = (0..self.pass.batch.tokens().len() as u32).collect();
        self.model.forward_rows(self.pass, &places, self.w);
        &self.w.rows
    }

    /// The last layer's output for the first token of each sequence, `[sequences, hidden]`; empty if no layer has
    /// run.
    pub fn first_tokens(&mut self) -> &[f32] {
        let places: Vec<u32> = self.pass.batch.ranges().map(|range| range.start as u32).collect();
        self.model.forward_rows(self.pass, &places, self.w);
        &self.w.rows
    }

    /// The pooled vectors of each text, `[texts, vectors * hidden]`: those of `classifier_pooling`, concatenated.
    pub fn pooled(&mut self) -> &[f32] {
        if !self.w.classifier.readout.given {
            self.forward_heads(&[], true);
            self.model.readout().forward(self.pass, &self.w.rows, &mut self.w.classifier.readout);
        }
        &self.w.classifier.readout.read
    }

    /// The vector of each text, `[texts, vector_width]`, of a model with [`Head::Sentence`]; not scaled to length one.
    ///
    /// # Errors
    /// If the model has another head.
    pub fn vectors(&mut self) -> Result<&[f32], EncoderError> {
        let Some(sentence) = self.model.sentence() else {
            return Err(EncoderError::Config("the model's head makes no vectors of texts".into()));
        };
        if self.w.classifier.has_vectors {
            return Ok(sentence.made(&self.w.classifier));
        }
        self.forward_heads(&[], true);
        self.w.classifier.has_vectors = true;
        Ok(sentence.forward(self.pass, &self.w.rows, &mut self.w.classifier))
    }

    /// The backward pass from `d_vectors`, the gradient of a loss by what [`vectors`](Self::vectors) gives: the gradients of
    /// the weights are added to `gradients`, a buffer like the parameters'. A loss over more texts than fit one pass is
    /// split up in this way: see [`similarity`](crate::similarity).
    ///
    /// # Errors
    /// As [`vectors`](Self::vectors); after a pass of [`Mode::Infer`], which keeps nothing; if a buffer has the wrong length.
    pub fn backward_vectors(&mut self, d_vectors: &[f32], gradients: &mut [f32]) -> Result<(), EncoderError> {
        self.backward_vectors_by_layers(d_vectors, gradients, None)
    }

    /// As [`backward_vectors`](Self::backward_vectors), and tells as [`backward_by_layers`](Self::backward_by_layers) does.
    ///
    /// # Errors
    /// As [`backward_vectors`](Self::backward_vectors).
    pub fn backward_vectors_by_layers(
        &mut self,
        d_vectors: &[f32],
        gradients: &mut [f32],
        told: Told,
    ) -> Result<(), EncoderError> {
        self.check_backward(gradients)?;
        if self.vectors()?.len() != d_vectors.len() {
            return Err(EncoderError::Batch("there are not as many gradients as values of vectors".into()));
        }
        let Some(sentence) = self.model.sentence() else { return Ok(()) };
        let (pass, w) = (self.pass, &mut *self.w);
        if pass.batch.is_empty() {
            return Ok(());
        }
        set_len(&mut w.d_rows, w.rows.len());
        let mut gradients = Gradients::new(gradients, self.model.parameters());
        let (d_rows, partial) = (&mut w.d_rows[..], &mut w.scratch.partial);
        let back = Back { scale: 1.0, gradients: &mut gradients, d_rows, partial };
        sentence.backward(pass, &w.rows, d_vectors, &mut w.classifier, back);
        w.classifier.has_vectors = false;
        let places = std::mem::take(&mut w.places);
        let done = self.model.backward(pass, &places, &mut gradients, w, told);
        w.places = places;
        done
    }

    fn check_backward(&self, gradients: &[f32]) -> Result<(), EncoderError> {
        if self.pass.dropout.is_none() {
            return Err(EncoderError::Config("a backward pass needs a forward pass of Mode::Train".into()));
        }
        if gradients.len() != self.model.parameters().len() {
            return Err(EncoderError::Batch("the gradient buffer is not as long as the parameters".into()));
        }
        Ok(())
    }

    /// As [`pooled`](Self::pooled), what the classifier has read for the last [`loss`](Self::loss),
    /// [`backward`](Self::backward) or [`logits`](Self::logits) of this pass, without computing it again.
    pub fn read_by_classifier(&self) -> &[f32] {
        &self.w.classifier.readout.read
    }

    /// The output for whole examples, `[examples, labels]`: texts, or pairs of texts in towers; for [`Head::Tokens`] that
    /// for each position, `[tokens, labels]`.
    ///
    /// # Errors
    /// If the model has no classifier, or a text lacks its partner.
    pub fn logits(&mut self) -> Result<&[f32], EncoderError> {
        if self.model.classifier.is_none() && self.model.tokens.is_none() {
            return Err(EncoderError::Config("the model has no classifier".into()));
        }
        if self.examples().is_none() {
            return Err(EncoderError::Batch("a text lacks its partner: towers read two an example".into()));
        }
        self.forward_heads(&[], true);
        self.model.answer(self.pass, &self.w.rows, &mut self.w.classifier);
        Ok(&self.w.classifier.logits)
    }

    /// The input of the classifier's output layer, one row per example. For pairs in towers it ends with the cosine
    /// of both texts' vectors and, with `classifier_matching`, how much of each text is found in the other.
    ///
    /// # Errors
    /// As [`logits`](Self::logits).
    pub fn seen_by_classifier(&mut self) -> Result<&[f32], EncoderError> {
        self.logits()?;
        Ok(&self.w.classifier.active)
    }

    /// MLM logits for some of the batch's tokens, `[places, vocabulary]`.
    ///
    /// # Errors
    /// If the model has no MLM head, or a place is out of range.
    pub fn mlm_logits(&mut self, places: &[u32]) -> Result<&[f32], EncoderError> {
        let mlm = self.mlm_head(places)?;
        self.forward_heads(places, false);
        Ok(mlm.logits(self.pass, &self.w.rows, &mut self.w.mlm))
    }

    /// The losses, without gradients.
    ///
    /// # Errors
    /// If the model lacks a head that the targets are for, or a target is out of range.
    pub fn loss(&mut self, targets: Targets) -> Result<Losses, EncoderError> {
        self.losses(targets, None, None)
    }

    /// The losses, and the backward pass: gradients of the scaled losses are added to `gradients`, a buffer like the
    /// parameters'.
    ///
    /// # Errors
    /// As [`loss`](Self::loss); after a pass of [`Mode::Infer`], which keeps nothing; if the buffer has the wrong
    /// length.
    pub fn backward(&mut self, targets: Targets, gradients: &mut [f32]) -> Result<Losses, EncoderError> {
        self.backward_by_layers(targets, gradients, None)
    }

    /// As [`backward`](Self::backward), and tells after each layer, from the last to the first, that the gradients from an
    /// index on are complete. After an error, or below the first trained tensor, nothing more is told.
    ///
    /// # Errors
    /// As [`backward`](Self::backward).
    pub fn backward_by_layers(
        &mut self,
        targets: Targets,
        gradients: &mut [f32],
        told: Told,
    ) -> Result<Losses, EncoderError> {
        self.check_backward(gradients)?;
        self.losses(targets, Some(Gradients::new(gradients, self.model.parameters())), told)
    }

    /// Examples of the batch; `None` where a text lacks its partner.
    fn examples(&self) -> Option<usize> {
        if self.model.tokens.is_some() {
            return Some(self.pass.batch.tokens().len());
        }
        let texts = self.model.config().classifier_pairs.texts();
        self.pass.batch.texts().is_multiple_of(texts).then(|| self.pass.batch.texts() / texts)
    }

    /// Finishes the last layer for the tokens that heads read: masked ones, then those of whole texts.
    fn forward_heads(&mut self, masked: &[u32], texts: bool) {
        let mut places = std::mem::take(&mut self.w.places);
        places.clear();
        places.extend_from_slice(masked);
        if texts && !self.w.classifier.readout.given {
            self.model.places_of_texts(self.pass, &mut self.w.classifier.readout, &mut places);
        }
        self.model.forward_rows(self.pass, &places, self.w);
        self.w.places = places;
    }

    fn losses(
        &mut self,
        targets: Targets,
        mut gradients: Option<Gradients>,
        told: Told,
    ) -> Result<Losses, EncoderError> {
        let masked = match targets.masked {
            Some((targets, scale)) => Some((self.mlm_head_for(targets)?, targets, scale)),
            None => None,
        };
        let examples = match targets.examples {
            Some((targets, scale)) => {
                self.check_targets(targets)?;
                Some((targets, scale))
            }
            None => None,
        };
        let mut losses = Losses::default();
        if self.pass.batch.is_empty() {
            return Ok(losses);
        }
        let places = masked.map_or(&[][..], |(_, targets, _)| &targets.places);
        self.forward_heads(places, examples.is_some());
        let (pass, pooler, w) = (self.pass, &self.model.pooler, &mut *self.w);
        set_len(&mut w.d_rows, w.rows.len());
        let middle = places.len() * self.model.config().hidden_size;
        let (rows, text_rows) = w.rows.split_at(middle);
        let (d_rows, d_text_rows) = w.d_rows.split_at_mut(middle);
        let partial = &mut w.scratch.partial;
        if let Some((head, targets, scale)) = masked {
            let back = gradients.as_mut().map(|gradients| Back { scale, gradients, d_rows, partial });
            losses.masked = head.loss(pass, rows, &targets.labels, &mut w.mlm, back);
        }
        if let Some((targets, scale)) = examples {
            let (head, d_rows, partial) = (&mut w.classifier, d_text_rows, &mut w.scratch.partial);
            let back = gradients.as_mut().map(|gradients| Back { scale, gradients, d_rows, partial });
            if let Some(tokens) = &self.model.tokens {
                tokens.forward(pass, text_rows, head);
                losses.examples = tokens.loss(pass, targets, head, back);
            } else if let Some(classifier) = &self.model.classifier {
                classifier.forward(pass, pooler, text_rows, head);
                losses.examples = classifier.loss(pass, pooler, text_rows, targets, head, back);
            }
        }
        if let Some(gradients) = &mut gradients {
            let places = std::mem::take(&mut w.places);
            let done = self.model.backward(pass, &places, gradients, w, told);
            w.places = places;
            done?;
        }
        Ok(losses)
    }

    fn mlm_head(&self, places: &[u32]) -> Result<&'a MlmHead, EncoderError> {
        let Some(head) = &self.model.mlm else {
            return Err(EncoderError::Config("the model has no MLM head".into()));
        };
        let tokens = self.pass.batch.tokens().len();
        match places.iter().find(|place| **place as usize >= tokens) {
            Some(place) => Err(EncoderError::Batch(format!("place {place} is outside the {tokens} tokens"))),
            None => Ok(head),
        }
    }

    fn mlm_head_for(&self, targets: &MlmTargets) -> Result<&'a MlmHead, EncoderError> {
        let head = self.mlm_head(&targets.places)?;
        let vocabulary = self.model.config().vocab_size;
        if targets.places.len() != targets.labels.len() {
            return Err(EncoderError::Batch("there are not as many labels as masked places".into()));
        }
        match targets.labels.iter().find(|label| **label as usize >= vocabulary) {
            Some(label) => {
                Err(EncoderError::Batch(format!("label {label} is outside the vocabulary of {vocabulary}")))
            }
            None => Ok(head),
        }
    }

    fn check_targets(&self, targets: ClassTargets) -> Result<(), EncoderError> {
        let head = self.model.head();
        if self.model.classifier.is_none() && self.model.tokens.is_none() {
            return Err(EncoderError::Config("the model has no classifier".into()));
        }
        let (examples, outputs) = (self.examples(), head.outputs());
        let fits = match (targets, head) {
            (ClassTargets::Values(values), Head::Regression | Head::Tokens { .. }) => {
                Some(values.len()) == examples.map(|n| n * outputs)
            }
            (ClassTargets::Values(_), _) | (_, Head::Regression) => false,
            (ClassTargets::Labels(labels), Head::Classification { .. } | Head::Tokens { .. }) => {
                let known = |label: &f32| label.is_nan() || (0.0..=1.0).contains(label);
                Some(labels.len()) == examples.map(|n| n * outputs) && labels.iter().all(known)
            }
            (ClassTargets::Labels(_), _) => false,
            (ClassTargets::Weighted(_, weights), _) if weights.len() != outputs => false,
            (ClassTargets::Classes(classes) | ClassTargets::Weighted(classes, _), _) => {
                let known = |c: &u32| *c == IGNORED || (*c as usize) < outputs;
                Some(classes.len()) == examples && classes.iter().all(known)
            }
        };
        if fits {
            return Ok(());
        }
        Err(EncoderError::Batch("the targets do not fit the examples or the head".into()))
    }
}
