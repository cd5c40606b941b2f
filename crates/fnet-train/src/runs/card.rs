//! The model card beside a trained model: `README.md` with the metadata that model hubs read, what the model is,
//! and how it was trained.

use std::path::Path;

use fnet_encoder::pretrained::CONFIG_FILE;
use fnet_encoder::whole_file::write_whole;
use fnet_encoder::{ModelConfig, Padding};
use serde_json::{Value, json};

use crate::base_model;
use crate::data::signals::READING_KEY;
use crate::error::{Error, Result};
use crate::folder::{RunFolder, SETTINGS_FILE};
use crate::runs::report;

/// The card in a model folder.
pub const CARD_FILE: &str = "README.md";
/// By this line a card of ours is known from one that someone wrote.
const MARK: &str = "<!-- written by fnet; a file without this line is left as it is -->";

/// Writes the card of a finished run, unless there is a file of that name that is not ours.
///
/// # Errors
/// If the folder cannot be read or written.
pub fn write(folder: &RunFolder, results: &Value) -> Result<()> {
    let path = folder.file(CARD_FILE);
    match std::fs::read(&path) {
        Ok(bytes) if String::from_utf8_lossy(&bytes).contains(MARK) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        _ => return Ok(()),
    }
    let settings = folder.file(SETTINGS_FILE);
    let text = std::fs::read_to_string(&settings).map_err(Error::io(&settings))?;
    let config = ModelConfig::read(&folder.file(CONFIG_FILE))?;
    let name = folder.path().file_name().map_or("model".into(), |name| name.to_string_lossy());
    Ok(write_whole(&path, card(&name, &config, &text, results).as_bytes())?)
}

fn card(name: &str, config: &ModelConfig, settings: &str, results: &Value) -> String {
    let given: toml::Table = settings.parse().unwrap_or_default();
    let architecture = config.other.get("architectures").and_then(|a| a[0].as_str()).unwrap_or("FNetModel");
    let (pipeline, done) = match architecture {
        _ if config.input_width.is_some() => {
            let is_image = config.other.get(READING_KEY).is_some_and(|reading| reading["kind"] == "image");
            (if is_image { "image-classification" } else { "other" }, "fine-tuned")
        }
        a if a.ends_with("Model") && config.sentence.is_some() => ("sentence-similarity", "fine-tuned"),
        a if a.ends_with("ForSequenceClassification") => ("text-classification", "fine-tuned"),
        a if a.ends_with("ForMaskedLM") || a.ends_with("ForPreTraining") => ("fill-mask", "pretrained"),
        _ => ("feature-extraction", "pretrained"),
    };
    let data = data_names(&given);
    let scores: Vec<(&str, f64)> = results["values"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.as_str(), value.as_f64()?)))
        .collect();
    // JSON is YAML too.
    let index = json!([{"name": name, "results": [{
        "task": {"type": pipeline},
        "dataset": {"name": data.first(), "type": data.first()},
        "metrics": scores.iter().map(|(name, value)| json!({"type": name, "value": value})).collect::<Vec<_>>(),
    }]}]);
    let mut mixers: Vec<String> = config.layer_mixers().iter().map(|m| m.name().to_string()).collect();
    mixers.dedup();
    let padding = match config.padding {
        Padding::Own => "each text at its own length",
        Padding::Fixed => "every text filled up to one length",
    };
    let mut card = format!(
        "---\nlibrary_name: transformers\npipeline_tag: {pipeline}\ntags: {}\nmodel-index: {index}\n---\n{MARK}\n\n\
         # {name}\n\nA {done} `{architecture}`: {} layers, hidden size {}, vocabulary {}, mixing by {}, {padding}.\n\n",
        json!([config.model_type, "token-mixing"]),
        config.num_hidden_layers,
        config.hidden_size,
        config.vocab_size,
        mixers.join(", "),
    );
    let is_tuned = given.contains_key("task") || given.contains_key("train");
    if is_tuned && !given.contains_key("model") {
        card += &format!("Pretrained model: {}, which ships with fnet.\n\n", base_model::SHIPPED_NAME);
    }
    card += &format!("Data: {}.\n\n", if data.is_empty() { "not named".into() } else { data.join(", ") });
    card += "| | |\n|---|---|\n";
    for (name, value) in report::rows(results) {
        card += &format!("| {name} | {value} |\n");
    }
    card += &format!("\nSettings:\n\n```toml\n{}```\n", without_folders(given));
    card
}

/// The names of tasks and files in the settings, without the folders they lie in.
fn data_names(settings: &toml::Table) -> Vec<String> {
    let mut names = Vec::new();
    for key in ["task", "corpus", "train", "valid", "dev"] {
        match settings.get(key) {
            Some(toml::Value::String(name)) => names.push(plain(name)),
            Some(toml::Value::Array(files)) => {
                names.extend(files.iter().filter_map(|f| f.as_str()).map(plain))
            }
            _ => {}
        }
    }
    names
}

fn plain(path: &str) -> String {
    Path::new(path).file_name().map_or(path.into(), |name| name.to_string_lossy().into_owned())
}

/// The settings with plain names for absolute paths: a card is made to be shared.
fn without_folders(mut settings: toml::Table) -> String {
    let shorten = |value: &mut toml::Value| {
        if let toml::Value::String(text) = value
            && Path::new(&*text).is_absolute()
        {
            *text = plain(text);
        }
    };
    for (_, value) in settings.iter_mut() {
        match value {
            toml::Value::Array(values) => values.iter_mut().for_each(shorten),
            other => shorten(other),
        }
    }
    toml::to_string(&settings).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_names_data_and_scores_but_no_folders() {
        let mut config = ModelConfig::preset("tiny").unwrap();
        config.other.insert("architectures".into(), json!(["FNetForSequenceClassification"]));
        let settings =
            "model = \"/mine/pretrained\"\ntask = \"sst2\"\ndata = \"/mine/glue/SST-2\"\nseed = 1\n";
        let results = json!({"parameters": 9, "steps": 3, "values": {"accuracy": 0.8125}});
        let card = card("mine", &config, settings, &results);
        for expected in
            ["pipeline_tag: text-classification", "\"value\":0.8125", "Data: sst2.", "| accuracy | 0.8125 |"]
        {
            assert!(card.contains(expected), "{expected} in {card}");
        }
        assert!(card.starts_with("---\n") && !card.contains("/mine"), "{card}");
    }
}
