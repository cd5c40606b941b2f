//! Pretraining on a corpus, into a folder.

use std::path::{Path, PathBuf};

use fnet_encoder::{Model, pretrained};
use serde_json::Value;

use crate::data::tokenizer::{TOKENIZER_FILE, Tokenizer};
use crate::error::{Error, Result};
use crate::folder::{RunFolder, check_is_not_model};
use crate::predictor::{check_vocabulary, say_unused};
use crate::runs::running::Running;
use crate::runs::{card, report};
use crate::settings::{absolute, refused};
use crate::train::pretrain::{MlmObjective, MlmSettings};
use crate::train::trainer::{Budget, Objective, Trainer};
use corpus::Corpus;
pub use forecast::Forecast;
pub use need::{Need, need};
pub use settings::{PretrainSettings, ReservoirSettings, USUAL_VOCABULARY};
pub use vocabulary::train_tokenizer;

mod corpus;
mod forecast;
mod need;
mod settings;
mod vocabulary;

/// Pretrains into a folder; returns the results, as in its `results.json`.
///
/// # Errors
/// If a setting or a file does not fit, the loss diverges, a file cannot be written, or the run is asked to stop.
pub fn run(folder: &RunFolder, settings: &PretrainSettings, running: &Running) -> Result<Value> {
    let mut settings = settings.clone();
    settings.resolve()?;
    let settings = &settings;
    let (resume, quiet) = (running.goes_on(folder, settings.training.leaves)?, running.quiet);
    if let Some(model) = settings.model.as_deref().filter(|_| !resume) {
        check_is_not_model(folder.path(), model)?;
    }
    let cache = match &settings.shards {
        Some(shards) => shards.clone(),
        None => absolute(folder.path())?.parent().unwrap_or(folder.path()).join("fnet-shards"),
    };
    let files =
        settings.corpus.iter().chain(&settings.valid).chain(settings.tokenizer.iter().filter(|_| !resume));
    folder.check_holds_none_of(files.map(PathBuf::as_path))?;
    let tokenizer = if resume {
        Tokenizer::read(&folder.file(TOKENIZER_FILE))?
    } else {
        vocabulary::tokenizer(settings, &cache, quiet)?
    };
    let source = if resume { Some(folder.path()) } else { settings.model.as_deref() };
    let mut model = model(settings, &tokenizer, source, quiet)?;
    let longest = settings.longest(model.config());
    let Corpus { sequences, validation } = Corpus::load(settings, &cache, &tokenizer, longest, quiet)?;
    settings.training.prepare(&mut model, quiet)?;
    let mlm = MlmSettings {
        learns: settings.objective,
        masking: settings.masking(),
        batch_tokens: settings.batch_tokens(longest),
        accumulate: settings.training.accumulate,
        longest,
        fixed_length: model.config().fixed_length(),
        seed: settings.training.seed,
    };
    if !quiet {
        eprintln!(
            "{} parameters, {} sequences of {:.1} tokens on average",
            model.parameters().len(),
            sequences.len(),
            sequences.tokens() as f64 / sequences.len() as f64 + 2.0
        );
    }
    let mut objective = MlmObjective::new(mlm, &tokenizer, sequences, &validation);
    if !resume {
        folder.begin(settings, Some(&tokenizer), longest, &model, objective.data())?;
    }
    running.start(settings, &model, objective.data())?;
    let state = Trainer {
        model: &mut model,
        objective: &mut objective,
        settings: &settings.training.loop_settings(Budget::Epochs(1.0)),
        folder,
        name: "pretraining",
        quiet,
        resume_command: running.how_to_resume(folder.path()),
        team: running.team.clone(),
    }
    .run(&running.stop)?;
    let results = report::results(&state, &model);
    if !running.leads() {
        return Ok(results);
    }
    report::write(folder, "Pretraining", &results)?;
    card::write(folder, &results)?;
    Ok(results)
}

/// A model with fresh weights, or with those of `source`.
fn model(
    settings: &PretrainSettings,
    tokenizer: &Tokenizer,
    source: Option<&Path>,
    quiet: bool,
) -> Result<Model> {
    let (seed, head) = (settings.training.seed, settings.objective.head());
    let mut model = match source {
        None => Model::new(settings.config(tokenizer)?, head, seed)?,
        Some(path) => {
            // A readout for vectors of texts does not follow what is pretrained further.
            let (model, report) = pretrained::open_with(path, head, seed, |config| config.sentence = None)?;
            // What tells pairs apart may start fresh on a model of masked tokens alone.
            let fresh =
                |name: &&String| name.starts_with("cls.seq_relationship.") || name.contains(".pooler.");
            if let Some(name) = report.missing.iter().find(|name| !fresh(name)) {
                let message =
                    format!("{name} is missing: pretraining continues from a pretrained model only");
                return Err(Error::file(path, message));
            }
            if !quiet {
                say_unused(path, &report);
            }
            check_vocabulary(path, tokenizer, &model)?;
            model
        }
    };
    model.change_config(|config| config.hidden_dropout_prob = settings.training.dropout)?;
    let longest = model.config().max_position_embeddings;
    if let Some(tokens) = settings.seq_len.filter(|tokens| *tokens > longest) {
        let message = format!("the model's longest sequence is {longest}");
        return Err(refused(&format!("seq_len {tokens}"), message));
    }
    if model.config().fixed_length().is_some() {
        tokenizer.check_padding()?;
        let longest = settings.longest(model.config());
        model.change_config(|config| config.padding_length = Some(longest))?;
    }
    Ok(model)
}
