//! A frozen trunk that is held in memory once, under many adapters.

use std::collections::HashSet;
use std::sync::Arc;

use crate::encoder::Part;
use crate::forward::Mode;
use crate::modules::Pass;
use crate::workspace::{HeadActivations, Workspace};
use crate::{Batch, EncoderError, Head, Model, ModelConfig};

/// The layers of a model, shared by adapters: models that have an input, norms and a head of their own, and nothing else.
/// Clones are the same trunk.
///
/// ```
/// use fnet_encoder::{Batch, Head, Mode, Model, ModelConfig, Trunk, Workspace};
///
/// let config = ModelConfig { vocab_size: 10, input_width: Some(3), ..ModelConfig::preset("tiny").unwrap() };
/// let trunk = Trunk::new(Model::new(config.clone(), Head::Encoder, 1)?);
/// let own = ["fnet.pooler.dense.weight", "fnet.pooler.dense.bias", "classifier.weight", "classifier.bias"];
/// let sorts = trunk.adapter(config.clone(), Head::Classification { labels: 2 }, &own)?;
/// let counts = trunk.adapter(config, Head::Regression, &own)?;
///
/// let (mut words, mut vectors, mut w) = (Batch::new(), Batch::new(), Workspace::new());
/// words.push(&[1, 2, 3], &[]);
/// vectors.push_vectors(&[0.5; 12], 3)?;
/// // Both at once, with the same bits as each alone.
/// let together = trunk.logits(&[(&sorts, &words), (&counts, &vectors)], &mut w)?;
/// assert_eq!(together[0], sorts.forward(&words, Mode::Infer, &mut w)?.logits()?);
/// assert_eq!(together[1], counts.forward(&vectors, Mode::Infer, &mut w)?.logits()?);
/// # Ok::<(), fnet_encoder::EncoderError>(())
/// ```
#[derive(Clone)]
pub struct Trunk {
    model: Arc<Model>,
}

impl Model {
    /// The trunk that the model is an adapter of; `None` if it stands alone.
    pub fn trunk(&self) -> Option<Trunk> {
        Some(Trunk { model: Arc::clone(self.trunk.as_ref()?) })
    }
}

