//! A folder's tokenizer settings apart from the vocabulary, applied as in Transformers: class, case, added tokens,
//! names of special tokens, sides. What cannot be followed is refused by name.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::normalizers::{BertNormalizer, NormalizerWrapper};
use tokenizers::{AddedToken, Tokenizer as Inner};

use super::{
    SENTENCEPIECE_FILE, SPECIAL_KEYS, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, VOCAB_FILE, read_config,
    token_named,
};
use crate::error::{Error, Result};

const ADDED_TOKENS_FILE: &str = "added_tokens.json";
const SPECIAL_TOKENS_FILE: &str = "special_tokens_map.json";

/// Classes that run a `vocab.txt` as `BertTokenizer` does. Each may also end with `Fast`.
const LIKE_BERT: [&str; 12] = [
    "BertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "MobileBertTokenizer",
    "ConvBertTokenizer",
    "SqueezeBertTokenizer",
    "LayoutLMTokenizer",
    "LxmertTokenizer",
    "RetriBertTokenizer",
    "DPRQuestionEncoderTokenizer",
    "DPRContextEncoderTokenizer",
    "DPRReaderTokenizer",
];
/// Classes that run a `spiece.model` as `FNetTokenizer` does.
const LIKE_FNET: [&str; 2] = ["FNetTokenizer", "AlbertTokenizer"];
/// Classes that split words with an external program, whatever `tokenizer.json` says.
const OF_THEIR_OWN: [&str; 6] = [
    "BertJapaneseTokenizer",
    "BertweetTokenizer",
    "PhobertTokenizer",
    "CanineTokenizer",
    "ByT5Tokenizer",
    "TapasTokenizer",
];
/// Lists of further special tokens in settings.
const LISTS: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];

/// The settings of a folder.
#[derive(Default)]
pub(super) struct FolderSettings {
    /// `tokenizer_config.json`, with what only `special_tokens_map.json` says.
    config: Value,
    /// `added_tokens.json`: tokens and their ids.
    added: BTreeMap<String, u32>,
    /// Whether the model in `config.json` is a BERT; used if no tokenizer class is named.
    is_bert: bool,
    /// Whether there is a folder, not just a file.
    is_folder: bool,
}

impl FolderSettings {
    pub fn read(folder: &Path) -> Result<Self> {
        let object = |name: &str| -> Result<Map<String, Value>> {
            let path = folder.join(name);
            match read_config(&path)? {
                Value::Object(map) => Ok(map),
                _ => Err(Error::file(&path, "is no JSON object")),
            }
        };
        let mut config = object(TOKENIZER_CONFIG_FILE)?;
        let mut added = BTreeMap::new();
        // Files of old releases, which the newer setting replaces.
        if !config.contains_key("added_tokens_decoder") {
            for (key, value) in object(SPECIAL_TOKENS_FILE)? {
                config.insert(key, value);
            }
            let path = folder.join(ADDED_TOKENS_FILE);
            for (token, id) in object(ADDED_TOKENS_FILE)? {
                let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
                let id = id.ok_or_else(|| Error::file(&path, format!("`{token}` has no id")))?;
                added.insert(token, id);
            }
        }
        let model = folder.join("config.json");
        let is_bert =
            read_config(&model).is_ok_and(|config| config.get("model_type") == Some(&"bert".into()));
        Ok(Self { config: config.into(), added, is_bert, is_folder: true })
    }

    fn class(&self) -> Option<&str> {
        let class = self.config.get("tokenizer_class")?.as_str()?;
        Some(class.strip_suffix("Fast").unwrap_or(class))
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.config.get(key).and_then(Value::as_bool)
    }

    /// Whether Transformers takes only the vocabulary from `tokenizer.json`, and makes the rest anew.
    fn is_like_bert(&self) -> bool {
        self.class().map_or(self.is_bert, |class| LIKE_BERT.contains(&class))
    }

    /// Whether `[CLS]` and `[SEP]` are put around texts whatever the file says, or if it says nothing.
    pub fn has_usual_frame(&self, has_own: bool) -> std::result::Result<bool, String> {
        if self.is_like_bert() {
            return Ok(true);
        }
        if !has_own && self.is_folder {
            return Err(
                "has no post-processor: Transformers puts neither [CLS] nor [SEP] around its texts".into()
            );
        }
        Ok(!has_own)
    }

