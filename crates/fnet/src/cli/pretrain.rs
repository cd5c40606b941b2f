use std::path::{Path, PathBuf};

use fnet_encoder::mixers::{MixerKind, ReservoirConfig};
use fnet_encoder::{Model, ModelConfig, PRESETS, Padding, TokenIds, pretrained};
use fnet_train::data::corpus::documents::paragraphs;
use fnet_train::data::corpus::sequences::{Layout, SHORTEST, Sequences};
use fnet_train::data::corpus::shards::{self, Shards};
use fnet_train::data::tokenizer::{Kind, TOKENIZER_FILE, Tokenizer};
use fnet_train::predictor::check_vocabulary;
use fnet_train::progress::Progress;
use fnet_train::random::fingerprint;
use fnet_train::runs::folder::RunFolder;
use fnet_train::train::mlm::Masking;
use fnet_train::train::pretrain::{Learns, MlmObjective, MlmSettings, Pair};
use fnet_train::train::trainer::{Objective, Trainer};
use fnet_train::{Error, Result, runs::card, runs::report};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::common::{absolute, existing_files, in_range, say, say_unused};
use super::loop_flags::{LoopDefaults, LoopFlags};
use super::run_flags::{RunFlags, Running};

/// Pretrain an encoder by masked language modelling on text
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    run: RunFlags,
    /// Print the memory and the work that the run will need, and write nothing to --out
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,
}

/// Everything that decides the result: flags, and `training.toml`.
#[derive(clap::Args, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Text to train on: .txt (a paragraph a line, an empty line between documents) or .jsonl with a
    /// `text` field; each also .gz or .zst
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub corpus: Vec<PathBuf>,
    /// Text to validate on; by default the end of the corpus is held out
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub valid: Vec<PathBuf>,
    /// Go on from this model's weights, with its vocabulary and shape: to adapt it to other text,
    /// such as a task's own
    #[arg(long, value_name = "DIR", conflicts_with_all = ["tokenizer", "vocab_size", "kind", "cased", "preset", "mixer", "mixers", "padding", "attention_heads", "spectral_radius", "leak", "input_scale", "sparsity"])]
    pub model: Option<PathBuf>,
    /// A tokenizer.json, instead of training one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["vocab_size", "kind", "cased"])]
    pub tokenizer: Option<PathBuf>,
    /// Tokens in a vocabulary that is trained on the corpus
    #[arg(long)]
    pub vocab_size: Option<usize>,
    /// Kind of that vocabulary
    #[arg(long, value_enum)]
    pub kind: Option<Kind>,
    /// Keep upper case apart from lower case
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cased: bool,
    /// Size of the model: tiny, mini, small, medium, base, large
    #[arg(long)]
    pub preset: Option<String>,
    /// Mixer of all layers: shift (half of either neighbour, no weights; the default), fourier (FNet as published; the
    /// default of objectives on pairs), fourier-seq, fourier-hidden, hartley, attention, linear, random, mlp, reservoir
    /// or none; attention-top-2 for attention in the top 2 layers (also bottom, middle, mixed) and fourier in the
    /// others
    #[arg(long, conflicts_with = "mixers")]
    pub mixer: Option<String>,
    /// Mixer of each layer, with commas
    #[arg(long, value_delimiter = ',')]
    pub mixers: Vec<String>,
    /// Heads of attention layers; by default one for 64 hidden units
    #[arg(long, value_name = "HEADS")]
    pub attention_heads: Option<usize>,
    #[command(flatten)]
    #[serde(flatten)]
    pub reservoir: ReservoirFlags,
    /// Longest sequence in tokens, also for later use of the model
    #[arg(long)]
    pub seq_len: Option<usize>,
    /// What makes a training sequence
    #[arg(long, value_enum)]
    pub sequences: Option<Layout>,
    /// What is learnt beside masked tokens, on pairs of neighbouring sequences
    #[arg(long, value_enum)]
    pub objective: Option<Learns>,
    /// Mix sequences at their own length, or fill all up to --seq-len
    #[arg(long, value_parser = parse_padding)]
    pub padding: Option<Padding>,
    /// Part of the tokens that is masked. Validation always masks 15 %, so that runs compare
    #[arg(long)]
    pub mask_rate: Option<f64>,
    /// Of the masked tokens, the part replaced by [MASK]
    #[arg(long)]
    pub mask_token_rate: Option<f64>,
    /// Of the masked tokens, the part replaced by a random token
    #[arg(long)]
    pub mask_random_rate: Option<f64>,
    /// Mask all pieces of a word together
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub whole_word: bool,
    /// Folder for token shards, which several runs may share; by default beside --out
    #[arg(long, value_name = "DIR")]
    pub shards: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    pub training: LoopFlags,
}

