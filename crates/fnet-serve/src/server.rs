//! Connections: limits on their number, size and time, a key, and a graceful end.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use fnet_train::{Error, Result};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::answers::Refusal;
use crate::api::{Shared, routes};
use crate::engine::{Engine, Models};

/// How a server behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens.
    pub host: IpAddr,
    /// The port; 0 for any that is free.
    pub port: u16,
    /// The model's name in answers.
    pub name: String,
    /// What clients must send as `Authorization: Bearer KEY`, except for `/health`.
    pub key: Option<String>,
    /// Tokens of a batch.
    pub batch_tokens: usize,
    /// Tokens that may wait; beyond that requests are refused with status 429.
    pub most_waiting: usize,
    /// Texts of a request.
    pub most_texts: usize,
    /// Bytes of a request.
    pub most_bytes: usize,
    /// Connections at the same time; others wait to be accepted.
    pub most_connections: usize,
    /// Seconds that a request may take, its arrival included.
    pub seconds: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: IpAddr::from([127, 0, 0, 1]),
            port: 8_080,
            name: "fnet".into(),
            key: None,
            batch_tokens: 4_096,
            most_waiting: 262_144,
            most_texts: 2_048,
            most_bytes: 4 << 20,
            most_connections: 1_024,
            seconds: 60.0,
        }
    }
}

/// A server that listens.
pub struct Server {
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
    options: Arc<Options>,
}

/// Time for what is under way when the server stops.
const LAST_SECONDS: u64 = 10;

impl Server {
    /// Takes the port.
    ///
    /// # Errors
    /// If it is taken.
    pub fn bind(models: Models, options: Options) -> Result<Self> {
        let address = SocketAddr::new(options.host, options.port);
        let taken = |e| Error::io(Path::new(&format!("http://{address}")))(e);
        let listener = std::net::TcpListener::bind(address).map_err(taken)?;
        listener.set_nonblocking(true).map_err(taken)?;
        let engine = Engine::new(models, options.batch_tokens, options.most_waiting);
        let shared = Shared { engine, most_texts: options.most_texts, name: options.name.clone() };
        Ok(Self { listener, shared: Arc::new(shared), options: Arc::new(options) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(Error::io(Path::new("the server's address")))
    }

    /// Answers until Ctrl-C or SIGTERM. This thread computes, connections are served by others.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn run(self) -> Result<()> {
        let io = |e| Error::io(Path::new("the server"))(e);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(io)?;
        let Self { listener, shared, options } = self;
        let served = Arc::clone(&shared);
        runtime.spawn(async move {
            if let Err(error) = serve(listener, Arc::clone(&served), options, stopped()).await {
                eprintln!("error: {error}");
            }
            served.engine.close();
        });
        shared.engine.run();
        runtime.shutdown_timeout(Duration::from_secs(1));
        Ok(())
    }
}

/// Ends at the first signal to stop.
async fn stopped() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! { _ = interrupt => {}, _ = terminate.recv() => {} }
            return;
        }
    }
    let _ = interrupt.await;
}

async fn serve(
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
    options: Arc<Options>,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let guarded = middleware::from_fn_with_state((Arc::clone(&shared), Arc::clone(&options)), guard);
    let router = routes(Arc::clone(&shared)).layer(DefaultBodyLimit::max(options.most_bytes)).layer(guarded);
    let mut http = hyper::server::conn::http1::Builder::new();
    // A connection whose request does not begin to arrive is closed.
    http.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs_f64(options.seconds));
    let (places, graceful) = (Arc::new(Semaphore::new(options.most_connections)), GracefulShutdown::new());
    let mut stop = std::pin::pin!(stop);
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = &mut stop => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await; // no more files, say: others will end
            continue;
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let (connection, shared, all) =
            (graceful.watch(connection), Arc::clone(&shared), options.most_connections);
        let counted = Arc::clone(&places);
        shared.engine.metrics.set_connections(all - counted.available_permits());
        tokio::spawn(async move {
            let _ = connection.await; // a client that goes away is its own matter
            drop(place);
            shared.engine.metrics.set_connections(all - counted.available_permits());
        });
    }
    let _ = tokio::time::timeout(Duration::from_secs(LAST_SECONDS), graceful.shutdown()).await;
    Ok(())
}

/// The key, the time limit, and the counts.
async fn guard(
    State((shared, options)): State<(Arc<Shared>, Arc<Options>)>,
    request: Request,
    next: Next,
) -> Response {
    let (begun, path) = (Instant::now(), request.uri().path().to_string());
    let response = if path != "/health" && !is_allowed(&request, options.key.as_deref()) {
        let message = "the key is missing or wrong: send it as `Authorization: Bearer KEY`";
        Refusal::new(StatusCode::UNAUTHORIZED, message).into_response()
    } else {
        let limit = Duration::from_secs_f64(options.seconds);
        match tokio::time::timeout(limit, next.run(request)).await {
            Ok(response) => response,
            Err(_) => {
                let message = format!("the request took more than {} seconds", options.seconds);
                Refusal::new(StatusCode::REQUEST_TIMEOUT, message).into_response()
            }
        }
    };
    shared.engine.metrics.add_request(&path, response.status().as_u16(), begun.elapsed());
    response
}

fn is_allowed(request: &Request, key: Option<&str>) -> bool {
    let Some(key) = key else { return true };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|given| given.strip_prefix("Bearer ")).unwrap_or("");
    // Every byte is compared, so that the time does not tell how many are right.
    let differ = given.bytes().zip(key.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b));
    given.len() == key.len() && differ == 0
}
