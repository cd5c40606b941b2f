use crate::ops::layer_norm::Stats;
use crate::ops::matching::Match;
use crate::ops::softmax_cross_entropy::RowLoss;

/// The activations of a forward pass and the buffers of a backward pass.
///
/// Make one and reuse it: buffers grow to the largest batch seen and stay, so a training step allocates nothing
/// here once it has seen its largest batch.
#[derive(Debug, Default)]
pub struct Workspace {
    /// The projection of vectors, or its gradient, `[vectors, hidden]`.
    pub(crate) projected: Vec<f32>,
    /// Sum of the embeddings.
    pub(crate) embedded: Normed,
    /// What each layer keeps for its backward pass; one entry is shared where none is needed.
    pub(crate) layers: Vec<LayerActivations>,
    /// Output of the last layer that ran to its end, `[tokens, hidden]`.
    pub(crate) hidden: Vec<f32>,
    /// The embeddings of several models' batches, before they become `hidden`.
    pub(crate) together: Vec<f32>,
    /// The last layer's mix of `hidden`, `[tokens, hidden]`.
    pub(crate) mixing: Vec<f32>,
    /// Output of the last layer at the tokens that a head reads, `[rows, hidden]`.
    pub(crate) rows: Vec<f32>,
    /// Gradient of `rows`.
    pub(crate) d_rows: Vec<f32>,
    /// Gradient of `hidden`, `[tokens, hidden]`.
    pub(crate) d_hidden: Vec<f32>,
    /// Gradient of a sum of two, `[tokens, hidden]`.
    pub(crate) d_sum: Vec<f32>,
    /// Output of a layer norm, `[tokens, hidden]`.
    pub(crate) normed: Vec<f32>,
    /// Feed-forward layer after its activation, or its gradient, `[tokens, intermediate]`.
    pub(crate) wide: Vec<f32>,
    /// The feed-forward layer that is being recomputed, `[tokens, intermediate]`.
    pub(crate) again: Vec<f32>,
    pub(crate) scratch: Scratch,
    /// Tokens that heads read, as indices into the batch.
    pub(crate) places: Vec<u32>,
    pub(crate) mlm: HeadActivations,
    pub(crate) classifier: HeadActivations,
}

/// A layer norm's input and statistics: its output is cheap to recompute.
#[derive(Debug, Default)]
pub(crate) struct Normed {
    pub input: Vec<f32>,
    pub stats: Vec<Stats>,
}

/// What one encoder layer keeps: 6 values per token and hidden unit, 2 if the feed-forward layer is recomputed.
#[derive(Debug, Default)]
pub(crate) struct LayerActivations {
    /// x + mix(x)
    pub mixed: Normed,
    /// Feed-forward layer before bias and activation, `[tokens, intermediate]`.
    pub wide: Vec<f32>,
    /// Input of the second layer norm.
    pub sum: Normed,
    /// What the mixer keeps.
    pub mixer: Buffers,
}

/// Buffers that grow to the largest lengths seen and stay.
#[derive(Debug, Default)]
pub struct Buffers(Vec<Vec<f32>>);

impl Buffers {
    /// The first `N` buffers at these lengths. A buffer keeps its contents as far as they fit; at the same lengths,
    /// all of them.
    pub fn get<const N: usize>(&mut self, lens: [usize; N]) -> [&mut [f32]; N] {
        if self.0.len() < N {
            self.0.resize_with(N, Vec::new);
        }
        let mut buffers = self.0.iter_mut();
        lens.map(|len| {
            let buffer = buffers.next().map(|buffer| {
                set_len(buffer, len);
                buffer.as_mut_slice()
            });
            buffer.unwrap_or_default()
        })
    }

    fn bytes(&self) -> usize {
        4 * self.0.iter().map(Vec::capacity).sum::<usize>()
    }
}

/// Buffers of a backward pass, which layers use one after another.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Of mixers.
    pub buffers: Buffers,
    /// Sums over blocks of rows.
    pub partial: Vec<f32>,
}

/// What the heads keep; rows are masked tokens or sequences.
#[derive(Debug, Default)]
pub(crate) struct HeadActivations {
    /// Classifier: the pooled vectors of each text.
    pub readout: ReadoutActivations,
    /// Classifier: its second opinion.
    pub bag: BagActivations,
    /// Classifier: how the words of pairs are matched.
    pub matching: MatchingActivations,
    /// Classifier: the pooled vectors, standardised.
    pub standard: Vec<f32>,
    /// Vectors of texts: each dense layer's output without its bias, and after bias and activation.
    pub before: Vec<Vec<f32>>,
    pub after: Vec<Vec<f32>>,
    /// Whether they have been made in this pass, and not been used up by the backward pass.
    pub has_vectors: bool,
    /// First linear layer's output.
    pub dense: Vec<f32>,
    /// Classifier: the gradient of `dense`.
    pub d_dense: Vec<f32>,
    /// MLM: after the activation.
    pub activated: Normed,
    /// MLM: `activated`, normalised. Classifier: the input of its output layer.
    pub active: Vec<f32>,
    /// Classifier: the comparison of texts' vectors, before the words' matches are added to it.
    pub compared: Vec<f32>,
    pub d_active: Vec<f32>,
    pub scratch: Vec<f32>,
    /// Logits, then their gradient.
    pub logits: Vec<f32>,
    pub losses: Vec<RowLoss>,
}

