//! Vocabularies trained and run by the `tokenizers` crate, and what the rest needs to know about them.

use std::path::{Path, PathBuf};

use fnet_encoder::whole_file::write_whole;
use serde_json::{Value, json};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, PaddingDirection, Tokenizer as Inner, TruncationDirection};

use crate::error::{Error, Result};
use crate::settings::setting;

use folder_settings::FolderSettings;
use training::{train_unigram, train_wordpiece, untrained, word_counts};

mod folder_settings;
mod frame;
mod sentencepiece;
mod training;
mod vocab_txt;

/// A SentencePiece model in a model folder, where there is no `tokenizer.json`.
pub const SENTENCEPIECE_FILE: &str = "spiece.model";
/// A WordPiece vocabulary in a model folder, if there is neither.
pub const VOCAB_FILE: &str = "vocab.txt";
/// The tokenizer in a model folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// What Transformers' `AutoTokenizer` reads next to it.
pub const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";

/// How a vocabulary is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Words in pieces, the later ones marked `##` (BERT).
    Wordpiece,
    /// Pieces by a unigram language model, spaces marked `▁` (SentencePiece, FNet).
    Unigram,
}

/// Ids of the special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Special {
    /// Pads sequences of fixed length.
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
    /// Whether texts that are too long are cut on the left.
    truncates_left: bool,
    /// Whether padding comes before the text, which is not supported here.
    pads_left: bool,
    /// Why pairs cannot be read as one sequence.
    no_pairs: Option<String>,
}

/// A `tokenizer_config.json`; an empty object if there is none.
fn read_config(path: &Path) -> Result<Value> {
    match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(json!({})),
        read => {
            let text = read.map_err(Error::io(path))?;
            serde_json::from_str(&text).map_err(|e| Error::file(path, format!("not JSON: {e}")))
        }
    }
}

/// A special token named in settings, as a string or as an object with its content.
fn token_named<'a>(config: &'a Value, key: &str) -> Option<&'a str> {
    let value = config.get(key)?;
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// `[CLS] a [SEP]`, and `[CLS] a [SEP] b [SEP]` with the second text in segment 1.
fn template(cls: &str, sep: &str, inner: &Inner) -> std::result::Result<TemplateProcessing, String> {
    let id = |token| inner.token_to_id(token).unwrap_or_default();
    TemplateProcessing::builder()
        .try_single(vec![format!("{cls}:0"), "$A:0".into(), format!("{sep}:0")])
        .and_then(|b| {
            let second = ["$B:1".into(), format!("{sep}:1")];
            b.try_pair(
                [format!("{cls}:0"), "$A:0".into(), format!("{sep}:0")]
                    .into_iter()
                    .chain(second)
                    .collect::<Vec<_>>(),
            )
        })?
        .special_tokens(vec![(cls.to_string(), id(cls)), (sep.to_string(), id(sep))])
        .build()
        .map_err(|e| e.to_string())
}

