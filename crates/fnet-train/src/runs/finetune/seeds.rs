//! Several seeds of one fine-tuning.

use fnet_encoder::pretrained::{CONFIG_FILE, MODELING_FILE, WEIGHTS_FILE};
use fnet_encoder::whole_file::write_whole;
use serde_json::{Map, Value, json};

use super::signals::{self, Signals};
use super::{FinetuneSettings, leaves_of, prepare, run_seed};
use crate::data::tasks::dataset::score_of;
use crate::data::tokenizer::{TOKENIZER_CONFIG_FILE, TOKENIZER_FILE};
use crate::error::{Error, Result};
use crate::folder::{METRICS_FILE, RunFolder};
use crate::runs::mean::mean;
use crate::runs::running::Running;
use crate::runs::{card, report};

/// Fine-tunes with several seeds, each in a folder of its own; the best model is copied to the top.
pub(super) fn run(folder: &RunFolder, settings: &FinetuneSettings, running: &Running) -> Result<Value> {
    running.check_leaves(leaves_of(settings))?;
    let first = settings.training.seed;
    let seeds = first..first + settings.seeds;
    let open = |seed: u64, overwrite| RunFolder::new(&folder.file(&format!("seed-{seed}")), overwrite);
    let place = |seed: u64| match running.leads() {
        true => open(seed, true),
        false => Ok(RunFolder::at(&folder.file(&format!("seed-{seed}")))),
    };
    if running.leads() && !running.resume {
        // Whatever is wrong with the data is found before an earlier run is removed.
        for seed in seeds.clone() {
            open(seed, running.overwrite)?;
        }
        match Signals::named(settings)? {
            Some(signals) => drop(signals::prepare(folder, settings, &signals, false, true)?),
            None => drop(prepare(folder, settings, false, true)?),
        }
        // Results say which seeds are done: those of an earlier run must not count.
        folder.clear()?;
        for seed in seeds.clone() {
            place(seed)?.clear()?;
        }
        folder.save_settings(settings)?;
    }
    let mut all: Vec<Value> = Vec::new();
    for seed in seeds.clone() {
        let folder = place(seed)?;
        let mut one = settings.clone();
        (one.training.seed, one.seeds) = (seed, 1);
        all.push(match folder.results().filter(|_| running.resume) {
            Some(results) => results,
            None => run_seed(&folder, one, running)?,
        });
    }
    if !running.leads() {
        return Ok(Value::Null);
    }
    let score = |results: &Value| -> f64 {
        let values = results["values"].as_object();
        let value = |(name, v): (&String, &Value)| Some((name.clone(), v.as_f64()?));
        score_of(&values.into_iter().flatten().filter_map(value).collect::<Vec<_>>())
    };
    let best = (0..all.len()).max_by(|a, b| score(&all[*a]).total_cmp(&score(&all[*b])));
    let best = best.unwrap_or(0);
    copy_best(folder, &place(first + best as u64)?)?;
    let results = summary(&all, first, best);
    report::write(folder, "Fine-tuning, several seeds", &results)?;
    card::write(folder, &results)?;
    Ok(results)
}

fn copy_best(folder: &RunFolder, best: &RunFolder) -> Result<()> {
    for file in
        [MODELING_FILE, CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE, TOKENIZER_CONFIG_FILE, METRICS_FILE]
    {
        let from = best.file(file);
        if !from.exists() && file != WEIGHTS_FILE {
            continue; // Transformers opens this model without its code, signals have no tokenizer
        }
        let bytes = std::fs::read(&from).map_err(Error::io(&from))?;
        write_whole(&folder.file(file), &bytes)?;
    }
    Ok(())
}

/// Mean and standard deviation over seeds beside each seed's values.
fn summary(all: &[Value], first: u64, best: usize) -> Value {
    let mut summary = all[best].clone();
    let names: Vec<String> =
        all[best]["values"].as_object().into_iter().flat_map(|v| v.keys().cloned()).collect();
    let mut values = Map::new();
    for name in &names {
        let found: Vec<f64> = all.iter().filter_map(|r| r["values"][name].as_f64()).collect();
        let (mean, deviation) = mean(&found).unwrap_or((f64::NAN, None));
        values.insert(name.clone(), json!(mean));
        values.insert(format!("{name}_deviation"), json!(deviation.unwrap_or(0.0)));
    }
    summary["values"] = Value::Object(values);
    summary["best_seed"] = json!(first + best as u64);
    summary["seeds"] = json!(all);
    summary
}
