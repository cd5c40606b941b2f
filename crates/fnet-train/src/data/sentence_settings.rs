//! What a folder of sentence-transformers says of texts before they become tokens.

use std::collections::BTreeMap;
use std::path::Path;

use fnet_encoder::whole_file::write_whole;
use serde_json::Value;

use crate::error::{Error, Result};

pub(crate) const TEXTS_FILE: &str = "sentence_bert_config.json";
pub(crate) const PROMPTS_FILE: &str = "config_sentence_transformers.json";

/// How texts are prepared.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SentenceSettings {
    /// Whether the folder is one of sentence-transformers, which cuts texts that are too long.
    pub cuts: bool,
    /// Longest sequence in tokens.
    pub longest: Option<usize>,
    /// Whether texts are lower-cased before they are split into tokens.
    pub lower_case: bool,
    /// What stands before a text, by name.
    pub prompts: BTreeMap<String, String>,
    /// The name of the one that is used where none is named.
    pub default_prompt: Option<String>,
}

impl SentenceSettings {
    /// Of a folder; the defaults where it has none.
    ///
    /// # Errors
    /// If a file is there and broken.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut settings = Self::default();
        if let Some(texts) = json_of(&folder.join(TEXTS_FILE))? {
            settings.cuts = true;
            settings.longest = texts["max_seq_length"].as_u64().and_then(|n| usize::try_from(n).ok());
            settings.lower_case = texts["do_lower_case"] == Value::Bool(true);
        }
        if let Some(all) = json_of(&folder.join(PROMPTS_FILE))? {
            let prompts = all["prompts"].as_object().into_iter().flatten();
            settings.prompts =
                prompts.filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_string()))).collect();
            settings.default_prompt = all["default_prompt_name"].as_str().map(String::from);
        }
        Ok(settings)
    }

    /// Copies the files that say so, where there are any.
    ///
    /// # Errors
    /// If one cannot be read or written.
    pub fn copy(from: &Path, to: &Path) -> Result<()> {
        for name in [TEXTS_FILE, PROMPTS_FILE] {
            let (file, copy) = (from.join(name), to.join(name));
            if file.exists() && file != copy {
                let bytes = std::fs::read(&file).map_err(Error::io(&file))?;
                write_whole(&copy, &bytes)?;
            }
        }
        Ok(())
    }

    /// What stands before every text: the prompt of that name, or the default one.
    ///
    /// # Errors
    /// If there is none of that name; names those that there are.
    pub fn prompt(&self, name: Option<&str>) -> Result<String> {
        let Some(name) = name.or(self.default_prompt.as_deref()) else { return Ok(String::new()) };
        self.prompts.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = self.prompts.keys().map(String::as_str).collect();
            let known = if known.is_empty() {
                "there are none".into()
            } else {
                format!("known are {}", known.join(", "))
            };
            Error::usage(format!("the model has no prompt `{name}`: {known}"))
        })
    }
}

fn json_of(file: &Path) -> Result<Option<Value>> {
    match std::fs::read(file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        bytes => {
            let bytes = bytes.map_err(Error::io(file))?;
            serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::file(file, e.to_string()))
        }
    }
}
