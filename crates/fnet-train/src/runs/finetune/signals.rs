//! What a fine-tuning on signals needs, loaded and checked before anything is written.

use std::path::{Path, PathBuf};

use fnet_encoder::pretrained;
use fnet_encoder::{Head, Model, Padding, Pool, Pooling};

use super::{FinetuneSettings, Start};
use crate::base_model::BaseModel;
use crate::data::signals::bits::{BitStrings, Bits};
use crate::data::signals::{self, Format, READING_KEY, Shape, Source};
use crate::error::{Error, Result};
use crate::folder::RunFolder;
use crate::runs::training::preset_named;
use crate::settings::{refused, setting};
use crate::train::signals::SignalObjective;

/// Where signals come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Signals {
    /// Files to learn from and to judge by.
    Files { train: PathBuf, dev: Option<PathBuf>, format: Format },
    /// Generated.
    Bits(Bits),
}

/// MNIST's files, by their names without `.gz`.
const MNIST: [&str; 2] = ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte"];

type TrainAndDev = (Box<dyn Source>, Option<Box<dyn Source>>);

impl Signals {
    /// The signals that the settings name; `None` if they name text.
    pub fn named(settings: &FinetuneSettings) -> Result<Option<Self>> {
        let FinetuneSettings { task, data, train, dev, strings, bits, .. } = settings;
        if task.as_deref() == Some("mnist") {
            let Some(data) = data else {
                return Err(refused(
                    "task mnist",
                    format!("give {}, the folder of its files", setting("data")),
                ));
            };
            let [train, dev] = MNIST.map(|name| {
                let packed = data.join(format!("{name}.gz"));
                if packed.exists() { packed } else { data.join(name) }
            });
            return Ok(Some(Self::Files { train, dev: Some(dev), format: Format::Idx }));
        }
        let sizes = strings.map(|_| "strings").or(bits.map(|_| "bits"));
        if let Some(task) = task
            && let Some(bits) = Bits::named(task, *strings, *bits)?
        {
            if data.is_some() {
                return Err(refused("data", format!("{task} is generated")));
            }
            return Ok(Some(Self::Bits(bits)));
        }
        if let Some(size) = sizes {
            return Err(refused(size, "is a size of bit-memory and bit-xor"));
        }
        let Some(format) = train.as_deref().and_then(Format::of) else { return Ok(None) };
        if let Some(dev) = dev.as_deref().filter(|dev| Format::of(dev) != Some(format)) {
            return Err(Error::file(dev, "is of another kind than the training file"));
        }
        Ok(train.clone().map(|train| Self::Files { train, dev: dev.clone(), format }))
    }

    /// To learn from, and to judge by.
    fn open(&self, settings: &FinetuneSettings) -> Result<TrainAndDev> {
        match self {
            Self::Bits(task) => {
                let train = BitStrings::training(*task, settings.training.seed);
                Ok((Box::new(train), Some(Box::new(BitStrings::validation(*task)))))
            }
            Self::Files { train, dev, format } => {
                let train = signals::open(train, *format, settings.patch.unwrap_or(1), None, None)?;
                let (reading, classes) = (train.reading(), train.shape().classes);
                let open = |dev: &PathBuf| {
                    signals::open(dev, *format, settings.patch.unwrap_or(1), Some(&reading), Some(&classes))
                };
                let dev = dev.as_ref().map(open).transpose()?;
                Ok((train, dev))
            }
        }
    }

    /// The files that are read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let files = match self {
            Self::Files { train, dev, .. } => [Some(train.as_path()), dev.as_deref()],
            Self::Bits(_) => [None, None],
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
    let (train, dev) = signals.open(settings)?;
    let mut shape = train.shape();
    if let Some(dev) = &dev {
        shape.longest = shape.longest.max(dev.shape().longest);
    }
    if let Head::Classification { labels: 1 } = shape.head {
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
        if !shape.classes.is_empty() {
            pretrained::set_labels(config, &shape.classes);
        }
    })?;
    settings.training.prepare(&mut model, quiet)?;
    if !resume && settings.preset.is_some() {
        restart_trained(&mut model, settings.training.seed)?;
    }
    if !quiet {
        let (count, width) = (train.len(), shape.width);
        eprintln!("{count} examples of up to {} vectors of {width}", shape.longest);
    }
    let (batch_size, accumulate) = (settings.training.batch_size, settings.training.accumulate);
    let objective = SignalObjective::new(train, dev, batch_size, accumulate, settings.training.seed);
    let start = Start { model, tokenizer: None, longest, fresh, examples: objective.train.len(), resume };
    Ok(Prepared { start, objective })
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
    let pooling = || match &settings.pooling {
        Some(pooling) => Ok(pooling.clone()),
        None => Pooling::new(vec![Pool::Mean, Pool::Max]),
    };
    if resume {
        let base = BaseModel::at(folder.path());
        let model = if settings.adapter {
            base.open()?
        } else {
            pretrained::open_as(folder.path(), shape.head, seed)?
        };
        return Ok((model.0, Vec::new()));
    }
    if let Some(preset) = &settings.preset {
        let mut config = preset_named(preset)?;
        config.vocab_size = 1;
        (config.pad_token_id, config.bos_token_id, config.eos_token_id) = (None, None, None);
        config.type_vocab_size = 1;
        config.max_position_embeddings = settings.max_length.unwrap_or(shape.longest);
        config.input_width = Some(shape.width);
        config.classifier_pooling = pooling()?;
        let name = settings.mixer.as_deref().unwrap_or("fourier");
        let mixers = fnet_encoder::mixers::MixerKind::layers(name, config.num_hidden_layers);
        config.set_mixers(mixers.map_err(|e| refused(&format!("mixer {name}"), e))?);
        let model = Model::new(config, shape.head, settings.trunk_seed.unwrap_or(1))?;
        return Ok((model, Vec::new()));
    }
    let base = BaseModel::named(settings.model.as_deref())?.standing_alone()?;
    if base.folder().is_none() && !quiet {
        eprintln!("starting from {base}, the model that ships with fnet");
    }
    let (pooling, mut error) = (pooling()?, None);
    let opened = pretrained::open_with(base.source(), shape.head, seed, |config| {
        config.input_width = Some(shape.width);
        config.classifier_pooling = pooling;
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
