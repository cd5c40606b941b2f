//! What a fine-tuning on signals needs, loaded and checked before anything is written.

use std::path::{Path, PathBuf};

use fnet_encoder::pretrained;
use fnet_encoder::{Head, Model, Padding, Pool, Pooling, Workspace};

use super::added::Known;
use super::signal_settings::options;
use super::{FinetuneSettings, Start};
use crate::base_model::BaseModel;
use crate::data::held_out;
use crate::data::signals::featured::{Featured, Features, check_head};
use crate::data::signals::model_space::{Space, StoredSpace};
use crate::data::signals::part::Part;
use crate::data::signals::random_features::{Filters, RandomFeatures};
use crate::data::signals::words::WordFile;
use crate::data::signals::{self, Asked, Format, Only, Place, Purpose, READING_KEY, Reading, Shape, Source};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::folder::RunFolder;
use crate::runs::training::preset_named;
use crate::settings::{refused, setting};
use crate::train::signals::SignalObjective;
use crate::train::standardize;

/// What words are read by.
#[derive(Clone, Copy)]
struct WordsBy<'a> {
    tokenizer: &'a Tokenizer,
    longest: usize,
    quiet: bool,
}

/// Where signals come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Signals {
    /// Files to learn from and to judge by.
    Files { train: Place, dev: Option<Place>, format: Format },
    /// Sentences with a label for each word.
    Words { train: Place, dev: Option<Place> },
    /// Generated examples.
    Generated(Reading),
}

/// Tasks of signals by name; the last five are generated.
pub const SIGNAL_TASKS: [&str; 8] =
    ["mnist", "cifar10", "spoken-digits", "bit-memory", "bit-xor", "listops", "pathfinder", "mnist-1d"];

type TrainAndDev = (Box<dyn Source>, Option<Box<dyn Source>>);

/// The two halves of a task whose files are in a folder.
fn task_files(task: &str, data: &Path) -> Option<[Place; 2]> {
    let existing = |names: &[&str]| {
        let mut paths = names.iter().map(|name| data.join(name));
        paths.clone().find(|path| path.exists()).or_else(|| paths.next_back()).unwrap_or_default()
    };
    let all = |names: &[&str]| Place { path: existing(names), only: Only::All };
    Some(match task {
        "mnist" => ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte"]
            .map(|name| all(&[&format!("{name}.gz"), name])),
        "cifar10" if data.join("data_batch_1.bin").exists() => {
            ["data_batch", "test_batch"].map(|start| Place { path: data.into(), only: Only::Named(start) })
        }
        "cifar10" => [all(&["train", "train.zip"]), all(&["test", "test.zip"])],
        // The test half that its authors name.
        "spoken-digits" => [Only::NumberedFrom(5), Only::NumberedBelow(5)]
            .map(|only| Place { path: existing(&["recordings", "recordings.zip"]), only }),
        _ => return None,
    })
}

impl Signals {
    /// The signals that the settings name; `None` if they name text.
    pub fn named(settings: &FinetuneSettings) -> Result<Option<Self>> {
        let FinetuneSettings { task, data, train, dev, max_length, .. } = settings;
        let options = options(settings)?;
        if let Some(task) = task {
            if let Some(generated) = settings.signals.generated(task, *max_length)? {
                return match data {
                    Some(_) => Err(refused("data", format!("{task} is generated"))),
                    None => Ok(Some(Self::Generated(generated))),
                };
            }
            if !SIGNAL_TASKS.contains(&task.as_str()) {
                return Ok(None);
            }
            let Some([train, dev]) = data.as_deref().and_then(|data| task_files(task, data)) else {
                let message = format!("give {}, the folder of its files", setting("data"));
                return Err(refused(&format!("task {task}"), message));
            };
            let Some(format) = Format::of(&train.path, Purpose::Learn(&options))? else {
                return Err(Error::file(&train.path, format!("is no file of {task}")));
            };
            return Ok(Some(Self::Files { train, dev: Some(dev), format }));
        }
        let Some(train) = train else { return Ok(None) };
        let [own, other] =
            [Some(train), dev.as_ref()].map(|path| path.map(|path| Place::from(path.as_path())));
        let Some(own) = own else { return Ok(None) };
        let format = Format::of(train, Purpose::Learn(&options))?;
        let Some(format) = format else {
            let is_words = settings.signals.per_position || WordFile::is_conll(train);
            let is_other = |dev: &&PathBuf| WordFile::is_conll(dev) != WordFile::is_conll(train);
            if let Some(dev) = dev.as_ref().filter(|dev| is_words && is_other(dev)) {
                return Err(Error::file(dev, "is of another kind than the training file"));
            }
            return Ok(is_words.then_some(Self::Words { train: own, dev: other }));
        };
        if let Some(dev) = dev {
            let is_like = |other: Format| format.examples() == other.examples();
            if !Format::of(dev, Purpose::Learn(&options))?.is_some_and(is_like) {
                return Err(Error::file(dev, "is of another kind than the training file"));
            }
        }
        Ok(Some(Self::Files { train: own, dev: other, format }))
    }

