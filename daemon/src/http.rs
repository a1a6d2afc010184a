//! `/healthz`, `/readyz` and `/metrics` over plain HTTP, for probes and for Prometheus. Nothing can be changed through
//! it, and it shows no secrets.
//!
//! Backups do not depend on it: if the port is in use, the daemon logs a warning and works without it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::terminal;

/// What Prometheus asks for first, and what every collector of its text format understands.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Connections at the same time; the next one waits.
const CONNECTIONS_MAX: usize = 32;

/// A connection without a request for this long is closed. This is longer than the usual interval between two scrapes.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// The pause after a connection could not be accepted: the process may be out of file descriptors for a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The settings in `[http]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// Address and port; `None` (an empty text) means no HTTP at all. With port 0, the kernel chooses a free one.
    #[serde(with = "listen")]
    pub listen: Option<SocketAddr>,
}

impl HttpSettings {
    /// Listens on this port of 127.0.0.1.
    pub fn on_loopback(port: u16) -> Self {
        Self { listen: Some(SocketAddr::from(([127, 0, 0, 1], port))) }
    }
}

mod listen {
    use std::net::SocketAddr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let nonsense = || format!("must be an address and a port such as \"127.0.0.1:9479\", or \"\", got {text:?}");
        match text.as_str() {
            "" => Ok(None),
            given => given.parse().map(Some).map_err(|_| D::Error::custom(nonsense())),
        }
    }

    #[allow(clippy::ref_option)] // serde's signature
    pub fn serialize<S: Serializer>(listen: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
        match listen {
            Some(address) => serializer.collect_str(address),
            None => serializer.serialize_str(""),
        }
    }
}

/// Whether a daemon can do its work now. `/readyz` answers 200 or 503 accordingly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Whether it can.
    pub ready: bool,
    /// Why, or why not, in one line for people.
    pub text: String,
}

type Probe = Box<dyn Fn() -> Readiness + Send + Sync>;

/// What a daemon shows of itself.
pub struct MetricsEndpoint {
    metrics: Registry,
    readiness: Probe,
}

impl fmt::Debug for MetricsEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsEndpoint").field("metrics", &self.metrics).finish_non_exhaustive()
    }
}

impl MetricsEndpoint {
    /// `readiness` is called for each request, and must not wait for anything.
    pub fn new(metrics: Registry, readiness: impl Fn() -> Readiness + Send + Sync + 'static) -> Self {
        Self { metrics, readiness: Box::new(readiness) }
    }

    fn ready(&self) -> Response {
        let Readiness { ready, text } = (self.readiness)();
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let word = if ready { "ready" } else { "not ready" };
        (status, format!("{word}: {}\n", terminal::line(&text))).into_response()
    }

    fn metrics(&self) -> Response {
        let mut text = String::new();
        match encode(&mut text, &self.metrics) {
            Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        }
    }

    fn router(self: Arc<Self>) -> Router {
        let (ready, metrics) = (Arc::clone(&self), self);
        Router::new()
            // That there is an answer at all is what it says: whatever answers here also runs all the rest.
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(async move || ready.ready()))
            .route("/metrics", get(async move || metrics.metrics()))
    }
}

/// Serves the endpoint on the address in the settings until `stop` is cancelled. Returns at once, after a warning in
/// the log, if it cannot listen there.
pub async fn serve(settings: &HttpSettings, endpoint: MetricsEndpoint, stop: &CancellationToken) {
    let Some(wanted) = settings.listen else { return };
    let bound = TcpListener::bind(wanted).await.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = match bound {
        Ok(bound) => bound,
        Err(error) => {
            warn!(address = %wanted, %error, "cannot listen for HTTP: health and metrics are not available, everything \
                else works");
            return;
        }
    };
    if !address.ip().is_loopback() {
        warn!(%address, "health and metrics can be read by everyone who can reach this address");
    }
    info!(%address, "serving /healthz, /readyz and /metrics");
    accept(&listener, &Arc::new(endpoint).router(), stop).await;
}

async fn accept(listener: &TcpListener, router: &Router, stop: &CancellationToken) {
    // Dropped at the end, and every connection with it: nobody waits for an answer of this kind.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => drop(connections.spawn(answer(stream, router.clone()))),
                Err(error) => {
                    debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn answer(stream: TcpStream, router: Router) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE_MAX);
    let served = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
    if let Err(error) = served {
        debug!(%error, "a connection was interrupted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        answer
    }

    #[tokio::test]
    async fn readiness_is_asked_anew_and_health_is_not_readiness() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let ready = Arc::new(AtomicBool::new(false));
        let now = Arc::clone(&ready);
        let endpoint = MetricsEndpoint::new(Registry::default(), move || {
            let ready = now.load(Relaxed);
            Readiness { ready, text: if ready { "all is there" } else { "NATS is away" }.into() }
        });
        let (stop, router) = (CancellationToken::new(), Arc::new(endpoint).router());
        let ask = async {
            let before = get(address, "/readyz").await;
            assert!(before.starts_with("HTTP/1.1 503") && before.ends_with("not ready: NATS is away\n"), "{before}");
            assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
            ready.store(true, Relaxed);
            let after = get(address, "/readyz").await;
            assert!(after.starts_with("HTTP/1.1 200") && after.ends_with("\r\nready: all is there\n"), "{after}");
            let metrics = get(address, "/metrics").await;
            assert!(metrics.contains("application/openmetrics-text") && metrics.ends_with("# EOF\n"), "{metrics}");
            assert!(get(address, "/else").await.starts_with("HTTP/1.1 404"));
            // More than may be there at once, one after the other and some that never say a word.
            let mut silent = Vec::new();
            for _ in 0..CONNECTIONS_MAX - 1 {
                silent.push(TcpStream::connect(address).await.expect("it listens"));
            }
            for _ in 0..3 {
                assert!(get(address, "/healthz").await.contains("200 OK"));
            }
            stop.cancel();
        };
        tokio::join!(accept(&listener, &router, &stop), ask);
    }

    #[tokio::test]
    async fn a_taken_port_is_no_reason_to_stop() {
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let settings = HttpSettings { listen: Some(taken.local_addr().expect("bound")) };
        let endpoint = MetricsEndpoint::new(Registry::default(), || Readiness { ready: true, text: String::new() });
        // Returns instead of waiting for a `stop` that never comes.
        serve(&settings, endpoint, &CancellationToken::new()).await;
    }

    #[test]
    fn an_address_is_an_address_a_port_or_nothing() {
        let read =
            |text: &str| toml::from_str::<HttpSettings>(&format!("listen = {text:?}")).map_err(|e| e.to_string());
        assert_eq!(read(""), Ok(HttpSettings { listen: None }));
        assert_eq!(read("127.0.0.1:9479"), Ok(HttpSettings::on_loopback(9479)));
        assert!(read("[::1]:0").is_ok());
        for nonsense in ["9479", "localhost:9479", "127.0.0.1", "http://127.0.0.1:1"] {
            assert!(read(nonsense).is_err_and(|e| e.contains("an address and a port") && e.contains(nonsense)));
        }
        for settings in [HttpSettings { listen: None }, HttpSettings::on_loopback(1)] {
            let text = toml::to_string(&settings).expect("plain data");
            assert_eq!(toml::from_str::<HttpSettings>(&text).expect("its own words"), settings);
        }
    }
}
