//! Vocabularies trained and run by the `tokenizers` crate, and what the rest needs to know of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ahash::AHashMap;
use compact_str::CompactString;
use rayon::prelude::*;
use serde_json::json;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::{BertNormalizer, Lowercase, NFKC, NormalizerWrapper, Sequence};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{
    AddedToken, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString,
    PreTokenizer, Tokenizer as Inner, decoders,
};

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

/// A tokenizer that splits and normalises, with no vocabulary yet.
fn untrained(kind: Kind, cased: bool) -> Inner {
    match kind {
        Kind::Wordpiece => {
            let mut inner = Inner::new(WordPiece::default());
            inner.with_normalizer(Some(BertNormalizer::new(true, true, Some(!cased), !cased)));
            inner.with_pre_tokenizer(Some(BertPreTokenizer));
            inner.with_decoder(Some(decoders::wordpiece::WordPiece::default()));
            inner
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
            inner
        }
    }
}

/// Words as the tokenizer splits them, with their counts. Words with a character outside the
/// `alphabet` most frequent ones are left out: they will be unknown.
///
/// The library's trainers count for themselves, in hash maps whose order differs from run to run,
/// and with it the vocabulary; so the counting, and everything that depends on an order, is here.
fn word_counts(
    tokenizer: &Inner,
    mut lines: impl Iterator<Item = String>,
    alphabet: usize,
) -> std::result::Result<AHashMap<CompactString, u64>, tokenizers::Error> {
    const BLOCK: usize = 1 << 14;
    let mut counts: AHashMap<CompactString, u64> = AHashMap::new();
    loop {
        let block: Vec<String> = lines.by_ref().take(BLOCK).collect();
        if block.is_empty() {
            break;
        }
        let words: Vec<Vec<CompactString>> =
            block.par_iter().map(|line| split(tokenizer, line)).collect::<std::result::Result<_, _>>()?;
        for word in words.into_iter().flatten() {
            *counts.entry(word).or_default() += 1;
        }
    }
    let mut letters: BTreeMap<char, u64> = BTreeMap::new();
    for (word, count) in &counts {
        word.chars().for_each(|c| *letters.entry(c).or_default() += count);
    }
    let mut letters: Vec<(char, u64)> = letters.into_iter().collect();
    letters.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let kept: BTreeSet<char> = letters.into_iter().take(alphabet).map(|l| l.0).collect();
    counts.retain(|word, _| word.chars().all(|c| kept.contains(&c)));
    Ok(counts)
}

fn split(tokenizer: &Inner, line: &str) -> std::result::Result<Vec<CompactString>, tokenizers::Error> {
    let mut text = NormalizedString::from(line);
    if let Some(normalizer) = tokenizer.get_normalizer() {
        normalizer.normalize(&mut text)?;
    }
    let mut pieces = PreTokenizedString::from(text);
    if let Some(splitter) = tokenizer.get_pre_tokenizer() {
        splitter.pre_tokenize(&mut pieces)?;
    }
    let splits = pieces.get_splits(OffsetReferential::Normalized, OffsetType::None);
    Ok(splits.into_iter().map(|(word, ..)| word.into()).collect())
}

fn train_wordpiece(
    vocab_size: usize,
    words: &AHashMap<CompactString, u64>,
) -> std::result::Result<WordPiece, tokenizers::Error> {
    let letters: BTreeSet<char> = words.keys().flat_map(|w| w.chars()).collect();
    // Named beforehand, the later letters of words get their ids in order; see `word_counts`.
    let continued = letters.iter().map(|c| format!("##{c}"));
    let named: Vec<AddedToken> = SPECIAL_TOKENS
        .iter()
        .map(ToString::to_string)
        .chain(continued)
        .map(|t| AddedToken::from(t, true))
        .collect();
    let trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .special_tokens(named)
        .continuing_subword_prefix("##".into())
        .show_progress(false)
        .build();
    let mut pairs = BPE::default();
    pairs.continuing_subword_prefix = Some("##".into());
    trainer.do_train(words, &mut pairs)?;
    let mut model = WordPiece::from_bpe(&pairs);
    model.unk_token = "[UNK]".into();
    model.continuing_subword_prefix = "##".into();
    Ok(model)
}

/// Longer words are left out of training: the library's likelihoods underflow.
const LONGEST_WORD: usize = 200;

