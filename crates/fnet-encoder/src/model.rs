use std::collections::HashSet;
use std::sync::Arc;

use crate::embeddings::{Embeddings, words_name};
use crate::encoder::Layer;
use crate::forward::{Forward, Mode, Told};
use crate::gemm::{Precision, Products};
use crate::heads::{Classifier, Head, MlmHead, Pooler, Sentence, TokenClassifier};
use crate::mixers::{self, Mixer};
use crate::modules::{Builder, OnTrunk, Pass};
use crate::ops::dropout::Dropout;
use crate::parameters::{Gradients, Values};
use crate::plans::SharedPlans;
use crate::readout::Readout;
use crate::workspace::{HeadActivations, ReadoutActivations, Workspace};
use crate::{Batch, EncoderError, ModelConfig, Parameters};

/// More labels than this are a mistake or an attack.
const MOST_LABELS: usize = 1 << 16;

/// An FNet encoder with one head.
///
/// [`forward`](Self::forward) runs it on a batch and returns a [`Forward`], which gives outputs, losses and the
/// backward pass.
pub struct Model {
    config: ModelConfig,
    head: Head,
    parameters: Parameters,
    pub(crate) embeddings: Embeddings,
    pub(crate) layers: Vec<Layer>,
    pub(crate) pooler: Pooler,
    pub(crate) mlm: Option<MlmHead>,
    pub(crate) classifier: Option<Classifier>,
    pub(crate) tokens: Option<TokenClassifier>,
    pub(crate) sentence: Option<Sentence>,
    products: Products,
    recompute: bool,
    /// Whose layers these are, without their norms, if it is an adapter.
    pub(crate) trunk: Option<Arc<Model>>,
}

impl Model {
    /// A model with fresh weights: normal with the configuration's `initializer_range`, biases zero,
    /// norms one, the padding token's embedding zero.
    ///
    /// # Errors
    /// If the configuration cannot be built.
    pub fn new(config: ModelConfig, head: Head, seed: u64) -> Result<Self, EncoderError> {
        Self::with_mixers(config, head, seed, mixers::build)
    }

    /// As [`new`](Self::new), with the mixer of each layer from `make`, which gets the layer's index: for your own
    /// mixers.
    ///
    /// # Errors
    /// If the configuration or a mixer cannot be built.
    pub fn with_mixers(
        config: ModelConfig,
        head: Head,
        seed: u64,
        make: impl Fn(&mut Builder, usize) -> Result<Box<dyn Mixer>, EncoderError>,
    ) -> Result<Self, EncoderError> {
        let mut model = Self::shaped_with(config, head, None, |b, i| Ok(make(b, i)?.into()))?;
        model.parameters.allocate();
        model.parameters.start_where(seed, |_| true);
        Ok(model)
    }

    /// A model without values for its weights yet.
    pub(crate) fn shaped(config: ModelConfig, head: Head) -> Result<Self, EncoderError> {
        Self::shaped_with(config, head, None, |b, i| Ok(mixers::build(b, i)?.into()))
    }

    /// A model on the layers of another, whose own weights are those that `own` names, without values yet.
    pub(crate) fn shaped_on(
        trunk: &Arc<Self>,
        config: ModelConfig,
        head: Head,
        own: &HashSet<String>,
    ) -> Result<Self, EncoderError> {
        let mixer = |_: &mut Builder, layer: usize| Ok(Arc::clone(&trunk.layers[layer].mixer));
        let mut model = Self::shaped_with(config, head, Some((trunk, own)), mixer)?;
        (model.products, model.trunk) = (trunk.products, Some(Arc::clone(trunk)));
        Ok(model)
    }

