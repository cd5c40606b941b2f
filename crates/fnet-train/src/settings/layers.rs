//! Settings in layers: defaults, over them a file, over that what is given by hand.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Table;

use crate::error::{Error, Result};

/// Settings that can be read from TOML. What a file does not say keeps its default.
pub trait Settings: Serialize + DeserializeOwned {
    /// Groups of fields of which one replaces the others: `steps` given by hand replaces `epochs` of a file.
    const RIVALS: &[&[&[&str]]];

    /// The defaults. They may depend on other settings, such as a learning rate on the model's size.
    fn defaults(given: &Table) -> Self;
}

/// What is given: flags that were not are left out when they are serialised, or empty lists.
///
/// # Errors
/// If something has no place in TOML.
pub fn given(values: &impl Serialize) -> Result<Table> {
    let mut table = Table::try_from(values).map_err(|e| Error::usage(e.to_string()))?;
    table.retain(|_, value| !value.as_array().is_some_and(Vec::is_empty));
    Ok(table)
}

/// Settings of a table over the defaults.
///
/// # Errors
/// If a value is of the wrong type.
pub fn from_table<S: Settings>(table: Table) -> Result<S> {
    over(S::defaults(&table), table)
}

/// Settings of a table over others.
///
/// # Errors
/// If a value is of the wrong type.
pub fn over<S: Settings>(below: S, table: Table) -> Result<S> {
    layered(below, table).map_err(|e| Error::usage(e.message()))
}

fn layered<S: Settings>(below: S, table: Table) -> std::result::Result<S, toml::de::Error> {
    let mut all = Table::try_from(below).map_err(serde::de::Error::custom)?;
    all.extend(table);
    all.try_into()
}

/// The settings of a file and over them what is `given`, which replaces the file's rivals, too.
///
/// # Errors
/// If the file cannot be read, or has an unknown setting or a value of the wrong type.
pub fn over_file<S: Settings>(path: &Path, given: Table) -> Result<Table> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let mut table: Table = toml::from_str(&text).map_err(|e| Error::file(path, e.message()))?;
    if let Some(key) = unknown::<S>(&table) {
        return Err(Error::file(path, format!("unknown setting `{key}`")));
    }
    layered(S::defaults(&table), table.clone()).map_err(|e| Error::file(path, e.message()))?;
    for rivals in S::RIVALS {
        let chosen = rivals.iter().position(|keys| keys.iter().any(|key| given.contains_key(*key)));
        for (_, keys) in rivals.iter().enumerate().filter(|(i, _)| chosen.is_some_and(|chosen| chosen != *i))
        {
            keys.iter().for_each(|key| drop(table.remove(*key)));
        }
    }
    // What computes products belongs to their precision.
    if given.contains_key("precision") {
        table.remove("products");
    }
    table.extend(given);
    Ok(table)
}

/// The first setting of a table that means nothing to `S`.
pub fn unknown<S: Settings>(table: &Table) -> Option<&String> {
    let is_known = |(key, value): (&String, &toml::Value)| {
        let alone = Table::from_iter([(key.clone(), value.clone())]);
        // A value of the wrong type is of a known setting; reading the whole table says what is wrong.
        let read = layered(S::defaults(&alone), alone);
        read.map_or(true, |settings| Table::try_from(settings).is_ok_and(|all| all.contains_key(key)))
    };
    table.iter().find(|entry| !is_known(*entry)).map(|(key, _)| key)
}