/// The pooled vectors of a batch's texts.
#[derive(Debug, Default)]
pub(crate) struct ReadoutActivations {
    /// Whether `read` was given, and no row was read.
    pub given: bool,
    /// Where each text's rows end among those that are read.
    pub ends: Vec<usize>,
    /// Means of each layer's input, `[texts, layers, hidden]`, where they are read.
    pub below: Vec<f32>,
    /// `[texts, width]`
    pub read: Vec<f32>,
    pub d_read: Vec<f32>,
    /// The learnt query's attention to each row.
    pub attention: Vec<f32>,
    /// Each text's share of the query's gradient, `[texts, hidden]`.
    pub d_query: Vec<f32>,
}

/// What the second opinion keeps.
#[derive(Debug, Default)]
pub(crate) struct BagActivations {
    pub readout: ReadoutActivations,
    /// Logits, then their gradient.
    pub logits: Vec<f32>,
    pub losses: Vec<RowLoss>,
}

/// How the words of the pairs of a batch are matched.
#[derive(Debug, Default)]
pub(crate) struct MatchingActivations {
    /// The words of all texts.
    pub ids: Vec<u32>,
    /// Where each text's words end.
    pub ends: Vec<usize>,
    /// `[words, hidden]`
    pub words: Vec<f32>,
    pub d_words: Vec<f32>,
    /// After the matrix, normalised to length one.
    pub units: Vec<f32>,
    pub d_units: Vec<f32>,
    /// Lengths before that.
    pub lengths: Vec<f32>,
    pub best: Vec<Match>,
    /// Each text's mean, `[pairs, 2]`.
    pub means: Vec<f32>,
    /// Inputs of the output layer, `[pairs, 2]`.
    pub values: Vec<f32>,
    pub d_values: Vec<f32>,
}

impl ReadoutActivations {
    fn bytes(&self) -> usize {
        let floats = [&self.read, &self.d_read, &self.attention, &self.d_query];
        size_of::<f32>() * floats.map(Vec::capacity).iter().sum::<usize>()
            + size_of::<usize>() * self.ends.capacity()
    }
}

impl Workspace {
    /// An empty workspace.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes in all buffers.
    pub fn bytes(&self) -> usize {
        let heads = [&self.mlm, &self.classifier];
        let norms = [&self.embedded, &self.mlm.activated].into_iter();
        let norms = norms.chain(self.layers.iter().flat_map(|layer| [&layer.mixed, &layer.sum]));
        let plain = [
            &self.projected,
            &self.hidden,
            &self.together,
            &self.mixing,
            &self.rows,
            &self.d_rows,
            &self.d_hidden,
            &self.d_sum,
            &self.normed,
            &self.wide,
            &self.again,
            &self.scratch.partial,
        ];
        let in_heads =
            heads.map(|h| [&h.dense, &h.d_dense, &h.standard, &h.active, &h.d_active, &h.scratch, &h.logits]);
        let plain = plain.into_iter().chain(in_heads.into_iter().flatten());
        let plain = plain.chain(self.layers.iter().map(|layer| &layer.wide));
        size_of::<f32>() * plain.map(Vec::capacity).sum::<usize>()
            + norms.map(|n| 4 * n.input.capacity() + size_of::<Stats>() * n.stats.capacity()).sum::<usize>()
            + heads.iter().map(|head| size_of::<RowLoss>() * head.losses.capacity()).sum::<usize>()
            + self.classifier.readout.bytes()
            + self.classifier.bag.readout.bytes()
            + size_of::<f32>() * self.classifier.bag.logits.capacity()
            + size_of::<RowLoss>() * self.classifier.bag.losses.capacity()
            + size_of::<u32>() * self.places.capacity()
            + self.scratch.buffers.bytes()
            + self.layers.iter().map(|layer| layer.mixer.bytes()).sum::<usize>()
    }

    /// What the layer of a slot keeps.
    pub(crate) fn kept(&mut self, slot: usize) -> &mut LayerActivations {
        if self.layers.len() <= slot {
            self.layers.resize_with(slot + 1, LayerActivations::default);
        }
        &mut self.layers[slot]
    }
}

/// Sets a buffer's length without giving memory back.
pub(crate) fn set_len<T: Clone + Default>(buffer: &mut Vec<T>, len: usize) {
    buffer.resize(len, T::default());
}

impl Normed {
    pub fn set_len(&mut self, rows: usize, width: usize) {
        set_len(&mut self.input, rows * width);
        set_len(&mut self.stats, rows);
    }
}
