//! Which of a text's vectors a head reads: the names in `config.json` and on the command line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::EncoderError;

/// One way to pool a text's vectors into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// The last layer's output at the first token.
    First,
    /// The last layer's output at the last token.
    Last,
    /// Mean of the last layer's output.
    Mean,
    /// Largest value of the last layer's output, in each dimension.
    Max,
    /// Mean of the last layer's output weighted by softmax attention of one learnt query.
    Query,
    /// Mean of the word embeddings.
    Embeddings,
    /// Mean of the word embeddings, each times its word's stored weight: `a / (a + share)` of the word's share of all words
    /// (Arora et al. 2017, section 3). Words of weight zero do not count.
    Weighted,
    /// Mean of the vectors that are read, before they are projected; `input_width` values.
    Input,
    /// Means of the embeddings' output and of every layer's, one after another.
    Layers,
    /// Sum of the last layer's output, divided by the root of the number of tokens.
    SqrtMean,
    /// Mean of the last layer's output, the first token once, the second twice, and so on.
    PositionMean,
}

impl Pool {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::First,
        Self::Last,
        Self::Mean,
        Self::Max,
        Self::Query,
        Self::Embeddings,
        Self::Weighted,
        Self::Input,
        Self::Layers,
        Self::SqrtMean,
        Self::PositionMean,
    ];

    /// Its name in `config.json` and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Last => "last",
            Self::Mean => "mean",
            Self::Max => "max",
            Self::Query => "query",
            Self::Embeddings => "embeddings",
            Self::Weighted => "weighted",
            Self::Input => "input",
            Self::Layers => "layers",
            Self::SqrtMean => "sqrt-mean",
            Self::PositionMean => "position-mean",
        }
    }

    /// Whether it reads word embeddings.
    pub(crate) fn reads_words(self) -> bool {
        matches!(self, Self::Embeddings | Self::Weighted)
    }

    /// Whether it reads the last layer's output at every token.
    pub(crate) fn reads_all(self) -> bool {
        !matches!(self, Self::First | Self::Last | Self::Input) && !self.reads_words()
    }
}

/// The vectors of a text that a head reads: one, or several concatenated, written with a plus: `mean+embeddings`.
/// The pooler's matrix has a block for each, so it reads the sum of their projections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pooling(Vec<Pool>);

impl Pooling {
    /// These, in this order.
    ///
    /// # Errors
    /// If there is none, or one is named twice.
    pub fn new(pools: Vec<Pool>) -> Result<Self, EncoderError> {
        let twice = pools.iter().enumerate().any(|(i, pool)| pools[..i].contains(pool));
        if pools.is_empty() || twice {
            return Err(EncoderError::Config("pooling: name each vector once".into()));
        }
        Ok(Self(pools))
    }

    /// The poolings that are concatenated.
    pub fn pools(&self) -> &[Pool] {
        &self.0
    }

    /// Whether it is what Transformers reads: the first token alone.
    pub fn is_first(&self) -> bool {
        self.0 == [Pool::First]
    }
}

impl Default for Pooling {
    fn default() -> Self {
        Self(vec![Pool::First])
    }
}

impl FromStr for Pooling {
    type Err = EncoderError;

    fn from_str(text: &str) -> Result<Self, EncoderError> {
        let by_name = |name: &str| {
            Pool::ALL.into_iter().find(|pool| pool.name() == name.trim()).ok_or_else(|| {
                let known = Pool::ALL.map(Pool::name).join(", ");
                EncoderError::Config(format!("pooling `{name}` is unknown; known are {known}, joined by +"))
            })
        };
        Self::new(text.split('+').map(by_name).collect::<Result<_, _>>()?)
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|pool| pool.name()).collect();
        f.write_str(&names.join("+"))
    }
}

impl TryFrom<String> for Pooling {
    type Error = EncoderError;

    fn try_from(text: String) -> Result<Self, EncoderError> {
        text.parse()
    }
}

impl From<Pooling> for String {
    fn from(pooling: Pooling) -> Self {
        pooling.to_string()
    }
}

/// How the two texts of a pair are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pairs {
    /// In one sequence, which is mixed as a whole.
    #[default]
    Together,
    /// Each goes through the encoder alone, and their pooled vectors are compared (Reimers and Gurevych 2019).
    Towers,
    /// As towers, with the same answer when the texts are swapped.
    SymmetricTowers,
}

impl Pairs {
    /// Texts of one example.
    pub fn texts(self) -> usize {
        if self == Self::Together { 1 } else { 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_there_and_back() {
        let pooling: Pooling = "mean+max + embeddings".parse().unwrap();
        assert_eq!(pooling.pools(), [Pool::Mean, Pool::Max, Pool::Embeddings]);
        assert_eq!(pooling.to_string(), "mean+max+embeddings");
        assert!(Pooling::default().is_first() && !pooling.is_first());
        for (wrong, says) in [("men", "known are first"), ("", "known are"), ("mean+mean", "once")] {
            let error = wrong.parse::<Pooling>().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
