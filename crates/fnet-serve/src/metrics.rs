//! Counts for Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper ends of the times of requests, in seconds.
const TIMES: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

#[derive(Default)]
pub struct Metrics {
    routes: Vec<String>,
    /// By route and status.
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    times: [AtomicU64; TIMES.len()],
    /// Requests, and microseconds of all.
    count: AtomicU64,
    micros: AtomicU64,
    texts: AtomicU64,
    tokens: AtomicU64,
    batches: AtomicU64,
    waiting: AtomicU64,
    connections: AtomicU64,
}

impl Metrics {
    /// Of a server with these predictors.
    pub fn new(predictors: &[String]) -> Self {
        let fixed = [
            "/v1/embeddings",
            "/v1/models",
            "/embed",
            "/predict",
            "/rerank",
            "/tokenize",
            "/info",
            "/health",
            "/metrics",
        ];
        let named = predictors.iter().map(|name| format!("/predict/{name}"));
        Self { routes: fixed.iter().map(ToString::to_string).chain(named).collect(), ..Self::default() }
    }

    pub fn add_request(&self, path: &str, status: u16, time: Duration) {
        // What anyone may ask for must not become a name: there would be no end of them.
        let route = if self.routes.iter().any(|route| route == path) { path } else { "other" };
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route.to_string(), status)).or_insert(0) += 1;
        drop(requests);
        let seconds = time.as_secs_f64();
        let fits = TIMES.iter().zip(&self.times).filter(|(most, _)| seconds <= **most);
        fits.for_each(|(_, count)| {
            count.fetch_add(1, Relaxed);
        });
        self.count.fetch_add(1, Relaxed);
        self.micros.fetch_add(time.as_micros() as u64, Relaxed);
    }

    pub fn add_batch(&self, texts: usize, tokens: usize) {
        self.batches.fetch_add(1, Relaxed);
        self.texts.fetch_add(texts as u64, Relaxed);
        self.tokens.fetch_add(tokens as u64, Relaxed);
    }

    pub fn set_waiting(&self, tokens: usize) {
        self.waiting.store(tokens as u64, Relaxed);
    }

    pub fn set_connections(&self, count: usize) {
        self.connections.store(count as u64, Relaxed);
    }

    /// The text that Prometheus reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut say = |name: &str, kind: &str, help: &str, value: u64| {
            let _ =
                writeln!(text, "# HELP fnet_{name} {help}\n# TYPE fnet_{name} {kind}\nfnet_{name} {value}");
        };
        say("texts_total", "counter", "Texts that were run.", self.texts.load(Relaxed));
        say("tokens_total", "counter", "Tokens that were run.", self.tokens.load(Relaxed));
        say("batches_total", "counter", "Batches that were run.", self.batches.load(Relaxed));
        say("waiting_tokens", "gauge", "Tokens that wait.", self.waiting.load(Relaxed));
        say("connections", "gauge", "Open connections.", self.connections.load(Relaxed));
        text +=
            "# HELP fnet_requests_total Requests by route and status.\n# TYPE fnet_requests_total counter\n";
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for ((route, status), count) in requests.iter() {
            let _ = writeln!(text, "fnet_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}");
        }
        text += "# HELP fnet_request_seconds Times of requests.\n# TYPE fnet_request_seconds histogram\n";
        for (most, count) in TIMES.iter().zip(&self.times) {
            let _ = writeln!(text, "fnet_request_seconds_bucket{{le=\"{most}\"}} {}", count.load(Relaxed));
        }
        let (count, seconds) = (self.count.load(Relaxed), self.micros.load(Relaxed) as f64 / 1e6);
        let _ = writeln!(text, "fnet_request_seconds_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(text, "fnet_request_seconds_sum {seconds}\nfnet_request_seconds_count {count}");
        text
    }
}
