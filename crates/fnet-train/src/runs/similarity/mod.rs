//! Training vectors of texts, into a folder.

use std::path::{Path, PathBuf};

use fnet_encoder::pretrained;
use fnet_encoder::{Head, Model, Pairs, Workspace};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::base_model::BaseModel;
use crate::data::alike::{self, Kind, Rows};
use crate::data::held_out;
use crate::data::sentence_settings::SentenceSettings;
use crate::data::tasks::dataset::metric_name;
use crate::data::tasks::encoding::{Encoding, Example, Long, LongOnes, Text};
use crate::data::tasks::glue::GlueTask;
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;
use crate::folder::{RunFolder, check_is_not_model};
use crate::predictor::{check_vocabulary, say_unused_body};
use crate::runs::finetune::usual_epochs;
use crate::runs::running::Running;
use crate::runs::training::longest;
use crate::runs::{card, report};
use crate::settings::refused;
use crate::train::finetune::Variation;
use crate::train::similarity::{Alike, Comparing, SimilarityObjective, Sizes};
use crate::train::text_vectors::{self, SAMPLE, TokenCounts};
use crate::train::tf_idf::Rarity;
use crate::train::trainer::{Budget, Objective as _, Trainer};
pub use settings::{Loss, Objective, SimilaritySettings};

mod settings;

/// Trains vectors of texts into a folder; returns the results, as in its `results.json`.
///
/// ```no_run
/// use fnet_train::folder::RunFolder;
/// use fnet_train::runs::running::Running;
/// use fnet_train::runs::similarity::{self, SimilaritySettings};
///
/// let settings = SimilaritySettings {
///     train: vec!["questions-and-answers.csv".into(), "scored.tsv".into()],
///     held_out: Some(0.1),
///     ..SimilaritySettings::default()
/// };
/// let folder = RunFolder::new("vectors".as_ref(), false)?;
/// println!("{}", similarity::run(&folder, &settings, &Running::default())?["values"]);
/// # Ok::<(), fnet_train::Error>(())
/// ```
///
/// # Errors
/// If a setting or a row does not fit, the loss diverges, a file cannot be written, or the run is asked to stop.
pub fn run(folder: &RunFolder, settings: &SimilaritySettings, running: &Running) -> Result<Value> {
    let mut settings = settings.clone();
    settings.resolve()?;
    let (resume, quiet) = (running.goes_on(folder, settings.training.leaves)?, running.quiet);
    if let Some(model) = settings.model.as_deref().filter(|_| !resume) {
        check_is_not_model(folder.path(), model)?;
    }
    let own = settings.train.iter().chain(&settings.dev).map(PathBuf::as_path);
    folder.check_holds_none_of(own)?;
    let base = match resume {
        true => BaseModel::at(folder.path()),
        false => BaseModel::named(settings.model.as_deref())?.standing_alone()?,
    };
    if base.folder().is_none() && !quiet {
        eprintln!("starting from {base}, the model that ships with fnet");
    }
    let mut data = Data::read(&settings, quiet)?;
    let tokenizer = base.tokenizer()?;
    let (mut model, is_new) = open(&base, &settings, resume, quiet)?;
    check_vocabulary(&base.name(), &tokenizer, &model)?;
    settings.training.prepare(&mut model, quiet)?;
    let told = base.folder().map_or_else(|| Ok(SentenceSettings::default()), SentenceSettings::read)?;
    let most = model.config().max_position_embeddings;
    let most = told.longest.map_or(most, |longest| most.min(longest));
    let longest = longest(&mut model, &tokenizer, ("max_length", settings.max_length), most)?;
    let encoding = encoding(&model, &settings, &tokenizer, longest, &told)?;
    if told.lower_case {
        data.lower_case();
    }
    let encode =
        |files: &[File]| files.iter().map(|file| file.encode(&encoding, quiet)).collect::<Result<Vec<_>>>();
    let (train, dev) = (encode(&data.train)?, encode(&data.dev)?);
    if !resume {
        // What was trained stays; the shipped readout was made from novels, and many texts of one's own say more.
        let texts: Vec<&Text> =
            train.iter().flat_map(|rows| &rows.examples).flat_map(|row| &row.texts).collect();
        if is_new || base.folder().is_none() && texts.len() >= MANY_TEXTS {
            start(&mut model, &texts, &tokenizer)?;
        }
    }
    let comparing = Comparing {
        loss: settings.loss.of_scored(),
        scale: settings.scale,
        dimensions: dimensions(&settings, &model)?,
    };
    let sizes = Sizes { batch: settings.training.batch_size, tokens: settings.pass_tokens };
    let variation = Variation {
        hide_rate: settings.hide_rate,
        swap_rate: 0.0,
        mask: tokenizer.special().mask,
        special: tokenizer.specials(),
    };
    let mut objective =
        SimilarityObjective::new(train, dev, comparing, sizes, variation, settings.training.seed)
            .with(running.team.clone());
    if settings.training.budget().is_none() {
        settings.training.epochs = Some(usual_epochs(objective.rows()));
    }
    if !resume {
        folder.begin(&settings, Some(&tokenizer), longest, &model, objective.data())?;
        base.folder().map_or(Ok(()), |from| SentenceSettings::copy(from, folder.path()))?;
    }
    // What the closed form alone reaches, to be seen beside what training adds.
    let before = if resume { None } else { objective.evaluate(&model, &mut Workspace::new())? };
    if let (Some(before), false) = (&before, quiet) {
        eprintln!("before training: {before}");
    }
    running.start(&settings, &model, objective.data())?;
    let state = Trainer {
        model: &mut model,
        objective: &mut objective,
        settings: &settings.training.loop_settings(Budget::Epochs(1.0)),
        folder,
        name: "vectors of texts",
        quiet,
        resume_command: running.how_to_resume(folder.path()),
        team: running.team.clone(),
    }
    .run(&running.stop)?;
    let mut results = report::results(&state, &model);
    if !running.leads() {
        return Ok(results);
    }
    let bag = data.bag_of_words();
    if !bag.is_empty() {
        results["bag_of_words"] = bag.into_iter().map(|(name, value)| (name, json!(value))).collect();
    }
    report::write(folder, "Vectors of texts", &results)?;
    card::write(folder, &results)?;
    Ok(results)
}