    fn shaped_with(
        mut config: ModelConfig,
        head: Head,
        trunk: Option<(&Arc<Self>, &HashSet<String>)>,
        make: impl Fn(&mut Builder, usize) -> Result<Arc<dyn Mixer>, EncoderError>,
    ) -> Result<Self, EncoderError> {
        config.check()?;
        fnet_mixing::Simd::default_level()?; // what `FNET_SIMD` names
        if matches!(head, Head::Classification { labels: 0 } | Head::Tokens { labels: 0 }) {
            return Err(EncoderError::Config("a classifier needs at least one label".into()));
        }
        if head.outputs() > MOST_LABELS {
            let message = format!("{} labels are more than {MOST_LABELS}", head.outputs());
            return Err(EncoderError::Config(message));
        }
        if !head.keeps_sentence() {
            config.sentence = None;
        }
        if head == Head::Sentence && config.sentence.is_none() {
            return Err(EncoderError::Config("`sentence` does not say how texts' vectors are made".into()));
        }
        let mut parameters = if trunk.is_some() { Parameters::of_adapter() } else { Parameters::default() };
        let trunk = trunk.map(|(trunk, own)| OnTrunk { table: trunk.parameters.table(), own });
        let plans = SharedPlans::default();
        let mut b = Builder { parameters: &mut parameters, config: &config, plans, trunk };
        let embeddings = Embeddings::new(&mut b);
        let layers = (0..config.num_hidden_layers).map(|i| Layer::new(&mut b, i, &make));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let pooler = Pooler::new(&mut b, embeddings.words);
        let sentence = config.sentence.as_ref();
        let sentence =
            sentence.map(|sentence| Sentence::new(&mut b, embeddings.words, sentence)).transpose()?;
        let (mut mlm, mut classifier) = (None, None);
        if head.predicts_tokens() {
            mlm = Some(MlmHead::new(&mut b, embeddings.words)?);
        }
        let mut tokens = None;
        if let Head::Tokens { labels } = head {
            tokens = Some(TokenClassifier::new(&mut b, labels));
        }
        if head.reads_texts() {
            classifier = Some(Classifier::new(&mut b, head, &pooler, embeddings.words));
        } else {
            parameters.freeze("*.pooler.*"); // nothing reads it
        }
        if head != Head::Sentence {
            parameters.freeze("*.sentence.*");
        }
        for fixed in ["*.pooler.mean", "*.pooler.deviation"] {
            parameters.freeze(fixed);
        }
        let (products, recompute) = (Products::new(Precision::F32), false);
        let mut model = Self {
            config,
            head,
            parameters,
            embeddings,
            layers,
            pooler,
            mlm,
            classifier,
            tokens,
            sentence,
            products,
            recompute,
            trunk: None,
        };
        if !model.reads_layers() {
            let words = words_name(&model.config);
            let encoder = format!("{}.", model.config.prefix());
            let unread = |name: &str| name.starts_with(&encoder) && !is_readout(name) && name != words;
            model.parameters.freeze_where(unread);
        }
        Ok(model)
    }

    /// Shape and settings.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Changes settings that do not affect how the weights are used: dropout, padding, and keys that Transformers
    /// reads, such as `id2label`.
    ///
    /// # Errors
    /// If `change` touches anything else; in that case nothing is changed.
    pub fn change_config(&mut self, change: impl FnOnce(&mut ModelConfig)) -> Result<(), EncoderError> {
        let mut changed = self.config.clone();
        change(&mut changed);
        changed.check()?;
        let free = ModelConfig {
            hidden_dropout_prob: changed.hidden_dropout_prob,
            padding: changed.padding,
            padding_length: changed.padding_length,
            other: changed.other.clone(),
            ..self.config.clone()
        };
        if changed != free {
            let message =
                "a model's shape is fixed: only dropout, padding and keys of other programs can be changed";
            return Err(EncoderError::Config(message.into()));
        }
        self.config = changed;
        Ok(())
    }

    /// What the model predicts.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The weights; of an adapter on a [`Trunk`](crate::Trunk) its own alone.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The weights, for the optimiser and for freezing.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// The mixer of each layer.
    pub(crate) fn mixers(&self) -> impl Iterator<Item = &dyn Mixer> {
        self.layers.iter().map(|layer| &*layer.mixer)
    }

    /// How matrix products are computed.
    pub fn products(&self) -> Products {
        self.products
    }

    /// Sets the precision and level of matrix products; the default is float32. Weights stay float32.
    pub fn set_products(&mut self, products: Products) {
        self.products = products;
    }

    /// Whether training steps recompute each feed-forward layer in the backward pass instead of keeping it: a third
    /// of the memory for activations, a sixth more work, the same bits.
    pub fn set_recompute(&mut self, recompute: bool) {
        self.recompute = recompute;
    }

