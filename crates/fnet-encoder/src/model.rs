use crate::embeddings::{Embeddings, words_name};
use crate::encoder::Layer;
use crate::gemm::{Precision, Products};
use crate::heads::{Back, ClassTargets, Classifier, Head, MlmHead, MlmTargets, Pooler};
use crate::loss::Loss;
use crate::mixers::{self, Mixer};
use crate::modules::{Builder, Pass};
use crate::ops::dropout::Dropout;
use crate::ops::softmax_cross_entropy::IGNORED;
use crate::parameters::Gradients;
use crate::workspace::{Workspace, set_len};
use crate::{Batch, EncoderError, ModelConfig, Parameters};

/// More labels than this are a mistake or an attack.
const MOST_LABELS: usize = 1 << 16;

/// An FNet encoder with one head.
///
/// A training step is [`forward`](Self::forward), then [`mlm_loss`](Self::mlm_loss) or
/// [`class_loss`](Self::class_loss) with a gradient buffer, which also runs the backward pass.
pub struct Model {
    config: ModelConfig,
    head: Head,
    parameters: Parameters,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    pooler: Pooler,
    mlm: Option<MlmHead>,
    classifier: Option<Classifier>,
    products: Products,
    recompute: bool,
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

    /// As [`new`](Self::new), with the mixer of each layer from `make`, which is told the layer's
    /// number: for mixers of one's own.
    ///
    /// # Errors
    /// If the configuration or a mixer cannot be built.
    pub fn with_mixers(
        config: ModelConfig,
        head: Head,
        seed: u64,
        make: impl Fn(&mut Builder, usize) -> Result<Box<dyn Mixer>, EncoderError>,
    ) -> Result<Self, EncoderError> {
        let mut model = Self::shaped_with(config, head, make)?;
        model.parameters.allocate();
        model.parameters.start_where(seed, |_| true);
        Ok(model)
    }

    /// A model whose weights are not there yet.
    pub(crate) fn shaped(config: ModelConfig, head: Head) -> Result<Self, EncoderError> {
        Self::shaped_with(config, head, mixers::build)
    }

    fn shaped_with(
        config: ModelConfig,
        head: Head,
        make: impl Fn(&mut Builder, usize) -> Result<Box<dyn Mixer>, EncoderError>,
    ) -> Result<Self, EncoderError> {
        config.check()?;
        if head == (Head::Classification { labels: 0 }) {
            return Err(EncoderError::Config("a classifier needs at least one label".into()));
        }
        if head.outputs() > MOST_LABELS {
            let message = format!("{} labels are more than {MOST_LABELS}", head.outputs());
            return Err(EncoderError::Config(message));
        }
        let mut parameters = Parameters::default();
        let mut b = Builder { parameters: &mut parameters, config: &config };
        let embeddings = Embeddings::new(&mut b);
        let layers = (0..config.num_hidden_layers).map(|i| Layer::new(&mut b, i, &make));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let pooler = Pooler::new(&mut b, embeddings.words);
        let (mut mlm, mut classifier) = (None, None);
        if head.predicts_tokens() {
            mlm = Some(MlmHead::new(&mut b, embeddings.words)?);
        }
        if head.outputs() > 0 {
            classifier = Some(Classifier::new(&mut b, head, &pooler, embeddings.words));
        } else {
            parameters.freeze("*.pooler.*"); // nothing reads it
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
            products,
            recompute,
        };
        if !model.reads_layers() {
            let words = words_name(&model.config);
            let encoder = format!("{}.", model.config.prefix());
            let unread =
                |name: &str| name.starts_with(&encoder) && !name.contains(".pooler.") && name != words;
            model.parameters.freeze_where(unread);
        }
        Ok(model)
    }

    /// Shape and settings.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Shape and settings, for keys that do not change the shape (`id2label`, `padding`).
    pub fn config_mut(&mut self) -> &mut ModelConfig {
        &mut self.config
    }

    /// What the model predicts.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The weights.
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

