//! What a fine-tuning needs, loaded and checked before anything is written.

use std::path::{Path, PathBuf};

use fnet_encoder::mixers::MixerKind;
use fnet_encoder::pretrained::{self, MULTI_LABEL};
use fnet_encoder::{Model, ModelConfig, Padding, Workspace};

use super::Start;
use super::settings::{ClassWeights, FinetuneSettings};
use crate::base_model::BaseModel;
use crate::data::held_out;
use crate::data::tasks::dataset::{Dataset, Labels};
use crate::data::tasks::encoding::{Encoding, Long};
use crate::data::tasks::files::TaskFiles;
use crate::data::tasks::rows::Columns;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::folder::RunFolder;
use crate::predictor::{check_vocabulary, say_unused_body};
use crate::runs::training::longest;
use crate::settings::refused;
use crate::train::finetune::{BatchSize, TaskObjective, Variation};
use crate::train::{bag_start, text_vectors, whitening};

pub(super) struct Prepared {
    pub start: Start,
    pub objective: TaskObjective,
    pub files: TaskFiles,
}

pub(super) fn prepare(
    folder: &RunFolder,
    settings: &FinetuneSettings,
    resume: bool,
    quiet: bool,
) -> Result<Prepared> {
    let goes_on = super::goes_on_from(folder, settings, resume).is_some();
    let base = super::base(folder, settings, resume)?;
    let files = settings.task_files(quiet)?;
    let rows = std::iter::once(&files.train).chain(files.dev.iter().map(|dev| &dev.1));
    folder.check_holds_none_of(rows.map(PathBuf::as_path))?;
    if base.folder().is_none() && !quiet {
        eprintln!("starting from {base}, the model that ships with fnet");
    }
    let tokenizer = base.tokenizer()?;
    let (mut model, fresh) = open_model(&base, settings, &files, goes_on, quiet)?;
    check_vocabulary(&base.name(), &tokenizer, &model)?;
    files.train_columns.check_segments(model.config())?;
    settings.training.prepare(&mut model, quiet)?;
    let field = if settings.pad_to.is_some() { "pad_to" } else { "max_length" };
    let most = model.config().max_position_embeddings;
    let longest = longest(&mut model, &tokenizer, (field, settings.max_length), most)?;
    let config = model.config();
    let encoding = Encoding {
        tokenizer: &tokenizer,
        longest,
        fixed_length: config.fixed_length(),
        pairs: config.classifier_pairs,
        long: settings.long.unwrap_or(Long::usual(&config.classifier_pooling)),
    };
    let read = |path: &Path, columns: &Columns| read_rows(path, columns, &files.labels, &encoding, quiet);
    let mut train = read(&files.train, &files.train_columns)?;
    if settings.add.is_none() {
        check_classes(&files, &train)?;
    }
    let dev = match settings.held_out {
        Some(share) => {
            let held = train.hold_out(share);
            held_out::check(held.examples.len())?;
            vec![(String::new(), held)]
        }
        None => {
            let dev = files.dev.iter().map(|(name, path, columns)| Ok((name.clone(), read(path, columns)?)));
            dev.collect::<Result<_>>()?
        }
    };
    if !goes_on {
        text_vectors::weigh_pooled(&mut model, &train.examples, &tokenizer.specials());
        whitening::start(&mut model, &train.examples, &mut Workspace::new())?;
        bag_start::centre(&mut model, &train.examples);
    }
    let objective = objective(settings, &files, &tokenizer, train, dev);
    let (examples, tokenizer) = (objective.examples(), Some(tokenizer));
    let start = Start { model, tokenizer, longest, fresh, examples, resume };
    Ok(Prepared { start, objective, files })
}