    /// Whether training steps recompute feed-forward layers.
    pub fn recompute(&self) -> bool {
        self.recompute
    }

    pub(crate) fn pass<'a>(&'a self, batch: &'a Batch, mode: Mode) -> Pass<'a> {
        let dropout = mode.dropout();
        let recompute = self.recompute && dropout.is_some();
        let values = match &self.trunk {
            None => Values::of(&self.parameters),
            Some(trunk) => Values::on(&trunk.parameters, &self.parameters),
        };
        // Mean and deviation are measured in training steps and used without dropout, which would move the pooled values by
        // more than they differ from one example to another. So the layers go without it.
        let rate = |own: Dropout| if self.config.classifier_standardized { 0.0 } else { own.rate };
        let of_layers = dropout.map(|own| Dropout { rate: rate(own), ..own });
        let products = self.products;
        Pass { values, products, batch, dropout: of_layers, head_dropout: dropout, recompute }
    }

    /// Refuses a batch with ids out of range, an empty sequence, one that is too long, or one that is not padded
    /// where padding is fixed.
    ///
    /// # Errors
    /// Names the first sequence that does not fit.
    pub fn check(&self, batch: &Batch) -> Result<(), EncoderError> {
        let c = &self.config;
        let fixed = c.fixed_length();
        for (i, range) in batch.ranges().enumerate() {
            let fail = |message: String| Err(EncoderError::Batch(format!("sequence {i}: {message}")));
            if range.is_empty() {
                return fail("has no tokens".into());
            }
            if range.len() > c.max_position_embeddings {
                return fail(format!(
                    "{} tokens are more than the model's {}",
                    range.len(),
                    c.max_position_embeddings
                ));
            }
            if let Some(length) = fixed.filter(|length| *length != range.len()) {
                return fail(format!(
                    "has {} tokens, but padding is fixed: fill it up to {length} with the padding token",
                    range.len()
                ));
            }
            let words = batch.tokens()[range.clone()].iter().filter(|id| **id < Batch::FIRST_VECTOR);
            let largest = words.max().copied().unwrap_or(0);
            if largest as usize >= c.vocab_size {
                return fail(format!("token {largest} is outside the vocabulary of {}", c.vocab_size));
            }
            let largest = batch.segments()[range].iter().max().copied().unwrap_or(0);
            if largest as usize >= c.type_vocab_size {
                return fail(format!(
                    "segment {largest}: the model tells {} apart (type_vocab_size)",
                    c.type_vocab_size
                ));
            }
        }
        self.check_vectors(batch)?;
        match batch.text_ranges().position(|text| text.is_empty()) {
            Some(i) => Err(EncoderError::Batch(format!("text {i}: has no tokens"))),
            None => Ok(()),
        }
    }

    /// Refuses vectors of another width than the model's, or where words are read.
    fn check_vectors(&self, batch: &Batch) -> Result<(), EncoderError> {
        let fail = |message: String| Err(EncoderError::Batch(message));
        let c = &self.config;
        match (batch.vector_width(), c.input_width) {
            (None, _) => {
                let ids = batch.tokens().iter();
                match ids.max().filter(|id| **id as usize >= c.vocab_size) {
                    Some(id) => fail(format!("token {id} is outside the vocabulary of {}", c.vocab_size)),
                    None => Ok(()),
                }
            }
            (Some(width), None) => {
                fail(format!("holds vectors of width {width}; the model reads tokens alone (no input_width)"))
            }
            (Some(width), Some(own)) if width != own => {
                fail(format!("holds vectors of width {width}; the model's input_width is {own}"))
            }
            (Some(_), Some(_)) if !names_every_vector(batch) => {
                fail("a position names no such vector".into())
            }
            _ if (self.head.reads_texts() || self.head == Head::Sentence) && c.reads_words() => {
                fail("holds vectors, but the head reads word embeddings".into())
            }
            _ => Ok(()),
        }
    }

