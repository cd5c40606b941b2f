use std::path::PathBuf;

use fnet_encoder::Padding;
use fnet_train::Result;
use fnet_train::data::corpus::Layout;
use fnet_train::data::tokenizer::Kind;
use fnet_train::runs::pretrain::{self, Forecast, Need, PretrainSettings};
use fnet_train::runs::report;
use fnet_train::train::Learns;
use serde::Serialize;
use serde_json::json;

use super::common::say;
use super::loop_flags::LoopFlags;
use super::run_flags::RunFlags;

/// Pretrain an encoder by masked language modelling on text
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    run: RunFlags,
    /// Print the memory and the work that the run will need, without writing to --out
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,
}

/// Flags over the fields of `PretrainSettings`.
#[derive(clap::Args, Serialize)]
struct Flags {
    /// Text to train on: .txt (a paragraph a line, an empty line between documents) or .jsonl with a
    /// `text` field; each also .gz or .zst
    #[arg(long, num_args = 1.., value_name = "FILE")]
    corpus: Vec<PathBuf>,
    /// Text to validate on; by default the end of the corpus is held out
    #[arg(long, num_args = 1.., value_name = "FILE")]
    valid: Vec<PathBuf>,
    /// Continue from this model's weights, with its vocabulary and shape: to adapt it to other text,
    /// such as a task's own
    #[arg(long, value_name = "DIR", conflicts_with_all = ["tokenizer", "vocab_size", "kind", "cased", "preset", "mixer", "mixers", "padding", "attention_heads", "spectral_radius", "leak", "input_scale", "sparsity"])]
    model: Option<PathBuf>,
    /// A tokenizer.json, instead of training one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["vocab_size", "kind", "cased"])]
    tokenizer: Option<PathBuf>,
    /// Tokens in a vocabulary that is trained on the corpus
    #[arg(long)]
    vocab_size: Option<usize>,
    /// Kind of that vocabulary
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Keep upper case apart from lower case
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cased: bool,
    /// Size of the model: tiny, mini, small, medium, base, large
    #[arg(long)]
    preset: Option<String>,
    /// Mixer of all layers: shift (half of each neighbour, no weights; the default), fourier (FNet as published; the
    /// default of objectives on pairs), fourier-seq, fourier-hidden, hartley, attention, linear, random, mlp, reservoir
    /// or none; attention-top-2 for attention in the top 2 layers (also bottom, middle, mixed) and fourier in the
    /// others
    #[arg(long, conflicts_with = "mixers")]
    mixer: Option<String>,
    /// Mixer of each layer, with commas
    #[arg(long, value_delimiter = ',')]
    mixers: Vec<String>,
    /// Heads of attention layers; by default one for 64 hidden units
    #[arg(long, value_name = "HEADS")]
    attention_heads: Option<usize>,
    #[command(flatten)]
    #[serde(flatten)]
    reservoir: ReservoirFlags,
    /// Longest sequence in tokens, also for later use of the model
    #[arg(long)]
    seq_len: Option<usize>,
    /// What makes a training sequence
    #[arg(long, value_enum)]
    sequences: Option<Layout>,
    /// What is learnt in addition to masked tokens, on pairs of neighbouring sequences
    #[arg(long, value_enum)]
    objective: Option<Learns>,
    /// Mix sequences at their own length, or pad all to --seq-len
    #[arg(long, value_parser = parse_padding)]
    padding: Option<Padding>,
    /// Fraction of the tokens that is masked. Validation always masks 15 %, so that runs compare
    #[arg(long)]
    mask_rate: Option<f64>,
    /// Of the masked tokens, the fraction replaced by [MASK]
    #[arg(long)]
    mask_token_rate: Option<f64>,
    /// Of the masked tokens, the fraction replaced by a random token
    #[arg(long)]
    mask_random_rate: Option<f64>,
    /// Mask all pieces of a word together
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    whole_word: bool,
    /// Folder for token shards, which several runs may share; by default next to --out
    #[arg(long, value_name = "DIR")]
    shards: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    training: LoopFlags,
}

fn parse_padding(text: &str) -> std::result::Result<Padding, String> {
    match text {
        "own" => Ok(Padding::Own),
        "fixed" => Ok(Padding::Fixed),
        _ => Err("own or fixed".into()),
    }
}