    /// What the examples are, in messages.
    pub fn examples(&self) -> &'static str {
        match self {
            Self::Files { format, .. } => format.examples(),
            Self::Words { .. } => "labelled words",
            Self::Generated(_) => "generated examples",
        }
    }

    /// As [`open`](Self::open), as random features if these are asked for.
    fn open_featured(&self, settings: &FinetuneSettings, words: Option<WordsBy>) -> Result<TrainAndDev> {
        let known = Known::of(settings)?;
        let (train, dev) = self.open(settings, words, known.as_ref())?;
        let own = &settings.signals;
        let (shape, seed) = (train.shape(), own.trunk_seed.unwrap_or(1));
        // Where rows are added, they are read as features already.
        Ok(match (own.random_features, own.model_space) {
            _ if known.is_some() => (train, dev),
            (Some(count), _) => {
                let features = check_head(shape.head)
                    .and_then(|()| RandomFeatures::of(&train.reading(), shape.width, count, seed))
                    .map_err(|of| refused("random_features", format!("cannot be made of {of}")))?;
                featured((train, dev), || Ok(Filters::new(features.clone())))?
            }
            (None, Some(dimensions)) => {
                let refuse = |of: String| refused("model_space", format!("cannot be made of {of}"));
                check_head(shape.head).map_err(|of| refuse(of.into()))?;
                let space = StoredSpace::fit(&*train, dimensions, seed)?.map_err(refuse)?;
                featured((train, dev), || Space::new(space.clone()).map_err(refuse))?
            }
            (None, None) => (train, dev),
        })
    }

    /// To learn from, and to judge by.
    fn open(
        &self,
        settings: &FinetuneSettings,
        words: Option<WordsBy>,
        known: Option<&Known>,
    ) -> Result<TrainAndDev> {
        let Some(share) = settings.held_out else { return self.open_both(settings, words, known) };
        // Opened again to be judged by, it is not varied as training examples are.
        let judged = match self {
            Self::Generated(_) => self.clone(),
            Self::Files { train, format, .. } => {
                Self::Files { train: train.clone(), dev: Some(train.clone()), format: *format }
            }
            Self::Words { train, .. } => Self::Words { train: train.clone(), dev: Some(train.clone()) },
        };
        let (train, dev) = judged.open_both(settings, words, known)?;
        let [learnt, held] = held_out::split(train.len(), share);
        held_out::check(held.len())?;
        let source = match self {
            Self::Generated(reading) => reading.generated(Some(settings.training.seed)),
            _ => dev,
        };
        let part = |source, indices| Box::new(Part { source, indices }) as Box<dyn Source>;
        Ok((part(train, learnt), source.map(|source| part(source, held))))
    }

    fn open_both(
        &self,
        settings: &FinetuneSettings,
        words: Option<WordsBy>,
        known: Option<&Known>,
    ) -> Result<TrainAndDev> {
        let options = options(settings)?;
        let learn =
            known.map_or(Purpose::Learn(&options), |known| Purpose::Judge(&known.reading, &known.classes));
        Ok(match self {
            Self::Generated(_) if known.is_some() => {
                return Err(refused("add", "generated examples are all learnt from already"));
            }
            Self::Generated(reading) => {
                let Some(train) = reading.generated(Some(settings.training.seed)) else {
                    return Err(Error::usage("examples of files are not generated"));
                };
                (train, reading.generated(None))
            }
            Self::Files { train, dev, .. } => {
                let train = signals::open(train, learn)?;
                let (reading, classes) = (train.reading(), train.shape().classes);
                let open = |dev: &Place| signals::open(dev, Purpose::Judge(&reading, &classes));
                let dev = dev.as_ref().map(open).transpose()?;
                (train, dev)
            }
            Self::Words { train, dev } => {
                let (Some(WordsBy { tokenizer, longest, quiet }), Some(columns)) = (words, &options.columns)
                else {
                    return Err(refused("text, label", "name the columns of the words and of their labels"));
                };
                let open = |place: &Place, purpose: Purpose| -> Result<Box<WordFile>> {
                    let file = WordFile::open(&place.path, columns, tokenizer, longest, purpose)?;
                    if file.extra_sequences() > 0 && !quiet {
                        let (path, more) = (place.path.display(), file.extra_sequences());
                        eprintln!(
                            "{path}: sentences longer than the model are read in {more} more sequences"
                        );
                    }
                    Ok(Box::new(file))
                };
                let train = open(train, learn)?;
                let (reading, classes) = (train.reading(), train.shape().classes);
                let judge = |dev: &Place| open(dev, Purpose::Judge(&reading, &classes));
                let dev = dev.as_ref().map(judge).transpose()?;
                (train, dev.map(|dev| dev as Box<dyn Source>))
            }
        })
    }

    /// The files that are read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let files = match self {
            Self::Files { train, dev, .. } | Self::Words { train, dev } => {
                [Some(train.path.as_path()), dev.as_ref().map(|dev| dev.path.as_path())]
            }
            _ => [None, None],
        };
        files.into_iter().flatten()
    }
}