fn parse_padding(text: &str) -> std::result::Result<Padding, String> {
    match text {
        "own" => Ok(Padding::Own),
        "fixed" => Ok(Padding::Fixed),
        _ => Err("own or fixed".into()),
    }
}

/// Settings of reservoir layers; their weights are random and never trained.
#[derive(clap::Args, Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReservoirFlags {
    /// Reservoir: largest eigenvalue of the recurrent weights, how long the past is remembered (0.9)
    #[arg(long, value_name = "RADIUS")]
    pub spectral_radius: Option<f32>,
    /// Reservoir: part of the state that each token replaces (0.5)
    #[arg(long, value_name = "RATE")]
    pub leak: Option<f32>,
    /// Reservoir: size of the input beside the recurrence (1)
    #[arg(long, value_name = "SCALE")]
    pub input_scale: Option<f32>,
    /// Reservoir: part of the recurrent weights that is zero (0.9)
    #[arg(long, value_name = "PART")]
    pub sparsity: Option<f32>,
}

impl ReservoirFlags {
    fn config(self, seed: u64) -> ReservoirConfig {
        let usual = ReservoirConfig::default();
        ReservoirConfig {
            spectral_radius: self.spectral_radius.unwrap_or(usual.spectral_radius),
            leak: self.leak.unwrap_or(usual.leak),
            input_scale: self.input_scale.unwrap_or(usual.input_scale),
            sparsity: self.sparsity.unwrap_or(usual.sparsity),
            seed,
        }
    }
}

/// Validation sequences held out where no file is given: a hundredth, within these bounds.
const HELD_OUT: std::ops::RangeInclusive<usize> = 1..=2_000;

impl Settings {
    /// Fills in what was not given. The defaults are the best found on novels and GLUE tasks; see
    /// README.
    pub fn resolve(&mut self) -> Result<()> {
        if self.corpus.is_empty() {
            return Err(Error::usage("--corpus: name one or more text files"));
        }
        self.corpus = existing_files(&self.corpus)?;
        self.valid = existing_files(&self.valid)?;
        if let Some(shards) = &mut self.shards {
            *shards = absolute(shards)?;
        }
        for path in [&mut self.model, &mut self.tokenizer].into_iter().flatten() {
            *path = absolute(path)?;
        }
        if self.model.is_none() {
            self.preset.get_or_insert_with(|| "mini".into());
            self.padding.get_or_insert_default();
            self.seq_len.get_or_insert(128);
            if self.mixers.is_empty() {
                // What two sequences have to do with each other is out of a shift's reach.
                let on_pairs = self.objective.is_some_and(Learns::pairs);
                let usual = if on_pairs { MixerKind::Fourier } else { MixerKind::Shift };
                self.mixer.get_or_insert_with(|| usual.name().into());
            }
            if self.tokenizer.is_none() {
                self.vocab_size.get_or_insert(8_192);
                self.kind.get_or_insert(Kind::Wordpiece);
            }
        }
        self.sequences.get_or_insert(Layout::Paragraphs);
        self.objective.get_or_insert_default();
        let masking = Masking::default();
        self.mask_rate.get_or_insert(0.3);
        self.mask_token_rate.get_or_insert(masking.mask);
        self.mask_random_rate.get_or_insert(masking.random);
        // Measured for mini; the larger models' rates fall as is usual and are not tuned.
        let learning_rate = match self.preset.as_deref() {
            Some("small") => 7e-4,
            Some("medium") => 5e-4,
            Some("base") => 3e-4,
            Some("large") => 2e-4,
            _ => 1e-3,
        };
        self.training.resolve(&LoopDefaults {
            epochs: Some(1.0),
            batch_size: 8,
            learning_rate,
            warm_up: 0.05,
            evaluations: 10,
            dropout: 0.0,
        })?;
        in_range("--mask-rate", self.mask_rate, 0.0, 1.0)?;
        in_range("--mask-token-rate", self.mask_token_rate, 0.0, 1.0)?;
        in_range("--mask-random-rate", self.mask_random_rate, 0.0, 1.0)?;
        if self.mask_token_rate.unwrap_or(0.0) + self.mask_random_rate.unwrap_or(0.0) > 1.0 {
            return Err(Error::usage("--mask-token-rate, --mask-random-rate: together they are more than 1"));
        }
        in_range("--seq-len", self.seq_len.map(|n| n as f64), 4.0, 1e6)
    }

