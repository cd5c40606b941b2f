//! Which parts of a model are trained.

use fnet_encoder::Model;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// A part of a model, by the names of its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Word, position and segment embeddings, and their projection.
    Embeddings,
    /// Weights and biases of mixers.
    Mixing,
    /// Feed-forward layers.
    FeedForward,
    /// Layer norms, wherever they are.
    Norms,
    /// Pooler, classifier, what predicts masked tokens.
    Head,
}

impl Part {
    /// Whether a tensor belongs to it. Each belongs to one part, except the norms of heads and embeddings, which
    /// are also norms.
    pub fn holds(self, name: &str) -> bool {
        let mixing = name.contains(".mixing.")
            || name.contains(".attention.self.")
            || name.contains(".attention.output.dense.");
        match self {
            Self::Embeddings => name.contains(".embeddings."),
            Self::Mixing => mixing,
            Self::FeedForward => {
                !mixing && (name.contains(".intermediate.dense.") || name.contains(".output.dense."))
            }
            Self::Norms => name.contains("LayerNorm."),
            Self::Head => {
                let of_texts = name.contains(".pooler.") || name.contains(".sentence.");
                of_texts || name.starts_with("cls.") || name.starts_with("classifier.")
            }
        }
    }
}

/// A named choice of what is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Recipe {
    /// Everything.
    #[default]
    Full,
    /// The head alone.
    #[cfg_attr(feature = "clap", value(alias = "output-only"))]
    #[serde(alias = "output-only")]
    HeadOnly,
    /// The output layer alone, in closed form: ridge regression on what is pooled, in one pass over the data.
    Ridge,
    /// Norms and head, on frozen embeddings and layers.
    Norms,
    /// Norms, embeddings and head, on frozen layers (frozen pretrained transformers, Lu et al. 2021).
    NormsAndEmbeddings,
    /// Input, output, norms and positions, on frozen layers (frozen pretrained transformers, Lu et al. 2021, section 2.2):
    /// the input is the word embeddings, or the projection of vectors.
    Fpt,
    /// Feed-forward and mixing matrices keep random values, pretrained or not; the rest is trained.
    RandomFrozen,
}

impl Recipe {
    /// Its name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::HeadOnly => "head-only",
            Self::Ridge => "ridge",
            Self::Norms => "norms",
            Self::NormsAndEmbeddings => "norms-and-embeddings",
            Self::Fpt => "fpt",
            Self::RandomFrozen => "random-frozen",
        }
    }

    /// Freezes what the recipe does not train; random matrices come from `seed`.
    ///
    /// # Errors
    /// If a model of this shape cannot be built.
    pub fn apply(self, model: &mut Model, seed: u64) -> Result<()> {
        match self {
            Self::Full => {}
            Self::HeadOnly => train_only(model, &[Part::Head]),
            Self::Ridge => drop(model.parameters_mut().freeze_where(|name| !name.starts_with("classifier."))),
            Self::Norms => train_only(model, &[Part::Norms, Part::Head]),
            Self::NormsAndEmbeddings => train_only(model, &[Part::Norms, Part::Embeddings, Part::Head]),
            Self::Fpt => {
                let reads_vectors = model.config().input_width.is_some();
                let input = if reads_vectors { ".input_projection." } else { ".word_embeddings." };
                let is_trained = |name: &str| {
                    Part::Norms.holds(name)
                        || Part::Head.holds(name)
                        || name.contains(input)
                        || name.contains(".position_embeddings.")
                };
                model.parameters_mut().freeze_where(|name| !is_trained(name));
            }
            Self::RandomFrozen => {
                let matrix = |name: &str| {
                    name.ends_with(".weight") && (Part::FeedForward.holds(name) || Part::Mixing.holds(name))
                };
                let fresh = Model::new(model.config().clone(), model.head(), seed)?;
                let parameters = model.parameters_mut();
                for tensor in fresh.parameters().table().iter().filter(|t| matrix(&t.name)) {
                    let values = &fresh.parameters().values()[tensor.range()];
                    parameters.values_mut()[tensor.range()].copy_from_slice(values);
                }
                parameters.freeze_where(matrix);
            }
        }
        Ok(())
    }
}

/// Freezes everything outside these parts.
pub fn train_only(model: &mut Model, parts: &[Part]) {
    model.parameters_mut().freeze_where(|name| !parts.iter().any(|part| part.holds(name)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use fnet_encoder::mixers::MixerKind;
    use fnet_encoder::{Head, ModelConfig};

    fn model(mixers: [MixerKind; 2]) -> Model {
        let mut config = ModelConfig { vocab_size: 50, ..ModelConfig::preset("tiny").unwrap() };
        config.set_mixers(mixers.to_vec());
        Model::new(config, Head::Classification { labels: 2 }, 3).unwrap()
    }

    fn trained(model: &Model) -> Vec<&str> {
        model.parameters().table().iter().filter(|t| t.trainable).map(|t| t.name.as_str()).collect()
    }

    #[test]
    fn every_tensor_is_in_a_part() {
        const ALL: [Part; 5] = [Part::Embeddings, Part::Mixing, Part::FeedForward, Part::Norms, Part::Head];
        for mixers in [[MixerKind::Attention; 2], [MixerKind::Mlp, MixerKind::Linear]] {
            for tensor in model(mixers).parameters().table() {
                let parts = ALL.iter().filter(|part| part.holds(&tensor.name)).count();
                let expected = if tensor.name.contains("embeddings.LayerNorm") { 2 } else { 1 };
                assert_eq!(parts, expected, "{}", tensor.name);
            }
        }
    }

    #[test]
    fn recipes_train_what_they_say() {
        let hybrid = [MixerKind::Attention, MixerKind::Linear];
        let mut head = model(hybrid);
        Recipe::HeadOnly.apply(&mut head, 9).unwrap();
        let expected =
            ["fnet.pooler.dense.weight", "fnet.pooler.dense.bias", "classifier.weight", "classifier.bias"];
        assert_eq!(trained(&head), expected);
        let mut fpt = model(hybrid);
        Recipe::Fpt.apply(&mut fpt, 9).unwrap();
        let embeddings: Vec<&str> =
            trained(&fpt).into_iter().filter(|n| n.contains(".embeddings.") && !n.contains("Norm")).collect();
        assert_eq!(
            embeddings,
            ["fnet.embeddings.word_embeddings.weight", "fnet.embeddings.position_embeddings.weight"]
        );
        let mut norms = model(hybrid);
        Recipe::Norms.apply(&mut norms, 9).unwrap();
        assert!(
            trained(&norms)
                .iter()
                .all(|n| n.contains("Norm") || n.contains("pooler") || n.contains("classifier"))
        );
        assert!(trained(&norms).contains(&"fnet.embeddings.LayerNorm.weight"));
        let mut norms = model(hybrid);
        Recipe::NormsAndEmbeddings.apply(&mut norms, 9).unwrap();
        assert!(trained(&norms).iter().all(|n| !n.contains("dense") || n.contains("pooler")));
        assert!(trained(&norms).contains(&"fnet.embeddings.word_embeddings.weight"));
        let mut random = model(hybrid);
        let before = random.parameters().values().to_vec();
        Recipe::RandomFrozen.apply(&mut random, 9).unwrap();
        for tensor in random.parameters().table() {
            let changed = before[tensor.range()] != random.parameters().values()[tensor.range()];
            assert_eq!(changed, !tensor.trainable, "{}", tensor.name);
        }
    }
}