    /// The settings as JSON, for the readers of vocabularies.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Refuses a class that computes something else from the file.
    pub fn check_class(&self, file: &str) -> std::result::Result<(), String> {
        if self.config.get("auto_map").is_some() {
            return Err(format!(
                "{TOKENIZER_CONFIG_FILE} names a tokenizer with code of its own, which is not run"
            ));
        }
        let Some(class) = self.class() else { return Ok(()) };
        let is_known = match file {
            VOCAB_FILE => LIKE_BERT.contains(&class),
            SENTENCEPIECE_FILE => LIKE_FNET.contains(&class),
            TOKENIZER_FILE => !OF_THEIR_OWN.contains(&class),
            _ => true,
        };
        if !is_known {
            let known = if file == SENTENCEPIECE_FILE { LIKE_FNET[0] } else { LIKE_BERT[0] };
            let way_out =
                format!("save its tokenizer as {TOKENIZER_FILE}, or name {known} if that is the same");
            return Err(format!(
                "{TOKENIZER_CONFIG_FILE} names {class}, which cannot be run here: {way_out}"
            ));
        }
        Ok(())
    }

    /// Applies the case and accent settings where Transformers lets them override `tokenizer.json`.
    pub fn set_case(&self, inner: &mut Inner) {
        let Some(NormalizerWrapper::BertNormalizer(own)) = inner.get_normalizer().cloned() else { return };
        if !self.is_like_bert() {
            return;
        }
        let lower = self.flag("do_lower_case").unwrap_or(true);
        let chinese = self.flag("tokenize_chinese_chars").unwrap_or(true);
        let accents = self.flag("strip_accents");
        if (own.lowercase, own.handle_chinese_chars, own.strip_accents) != (lower, chinese, accents) {
            inner.with_normalizer(Some(BertNormalizer::new(own.clean_text, chinese, accents, lower)));
        }
    }

    /// The special token that the settings name under a key such as `cls_token`.
    pub fn name(&self, key: &str) -> Option<&str> {
        token_named(&self.config, key)
    }

    /// Adds the tokens that the settings name and the vocabulary file lacks, with the ids they have there.
    pub fn add_tokens(&self, inner: &mut Inner) -> std::result::Result<(), String> {
        let mut with_ids: BTreeMap<u32, AddedToken> = BTreeMap::new();
        for (id, token) in
            self.config.get("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten()
        {
            let id = id.parse::<u32>().map_err(|_| format!("added_tokens_decoder: `{id}` is no id"))?;
            let content = token.get("content").and_then(Value::as_str);
            let content = content.ok_or_else(|| format!("added_tokens_decoder: {id} has no content"))?;
            let flag = |key: &str| token.get(key).and_then(Value::as_bool);
            let special = flag("special").unwrap_or(false);
            let added = AddedToken::from(content, special)
                .single_word(flag("single_word").unwrap_or(false))
                .lstrip(flag("lstrip").unwrap_or(false))
                .rstrip(flag("rstrip").unwrap_or(false))
                .normalized(flag("normalized").unwrap_or(!special));
            with_ids.insert(id, added);
        }
        // Of the old file's tokens, those that have a role or are in the newer of the lists are special.
        let specials = self.special_tokens(&LISTS[1..]);
        for (token, id) in &self.added {
            with_ids.insert(*id, AddedToken::from(token.as_str(), specials.contains(&token.as_str())));
        }
        for (id, token) in with_ids {
            let content = token.content.clone();
            if inner.get_added_tokens_decoder().get(&id) != Some(&token) {
                if token.special {
                    inner.add_special_tokens(&[token]);
                } else {
                    inner.add_tokens(&[token]);
                }
            }
            match inner.token_to_id(&content) {
                Some(found) if found == id => {}
                found => {
                    let found = found.map_or("none".into(), |id| id.to_string());
                    return Err(format!("`{content}` is to have id {id}, and would have {found}"));
                }
            }
        }
        let known = inner.get_added_vocabulary().get_vocab().clone();
        let others = self
            .special_tokens(&LISTS)
            .into_iter()
            .filter(|token| !token.is_empty() && !known.contains_key(*token));
        let others: Vec<AddedToken> = others.map(|token| AddedToken::from(token, true)).collect();
        inner.add_special_tokens(&others);
        Ok(())
    }

    /// The special tokens that have a role or are in `lists`.
    fn special_tokens(&self, lists: &[&str]) -> Vec<&str> {
        let named = SPECIAL_KEYS.iter().filter_map(|key| self.name(key));
        let lists = lists.iter().filter_map(|key| self.config.get(*key)?.as_array()).flatten();
        let listed = lists.filter_map(|value| value.as_str().or_else(|| value.get("content")?.as_str()));
        named.chain(listed).collect()
    }

    /// Whether texts that are too long are cut on the left, if the settings say.
    pub fn truncates_left(&self) -> std::result::Result<Option<bool>, String> {
        match self.config.get("truncation_side").and_then(Value::as_str) {
            None => Ok(None),
            Some("right") => Ok(Some(false)),
            Some("left") => Ok(Some(true)),
            Some(side) => {
                Err(format!("{TOKENIZER_CONFIG_FILE}: truncation_side is `{side}`; it is left or right"))
            }
        }
    }

    /// Whether padding comes before the text, if the settings say.
    pub fn pads_left(&self) -> Option<bool> {
        Some(self.config.get("padding_side")?.as_str()? == "left")
    }
}
