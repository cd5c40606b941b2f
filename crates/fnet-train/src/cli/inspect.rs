use std::path::PathBuf;

use fnet_encoder::pretrained::labels_of;
use fnet_train::Result;
use fnet_train::folder::RunFolder;
use fnet_train::report::table;
use serde_json::{Value, json};

use super::common::say;
use super::opened::Opened;

/// Show what a model folder holds
#[derive(clap::Args)]
pub struct Args {
    /// The folder
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `fnet inspect`.
pub fn run(args: &Args) -> Result<()> {
    let opened = Opened::open(&args.model)?;
    let (config, parameters) = (opened.model.config(), opened.model.parameters());
    let folder = RunFolder::new(&args.model, true)?;
    let results = folder.results();
    let mixers: Vec<String> =
        config.layer_mixers().iter().map(|m| json!(m).as_str().unwrap_or_default().to_string()).collect();
    let tensors: Vec<Value> =
        parameters.table().iter().map(|t| json!({"name": t.name, "shape": t.shape})).collect();
    let mut object = json!({
        "head": format!("{:?}", opened.model.head()),
        "labels": labels_of(config),
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "feed_forward": config.intermediate_size,
        "vocabulary": config.vocab_size,
        "longest_sequence": config.max_position_embeddings,
        "mixers": mixers,
        "padding": config.padding,
        "parameters": parameters.len(),
        "bytes": 4 * parameters.len(),
        "flops_per_token": opened.model.flops_per_token(config.max_position_embeddings),
        "results": results,
    });
    if args.tensors {
        object["tensors"] = json!(tensors);
    }
    if args.json {
        return say(object);
    }
    let plain = |v: &Value| v.as_str().map_or_else(|| v.to_string(), ToString::to_string);
    let mut rows: Vec<(String, String)> = object
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, v)| !v.is_null() && !["tensors", "results"].contains(&key.as_str()))
        .map(|(key, v)| (key.replace('_', " "), plain(v)))
        .collect();
    if let Some(results) = &results {
        rows.extend(fnet_train::report::rows(results).into_iter().skip(1));
    }
    if args.tensors {
        let shape = |t: &Value| (t["name"].as_str().unwrap_or("").into(), t["shape"].to_string());
        rows.extend(tensors.iter().map(shape));
    }
    say(table(&rows).trim_end())
}