    /// Runs the encoder up to the last layer's mixing; the [`Forward`] that this returns does everything after it.
    /// The rest of the last layer works on each token alone, so it runs only for the tokens that are read: masked
    /// ones, those of the pooling, or all.
    ///
    /// If nothing reads the layers, as in a classifier on word embeddings alone, none runs.
    ///
    /// # Errors
    /// If the batch does not fit the model.
    pub fn forward<'a>(
        &'a self,
        batch: &'a Batch,
        mode: Mode,
        w: &'a mut Workspace,
    ) -> Result<Forward<'a>, EncoderError> {
        self.check(batch)?;
        mode.check()?;
        let pass = self.pass(batch, mode);
        (w.classifier.readout.given, w.classifier.has_vectors) = (false, false);
        if self.reads_layers() {
            self.embeddings.forward(pass, w);
            let (last, others) = self.ends();
            for (i, layer) in others.iter().enumerate() {
                self.readout().keep(pass, i, &w.hidden, &mut w.classifier.readout);
                layer.forward(pass, w, self.slot(pass, i))?;
            }
            self.readout().keep(pass, others.len(), &w.hidden, &mut w.classifier.readout);
            last.forward_mixing(pass, w, self.slot(pass, others.len()))?;
        }
        Ok(Forward { model: self, pass, w })
    }

    /// Whether training changes nothing below what [`Forward::pooled`] gives, so that it can be computed once, see
    /// [`forward_pooled`](Self::forward_pooled).
    pub fn trains_head_alone(&self) -> bool {
        let reads_pooled = self.classifier.as_ref().is_some_and(Classifier::reads_pooled_alone);
        let is_whole = self.config.classifier_pairs.texts() == 1 && !self.pooler.readout.has_query();
        let (last, _) = self.ends();
        reads_pooled && is_whole && self.mlm.is_none() && !self.parameters.any_trainable(last.tensors.end)
    }

    /// Starts from pooled vectors, `[texts, pooled_width]`, as [`Forward::pooled`] gave them: only the head runs, and is
    /// trained. Of the batch nothing is read but its number of texts.
    ///
    /// # Errors
    /// If more than the head is trained, or there are not as many vectors as texts.
    pub fn forward_pooled<'a>(
        &'a self,
        batch: &'a Batch,
        pooled: &[f32],
        mode: Mode,
        w: &'a mut Workspace,
    ) -> Result<Forward<'a>, EncoderError> {
        mode.check()?;
        if !self.trains_head_alone() {
            return Err(EncoderError::Config("more than the head is trained, or it reads more".into()));
        }
        if pooled.len() != batch.texts() * self.pooled_width() {
            return Err(EncoderError::Batch("there are not as many pooled vectors as texts".into()));
        }
        let readout = &mut w.classifier.readout;
        readout.given = true;
        readout.read.clear();
        readout.read.extend_from_slice(pooled);
        Ok(Forward { model: self, pass: self.pass(batch, mode), w })
    }

    /// Whether anything reads the layers.
    pub(crate) fn reads_layers(&self) -> bool {
        let reads_texts = self.classifier.is_some() || self.head == Head::Sentence;
        !reads_texts || self.mlm.is_some() || self.readout().rows_of_a_text() != Some(0)
    }

    /// The last layer and those before it.
    pub(crate) fn ends(&self) -> (&Layer, &[Layer]) {
        self.layers.split_last().expect("`ModelConfig::check` refuses a model without layers")
    }

    /// Where a layer keeps its activations: all share one slot if there is no backward pass.
    pub(crate) fn slot(&self, pass: Pass, layer: usize) -> usize {
        if pass.dropout.is_some() { layer } else { 0 }
    }

    /// Finishes the last layer, into `w.rows`; does nothing if no layer has run.
    pub(crate) fn forward_rows(&self, pass: Pass, places: &[u32], w: &mut Workspace) {
        if !self.reads_layers() || w.classifier.readout.given {
            return w.rows.clear();
        }
        let (last, others) = self.ends();
        last.forward_rows(pass, w, self.slot(pass, others.len()), places);
    }

    /// Where each layer's tensors begin among the parameters, from the last layer to the first: what is from there on is
    /// complete when [`Forward::backward_by_layers`](crate::Forward::backward_by_layers) says so.
    pub fn layer_starts(&self) -> Vec<usize> {
        self.layers.iter().rev().map(|layer| self.start_of(layer)).collect()
    }

    fn start_of(&self, layer: &Layer) -> usize {
        let first = self.parameters.table().get(layer.tensors.start);
        first.map_or(self.parameters.len(), |tensor| tensor.range().start)
    }

    /// From `w.d_rows`, the gradient at `places`.
    pub(crate) fn backward(
        &self,
        pass: Pass,
        places: &[u32],
        gradients: &mut Gradients,
        w: &mut Workspace,
        mut told: Told,
    ) -> Result<(), EncoderError> {
        let mut tell = |layer: &Layer, gradients: &Gradients| {
            let start = self.start_of(layer);
            if let Some(told) = &mut told {
                told(start, gradients.from(start));
            }
        };
        if !self.reads_layers() {
            return Ok(());
        }
        let (last, others) = self.ends();
        // Below the first trained tensor there is nothing to do.
        let learns = |tensors: usize| self.parameters.any_trainable(tensors);
        if !learns(last.tensors.end) {
            return Ok(());
        }
        last.backward_rows(pass, gradients, w, others.len(), places)?;
        self.readout().keep_backward(pass, others.len(), &w.classifier.readout, &mut w.d_hidden);
        tell(last, gradients);
        for (i, layer) in others.iter().enumerate().rev() {
            if !learns(layer.tensors.end) {
                return Ok(());
            }
            layer.backward(pass, gradients, w, i)?;
            self.readout().keep_backward(pass, i, &w.classifier.readout, &mut w.d_hidden);
            tell(layer, gradients);
        }
        if self.layers.first().is_some_and(|layer| learns(layer.tensors.start)) {
            self.embeddings.backward(pass, gradients, w);
        }
        Ok(())
    }

    /// Whether every example of a batch has an output.
    pub(crate) fn has_outputs_for(&self, batch: &Batch) -> bool {
        let texts = self.config.classifier_pairs.texts();
        self.tokens.is_some() || self.classifier.is_some() && batch.texts().is_multiple_of(texts)
    }

    /// Appends the tokens whose last hidden states the head of whole examples or positions reads.
    pub(crate) fn places_of_texts(&self, pass: Pass, kept: &mut ReadoutActivations, places: &mut Vec<u32>) {
        if self.tokens.is_some() {
            places.extend(0..pass.batch.tokens().len() as u32);
        } else {
            self.readout().places(pass, kept, places);
        }
    }

    /// Fills `head.logits` from the last hidden states at those places.
    pub(crate) fn answer(&self, pass: Pass, rows: &[f32], head: &mut HeadActivations) {
        if let Some(tokens) = &self.tokens {
            tokens.forward(pass, rows, head);
        } else if let Some(classifier) = &self.classifier {
            classifier.forward(pass, &self.pooler, rows, head);
            classifier.answer(head);
        }
    }

    /// Number of values per text in [`Forward::pooled`].
    pub fn pooled_width(&self) -> usize {
        self.readout().width()
    }

    /// Number of values of a text's vector in [`Forward::vectors`]; `None` if the head makes none.
    pub fn vector_width(&self) -> Option<usize> {
        self.sentence().map(Sentence::outputs)
    }

    /// What makes texts' vectors, if that is the head.
    pub(crate) fn sentence(&self) -> Option<&Sentence> {
        self.sentence.as_ref().filter(|_| self.head == Head::Sentence)
    }

    /// What is read of a text.
    pub(crate) fn readout(&self) -> &Readout {
        self.sentence().map_or(&self.pooler.readout, |sentence| &sentence.readout)
    }

    /// Rows of the last layer that are read for `texts` with so many tokens together.
    pub(crate) fn rows_read(&self, tokens: usize, texts: usize) -> usize {
        self.readout().rows_of_a_text().map_or(tokens, |rows| rows * texts)
    }
}

/// Whether a tensor belongs to what reads whole texts.
fn is_readout(name: &str) -> bool {
    name.contains(".pooler.") || name.contains(".sentence.")
}

/// Whether each vector has its place, in order.
fn names_every_vector(batch: &Batch) -> bool {
    let vectors = batch.vectors().len() / batch.vector_width().unwrap_or(1);
    let ids = batch.vector_places().map(|place| (batch.tokens()[place] - Batch::FIRST_VECTOR) as usize);
    ids.eq(0..vectors)
}