/// The settings' keys for the special tokens, in the order of their usual names.
const SPECIAL_KEYS: [&str; 5] = ["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"];
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
                "{} {vocab_size}: a vocabulary has from {low} to {high} tokens",
                setting("vocab_size")
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
        let template = template("[CLS]", "[SEP]", &inner).map_err(Error::usage)?;
        inner.with_post_processor(Some(template));
        let json = inner.to_string(false).map_err(failed)?;
        Self::from_json(json.as_bytes()).map_err(Error::usage)
    }

    /// Reads a `tokenizer.json`, a SentencePiece `.model`, or a WordPiece `.txt`.
    ///
    /// # Errors
    /// If the file cannot be read, is not a tokenizer, or lacks a special token.
    pub fn read(path: &Path) -> Result<Self> {
        let is_json = path.extension().is_some_and(|ending| ending == "json");
        let folder = path.parent().filter(|_| !is_json); // the others say nothing about case
        let settings = folder.map_or_else(|| Ok(FolderSettings::default()), FolderSettings::read)?;
        Self::read_with(path, &settings)
    }

    /// Reads the tokenizer of a model folder: its `tokenizer.json`, or else its `spiece.model` or `vocab.txt`, with
    /// the folder's other settings, as Transformers does.
    ///
    /// # Errors
    /// As [`read`](Self::read); if there is none, or one of an unsupported kind.
    pub fn of_folder(folder: &Path) -> Result<Self> {
        Self::read_with(&Self::file_of(folder), &FolderSettings::read(folder)?)
    }

    fn read_with(path: &Path, settings: &FolderSettings) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let read = || -> std::result::Result<Self, String> {
            let ending = path.extension().and_then(|ending| ending.to_str());
            let (file, mut inner) = match ending {
                Some("model") => (SENTENCEPIECE_FILE, sentencepiece::read(&bytes, settings.config())?),
                Some("txt") => (VOCAB_FILE, vocab_txt::read(&bytes, settings.config())?),
                _ => (TOKENIZER_FILE, Self::inner_from_json(&bytes)?),
            };
            settings.check_class(file)?;
            settings.set_case(&mut inner);
            settings.add_tokens(&mut inner)?;
            Self::from_inner(inner, settings)
        };
        read().map_err(|message| Error::file(path, message))
    }

    /// The file that the tokenizer of a folder is in.
    pub fn file_of(folder: &Path) -> PathBuf {
        let files = [TOKENIZER_FILE, SENTENCEPIECE_FILE, VOCAB_FILE].map(|name| folder.join(name));
        files.iter().find(|file| file.exists()).unwrap_or(&files[0]).clone()
    }

    /// As [`read`](Self::read), from the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_json(bytes: &[u8]) -> std::result::Result<Self, String> {
        Self::from_inner(Self::inner_from_json(bytes)?, &FolderSettings::default())
    }

    fn inner_from_json(bytes: &[u8]) -> std::result::Result<Inner, String> {
        /// The library panics on some broken files: the whole file is parsed here first, and no part twice.
        #[derive(serde::Deserialize)]
        struct Checked {
            #[serde(default)]
            normalizer: Value,
            #[serde(flatten)]
            _others: serde_json::Map<String, Value>,
        }
        let checked: Checked = serde_json::from_slice(bytes).map_err(|e| format!("not a tokenizer: {e}"))?;
        sentencepiece::check_maps(&checked.normalizer)?;
        Inner::from_bytes(bytes).map_err(|e| format!("not a tokenizer: {e}"))
    }

    fn from_inner(mut inner: Inner, settings: &FolderSettings) -> std::result::Result<Self, String> {
        let truncates_left = match inner.get_truncation().map(|truncation| truncation.direction) {
            Some(TruncationDirection::Left) => settings.truncates_left()?.unwrap_or(true),
            _ => settings.truncates_left()?.unwrap_or(false),
        };
        let pads_left = settings.pads_left().unwrap_or_else(|| {
            inner.get_padding().is_some_and(|padding| matches!(padding.direction, PaddingDirection::Left))
        });
        // Lengths are ours to choose: a tokenizer that pads or truncates would hide them.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| e.to_string())?;
        let id = |key: &str, usual: [&str; 2]| {
            let names = settings.name(key).into_iter().chain(usual);
            names
                .filter_map(|name| inner.token_to_id(name))
                .next()
                .ok_or(format!("has no {} token", usual[0]))
        };
        let special = Special {
            pad: id("pad_token", ["[PAD]", "<pad>"])?,
            cls: id("cls_token", ["[CLS]", "<s>"])?,
            sep: id("sep_token", ["[SEP]", "</s>"])?,
            mask: id("mask_token", ["[MASK]", "<mask>"])?,
        };
        if settings.has_usual_frame(inner.get_post_processor().is_some())? {
            let name = |id| inner.id_to_token(id).unwrap_or_default();
            let usual = template(&name(special.cls), &name(special.sep), &inner)?;
            inner.with_post_processor(Some(usual));
        }
        let no_pairs = frame::check(&inner, special)?;
        let vocab = inner.get_vocab(true);
        let vocab_size = vocab.values().max().map_or(0, |id| *id as usize + 1);
        Ok(Self { inner, special, vocab_size, truncates_left, pads_left, no_pairs })
    }

    /// Whether two texts can be read as one sequence.
    ///
    /// # Errors
    /// Says why not.
    pub fn check_pairs(&self) -> Result<()> {
        match &self.no_pairs {
            Some(message) => {
                let pairs = setting("pairs");
                Err(Error::usage(format!("{TOKENIZER_FILE}: {message}; {pairs} towers reads them apart")))
            }
            None => Ok(()),
        }
    }

    /// Whether sequences can be padded.
    ///
    /// # Errors
    /// If the folder wants padding before the text.
    pub fn check_padding(&self) -> Result<()> {
        if self.pads_left {
            let message = format!(
                "{TOKENIZER_CONFIG_FILE}: padding_side is left; padding is mixed in after the text here"
            );
            return Err(Error::usage(message));
        }
        Ok(())
    }

    /// The text of `tokenizer.json`.
    ///
    /// # Errors
    /// If the tokenizer cannot be serialised.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(true).map_err(|e| Error::usage(format!("{TOKENIZER_FILE}: {e}")))
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json` into a folder.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(&self, folder: &Path, longest: usize) -> Result<()> {
        write_whole(&folder.join(TOKENIZER_FILE), self.to_json()?.as_bytes())?;
        self.save_config(folder, longest)
    }

    /// Writes `tokenizer_config.json` alone.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub(crate) fn save_config(&self, folder: &Path, longest: usize) -> Result<()> {
        let config = self.transformers_config(longest);
        Ok(write_whole(&folder.join(TOKENIZER_CONFIG_FILE), config.as_bytes())?)
    }

    /// Where a folder's texts are cut: the length in its `tokenizer_config.json`, as Transformers cuts them, or the
    /// model's `longest` if that is shorter or no length is given.
    pub fn longest_of(folder: &Path, longest: usize) -> usize {
        let config = read_config(&folder.join(TOKENIZER_CONFIG_FILE)).unwrap_or_default();
        let said = config.get("model_max_length").and_then(Value::as_u64);
        said.and_then(|n| usize::try_from(n).ok()).filter(|n| (3..longest).contains(n)).unwrap_or(longest)
    }

    /// The text of `tokenizer_config.json`, by which Transformers' `AutoTokenizer` opens the folder.
    pub fn transformers_config(&self, longest: usize) -> String {
        let name = |id| self.inner.id_to_token(id).unwrap_or_default();
        let unknown = ["[UNK]", "<unk>"].into_iter().find(|token| self.inner.token_to_id(token).is_some());
        let side = if self.truncates_left { "left" } else { "right" };
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": longest,
            "model_input_names": ["input_ids", "token_type_ids"],
            "pad_token": name(self.special.pad),
            "cls_token": name(self.special.cls),
            "sep_token": name(self.special.sep),
            "mask_token": name(self.special.mask),
            "unk_token": unknown.unwrap_or("[UNK]"),
            "truncation_side": side,
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
    /// If the vocabulary cannot encode the text, not even as unknown.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false);
        let encoding = encoding.map_err(|e| Error::usage(format!("{TOKENIZER_FILE}: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// For each id, whether it continues the previous word: for whole-word masking.
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

    /// Pads a sequence to `longest` tokens.
    pub fn fill_up(&self, longest: usize, tokens: &mut Vec<u32>, segments: &mut Vec<u32>) {
        tokens.resize(longest, self.special.pad);
        segments.resize(longest, 0);
    }

    /// Joins one or two texts' ids as the model reads them: `[CLS] a [SEP]` or `[CLS] a [SEP] b
    /// [SEP]`, with segment ids, in at most `longest` tokens. The longer text is cut first, as
    /// Transformers does. Returns whether anything was cut.
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
        if cut {
            // The longer one is cut to what the shorter leaves, or both to halves if that is more; if the room is
            // odd, the longer one gets the odd token.
            let shorter = a.min(b).min(room / 2);
            (a, b) = if a > b { (room - shorter, shorter) } else { (shorter, room - shorter) };
        }
        tokens.clear();
        segments.clear();
        let kept = |ids: &[u32], count: usize| {
            let start = if self.truncates_left { ids.len() - count } else { 0 };
            start..start + count
        };
        tokens.push(cls);
        tokens.extend_from_slice(&first[kept(first, a)]);
        tokens.push(sep);
        segments.resize(tokens.len(), 0);
        if let Some(second) = second {
            tokens.extend_from_slice(&second[kept(second, b)]);
            tokens.push(sep);
            segments.resize(tokens.len(), 1);
        }
        cut
    }
}