/// The base model with the head and the readout that the settings ask for.
fn open_model(
    base: &BaseModel,
    settings: &FinetuneSettings,
    files: &TaskFiles,
    goes_on: bool,
    quiet: bool,
) -> Result<(Model, Vec<String>)> {
    if goes_on && settings.adapter {
        return Ok((base.open()?.0, Vec::new()));
    }
    let (head, seed) = (files.labels.head(), settings.training.seed);
    let bag = settings.bag.map_or_else(|| usual_bag(files, settings.has_linear_head()), Ok)?;
    let mut cannot_extend = None;
    let opened = pretrained::open_with(base.source(), head, seed, |config| {
        if goes_on {
            return; // its own readout
        }
        if let Some(pooling) = &settings.pooling {
            config.classifier_pooling = pooling.clone();
        }
        config.classifier_pairs = settings.pairs.unwrap_or_default();
        config.classifier_bag = bag;
        config.classifier_linear = settings.has_linear_head();
        config.classifier_matching = settings.matching.unwrap_or_default();
        if settings.long == Some(Long::Extend) {
            let own = config.max_position_embeddings;
            let asked = settings.max_length.unwrap_or_default();
            cannot_extend = why_not_extended(config, asked);
            config.max_position_embeddings = own.max(asked);
        }
    });
    if let Some(why) = cannot_extend {
        return Err(refused("long extend", format!("{base} {why}")));
    }
    let (mut model, report) = opened?;
    if !quiet {
        say_unused_body(&base.name(), &report);
    }
    if settings.from_scratch {
        model = Model::new(model.config().clone(), head, seed)?;
    }
    model.change_config(|config| {
        config.hidden_dropout_prob = settings.training.dropout;
        config.other.remove("problem_type"); // another head's
        if !files.labels.names().is_empty() {
            pretrained::set_labels(config, files.labels.names());
        }
        if matches!(files.labels, Labels::Several(_)) {
            config.other.insert("problem_type".into(), MULTI_LABEL.into());
        }
        if settings.pad_to.is_some() {
            config.padding = Padding::Fixed;
        }
    })?;
    Ok((model, report.missing))
}

/// Why a model cannot have so many positions instead of its own, if it cannot.
fn why_not_extended(config: &ModelConfig, asked: usize) -> Option<String> {
    let of_length = [MixerKind::Linear, MixerKind::Random, MixerKind::Mlp];
    let own = config.max_position_embeddings;
    match () {
        () if config.layer_mixers().iter().any(|mixer| of_length.contains(mixer)) => {
            Some("has layers whose weights fit its own length alone".into())
        }
        () if config.fixed_length().is_some() => Some("pads all texts to one length, which stays".into()),
        () if asked <= own => Some(format!("has {own} positions; ask for more")),
        () => None,
    }
}

/// Rows from which on a second opinion from words alone no longer helps.
const MANY_ROWS: usize = 20_000;

/// Whether there is a second opinion where nobody says.
fn usual_bag(files: &TaskFiles, has_linear_head: bool) -> Result<bool> {
    Ok(!has_linear_head && files.train_columns.text.len() == 1 && files.train_rows()? < MANY_ROWS)
}

fn read_rows(
    path: &Path,
    columns: &Columns,
    labels: &Labels,
    encoding: &Encoding,
    quiet: bool,
) -> Result<Dataset> {
    let data = Dataset::read(path, columns, labels, encoding, quiet)?;
    let sentence = data.long.sentence(path, data.examples.len(), encoding.longest);
    if let Some(sentence) = sentence.filter(|_| !quiet) {
        eprintln!("{sentence}");
    }
    if data.empty > 0 && !quiet {
        let (file, all) = (path.display(), data.examples.len());
        eprintln!("warning: {file}: {} of {all} rows have an empty text", data.empty);
    }
    Ok(data)
}

/// Refuses training rows of one class.
fn check_classes(files: &TaskFiles, train: &Dataset) -> Result<()> {
    let (Labels::Classes(names), Some(first)) = (&files.labels, train.examples.first()) else {
        return Ok(());
    };
    if train.examples.iter().any(|example| example.target != first.target) {
        return Ok(());
    }
    let name = first.target.first().and_then(|id| names.get(*id as usize)).map_or("", String::as_str);
    let message = format!("has one class only, `{name}`: there is nothing to learn");
    Err(Error::file(&files.train, message))
}

fn objective(
    settings: &FinetuneSettings,
    files: &TaskFiles,
    tokenizer: &Tokenizer,
    train: Dataset,
    dev: Vec<(String, Dataset)>,
) -> TaskObjective {
    let examples = BatchSize::Examples(settings.training.batch_size);
    let batch = settings.batch_tokens.map_or(examples, BatchSize::Tokens);
    let variation = Variation {
        hide_rate: settings.hide_rate.unwrap_or(0.0),
        swap_rate: settings.swap_rate.unwrap_or(0.0),
        mask: tokenizer.special().mask,
        special: tokenizer.specials(),
    };
    let (labels, metrics) = (files.labels.clone(), files.metrics.clone());
    let batch = (batch, settings.training.accumulate);
    let objective = TaskObjective::new(train, dev, labels, metrics, batch, variation, settings.training.seed);
    match settings.class_weights {
        Some(ClassWeights::Balanced) => objective.balanced(),
        Some(ClassWeights::Equal) | None => objective,
    }
}