impl Trunk {
    /// A model as a trunk.
    pub fn new(model: Model) -> Self {
        Self { model: Arc::new(model) }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Whether another is this trunk, not only like it.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.model, &other.model)
    }

    /// An adapter whose own weights are those that `own` names, and what the trunk lacks. They are zero, to be filled in:
    /// its [`parameters`](Model::parameters_mut) are its own alone, and so are what training changes.
    ///
    /// # Errors
    /// If the configuration's layers are not the trunk's, or weights of mixing or feed-forward layers are not.
    pub fn adapter(
        &self,
        config: ModelConfig,
        head: Head,
        own: &[impl AsRef<str>],
    ) -> Result<Model, EncoderError> {
        let layers = |config: &ModelConfig| {
            let mut layers = self.model.config().clone();
            layers.num_hidden_layers = config.num_hidden_layers;
            layers.hidden_size = config.hidden_size;
            layers.intermediate_size = config.intermediate_size;
            layers.hidden_act.clone_from(&config.hidden_act);
            layers.layer_norm_eps = config.layer_norm_eps;
            layers.reservoir = config.reservoir;
            layers.model_type.clone_from(&config.model_type);
            layers.set_mixers(config.layer_mixers());
            layers
        };
        let fail = |message: &str| Err(EncoderError::Config(message.into()));
        config.check()?;
        if layers(&config) != layers(self.model.config()) {
            return fail("the adapter's layers are not the trunk's");
        }
        let own: HashSet<String> = own.iter().map(|name| name.as_ref().to_string()).collect();
        let mut model = Model::shaped_on(&self.model, config, head, &own)?;
        let is_of_layers = |name: &&str| name.contains(".encoder.") && !name.contains("LayerNorm.");
        // Mixers are shared as they are: their tensors are no part of the table.
        let named = own.iter().map(String::as_str);
        let named = named.chain(model.parameters().table().iter().map(|tensor| tensor.name.as_str()));
        if let Some(name) = named.into_iter().find(is_of_layers) {
            return fail(&format!("{name} is not the trunk's"));
        }
        model.parameters_mut().allocate();
        Ok(model)
    }

    /// A whole model as an adapter of this trunk, with the same weights and the same ones trained: `own` names those that
    /// it does not share.
    ///
    /// # Errors
    /// As [`adapter`](Self::adapter); if one of the other weights is not the trunk's.
    pub fn adapter_of(&self, model: &Model, own: &[impl AsRef<str>]) -> Result<Model, EncoderError> {
        let mut adapter = self.adapter(model.config().clone(), model.head(), own)?;
        let whole = model.parameters();
        for tensor in whole.table() {
            let values = &whole.values()[tensor.range()];
            if let Some(own) = adapter.parameters_mut().get_mut(&tensor.name) {
                own.copy_from_slice(values);
            } else if self.model.parameters().get(&tensor.name) != Some(values) {
                return Err(EncoderError::Config(format!("{} is not the trunk's", tensor.name)));
            }
        }
        let is_frozen = |name: &str| whole.table().iter().any(|t| t.name == name && !t.trainable);
        adapter.parameters_mut().freeze_where(is_frozen);
        adapter.set_products(model.products());
        adapter.set_recompute(model.recompute());
        Ok(adapter)
    }

    /// The outputs of several adapters, each for its batch, as [`Forward::logits`](crate::Forward::logits) gives them. The
    /// frozen layers run once over the tokens of all; each answer has the bits that its adapter gives alone.
    ///
    /// # Errors
    /// If a model is no adapter of this trunk, has no classifier, or a batch does not fit it.
    pub fn logits(
        &self,
        parts: &[(&Model, &Batch)],
        w: &mut Workspace,
    ) -> Result<Vec<Vec<f32>>, EncoderError> {
        let mut outputs = vec![Vec::new(); parts.len()];
        let mut together = Vec::new();
        for (index, (model, batch)) in parts.iter().enumerate() {
            if !model.trunk.as_ref().is_some_and(|trunk| Arc::ptr_eq(trunk, &self.model)) {
                return Err(EncoderError::Config("the model is no adapter of this trunk".into()));
            }
            // What reads no layers, and errors, come from the model itself.
            if batch.is_empty() || !model.reads_layers() || !model.has_outputs_for(batch) {
                outputs[index] = model.forward(batch, Mode::Infer, w)?.logits()?.to_vec();
            } else {
                model.check(batch)?;
                together.push(Member { index, model, batch });
            }
        }
        let Some(first) = together.first() else { return Ok(outputs) };
        let products = first.model.products();
        let (mut all, mut hidden) = (Batch::new(), std::mem::take(&mut w.together));
        hidden.clear();
        for member in &together {
            member.model.embeddings.forward(member.pass(), w);
            hidden.extend_from_slice(&w.hidden);
            all.append(member.batch);
        }
        w.together = std::mem::replace(&mut w.hidden, hidden);
        let pass = Pass { products, ..self.model.pass(&all, Mode::Infer) };
        let (last, others) = self.model.ends();
        let mut heads = Vec::from_iter(together.iter().map(|_| HeadActivations::default()));
        let keep = |layer: usize, hidden: &[f32], heads: &mut [HeadActivations]| {
            let mut rest = hidden;
            for (member, head) in together.iter().zip(heads) {
                let own;
                (own, rest) = rest.split_at(member.batch.tokens().len() * member.model.config().hidden_size);
                member.model.pooler.readout.keep(member.pass(), layer, own, &mut head.readout);
            }
        };
        for (i, layer) in others.iter().enumerate() {
            keep(i, &w.hidden, &mut heads);
            let parts: Vec<Part> = together.iter().map(|m| m.part(i, m.batch.tokens().len())).collect();
            layer.forward_parts(pass, w, 0, &parts)?;
        }
        keep(others.len(), &w.hidden, &mut heads);
        last.forward_mixing(pass, w, 0)?;
        // The rest of the last layer runs for the rows that heads read.
        let (mut places, mut parts, mut start) = (Vec::new(), Vec::new(), 0);
        for (member, head) in together.iter().zip(&mut heads) {
            let mut own = Vec::new();
            member.model.places_of_texts(member.pass(), &mut head.readout, &mut own);
            parts.push(member.part(others.len(), own.len()));
            places.extend(own.iter().map(|place| place + start));
            start += member.batch.tokens().len() as u32;
        }
        last.forward_rows_parts(pass, w, 0, &places, &parts);
        let mut rest = w.rows.as_slice();
        for ((member, part), mut head) in together.iter().zip(&parts).zip(heads) {
            let own;
            (own, rest) = rest.split_at(part.rows * member.model.config().hidden_size);
            member.model.answer(member.pass(), own, &mut head);
            outputs[member.index] = head.logits;
        }
        Ok(outputs)
    }
}

/// An adapter with its batch, in a pass of several.
struct Member<'a> {
    index: usize,
    model: &'a Model,
    batch: &'a Batch,
}

impl<'a> Member<'a> {
    fn pass(&self) -> Pass<'a> {
        self.model.pass(self.batch, Mode::Infer)
    }

    fn part(&self, layer: usize, rows: usize) -> Part<'a> {
        Part { rows, layer: &self.model.layers[layer], values: self.pass().values }
    }
}