    fn masking(&self) -> Masking {
        let usual = Masking::default();
        Masking {
            rate: self.mask_rate.unwrap_or(usual.rate),
            mask: self.mask_token_rate.unwrap_or(usual.mask),
            random: self.mask_random_rate.unwrap_or(usual.random),
            whole_word: self.whole_word,
        }
    }

    fn learns(&self) -> Learns {
        self.objective.unwrap_or_default()
    }

    /// Longest training sequence in tokens.
    fn longest(&self, config: &ModelConfig) -> usize {
        let longest = config.max_position_embeddings;
        self.seq_len.map_or(longest, |n| n.min(longest))
    }

    /// Most tokens in a batch.
    pub fn batch_tokens(&self, longest: usize) -> usize {
        self.training.batch_size.unwrap_or(1) * longest
    }

    /// A model with fresh weights, or with those of `--model` or of the run that is resumed.
    fn model(&self, tokenizer: &Tokenizer, open: Option<&Path>) -> Result<Model> {
        let (seed, head) = (self.training.seed.unwrap_or(1), self.learns().head());
        let Some(path) = open else { return Ok(Model::new(self.config(tokenizer)?, head, seed)?) };
        let (mut model, report) = pretrained::open_as(path, head, seed)?;
        // What tells pairs apart may start fresh on a model of masked tokens alone.
        let fresh = |name: &&String| name.starts_with("cls.seq_relationship.") || name.contains(".pooler.");
        if let Some(name) = report.missing.iter().find(|name| !fresh(name)) {
            let message = format!("{name} is missing: pretraining goes on from a pretrained model only");
            return Err(Error::file(path, message));
        }
        say_unused(path, &report);
        check_vocabulary(path, tokenizer, &model)?;
        let dropout = self.training.dropout.unwrap_or_default();
        model.change_config(|config| config.hidden_dropout_prob = dropout)?;
        Ok(model)
    }

    /// The model's shape, with the preset's vocabulary.
    pub fn shape(&self) -> Result<ModelConfig> {
        let preset = self.preset.as_deref().unwrap_or("mini");
        let mut config = ModelConfig::preset(preset).ok_or_else(|| {
            let names: Vec<_> = PRESETS.iter().map(|p| p.0).collect();
            Error::usage(format!("--preset {preset}: known presets are {}", names.join(", ")))
        })?;
        config.max_position_embeddings = self.seq_len.unwrap_or(128);
        config.hidden_dropout_prob = self.training.dropout.unwrap_or(0.1);
        config.padding = self.padding.unwrap_or_default();
        let mixers = match &self.mixer {
            Some(name) => MixerKind::layers(name, config.num_hidden_layers),
            None => self.mixers.iter().map(|m| MixerKind::by_name(m)).collect(),
        };
        let flag = self.mixer.as_ref().map_or("--mixers".into(), |name| format!("--mixer {name}"));
        let mixers = mixers.map_err(|e| Error::usage(format!("{flag}: {e}")))?;
        let ignored =
            |flags: &str, mixer: &str| Err(Error::usage(format!("{flags}: no layer has the mixer {mixer}")));
        config.num_attention_heads = self.attention_heads;
        if self.attention_heads.is_some() && !mixers.contains(&MixerKind::Attention) {
            return ignored("--attention-heads", "attention");
        }
        if self.reservoir != ReservoirFlags::default() && !mixers.contains(&MixerKind::Reservoir) {
            return ignored("--spectral-radius, --leak, --input-scale, --sparsity", "reservoir");
        }
        if mixers.contains(&MixerKind::Reservoir) {
            config.reservoir = Some(self.reservoir.config(self.training.seed.unwrap_or(1)));
        }
        config.set_mixers(mixers);
        config.check()?;
        Ok(config)
    }

    fn config(&self, tokenizer: &Tokenizer) -> Result<ModelConfig> {
        let special = tokenizer.special();
        let mut config = self.shape()?;
        config.vocab_size = tokenizer.vocab_size();
        config.pad_token_id = Some(special.pad);
        config.bos_token_id = Some(special.cls);
        config.eos_token_id = Some(TokenIds::One(special.sep));
        config.check()?;
        Ok(config)
    }
}

