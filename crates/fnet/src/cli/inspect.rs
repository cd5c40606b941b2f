use std::path::{Path, PathBuf};

use fnet_encoder::mixers::MixerKind;
use fnet_encoder::pretrained::{self, AdapterInfo, Inspection, labels_of};
use fnet_encoder::{Head, TensorInfo};
use fnet_train::Result;
use fnet_train::base_model::{BaseModel, TrunkPlace};
use fnet_train::folder::RunFolder;
use fnet_train::runs::report::table;
use serde_json::{Value, json};

use super::common::say;

/// Show what a model folder, or a file of weights in it, holds
#[derive(clap::Args)]
pub struct Args {
    /// The folder or file; by default the model that ships with the program
    #[arg(value_name = "DIR")]
    model: Option<PathBuf>,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `fnet inspect`.
pub fn run(args: &Args) -> Result<()> {
    let base = BaseModel::named(args.model.as_deref())?;
    let adapter = match base.trunk()? {
        Some(_) => Some(AdapterInfo::<TrunkPlace>::read(base.folder().unwrap_or(Path::new("")))?),
        None => None,
    };
    let inspection = match adapter {
        Some(_) => Inspection::of(&base.open()?.0),
        None => pretrained::inspect(base.source())?,
    };
    let (config, report) = (&inspection.config, &inspection.report);
    let parameters: usize = inspection.tensors.iter().map(TensorInfo::len).sum();
    let folder = base.folder().map(RunFolder::at);
    let results = folder.and_then(|folder| folder.results());
    let classifies = matches!(inspection.head, Head::Classification { .. });
    let mixers: Vec<&str> = config.layer_mixers().into_iter().map(MixerKind::name).collect();
    let tensors: Vec<Value> =
        inspection.tensors.iter().map(|t| json!({"name": t.name, "shape": t.shape})).collect();
    let mut object = json!({
        "head": format!("{:?}", inspection.head),
        "labels": classifies.then(|| labels_of(config, inspection.head)),
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "feed_forward": config.intermediate_size,
        "vocabulary": config.vocab_size,
        "longest_sequence": config.max_position_embeddings,
        "mixers": mixers,
        "padding": config.padding,
        "parameters": parameters,
        "bytes": 4 * parameters,
        "flops_per_token": inspection.flops_per_token,
        "plan_bytes": inspection.plan_bytes,
        "missing_tensors": report.missing,
        "unused_tensors": report.unused,
        "misshapen_tensors": report.misshapen,
        "adapter": adapter,
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
        .filter(|(_, v)| !v.is_null() && v.as_array().is_none_or(|list| !list.is_empty()))
        .filter(|(key, _)| !["tensors", "results"].contains(&key.as_str()))
        .map(|(key, v)| (key.replace('_', " "), plain(v)))
        .collect();
    if let Some(results) = &results {
        rows.extend(fnet_train::runs::report::rows(results).into_iter().skip(1));
    }
    if args.tensors {
        let shape = |t: &Value| (t["name"].as_str().unwrap_or("").into(), t["shape"].to_string());
        rows.extend(tensors.iter().map(shape));
    }
    say(table(&rows).trim_end())
}
