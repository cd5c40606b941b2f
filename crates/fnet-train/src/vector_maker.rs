//! A readout for vectors of texts, made in closed form from any text: word weights, and whitening.

use fnet_encoder::pretrained::{self, Report};
use fnet_encoder::{Head, Model, Workspace};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::base_model::BaseModel;
use crate::data::tasks::encoding::Example;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::random::generator;
use crate::train::text_vectors::{self, SAMPLE, TokenCounts};

/// Takes texts, and then makes the readout of a model.
pub struct VectorMaker {
    counts: TokenCounts,
    special: Vec<bool>,
    frame: [u32; 2],
    sample: Vec<Example>,
    seen: usize,
    random: ChaCha8Rng,
}

impl VectorMaker {
    /// Without a text yet, for a model with a vocabulary of so many.
    pub fn new(tokenizer: &Tokenizer, vocabulary: usize) -> Self {
        let ids = tokenizer.special();
        Self {
            counts: TokenCounts::new(vocabulary),
            special: tokenizer.specials(),
            frame: [ids.cls, ids.sep],
            sample: Vec::new(),
            seen: 0,
            random: generator(0, "texts that are whitened by", 0),
        }
    }

    /// Takes a text's tokens: counts all of them, and keeps its beginning for some of the texts (Vitter 1985, algorithm R).
    pub fn add(&mut self, tokens: &[u32]) {
        self.counts.add(tokens);
        if let Some(text) = text_vectors::sentence_of(tokens, self.frame) {
            self.seen += 1;
            if self.sample.len() < SAMPLE {
                self.sample.push(text);
            } else {
                let place = self.random.random_range(0..self.seen);
                if let Some(other) = self.sample.get_mut(place) {
                    *other = text;
                }
            }
        }
    }

    /// Opens a model under `head`, with the readout; what the head lacks starts from `seed`.
    ///
    /// # Errors
    /// If it cannot be opened, or the texts are too few.
    pub fn open(&self, base: &BaseModel, head: Head, seed: u64) -> Result<(Model, Report)> {
        let own = pretrained::read_config(base.source())?.sentence;
        let pooling = own.map_or_else(text_vectors::usual_pooling, |own| Ok(own.pooling))?;
        let open = |head: Head| {
            pretrained::open_with(base.source(), head, seed, |config| {
                let pooling = pooling.clone();
                config.sentence =
                    Some(text_vectors::readout(pooling, config.hidden_size, config.num_hidden_layers));
            })
        };
        let (mut vectors, _) = open(Head::Sentence)?;
        self.fill(&mut vectors)?;
        let (mut model, mut report) = open(head)?;
        copy_readout(&vectors, &mut model);
        report.missing.retain(|name| !name.contains(".sentence."));
        Ok((model, report))
    }

    /// Fills the readout of a model with the head for vectors.
    fn fill(&self, model: &mut Model) -> Result<()> {
        if self.sample.len() < 2 {
            return Err(Error::usage("the texts are too few or too short to make vectors from"));
        }
        text_vectors::start(model, &self.counts, &self.special, &self.sample, &mut Workspace::new())
    }
}

/// Copies the tensors of the readout from one model to another.
fn copy_readout(from: &Model, to: &mut Model) {
    let (table, values) = (from.parameters().table().to_vec(), from.parameters().values());
    for tensor in table.iter().filter(|tensor| tensor.name.contains(".sentence.")) {
        if let Some(own) = to.parameters_mut().get_mut(&tensor.name) {
            own.copy_from_slice(&values[tensor.range()]);
        }
    }
}
