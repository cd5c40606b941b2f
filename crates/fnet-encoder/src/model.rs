use crate::encoder::{Builder, Embeddings, Layer, Pass};
use crate::gemm::{Precision, Products};
use crate::heads::{ClassTargets, Classifier, Head, MlmHead, MlmTargets, Pooler};
use crate::loss::Loss;
use crate::ops::dropout::Dropout;
use crate::workspace::Workspace;
use crate::{Batch, EncoderError, ModelConfig, Parameters};

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
        config.check()?;
        if head == (Head::Classification { labels: 0 }) {
            return Err(EncoderError::Config("a classifier needs at least one label".into()));
        }
        let mut parameters = Parameters::default();
        let mut b = Builder { parameters: &mut parameters, config: &config, seed };
        let embeddings = Embeddings::new(&mut b);
        let layers = (0..config.num_hidden_layers).map(|i| Layer::new(&mut b, i)).collect();
        let pooler = Pooler::new(&mut b);
        let (mut mlm, mut classifier) = (None, None);
        match head {
            Head::MaskedLm => mlm = Some(MlmHead::new(&mut b)),
            _ => classifier = Some(Classifier::new(&mut b, head.outputs())),
        }
        if mlm.is_some() {
            parameters.freeze("fnet.pooler.*"); // nothing reads it
        }
        let (products, recompute) = (Products::new(Precision::F32), false);
        Ok(Self {
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
        })
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

    /// Refuses a batch with ids out of range, an empty sequence, or one that is too long.
    ///
    /// # Errors
    /// Names the first sequence that does not fit.
    pub fn check(&self, batch: &Batch) -> Result<(), EncoderError> {
        let c = &self.config;
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
            let largest = batch.tokens()[range.clone()].iter().max().copied().unwrap_or(0);
            if largest as usize >= c.vocab_size {
                return fail(format!("token {largest} is outside the vocabulary of {}", c.vocab_size));
            }
            let largest = batch.segments()[range].iter().max().copied().unwrap_or(0);
            if largest as usize >= c.type_vocab_size {
                return fail(format!("segment {largest} is outside the {}", c.type_vocab_size));
            }
        }
        Ok(())
    }

    /// Runs the encoder up to the last layer's mixing. The rest of that layer works on each token alone
    /// and is run by what reads its output, at the tokens that are read: masked places, the first token
    /// of each sequence, or all.
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
        self.embeddings.forward(pass, w);
        let (last, others) = self.ends();
        for (i, layer) in others.iter().enumerate() {
            layer.forward(pass, w, self.slot(pass, i))?;
        }
        last.forward_mixing(pass, w)
    }

    /// The last layer and those before it.
    fn ends(&self) -> (&Layer, &[Layer]) {
        self.layers.split_last().expect("`ModelConfig::check` refuses a model without layers")
    }

    /// Where a layer keeps its activations: all share one place where there is no backward pass.
    fn slot(&self, pass: Pass, layer: usize) -> usize {
        if pass.dropout.is_some() { layer } else { 0 }
    }

    /// The end of the last layer, into `w.rows`.
    fn forward_rows(&self, pass: Pass, places: &[u32], w: &mut Workspace) {
        let (last, others) = self.ends();
        last.forward_rows(pass, w, self.slot(pass, others.len()), places);
    }

    /// From `w.d_rows`, the gradient at `places`.
    fn backward(
        &self,
        pass: Pass,
        places: &[u32],
        gradients: &mut [f32],
        w: &mut Workspace,
    ) -> Result<(), EncoderError> {
        let (last, others) = self.ends();
        last.backward_rows(pass, gradients, w, others.len(), places)?;
        for (i, layer) in others.iter().enumerate().rev() {
            layer.backward(pass, gradients, w, i)?;
        }
        self.embeddings.backward(pass, gradients, w);
        Ok(())
    }

    /// The last layer's output for all tokens, `[tokens, hidden]`, after a forward pass without dropout.
    pub fn hidden<'w>(&self, batch: &Batch, w: &'w mut Workspace) -> &'w [f32] {
        let places: Vec<u32> = (0..batch.tokens().len() as u32).collect();
        self.forward_rows(self.pass(batch, None), &places, w);
        &w.rows
    }

    /// The last layer's output for the first token of each sequence, `[sequences, hidden]`, after a
    /// forward pass without dropout.
    pub fn first_tokens<'w>(&self, batch: &Batch, w: &'w mut Workspace) -> &'w [f32] {
        self.forward_rows(self.pass(batch, None), &first_places(batch), w);
        &w.rows
    }

    /// MLM logits `[places, vocabulary]` after a forward pass without dropout; empty without an MLM head.
    pub fn mlm_logits<'w>(&self, batch: &Batch, places: &[u32], w: &'w mut Workspace) -> &'w [f32] {
        let Some(mlm) = &self.mlm else { return &[] };
        let pass = self.pass(batch, None);
        self.forward_rows(pass, places, w);
        mlm.logits(pass, self.embeddings.words, w)
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
        let mlm = self.mlm_head(batch, targets)?;
        let pass = self.pass(batch, None);
        self.forward_rows(pass, &targets.places, w);
        Ok(mlm.loss(pass, self.embeddings.words, &targets.labels, 1.0, None, w))
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
        let mlm = self.mlm_head(batch, targets)?;
        self.check_gradients(gradients)?;
        let pass = self.pass(batch, Some(dropout));
        self.forward_rows(pass, &targets.places, w);
        let words = self.embeddings.words;
        let loss = mlm.loss(pass, words, &targets.labels, scale, Some(gradients), w);
        self.backward(pass, &targets.places, gradients, w)?;
        Ok(loss)
    }

    /// The classifier's output `[sequences, labels]` after a forward pass with the same `dropout`;
    /// empty for an MLM model.
    pub fn classify<'w>(&self, batch: &Batch, dropout: Option<Dropout>, w: &'w mut Workspace) -> &'w [f32] {
        let Some(classifier) = &self.classifier else { return &[] };
        let pass = self.pass(batch, dropout);
        self.forward_rows(pass, &first_places(batch), w);
        self.pooler.forward(pass, w);
        classifier.forward(pass, w);
        &w.head.logits
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
        let Some(classifier) = &self.classifier else {
            return Err(EncoderError::Config("the model has no classifier".into()));
        };
        self.check_gradients(gradients)?;
        self.check_class_targets(batch, targets)?;
        if batch.is_empty() {
            return Ok(Loss::default());
        }
        self.classify(batch, Some(dropout), w);
        let loss = Classifier::loss(targets, scale, &mut w.head);
        let pass = self.pass(batch, Some(dropout));
        classifier.backward(pass, &self.pooler, gradients, w);
        self.backward(pass, &first_places(batch), gradients, w)?;
        Ok(loss)
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

    fn check_class_targets(&self, batch: &Batch, targets: ClassTargets) -> Result<(), EncoderError> {
        let fits = match (targets, self.head) {
            (ClassTargets::Classes(classes), Head::Classification { labels }) => {
                classes.len() == batch.len() && classes.iter().all(|c| (*c as usize) < labels)
            }
            (ClassTargets::Values(values), Head::Regression) => values.len() == batch.len(),
            _ => false,
        };
        if fits {
            return Ok(());
        }
        Err(EncoderError::Batch("the targets do not fit the sequences or the head".into()))
    }

    fn check_gradients(&self, gradients: &[f32]) -> Result<(), EncoderError> {
        if gradients.len() == self.parameters.len() {
            return Ok(());
        }
        Err(EncoderError::Batch("the gradient buffer is not as long as the parameters".into()))
    }
}

/// Where each sequence's first token lies in the batch.
fn first_places(batch: &Batch) -> Vec<u32> {
    batch.ranges().map(|range| range.start as u32).collect()
}