/// A file's rows.
struct File {
    path: PathBuf,
    /// Its name in metrics.
    name: String,
    rows: Rows,
}

struct Data {
    train: Vec<File>,
    dev: Vec<File>,
}

impl Data {
    fn read(settings: &SimilaritySettings, quiet: bool) -> Result<Self> {
        let mut data = match &settings.task {
            Some(task) => {
                Self::of_task(GlueTask::named(task)?, settings.data.as_deref().unwrap_or(Path::new(".")))?
            }
            None => Self::of_files(settings, quiet)?,
        };
        if settings.loss == Loss::Cosine {
            data.train.iter_mut().for_each(|file| file.scale_scores(quiet));
        }
        Ok(data)
    }

    fn of_files(settings: &SimilaritySettings, quiet: bool) -> Result<Self> {
        let file = |path: &PathBuf| -> Result<File> {
            let rows = alike::read(path, settings.named())?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let name = name.split('.').next().unwrap_or("").to_string(); // x of x.csv.gz
            if !quiet {
                eprintln!("{}: {} {}", path.display(), rows.texts.len(), rows.kind.name());
            }
            Ok(File { path: path.clone(), name, rows })
        };
        let mut train = settings.train.iter().map(file).collect::<Result<Vec<_>>>()?;
        let mut dev = settings.dev.iter().map(file).collect::<Result<Vec<_>>>()?;
        if let Some(share) = settings.held_out {
            for file in train.iter_mut().filter(|file| file.rows.kind != Kind::Texts) {
                let held = file.hold_out(share);
                held_out::check(held.rows.texts.len())?;
                dev.push(held);
            }
        }
        if let Some(texts) = dev.iter().find(|file| file.rows.kind == Kind::Texts) {
            let message = "holds texts alone, by which nothing can be judged: give pairs or scored pairs";
            return Err(crate::Error::file(&texts.path, message));
        }
        if dev.len() == 1 {
            dev[0].name.clear();
        }
        for i in 1..dev.len() {
            if dev[..i].iter().any(|other| other.name == dev[i].name) {
                dev[i].name = format!("{}-{}", dev[i].name, i + 1);
            }
        }
        Ok(Self { train, dev })
    }

    fn of_task(task: &GlueTask, folder: &Path) -> Result<Self> {
        let files = task.files(folder);
        let read = |path: &PathBuf, columns| -> Result<File> {
            let mut rows = Rows { kind: Kind::Scored, texts: Vec::new(), scores: Vec::new() };
            for (row, target) in files.rows(path, columns)? {
                rows.texts.push([Some(row.first), row.second].into_iter().flatten().collect());
                rows.scores.extend(target);
            }
            Ok(File { path: path.clone(), name: String::new(), rows })
        };
        let train = vec![read(&files.train, &files.train_columns)?];
        let dev = files.dev.iter().map(|(_, path, columns)| read(path, columns)).collect::<Result<_>>()?;
        Ok(Self { train, dev })
    }

    fn lower_case(&mut self) {
        let files = self.train.iter_mut().chain(&mut self.dev);
        let texts = files.flat_map(|file| &mut file.rows.texts).flatten();
        texts.for_each(|text| *text = text.to_lowercase());
    }

    /// What cosines of weighted words reach on held-out rows.
    fn bag_of_words(&self) -> Vec<(String, f64)> {
        let rarity = Rarity::of(self.train.iter().map(|file| &file.rows));
        let named = |file: &File| {
            let values = rarity.judge(&file.rows).into_iter();
            values.map(|(name, value)| (metric_name(name, &file.name), value)).collect::<Vec<_>>()
        };
        self.dev.iter().flat_map(named).collect()
    }
}

