//! Settings files, and flags over them.

use std::path::Path;

use fnet_train::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Settings of which a flag replaces the others that a file gives.
pub const RIVALS: &[&[&[&str]]] = &[
    &[&["batch_size"], &["batch_tokens"]],
    &[&["steps"], &["epochs"], &["minutes"]],
    &[&["mixer"], &["mixers"]],
    &[&["max_length"], &["pad_to"]],
    &[&["recipe"], &["parts"]],
    &[&["tokenizer"], &["vocab_size", "kind", "cased"]],
    &[&["task", "data"], &["train", "dev", "text", "label", "regression", "no_header"]],
];

/// Whether a flag was given: an empty list and `false` are what flags are without being given.
fn is_given(flags: &toml::Table, key: &str) -> bool {
    flags.get(key).is_some_and(|v| !v.as_array().is_some_and(Vec::is_empty) && v.as_bool() != Some(false))
}

/// Lays flags over the settings in a TOML file: what a flag gives wins, over its rivals too.
pub fn over_config<T: Serialize + DeserializeOwned>(
    flags: T,
    config: Option<&Path>,
    rivals: &[&[&[&str]]],
) -> Result<T> {
    let Some(path) = config else { return Ok(flags) };
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let mut table: toml::Table = toml::from_str(&text).map_err(|e| Error::file(path, e.message()))?;
    let given = toml::Table::try_from(&flags).map_err(|e| Error::usage(e.to_string()))?;
    for rivals in rivals {
        let chosen = rivals.iter().position(|keys| keys.iter().any(|key| is_given(&given, key)));
        for (i, keys) in rivals.iter().enumerate() {
            if chosen.is_some_and(|chosen| chosen != i) {
                keys.iter().for_each(|key| drop(table.remove(*key)));
            }
        }
    }
    // What computes products belongs to their precision.
    if is_given(&given, "precision") {
        table.remove("products");
    }
    if let Some(key) = unknown_setting::<T>(&table, &text) {
        return Err(Error::file(path, format!("unknown setting `{key}`")));
    }
    let keys: Vec<String> = given.keys().filter(|key| is_given(&given, key)).cloned().collect();
    for key in keys {
        if let Some(value) = given.get(&key) {
            table.insert(key, value.clone());
        }
    }
    table.try_into().map_err(|e: toml::de::Error| Error::file(path, e.message()))
}

/// The first setting of a file that means nothing to `T`.
pub fn unknown_setting<'a, T: Serialize + DeserializeOwned>(
    table: &'a toml::Table,
    text: &str,
) -> Option<&'a String> {
    table.keys().find(|key| !given_or_known::<T>(key, text))
}

/// Whether a lone `key` of the file means something to `T`: it is read and written back.
fn given_or_known<T: Serialize + DeserializeOwned>(key: &str, text: &str) -> bool {
    let Ok(table) = toml::from_str::<toml::Table>(text) else { return false };
    let Some(value) = table.get(key) else { return false };
    let lone = toml::Table::from_iter([(key.to_string(), value.clone())]);
    // A value of the wrong type is a known key; the whole table's error will say what is wrong.
    lone.try_into::<T>().map_or(true, |settings| {
        toml::Table::try_from(settings).is_ok_and(|written| written.contains_key(key))
    })
}