/// Settings of reservoir layers; their weights are random and never trained.
#[derive(clap::Args, Serialize)]
struct ReservoirFlags {
    /// Reservoir: largest eigenvalue of the recurrent weights: how long the past is remembered (0.9)
    #[arg(long, value_name = "RADIUS")]
    spectral_radius: Option<f32>,
    /// Reservoir: fraction of the state that each token replaces (0.5)
    #[arg(long, value_name = "RATE")]
    leak: Option<f32>,
    /// Reservoir: size of the input relative to the recurrence (1)
    #[arg(long, value_name = "SCALE")]
    input_scale: Option<f32>,
    /// Reservoir: fraction of the recurrent weights that is zero (0.9)
    #[arg(long, value_name = "PART")]
    sparsity: Option<f32>,
}

/// Runs `fnet pretrain`.
pub fn run(args: Args) -> Result<()> {
    let Args { flags, run, dry_run } = args;
    if dry_run {
        let mut settings = run.settings::<PretrainSettings>(&flags)?;
        settings.resolve()?;
        let need = pretrain::need(&settings)?;
        run.set_threads()?;
        return say_need(&need, Forecast::measure(&settings, &need)?, run.json);
    }
    let (folder, settings, running) =
        run.start::<PretrainSettings>("pretrain", &flags, PretrainSettings::resolve)?;
    let results = pretrain::run(&folder, &settings, &running)?;
    run.finish(&folder, &results)
}

/// Prints what a run will need.
fn say_need(need: &Need, forecast: Option<Forecast>, json: bool) -> Result<()> {
    if json {
        return say(json!({
            "parameters": need.parameters,
            "weights_gradients_moments_bytes": need.weights,
            "activations_bytes": need.activations,
            "plans_bytes": need.plans,
            "batch_tokens": need.batch_tokens,
            "flops_per_token": need.flops_per_token,
            "precision": need.precision.name(),
            "products": need.level.name(),
            "seconds_a_step": forecast.map(|forecast| forecast.step),
            "gradient_bytes": forecast.map(|forecast| forecast.bytes),
            "processes": forecast.iter().flat_map(table_of).map(|(processes, seconds)| json!({
                "processes": processes,
                "seconds_a_step_at_1_10_100_gbit": seconds,
            })).collect::<Vec<_>>(),
        }));
    }
    let megabytes = |bytes: usize| format!("{:.0} MB", bytes as f64 / 1e6);
    let rows = [
        ("parameters", need.parameters.to_string()),
        ("weights, gradients and moments", megabytes(need.weights)),
        ("activations", megabytes(need.activations)),
        ("mixing plans", megabytes(need.plans)),
        ("together", megabytes(need.weights + need.activations + need.plans)),
        ("tokens in a batch", need.batch_tokens.to_string()),
        ("flops a token, forward", format!("{:.1} M", need.flops_per_token / 1e6)),
        ("products", format!("{} by {}", need.precision.name(), need.level.name())),
    ];
    let rows: Vec<(String, String)> = rows.into_iter().map(|(name, v)| (name.into(), v)).collect();
    say(report::table(&rows).trim_end())?;
    let Some(forecast) = &forecast else { return say("no step can be timed: memory is short") };
    say(format!(
        "\na step takes {:.3} s here; on several processes {:.1} MB of gradients travel twice. Times as fast, at",
        forecast.step,
        forecast.bytes / 1e6
    ))?;
    say(format!("{:>9} {:>10} {:>10} {:>10}", "processes", "1 Gbit/s", "10 Gbit/s", "100 Gbit/s"))?;
    for (processes, seconds) in table_of(forecast) {
        let [slow, usual, fast] = seconds.map(|seconds| forecast.step / seconds);
        say(format!("{processes:>9} {slow:>10.2} {usual:>10.2} {fast:>10.2}"))?;
    }
    Ok(())
}

/// Processes, and seconds of a step at 1, 10 and 100 Gbit/s.
fn table_of(forecast: &Forecast) -> impl Iterator<Item = (usize, [f64; 3])> + '_ {
    let processes = (1..=10).map(|power| 1_usize << power);
    processes.map(|n| (n, [1e9, 1e10, 1e11].map(|rate| forecast.seconds(n, rate))))
}
