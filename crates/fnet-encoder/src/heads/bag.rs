//! A second opinion on each text, from its words alone: the sum of word vectors from a separate table, divided by
//! the root of their number, and a linear layer (after Joulin et al. 2017, without their hashed pairs).

use super::{Back, ClassTargets, Head};
use crate::gemm::{Matrix, Out};
use crate::loss::Loss;
use crate::modules::{Builder, Linear, Pass};
use crate::readout::Readout;
use crate::workspace::{BagActivations, set_len};

/// Its word vectors, which start as the encoder's and are trained separately.
pub const BAG_WORDS: &str = "classifier.bag.words.weight";

/// Factor of its learning rate: most words occur in few texts.
const RATE: f32 = 20.0;

/// Word vectors with a linear layer.
pub(super) struct Bag {
    readout: Readout,
    output: Linear,
}

impl Bag {
    pub fn new(b: &mut Builder, head: Head) -> Self {
        let (words, hidden) = (b.config.vocab_size, b.config.hidden_size);
        let first = b.parameters.table().len();
        let readout = Readout::of_words(b.config, b.table(BAG_WORDS, words, hidden));
        let bag = Self { readout, output: b.linear("classifier.bag.output", hidden, head.outputs()) };
        b.parameters.learn_faster(first.., RATE);
        bag
    }

    /// Fills `bag.logits` with `[texts, outputs]`.
    pub fn forward(&self, p: Pass, bag: &mut BagActivations) {
        let places = &mut Vec::new();
        self.readout.places(p, &mut bag.readout, places);
        self.readout.forward(p, &[], &mut bag.readout);
        set_len(&mut bag.logits, p.batch.texts() * self.output.outputs());
        self.output.forward(p, &bag.readout.read, &mut bag.logits);
    }

    /// The loss of `bag.logits`; with `back`, also the gradients.
    pub fn loss(
        &self,
        p: Pass,
        targets: ClassTargets,
        bag: &mut BagActivations,
        back: Option<&mut Back>,
    ) -> Loss {
        let scale = back.as_ref().map_or(1.0, |back| back.scale);
        let loss = targets.loss(&mut bag.logits, scale, &mut bag.losses);
        if let Some(Back { gradients, partial, .. }) = back {
            let BagActivations { readout: kept, logits, .. } = bag;
            self.output.backward_parameters(p, gradients, logits, &kept.read, partial);
            set_len(&mut kept.d_read, kept.read.len());
            let d_logits = Matrix::new(logits, self.output.outputs());
            self.output.backward_input(p, d_logits, &mut kept.d_read, Out::Set);
            self.readout.backward(p, gradients, &[], kept, &mut []);
        }
        loss
    }
}