pub(super) struct Prepared {
    pub start: Start,
    pub objective: SignalObjective,
}

pub(super) fn prepare(
    folder: &RunFolder,
    settings: &FinetuneSettings,
    signals: &Signals,
    resume: bool,
    quiet: bool,
) -> Result<Prepared> {
    folder.check_holds_none_of(signals.files())?;
    // Words need the base's tokenizer.
    let words = match signals {
        Signals::Words { .. } => Some(words(folder, settings, resume)?),
        _ => None,
    };
    let (train, dev) = signals.open_featured(
        settings,
        words.as_ref().map(|(tokenizer, longest)| WordsBy { tokenizer, longest: *longest, quiet }),
    )?;
    let mut shape = train.shape();
    if let Some(dev) = &dev {
        shape.longest = shape.longest.max(dev.shape().longest);
    }
    let asked = train.reading().asked();
    let is_new = settings.add.is_none();
    if let (Asked::Class, Head::Classification { labels: 1 }) | (Asked::Positions, Head::Tokens { labels: 1 }) =
        (&asked, shape.head)
        && is_new
        && !matches!(signals, Signals::Generated(_))
    {
        let file = signals.files().next().unwrap_or(Path::new(""));
        return Err(Error::file(file, "has one class only: there is nothing to learn"));
    }
    let (mut model, fresh) = model(folder, settings, &shape, resume, quiet)?;
    let longest = model.config().max_position_embeddings;
    if shape.longest > longest {
        let message = format!("{} positions are more than the model's {longest}", shape.longest);
        let [preset, length] = ["preset", "max_length"].map(setting);
        return Err(Error::usage(format!(
            "{message}; {preset} makes a trunk as long as they are, or as {length} says"
        )));
    }
    let reading = serde_json::to_value(train.reading()).unwrap_or_default();
    model.change_config(|config| {
        config.hidden_dropout_prob = settings.training.dropout;
        (config.padding, config.padding_length) = (Padding::Own, None);
        config.other.remove("problem_type"); // another head's
        config.other.insert(READING_KEY.into(), reading);
        if asked == Asked::Labels {
            config.other.insert("problem_type".into(), pretrained::MULTI_LABEL.into());
        }
        if !shape.classes.is_empty() {
            pretrained::set_labels(config, &shape.classes);
        }
    })?;
    settings.training.prepare(&mut model, quiet)?;
    let goes_on = super::goes_on_from(folder, settings, resume).is_some();
    if !goes_on && settings.signals.preset.is_some() {
        restart_trained(&mut model, settings.training.seed)?;
    }
    if !goes_on {
        standardize::start(&mut model, &*train, &mut Workspace::new())?;
    }
    if !quiet {
        let (count, width) = (train.len(), shape.width);
        let longest = shape.longest;
        let each =
            if width > 0 { format!("{longest} vectors of {width}") } else { format!("{longest} tokens") };
        eprintln!("{count} examples of up to {each}");
    }
    let (batch_size, accumulate) = (settings.training.batch_size, settings.training.accumulate);
    let objective = SignalObjective::new(train, dev, batch_size, accumulate, settings.training.seed)?;
    let (tokenizer, longest) =
        words.map_or((None, longest), |(tokenizer, longest)| (Some(tokenizer), longest));
    let start = Start { model, tokenizer, longest, fresh, examples: objective.train.len(), resume };
    Ok(Prepared { start, objective })
}