/// Runs `fnet pretrain`.
pub fn run(args: Args) -> Result<()> {
    if args.dry_run {
        let settings = args.run.settings(args.settings, Settings::resolve)?;
        return dry_run(&settings, args.run.json);
    }
    let (folder, settings, running) =
        args.run.start("pretrain", args.settings, Settings::resolve, |settings| settings.model.as_deref())?;
    let results = run_to_end(&folder, &settings, &running)?;
    args.run.finish(&folder, &results)
}

/// Prints what a run will need, without reading the corpus: its vocabulary is as large as it may be.
fn dry_run(settings: &Settings, json: bool) -> Result<()> {
    let head = settings.learns().head();
    let mut model = match (&settings.model, &settings.tokenizer) {
        (Some(path), _) => pretrained::open_as(path, head, 1)?.0,
        (None, Some(path)) => {
            let tokenizer = Tokenizer::read(path)?;
            Model::new(settings.config(&tokenizer)?, head, 1)?
        }
        (None, None) => {
            let vocab_size = settings.vocab_size.unwrap_or(8_192);
            Model::new(ModelConfig { vocab_size, ..settings.shape()? }, head, 1)?
        }
    };
    settings.training.prepare(&mut model, true)?;
    let longest = settings.longest(model.config());
    let tokens = settings.batch_tokens(longest);
    let masked = (settings.masking().rate * tokens as f64).ceil() as usize;
    // Sequences of their own length are more than full ones: as a guess, a quarter as long.
    let sequences = if settings.padding == Some(Padding::Fixed) { 1 } else { 4 } * tokens / longest;
    let (weights, activations) = (model.parameter_bytes(), model.workspace_bytes(tokens, sequences, masked));
    let megabytes = |bytes: usize| format!("{:.0} MB", bytes as f64 / 1e6);
    let products = model.products();
    let forward = model.flops_per_token(longest);
    if json {
        return say(json!({
            "parameters": model.parameters().len(),
            "weights_gradients_moments_bytes": weights,
            "activations_bytes": activations,
            "batch_tokens": tokens,
            "flops_per_token": forward,
            "precision": products.precision().name(),
            "products": products.level().name(),
        }));
    }
    let rows = [
        ("parameters", model.parameters().len().to_string()),
        ("weights, gradients and moments", megabytes(weights)),
        ("activations", megabytes(activations)),
        ("together", megabytes(weights + activations)),
        ("tokens in a batch", tokens.to_string()),
        ("flops a token, forward", format!("{:.1} M", forward / 1e6)),
        ("products", format!("{} by {}", products.precision().name(), products.level().name())),
    ];
    let rows: Vec<(String, String)> = rows.into_iter().map(|(name, v)| (name.into(), v)).collect();
    say(report::table(&rows).trim_end())
}

