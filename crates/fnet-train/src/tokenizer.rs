//! Vocabularies trained and run by the `tokenizers` crate, and what the rest needs to know of them.

use std::path::Path;

use serde_json::json;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainer};
use tokenizers::normalizers::{BertNormalizer, Lowercase, NFKC, NormalizerWrapper, Sequence};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer as Inner, decoders};

use crate::error::{Error, Result};

/// The tokenizer in a model folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// How a vocabulary is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Words in pieces, the later ones marked `##` (BERT).
    Wordpiece,
    /// Pieces by a unigram language model, spaces marked `▁` (SentencePiece, FNet).
    Unigram,
}

/// Ids of the tokens with a task of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Special {
    /// Fills up sequences of fixed length.
    pub pad: u32,
    /// Starts a sequence.
    pub cls: u32,
    /// Ends a segment.
    pub sep: u32,
    /// Stands for a token to be predicted.
    pub mask: u32,
}

/// A tokenizer with its special tokens looked up.
pub struct Tokenizer {
    inner: Inner,
    special: Special,
    vocab_size: usize,
}

const SPECIAL_TOKENS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

impl Tokenizer {
    /// Trains a vocabulary of at most `vocab_size` tokens on `lines`.
    ///
    /// # Errors
    /// If the text is empty, or the size cannot hold the special tokens.
    pub fn train(
        kind: Kind,
        vocab_size: usize,
        cased: bool,
        lines: impl Iterator<Item = String> + Send,
    ) -> Result<Self> {
        if !(SPECIAL_TOKENS.len() + 2..=1 << 24).contains(&vocab_size) {
            return Err(Error::usage(format!(
                "--vocab-size {vocab_size}: a vocabulary has from {} to {} tokens",
                SPECIAL_TOKENS.len() + 2,
                1 << 24
            )));
        }
        let special: Vec<_> = SPECIAL_TOKENS.iter().map(|t| AddedToken::from(*t, true)).collect();
        let failed = |e: tokenizers::Error| Error::usage(format!("training the tokenizer: {e}"));
        let (mut inner, mut trainer) = match kind {
            Kind::Wordpiece => {
                let model = WordPiece::builder().unk_token("[UNK]".into()).build().map_err(failed)?;
                let mut inner = Inner::new(model);
                inner.with_normalizer(Some(BertNormalizer::new(true, true, Some(!cased), !cased)));
                inner.with_pre_tokenizer(Some(BertPreTokenizer));
                inner.with_decoder(Some(decoders::wordpiece::WordPiece::default()));
                let trainer = WordPieceTrainer::builder()
                    .vocab_size(vocab_size)
                    .special_tokens(special)
                    .limit_alphabet(1_000.min(vocab_size / 2))
                    .show_progress(false)
                    .build();
                (inner, TrainerWrapper::from(trainer))
            }
            Kind::Unigram => {
                let mut inner = Inner::new(Unigram::default());
                let mut steps = vec![NormalizerWrapper::from(NFKC)];
                if !cased {
                    steps.push(Lowercase.into());
                }
                inner.with_normalizer(Some(Sequence::new(steps)));
                inner.with_pre_tokenizer(Some(Metaspace::new('▁', PrependScheme::Always, true)));
                inner.with_decoder(Some(Metaspace::new('▁', PrependScheme::Always, true)));
                let trainer = UnigramTrainer::builder()
                    .vocab_size(vocab_size as u32)
                    .special_tokens(special)
                    .unk_token(Some("[UNK]".into()))
                    .show_progress(false)
                    .build()
                    .map_err(|e| Error::usage(format!("training the tokenizer: {e}")))?;
                (inner, TrainerWrapper::from(trainer))
            }
        };
        inner.train(&mut trainer, lines).map_err(failed)?;
        let ids = SPECIAL_TOKENS.map(|t| inner.token_to_id(t));
        let [Some(_), Some(_), Some(cls), Some(sep), Some(_)] = ids else {
            return Err(Error::usage("training the tokenizer: the text holds no words"));
        };
        let template = TemplateProcessing::builder()
            .try_single("[CLS]:0 $A:0 [SEP]:0")
            .and_then(|b| b.try_pair("[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"))
            .map_err(Error::usage)?
            .special_tokens(vec![("[CLS]", cls), ("[SEP]", sep)])
            .build()
            .map_err(|e| Error::usage(e.to_string()))?;
        inner.with_post_processor(Some(template));
        let json = inner.to_string(false).map_err(failed)?;
        Self::from_json(json.as_bytes()).map_err(Error::usage)
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// If the file cannot be read, is no tokenizer, or lacks a special token.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        Self::from_json(&bytes).map_err(|message| Error::file(path, message))
    }