/// Both halves as features.
fn featured<F: Features + 'static>(
    (train, dev): TrainAndDev,
    features: impl Fn() -> Result<F>,
) -> Result<TrainAndDev> {
    let of = |source| -> Result<Box<dyn Source>> { Ok(Box::new(Featured { source, features: features()? })) };
    Ok((of(train)?, dev.map(of).transpose()?))
}

/// The tokenizer of the base, and the longest sequence that it is read in.
fn words(folder: &RunFolder, settings: &FinetuneSettings, resume: bool) -> Result<(Tokenizer, usize)> {
    let base = super::base(folder, settings, resume)?;
    let longest = base.positions()?;
    match settings.max_length.filter(|tokens| *tokens > longest) {
        Some(tokens) => {
            let message = format!("the model's longest sequence is {longest}");
            Err(refused(&format!("max_length {tokens}"), message))
        }
        None => Ok((base.tokenizer()?, settings.max_length.unwrap_or(longest))),
    }
}

/// A pretrained trunk or a random one, with an input and a head of the signals' shape.
fn model(
    folder: &RunFolder,
    settings: &FinetuneSettings,
    shape: &Shape,
    resume: bool,
    quiet: bool,
) -> Result<(Model, Vec<String>)> {
    let seed = settings.training.seed;
    let is_standardized = shape.head.reads_texts();
    let is_linear = settings.has_linear_head();
    let pooling = || match &settings.pooling {
        Some(pooling) => Ok(pooling.clone()),
        None if settings.signals.makes_features() => Pooling::new(vec![Pool::Input]),
        None => Pooling::new(vec![Pool::Mean, Pool::Max]),
    };
    if let Some(from) = super::goes_on_from(folder, settings, resume) {
        let model = if settings.adapter {
            BaseModel::at(from).open()?
        } else {
            pretrained::open_as(from, shape.head, seed)?
        };
        return Ok((model.0, Vec::new()));
    }
    if let Some(preset) = &settings.signals.preset {
        let mut config = preset_named(preset)?;
        settings.signals.resize_trunk(&mut config);
        config.vocab_size = 1;
        (config.pad_token_id, config.bos_token_id, config.eos_token_id) = (None, None, None);
        config.type_vocab_size = 1;
        config.max_position_embeddings = settings.max_length.unwrap_or(shape.longest);
        config.input_width = Some(shape.width);
        config.classifier_pooling = pooling()?;
        config.classifier_standardized = is_standardized;
        config.classifier_linear = is_linear;
        let name = settings.signals.mixer.as_deref().unwrap_or("fourier");
        let mixers = fnet_encoder::mixers::MixerKind::layers(name, config.num_hidden_layers);
        config.set_mixers(mixers.map_err(|e| refused(&format!("mixer {name}"), e))?);
        let model = Model::new(config, shape.head, settings.signals.trunk_seed.unwrap_or(1))?;
        return Ok((model, Vec::new()));
    }
    let base = BaseModel::named(settings.model.as_deref())?.standing_alone()?;
    if base.folder().is_none() && !quiet {
        eprintln!("starting from {base}, the model that ships with fnet");
    }
    let (pooling, mut error) = (pooling()?, None);
    let opened = pretrained::open_with(base.source(), shape.head, seed, |config| {
        config.input_width = (shape.width > 0).then_some(shape.width);
        config.classifier_pooling = pooling;
        config.classifier_standardized = is_standardized;
        config.classifier_linear = is_linear;
        config.classifier_pairs = fnet_encoder::Pairs::Together;
        (config.classifier_bag, config.classifier_matching) = (false, false);
        error = config.check().err();
    });
    match error {
        Some(error) => Err(error.into()),
        None => {
            let (model, report) = opened?;
            Ok((model, report.missing))
        }
    }
}

/// A random trunk follows from its own seed; what is trained starts from the run's.
fn restart_trained(model: &mut Model, seed: u64) -> Result<()> {
    let fresh = Model::new(model.config().clone(), model.head(), seed)?;
    let parameters = model.parameters_mut();
    let trained: Vec<_> = parameters.table().iter().filter(|t| t.trainable).map(|t| t.range()).collect();
    for range in trained {
        parameters.values_mut()[range.clone()].copy_from_slice(&fresh.parameters().values()[range]);
    }
    Ok(())
}