impl File {
    fn hold_out(&mut self, share: f64) -> Self {
        let [learnt, held] = held_out::split(self.rows.texts.len(), share);
        let part = |of: &[usize]| Rows {
            kind: self.rows.kind,
            texts: of.iter().map(|i| self.rows.texts[*i].clone()).collect(),
            scores: of.iter().filter_map(|i| self.rows.scores.get(*i).copied()).collect(),
        };
        let held = Self { path: self.path.clone(), name: self.name.clone(), rows: part(&held) };
        self.rows = part(&learnt);
        held
    }

    /// Brings scores that are no cosines between 0 and 1.
    fn scale_scores(&mut self, quiet: bool) {
        let scores = &mut self.rows.scores;
        let least = scores.iter().copied().fold(f32::INFINITY, f32::min);
        let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if scores.is_empty() || (least >= -1.0 && most <= 1.0) || most <= least {
            return;
        }
        scores.iter_mut().for_each(|s| *s = (*s - least) / (most - least));
        if !quiet {
            eprintln!("{}: scores from {least} to {most} are cosines from 0 to 1", self.path.display());
        }
    }

    fn encode(&self, encoding: &Encoding, quiet: bool) -> Result<Alike> {
        let targets: Vec<Vec<f32>> = match self.rows.kind {
            Kind::Scored => self.rows.scores.iter().map(|score| vec![*score]).collect(),
            _ => vec![Vec::new(); self.rows.texts.len()],
        };
        let rows = self.rows.texts.par_iter().zip(targets);
        let encoded: Vec<_> =
            rows.map(|(texts, target)| encoding.encode_apart(texts, target)).collect::<Result<_>>()?;
        let mut long = LongOnes::default();
        let examples: Vec<Example> = encoded.into_iter().map(|encoded| long.take(encoded)).collect();
        if let (Some(sentence), false) = (long.sentence(&self.path, examples.len(), encoding.longest), quiet)
        {
            eprintln!("{sentence}");
        }
        Ok(Alike { name: self.name.clone(), kind: self.rows.kind, examples })
    }
}

/// The base model with a readout for vectors of texts, and whether that starts fresh.
fn open(base: &BaseModel, settings: &SimilaritySettings, resume: bool, quiet: bool) -> Result<(Model, bool)> {
    if resume {
        return Ok((base.open()?.0, false));
    }
    let config = pretrained::read_config(base.source())?;
    let pooling = settings.pooling_of(&config)?;
    let is_new = config.sentence.as_ref().is_none_or(|own| own.pooling != pooling);
    let readout = text_vectors::readout(pooling, config.hidden_size, config.num_hidden_layers);
    let seed = settings.training.seed;
    let (mut model, report) = pretrained::open_with(base.source(), Head::Sentence, seed, |config| {
        if is_new {
            config.sentence = Some(readout);
        }
        config.classifier_pairs = Pairs::Together;
    })?;
    if !quiet {
        say_unused_body(&base.name(), &report);
    }
    if settings.from_scratch {
        model = Model::new(model.config().clone(), Head::Sentence, seed)?;
    }
    model.change_config(|config| config.hidden_dropout_prob = settings.training.dropout)?;
    Ok((model, is_new || settings.from_scratch))
}

fn encoding<'a>(
    model: &Model,
    settings: &SimilaritySettings,
    tokenizer: &'a Tokenizer,
    longest: usize,
    told: &SentenceSettings,
) -> Result<Encoding<'a>> {
    let (config, pairs) = (model.config(), Pairs::Towers);
    let usual = if told.cuts { Long::Cut } else { Long::usual(&settings.pooling_of(config)?) };
    let long = settings.long.unwrap_or(usual);
    Ok(Encoding { tokenizer, longest, fixed_length: config.fixed_length(), pairs, long })
}

/// The sizes that vectors may be shortened to; the whole size may be among them.
fn dimensions(settings: &SimilaritySettings, model: &Model) -> Result<Vec<usize>> {
    let width = model.vector_width().unwrap_or(0);
    match settings.dimensions.iter().find(|size| **size > width) {
        Some(size) => Err(refused(&format!("dimensions {size}"), format!("the vectors have {width} values"))),
        None => Ok(settings.dimensions.iter().copied().filter(|size| *size < width).collect()),
    }
}

/// As many texts say more of words and directions than those that the shipped readout was made from.
const MANY_TEXTS: usize = 1_000;

/// The closed-form start of the readout, from the training texts.
fn start(model: &mut Model, texts: &[&Text], tokenizer: &Tokenizer) -> Result<()> {
    let mut counts = TokenCounts::new(model.config().vocab_size);
    texts.iter().for_each(|text| counts.add(&text.tokens));
    let alone = |text: &&Text| Example { texts: vec![Text::clone(text)], target: Vec::new() };
    let sample: Vec<Example> = texts.iter().step_by(texts.len().div_ceil(SAMPLE).max(1)).map(alone).collect();
    text_vectors::start(model, &counts, &tokenizer.specials(), &sample, &mut Workspace::new())
}