fn train_unigram(
    vocab_size: usize,
    words: &AHashMap<CompactString, u64>,
) -> std::result::Result<Unigram, tokenizers::Error> {
    let special = SPECIAL_TOKENS.map(|t| AddedToken::from(t, true)).to_vec();
    let trainer = UnigramTrainer::builder()
        .vocab_size(vocab_size as u32)
        .special_tokens(special)
        .unk_token(Some("[UNK]".into()))
        .show_progress(false)
        .build()?;
    let mut sentences: Vec<(String, u32)> =
        words.iter().map(|(w, n)| (w.to_string(), u32::try_from(*n).unwrap_or(u32::MAX))).collect();
    sentences.retain(|s| s.0.chars().count() <= LONGEST_WORD);
    sentences.sort_unstable();
    let mut model = Unigram::default();
    // On several threads the library adds floating-point counts in an order that depends on them.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    pool.install(|| trainer.do_train(sentences, &mut model))?;
    in_fixed_order(&model)
}

/// The same model with its pieces in order: the library gives characters that no piece covers their
/// scores, just above the lowest one, in the order of a hash map.
fn in_fixed_order(model: &Unigram) -> std::result::Result<Unigram, tokenizers::Error> {
    const STEP: f64 = 1e-4; // between the scores that the library hands out
    let all: Vec<(String, f64)> = model.iter().cloned().collect();
    let (special, pieces) = all.split_at(SPECIAL_TOKENS.len().min(all.len()));
    let lowest = pieces.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let single = |p: &&(String, f64)| p.0.chars().count() == 1;
    let bound = lowest + STEP * (pieces.iter().filter(single).count() + 1) as f64;
    let (late, mut ordered): (Vec<_>, Vec<_>) =
        pieces.iter().cloned().partition(|p| single(&p) && p.1 <= bound);
    let (mut letters, mut scores): (Vec<String>, Vec<f64>) = late.into_iter().unzip();
    letters.sort_unstable();
    scores.sort_by(f64::total_cmp);
    ordered.extend(letters.into_iter().zip(scores));
    ordered.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let unknown = special.iter().position(|t| t.0 == "[UNK]");
    Unigram::from(special.iter().cloned().chain(ordered).collect(), unknown, false)
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
    /// Trains a vocabulary of at most `vocab_size` tokens on `lines`. The same lines give the same
    /// vocabulary.
    ///
    /// # Errors
    /// If the text is empty, or the size cannot hold the special tokens.
    pub fn train(
        kind: Kind,
        vocab_size: usize,
        cased: bool,
        lines: impl Iterator<Item = String>,
    ) -> Result<Self> {
        let sizes = SPECIAL_TOKENS.len() + 2..=1 << 24;
        if !sizes.contains(&vocab_size) {
            let (low, high) = (sizes.start(), sizes.end());
            return Err(Error::usage(format!(
                "--vocab-size {vocab_size}: a vocabulary has from {low} to {high} tokens"
            )));
        }
        let failed = |e: tokenizers::Error| Error::usage(format!("training the tokenizer: {e}"));
        let special = SPECIAL_TOKENS.map(|t| AddedToken::from(t, true));
        let mut inner = untrained(kind, cased);
        let words = word_counts(&inner, lines, 1_000.min(vocab_size / 3)).map_err(failed)?;
        if words.is_empty() {
            return Err(Error::usage("training the tokenizer: the text holds no words"));
        }
        match kind {
            Kind::Wordpiece => inner.with_model(train_wordpiece(vocab_size, &words).map_err(failed)?),
            Kind::Unigram => inner.with_model(train_unigram(vocab_size, &words).map_err(failed)?),
        };
        inner.add_special_tokens(&special);
        let id = |token| inner.token_to_id(token).unwrap_or_default();
        let template = TemplateProcessing::builder()
            .try_single("[CLS]:0 $A:0 [SEP]:0")
            .and_then(|b| b.try_pair("[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"))
            .map_err(Error::usage)?
            .special_tokens(vec![("[CLS]", id("[CLS]")), ("[SEP]", id("[SEP]"))])
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
            "model_input_names": ["input_ids", "token_type_ids"],
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
    ///
    /// # Errors
    /// If the vocabulary has no way to write the text, not even as unknown.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false);
        let encoding = encoding.map_err(|e| Error::usage(format!("{TOKENIZER_FILE}: {e}")))?;
        Ok(encoding.get_ids().to_vec())
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
        let Special { pad, cls, sep, mask } = self.special;
        for id in [pad, cls, sep, mask] {
            special[id as usize] = true;
        }
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