    /// Sets the precision of matrix products, and what computes them; float32 to begin with. Weights
    /// stay float32.
    pub fn set_products(&mut self, products: Products) {
        self.products = products;
    }

    /// Whether training steps compute each feed-forward layer again in the backward pass instead of
    /// keeping it: a third of the memory for activations, a sixth more work, the same bits.
    pub fn set_recompute(&mut self, recompute: bool) {
        self.recompute = recompute;
    }

    /// Whether training steps compute feed-forward layers again.
    pub fn recompute(&self) -> bool {
        self.recompute
    }

    fn pass<'a>(&'a self, batch: &'a Batch, dropout: Option<Dropout>) -> Pass<'a> {
        let recompute = self.recompute && dropout.is_some();
        Pass { values: self.parameters.values(), products: self.products, batch, dropout, recompute }
    }

    /// Refuses a batch with ids out of range, an empty sequence, one that is too long, or one that is not filled up where
    /// padding is fixed.
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
            let largest = batch.tokens()[range.clone()].iter().max().copied().unwrap_or(0);
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
        match batch.text_ranges().position(|text| text.is_empty()) {
            Some(i) => Err(EncoderError::Batch(format!("text {i}: has no tokens"))),
            None => Ok(()),
        }
    }

    /// Runs the encoder up to the last layer's mixing. The rest of that layer works on each token alone
    /// and is run by what reads its output, at the tokens that are read: masked places, those of the
    /// readout, or all.
    ///
    /// Where nothing reads the layers, as in a classifier that reads word embeddings alone, none runs.
    ///
    /// With `dropout` this is a training step and every layer's activations are kept for the backward
    /// pass; without it the layers share their buffers. Use a rate of 0 to train without dropout.
    ///
    /// # Errors
    /// If the batch does not fit the model.
    pub fn forward(
        &self,
        batch: &Batch,
        dropout: Option<Dropout>,
        w: &mut Workspace,
    ) -> Result<(), EncoderError> {
        self.check(batch)?;
        let pass = self.pass(batch, dropout);
        if !self.reads_layers() {
            return Ok(());
        }
        self.embeddings.forward(pass, w);
        let (last, others) = self.ends();
        for (i, layer) in others.iter().enumerate() {
            layer.forward(pass, w, self.slot(pass, i))?;
        }
        last.forward_mixing(pass, w, self.slot(pass, others.len()))
    }

    /// Whether anything is read of the layers.
    fn reads_layers(&self) -> bool {
        self.classifier.is_none() || self.mlm.is_some() || self.pooler.readout.rows_of_a_text() != Some(0)
    }

    /// The last layer and those before it.
    fn ends(&self) -> (&Layer, &[Layer]) {
        self.layers.split_last().expect("`ModelConfig::check` refuses a model without layers")
    }

    /// Where a layer keeps its activations: all share one place where there is no backward pass.
    fn slot(&self, pass: Pass, layer: usize) -> usize {
        if pass.dropout.is_some() { layer } else { 0 }
    }

    /// The end of the last layer, into `w.rows`; nothing where no layer has run.
    fn forward_rows(&self, pass: Pass, places: &[u32], w: &mut Workspace) {
        if !self.reads_layers() {
            return w.rows.clear();
        }
        let (last, others) = self.ends();
        last.forward_rows(pass, w, self.slot(pass, others.len()), places);
    }

    /// From `w.d_rows`, the gradient at `places`.
    fn backward(
        &self,
        pass: Pass,
        places: &[u32],
        gradients: &mut Gradients,
        w: &mut Workspace,
    ) -> Result<(), EncoderError> {
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
        for (i, layer) in others.iter().enumerate().rev() {
            if !learns(layer.tensors.end) {
                return Ok(());
            }
            layer.backward(pass, gradients, w, i)?;
        }
        if self.layers.first().is_some_and(|layer| learns(layer.tensors.start)) {
            self.embeddings.backward(pass, gradients, w);
        }
        Ok(())
    }

    /// The last layer's output for all tokens, `[tokens, hidden]`, after a forward pass without dropout; empty where
    /// no layer has run.
    pub fn hidden<'w>(&self, batch: &Batch, w: &'w mut Workspace) -> &'w [f32] {
        let places: Vec<u32> = (0..batch.tokens().len() as u32).collect();
        self.forward_rows(self.pass(batch, None), &places, w);
        &w.rows
    }

    /// The last layer's output for the first token of each sequence, `[sequences, hidden]`, after a
    /// forward pass without dropout; empty where no layer has run.
    pub fn first_tokens<'w>(&self, batch: &Batch, w: &'w mut Workspace) -> &'w [f32] {
        let places: Vec<u32> = batch.ranges().map(|range| range.start as u32).collect();
        self.forward_rows(self.pass(batch, None), &places, w);
        &w.rows
    }

    /// What a head reads of each text, `[texts, vectors * hidden]`, after a forward pass without dropout: the
    /// vectors of `classifier_pooling` side by side.
    pub fn pooled<'w>(&self, batch: &Batch, w: &'w mut Workspace) -> &'w [f32] {
        let pass = self.pass(batch, None);
        self.forward_heads(pass, &[], true, w);
        self.pooler.readout.forward(pass, &w.rows, &mut w.classifier.readout);
        &w.classifier.readout.read
    }

    /// What the classifier's output layer sees of each example after a forward pass without dropout, row by row; empty
    /// as [`classify`](Self::classify) is. The last of a pair in towers are the cosine of both texts' vectors and, with
    /// `classifier_matching`, how much of each text is found in the other.
    pub fn seen_by_classifier<'w>(&self, batch: &Batch, w: &'w mut Workspace) -> &'w [f32] {
        if self.classify(batch, None, w).is_empty() {
            return &[];
        }
        &w.classifier.active
    }

    /// Values that [`pooled`](Self::pooled) reads of a text.
    pub fn pooled_width(&self) -> usize {
        self.pooler.readout.width()
    }

    /// MLM logits `[places, vocabulary]` after a forward pass without dropout; empty without an MLM head.
    pub fn mlm_logits<'w>(&self, batch: &Batch, places: &[u32], w: &'w mut Workspace) -> &'w [f32] {
        let Some(mlm) = &self.mlm else { return &[] };
        let pass = self.pass(batch, None);
        self.forward_heads(pass, places, false, w);
        mlm.logits(pass, &w.rows, &mut w.mlm)
    }

    /// The output for whole examples `[examples, labels]` after a forward pass with the same `dropout`: texts, or
    /// pairs of texts in towers. Empty for a model of masked tokens alone, and where a text lacks its partner.
    pub fn classify<'w>(&self, batch: &Batch, dropout: Option<Dropout>, w: &'w mut Workspace) -> &'w [f32] {
        let Some(classifier) = &self.classifier else { return &[] };
        if self.examples(batch).is_none() {
            return &[];
        }
        let pass = self.pass(batch, dropout);
        self.forward_heads(pass, &[], true, w);
        classifier.forward(pass, &self.pooler, &w.rows, &mut w.classifier);
        classifier.answer(&mut w.classifier);
        &w.classifier.logits
    }

    /// Loss at masked places after a forward pass, without gradients.
    ///
    /// # Errors
    /// If the model has no MLM head, or a target is out of range.
    pub fn mlm_evaluate(
        &self,
        batch: &Batch,
        targets: &MlmTargets,
        w: &mut Workspace,
    ) -> Result<Loss, EncoderError> {
        let targets = Targets { mlm: Some((targets, 1.0)), classes: None };
        Ok(self.losses(batch, targets, None, None, w)?[0])
    }

    /// Loss at masked places after a forward pass with the same `dropout`. The gradient of `scale`
    /// times the summed loss is added to `gradients`, a buffer like the parameters'.
    ///
    /// # Errors
    /// If the model has no MLM head, or a target is out of range.
    pub fn mlm_loss(
        &self,
        batch: &Batch,
        targets: &MlmTargets,
        scale: f32,
        dropout: Dropout,
        gradients: &mut [f32],
        w: &mut Workspace,
    ) -> Result<Loss, EncoderError> {
        let targets = Targets { mlm: Some((targets, scale)), classes: None };
        Ok(self.losses(batch, targets, Some(dropout), Some(gradients), w)?[0])
    }

    /// Losses at masked places and of whole sequences after a forward pass, without gradients.
    ///
    /// # Errors
    /// If the model was not made for [`Head::PreTraining`], or a target is out of range.
    pub fn pretraining_evaluate(
        &self,
        batch: &Batch,
        mlm: &MlmTargets,
        classes: &[u32],
        w: &mut Workspace,
    ) -> Result<[Loss; 2], EncoderError> {
        let classes = Some((ClassTargets::Classes(classes), 1.0));
        self.losses(batch, Targets { mlm: Some((mlm, 1.0)), classes }, None, None, w)
    }

    /// Losses at masked places and of whole sequences after a forward pass with the same `dropout`. The
    /// gradient of both sums, each times its scale, is added to `gradients`.
    ///
    /// # Errors
    /// If the model was not made for [`Head::PreTraining`], or a target is out of range.
    pub fn pretraining_loss(
        &self,
        batch: &Batch,
        (mlm, mlm_scale): (&MlmTargets, f32),
        (classes, scale): (&[u32], f32),
        dropout: Dropout,
        gradients: &mut [f32],
        w: &mut Workspace,
    ) -> Result<[Loss; 2], EncoderError> {
        let classes = Some((ClassTargets::Classes(classes), scale));
        let targets = Targets { mlm: Some((mlm, mlm_scale)), classes };
        self.losses(batch, targets, Some(dropout), Some(gradients), w)
    }

    /// Loss of the classifier after a forward pass with the same `dropout`. The gradient of `scale`
    /// times the summed loss is added to `gradients`.
    ///
    /// # Errors
    /// If the model has no classifier, or the targets do not fit it.
    pub fn class_loss(
        &self,
        batch: &Batch,
        targets: ClassTargets,
        scale: f32,
        dropout: Dropout,
        gradients: &mut [f32],
        w: &mut Workspace,
    ) -> Result<Loss, EncoderError> {
        let targets = Targets { mlm: None, classes: Some((targets, scale)) };
        Ok(self.losses(batch, targets, Some(dropout), Some(gradients), w)?[1])
    }

    /// Rows of the last layer that are read of `texts` of so many tokens together.
    pub(crate) fn rows_read(&self, tokens: usize, texts: usize) -> usize {
        self.pooler.readout.rows_of_a_text().map_or(tokens, |rows| rows * texts)
    }

    /// Examples of a batch; `None` where a text lacks its partner.
    fn examples(&self, batch: &Batch) -> Option<usize> {
        let texts = self.config.classifier_pairs.texts();
        batch.texts().is_multiple_of(texts).then(|| batch.texts() / texts)
    }

    /// The end of the last layer at the places that heads read: masked ones, then those of whole texts.
    fn forward_heads(&self, pass: Pass, masked: &[u32], texts: bool, w: &mut Workspace) {
        let mut places = std::mem::take(&mut w.places);
        places.clear();
        places.extend_from_slice(masked);
        if texts {
            self.pooler.readout.places(pass, &mut w.classifier.readout, &mut places);
        }
        self.forward_rows(pass, &places, w);
        w.places = places;
    }

    /// Losses at masked places and of whole sequences, with the backward pass where there are gradients.
    fn losses(
        &self,
        batch: &Batch,
        targets: Targets,
        dropout: Option<Dropout>,
        gradients: Option<&mut [f32]>,
        w: &mut Workspace,
    ) -> Result<[Loss; 2], EncoderError> {
        let mlm = match targets.mlm {
            Some((targets, scale)) => Some((self.mlm_head(batch, targets)?, targets, scale)),
            None => None,
        };
        let classes = match targets.classes {
            Some((classes, scale)) => Some((self.classifier(batch, classes)?, classes, scale)),
            None => None,
        };
        if let Some(gradients) = &gradients {
            self.check_gradients(gradients)?;
        }
        let mut gradients = gradients.map(|buffer| Gradients::new(buffer, &self.parameters));
        let mut losses = [Loss::default(); 2];
        if batch.is_empty() {
            return Ok(losses);
        }
        let pass = self.pass(batch, dropout);
        let masked = mlm.map_or(&[][..], |(_, targets, _)| &targets.places);
        self.forward_heads(pass, masked, classes.is_some(), w);
        set_len(&mut w.d_rows, w.rows.len());
        let middle = masked.len() * self.config.hidden_size;
        let (rows, text_rows) = w.rows.split_at(middle);
        let (d_rows, d_text_rows) = w.d_rows.split_at_mut(middle);
        let partial = &mut w.scratch.partial;
        if let Some((head, targets, scale)) = mlm {
            let back = gradients.as_mut().map(|gradients| Back { scale, gradients, d_rows, partial });
            losses[0] = head.loss(pass, rows, &targets.labels, &mut w.mlm, back);
        }
        if let Some((classifier, targets, scale)) = classes {
            let (head, d_rows, partial) = (&mut w.classifier, d_text_rows, &mut w.scratch.partial);
            classifier.forward(pass, &self.pooler, text_rows, head);
            let back = gradients.as_mut().map(|gradients| Back { scale, gradients, d_rows, partial });
            losses[1] = classifier.loss(pass, &self.pooler, text_rows, targets, head, back);
        }
        if let Some(gradients) = &mut gradients {
            let places = std::mem::take(&mut w.places);
            let done = self.backward(pass, &places, gradients, w);
            w.places = places;
            done?;
        }
        Ok(losses)
    }

    fn mlm_head(&self, batch: &Batch, targets: &MlmTargets) -> Result<&MlmHead, EncoderError> {
        let Some(mlm) = &self.mlm else {
            return Err(EncoderError::Config("the model has no MLM head".into()));
        };
        let tokens = batch.tokens().len();
        if targets.places.len() != targets.labels.len()
            || targets.places.iter().any(|p| *p as usize >= tokens)
            || targets.labels.iter().any(|l| *l as usize >= self.config.vocab_size)
        {
            return Err(EncoderError::Batch("an MLM target is out of range".into()));
        }
        Ok(mlm)
    }

    fn classifier(&self, batch: &Batch, targets: ClassTargets) -> Result<&Classifier, EncoderError> {
        let Some(classifier) = &self.classifier else {
            return Err(EncoderError::Config("the model has no classifier".into()));
        };
        let examples = self.examples(batch);
        let fits = match (targets, self.head) {
            (ClassTargets::Values(values), Head::Regression) => Some(values.len()) == examples,
            (ClassTargets::Values(_), _) | (_, Head::Regression) => false,
            (ClassTargets::Weighted(_, weights), head) if weights.len() != head.outputs() => false,
            (ClassTargets::Classes(classes) | ClassTargets::Weighted(classes, _), head) => {
                let known = |c: &u32| *c == IGNORED || (*c as usize) < head.outputs();
                Some(classes.len()) == examples && classes.iter().all(known)
            }
        };
        if fits {
            return Ok(classifier);
        }
        Err(EncoderError::Batch("the targets do not fit the examples or the head".into()))
    }

    fn check_gradients(&self, gradients: &[f32]) -> Result<(), EncoderError> {
        if gradients.len() == self.parameters.len() {
            return Ok(());
        }
        Err(EncoderError::Batch("the gradient buffer is not as long as the parameters".into()))
    }
}

/// What heads should predict, and the factors of their losses in the gradient.
struct Targets<'a> {
    mlm: Option<(&'a MlmTargets, f32)>,
    classes: Option<(ClassTargets<'a>, f32)>,
}
