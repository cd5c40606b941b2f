use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use fnet_serve::{Models, Options, Server};
use fnet_train::base_model::BaseModel;
use fnet_train::settings::in_range;
use fnet_train::together::Trunks;
use fnet_train::{Error, Result};

use super::common::set_threads;
use super::opened::{InferenceFlags, Opened};
use super::vector_flags::VectorFlags;

/// Answer over HTTP: vectors of texts, and the predictions of fine-tuned models and adapters
///
/// POST /v1/embeddings (as OpenAI's), /embed, /rerank and /tokenize (as text-embeddings-inference's), /predict/NAME; GET /info,
/// /health, /metrics (Prometheus).
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    vectors: VectorFlags,
    /// A fine-tuned model or adapter that answers at /predict/NAME; those on one trunk run together
    #[arg(long, value_name = "NAME=DIR")]
    adapter: Vec<String>,
    /// Address to listen at
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen at; 0 for any that is free
    #[arg(long, default_value_t = 8_080)]
    port: u16,
    /// Ask for this key, as `Authorization: Bearer KEY`; by default that of the environment's FNET_API_KEY, if it is set
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// Tokens that may wait to be run; beyond that requests are refused with status 429
    #[arg(long, default_value_t = Options::default().most_waiting)]
    max_waiting: usize,
    /// Texts of a request, at most
    #[arg(long, default_value_t = Options::default().most_texts)]
    max_texts: usize,
    /// Bytes of a request, at most
    #[arg(long, default_value_t = Options::default().most_bytes)]
    max_bytes: usize,
    /// Connections at the same time, at most
    #[arg(long, default_value_t = Options::default().most_connections)]
    max_connections: usize,
    /// Seconds that a request may take
    #[arg(long, default_value_t = Options::default().seconds)]
    timeout: f64,
    #[command(flatten)]
    inference: InferenceFlags,
    /// Threads that compute; all cores by default
    #[arg(long)]
    threads: Option<usize>,
}

/// Runs `fnet serve`.
pub fn run(args: &Args) -> Result<()> {
    set_threads(args.threads)?;
    args.inference.check()?;
    for (flag, value) in [
        ("max_waiting", args.max_waiting),
        ("max_texts", args.max_texts),
        ("max_bytes", args.max_bytes),
        ("max_connections", args.max_connections),
    ] {
        in_range(flag, value as f64, 1.0, 1e12)?;
    }
    in_range("timeout", args.timeout, 0.01, 1e6)?;
    let vectors = args.vectors.open(false, &args.inference)?.predictor;
    let (mut trunks, mut predictors) = (Trunks::default(), BTreeMap::new());
    for named in &args.adapter {
        let Some((name, folder)) =
            named.split_once('=').filter(|(name, folder)| is_name(name) && !folder.is_empty())
        else {
            let message = "is no NAME=DIR with a name of letters, digits, - and _";
            return Err(Error::usage(format!("--adapter {named}: {message}")));
        };
        let base = BaseModel::at(&PathBuf::from(folder));
        let predictor = Opened::open_on(&base, Some(&mut trunks), &args.inference)?.predictor;
        predictor.labels()?; // that it predicts at all
        if predictors.insert(name.to_string(), predictor).is_some() {
            return Err(Error::usage(format!("--adapter {named}: there are two of this name")));
        }
    }
    let name = vectors.path().file_name().map_or("fnet".into(), |name| name.to_string_lossy().into_owned());
    let key =
        args.api_key.clone().or_else(|| std::env::var("FNET_API_KEY").ok()).filter(|key| !key.is_empty());
    let options = Options {
        host: args.host,
        port: args.port,
        name,
        key,
        batch_tokens: args.inference.batch_tokens,
        most_waiting: args.max_waiting,
        most_texts: args.max_texts,
        most_bytes: args.max_bytes,
        most_connections: args.max_connections,
        seconds: args.timeout,
    };
    let server = Server::bind(Models { vectors, predictors }, options)?;
    eprintln!("listening at http://{}", server.address()?);
    server.run()
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}