/// Pretrains into a folder, from the start or from its checkpoint; returns its results.
pub fn run_to_end(folder: &RunFolder, settings: &Settings, running: &Running) -> Result<Value> {
    let (resume, quiet) = (running.resume && folder.has_checkpoint(), running.quiet);
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
        tokenizer(settings, &cache, quiet)?
    };
    let source = if resume { Some(folder.path()) } else { settings.model.as_deref() };
    let mut model = settings.model(&tokenizer, source)?;
    let config = model.config();
    if let Some(tokens) = settings.seq_len.filter(|tokens| *tokens > config.max_position_embeddings) {
        let longest = config.max_position_embeddings;
        return Err(Error::usage(format!("--seq-len {tokens}: the model's longest sequence is {longest}")));
    }
    let longest = settings.longest(config);
    if config.fixed_length().is_some() {
        tokenizer.check_padding()?;
        model.change_config(|config| config.padding_length = Some(longest))?;
    }
    let fixed_length = model.config().fixed_length();
    let learns = settings.learns();
    let load = |files: &[PathBuf]| -> Result<Sequences> {
        let place = cache.join(shards::key(files, &tokenizer)?);
        let shards = Shards::open_or_make(&place, files, &tokenizer, quiet)?;
        if !quiet {
            let done = if shards.reused { "reused" } else { "made" };
            eprintln!("{done} {} ({} tokens)", place.display(), shards.tokens());
        }
        let layout = settings.sequences.unwrap_or(Layout::Paragraphs);
        let sequences = Sequences::new(shards, layout, learns.longest_part(longest));
        Ok(if learns.pairs() { sequences.paired() } else { sequences })
    };
    let mut sequences = load(&settings.corpus)?;
    let validation: Vec<Pair> = {
        let separate;
        let (held, from) = if settings.valid.is_empty() {
            let count = (sequences.len() / 100).clamp(*HELD_OUT.start(), *HELD_OUT.end());
            (sequences.split_off(count), &sequences)
        } else {
            separate = load(&settings.valid)?;
            let step = separate.len().div_ceil(*HELD_OUT.end()).max(1);
            (separate.places().iter().copied().step_by(step).collect(), &separate)
        };
        let read = |place| {
            let mut ids = Vec::new();
            from.read(place, &mut ids);
            ids
        };
        held.into_iter().map(|place| place.segments().map(read)).collect()
    };
    let corpus = settings.corpus.first().map_or(Path::new(""), PathBuf::as_path);
    let left_out = sequences.left_out();
    if sequences.is_empty() {
        let message = match (left_out, settings.valid.is_empty()) {
            (0, _) | (_, true) if !validation.is_empty() => {
                "has one sequence only, which validation takes: give more text, or --valid".to_string()
            }
            _ => format!(
                "has no sequence to learn from: {left_out} have fewer than {SHORTEST} tokens; --sequences chunks joins them"
            ),
        };
        return Err(Error::file(corpus, message));
    }
    if left_out > 0 && !quiet {
        let all = sequences.len() + left_out;
        eprintln!(
            "{left_out} of {all} sequences have fewer than {SHORTEST} tokens and are left out; --sequences chunks joins them"
        );
    }
    let seed = settings.training.seed.unwrap_or(1);
    settings.training.prepare(&mut model, quiet)?;
    let mlm = MlmSettings {
        learns,
        masking: settings.masking(),
        batch_tokens: settings.batch_tokens(longest),
        accumulate: settings.training.accumulate.unwrap_or(1),
        longest,
        fixed_length,
        seed,
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
        folder.begin(settings, &tokenizer, longest, &model, objective.data())?;
    }
    let state = Trainer {
        model: &mut model,
        objective: &mut objective,
        settings: &settings.training.settings(),
        folder,
        name: "pretraining",
        quiet,
        resume_command: running.resume_command.clone(),
    }
    .run(&running.stop)?;
    let results = report::results(&state, &model);
    report::write(folder, "Pretraining", &results)?;
    card::write(folder, &results)?;
    Ok(results)
}

/// Changes when the same text gives another vocabulary than before.
const VOCABULARY_VERSION: u32 = 3;

/// The tokenizer of a new run: given, or trained before on the same files, or trained now.
fn tokenizer(settings: &Settings, cache: &Path, quiet: bool) -> Result<Tokenizer> {
    if let Some(model) = &settings.model {
        return Tokenizer::of_folder(pretrained::folder_of(model));
    }
    if let Some(path) = &settings.tokenizer {
        return Tokenizer::read(path);
    }
    let kind = settings.kind.unwrap_or(Kind::Wordpiece);
    let size = settings.vocab_size.unwrap_or(8_192);
    let mut what = format!("{VOCABULARY_VERSION} {kind:?} {size} {}", settings.cased);
    for file in &settings.corpus {
        let data = std::fs::metadata(file).map_err(Error::io(file))?;
        what += &format!("\n{} {} {:?}", file.display(), data.len(), data.modified().ok());
    }
    let place = cache.join(format!("tokenizer-{:016x}.json", fingerprint(what.as_bytes())));
    if let Ok(tokenizer) = Tokenizer::read(&place) {
        return Ok(tokenizer);
    }
    if !quiet {
        eprintln!("training a {kind:?} vocabulary of {size} tokens");
    }
    let tokenizer = train_tokenizer(kind, size, settings.cased, &settings.corpus, quiet)?;
    std::fs::create_dir_all(cache).map_err(Error::io(cache))?;
    fnet_encoder::whole_file::write_whole(&place, tokenizer.to_json()?.as_bytes())?;
    Ok(tokenizer)
}

/// Trains a vocabulary on corpus files.
pub fn train_tokenizer(
    kind: Kind,
    vocab_size: usize,
    cased: bool,
    files: &[PathBuf],
    quiet: bool,
) -> Result<Tokenizer> {
    let mut error = None;
    let progress = Progress::new("counting words", quiet);
    let lines = paragraphs(files, progress, &mut error)?;
    let tokenizer = Tokenizer::train(kind, vocab_size, cased, lines);
    match error {
        Some(error) => Err(error),
        None => tokenizer,
    }
}