    fn from_json(bytes: &[u8]) -> std::result::Result<Self, String> {
        let mut inner = Inner::from_bytes(bytes).map_err(|e| format!("not a tokenizer: {e}"))?;
        // Lengths are ours to choose: a tokenizer that pads or truncates would hide them.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| e.to_string())?;
        let id = |names: [&str; 2]| {
            names.iter().find_map(|name| inner.token_to_id(name)).ok_or(format!("has no {} token", names[0]))
        };
        let special = Special {
            pad: id(["[PAD]", "<pad>"])?,
            cls: id(["[CLS]", "<s>"])?,
            sep: id(["[SEP]", "</s>"])?,
            mask: id(["[MASK]", "<mask>"])?,
        };
        let vocab = inner.get_vocab(true);
        let vocab_size = vocab.values().max().map_or(0, |id| *id as usize + 1);
        Ok(Self { inner, special, vocab_size })
    }

    /// The text of `tokenizer.json`.
    ///
    /// # Errors
    /// If the tokenizer cannot be serialised.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(true).map_err(|e| Error::usage(format!("{TOKENIZER_FILE}: {e}")))
    }

    /// The text of `tokenizer_config.json`, by which Transformers' `AutoTokenizer` opens the folder.
    pub fn transformers_config(&self, longest: usize) -> String {
        let name = |id| self.inner.id_to_token(id).unwrap_or_default();
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": longest,
            "pad_token": name(self.special.pad),
            "cls_token": name(self.special.cls),
            "sep_token": name(self.special.sep),
            "mask_token": name(self.special.mask),
            "unk_token": if self.inner.token_to_id("[UNK]").is_some() { "[UNK]" } else { "<unk>" },
        });
        serde_json::to_string_pretty(&config).unwrap_or_default() + "\n"
    }

    /// The special tokens' ids.
    pub fn special(&self) -> Special {
        self.special
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The token of an id, as the vocabulary spells it.
    pub fn token(&self, id: u32) -> String {
        self.inner.id_to_token(id).unwrap_or_else(|| format!("[{id}]"))
    }

    /// Ids as text.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, true).unwrap_or_default()
    }

    /// Ids of a text, without special tokens around it.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.inner.encode_fast(text, false).map(|e| e.get_ids().to_vec()).unwrap_or_default()
    }

    /// For each id, whether it goes on with the word before it: for whole-word masking.
    pub fn continuations(&self) -> Vec<bool> {
        let metaspace = (0..self.vocab_size as u32).any(|id| self.token(id).starts_with('▁'));
        (0..self.vocab_size as u32)
            .map(|id| {
                let token = self.token(id);
                if metaspace { !token.starts_with('▁') } else { token.starts_with("##") }
            })
            .collect()
    }

    /// For each id, whether it is a special token, which is never masked or drawn at random.
    pub fn specials(&self) -> Vec<bool> {
        let mut special = vec![false; self.vocab_size];
        for (id, token) in self.inner.get_added_tokens_decoder() {
            if token.special && (id as usize) < special.len() {
                special[id as usize] = true;
            }
        }
        special
    }

    /// Joins one or two texts' ids as the model reads them: `[CLS] a [SEP]` or `[CLS] a [SEP] b
    /// [SEP]`, with segment ids, in at most `longest` tokens. The longer text is cut first. Returns
    /// whether anything was cut.
    pub fn assemble(
        &self,
        first: &[u32],
        second: Option<&[u32]>,
        longest: usize,
        tokens: &mut Vec<u32>,
        segments: &mut Vec<u32>,
    ) -> bool {
        let Special { cls, sep, .. } = self.special;
        let room = longest.saturating_sub(if second.is_some() { 3 } else { 2 });
        let (mut a, mut b) = (first.len(), second.map_or(0, <[u32]>::len));
        let cut = a + b > room;
        while a + b > room {
            if a >= b { a -= 1 } else { b -= 1 }
        }
        tokens.clear();
        segments.clear();
        tokens.push(cls);
        tokens.extend_from_slice(&first[..a]);
        tokens.push(sep);
        segments.resize(tokens.len(), 0);
        if let Some(second) = second {
            tokens.extend_from_slice(&second[..b]);
            tokens.push(sep);
            segments.resize(tokens.len(), 1);
        }
        cut
    }
}
