//! From settings to a connection: connected over TCP, and logged in if a user is set.

use std::io;

use etcd_client::{Channel, Client, ConnectOptions};
use hyper_util::rt::TokioIo;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tonic::transport::Uri;
use tower::service_fn;

use super::connection::{CALL_TIMEOUT, Connection, Login};
use super::endpoint::{CONNECT_TIMEOUT, EtcdSettings, advice};
use super::error::{EtcdError, describe, too_long, with_causes};

/// The most bytes that are read from the socket at a time.
const READ_BYTES: usize = 256 * 1024;

/// Connects to the first endpoint that answers, and logs in if a user is set.
pub(super) async fn connect(settings: &EtcdSettings, password: Option<&str>) -> Result<Connection, EtcdError> {
    let mut causes = Vec::new();
    for endpoint in &settings.endpoints {
        let url = settings.url(endpoint);
        let endpoint = settings.build(&url)?;
        let connecting = endpoint.connect_with_connector(service_fn(dial));
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(channel)) => return log_in(channel, settings, password, url).await,
            Ok(Err(error)) => {
                let cause = with_causes(error.to_string(), std::error::Error::source(&error));
                let advice = advice(&url, &cause, settings.cert.is_some(), settings.words);
                causes.push(cause + &advice);
            }
            Err(_) => causes.push(format!("no connection after {}s", CONNECT_TIMEOUT.as_secs())),
        }
    }
    causes.dedup();
    Err(EtcdError::Unreachable { endpoints: settings.endpoints.join(", "), cause: causes.join("; ") })
}

/// Connects by TCP, with a large buffer: HTTP/2 alone would read 8 KiB at a time, a system call for each.
async fn dial(to: Uri) -> io::Result<TokioIo<BufReader<TcpStream>>> {
    let host = to.host().ok_or_else(|| io::Error::other("the URL has no host"))?;
    let default = if to.scheme_str() == Some("https") { 443 } else { 80 };
    // An IPv6 address stands in brackets in a URL only.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, to.port_u16().unwrap_or(default))).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(BufReader::with_capacity(READ_BYTES, stream)))
}

async fn log_in(
    channel: tonic::transport::Channel,
    settings: &EtcdSettings,
    password: Option<&str>,
    endpoint: String,
) -> Result<Connection, EtcdError> {
    let mut options = ConnectOptions::new().with_auto_token_refresh(true);
    if let Some(password) = password {
        options = options.with_user(settings.user.as_str(), password);
    }
    let login = password.map(|password| Login { user: settings.user.clone(), password: password.into() });
    let client = Client::from_channel(Channel::Tonic(channel.clone()), Some(options));
    let client = tokio::time::timeout(CALL_TIMEOUT, client).await;
    let certificate = settings.cert.is_some();
    let failed = |cause: String| {
        let cause = format!("{cause}{}", advice(&endpoint, &cause, certificate, settings.words));
        EtcdError::Call { call: "log in as a user", endpoint: endpoint.clone(), cause }
    };
    match client {
        Ok(Ok(client)) => Ok(Connection { client, channel, login, endpoint, certificate, words: settings.words }),
        Ok(Err(error)) => Err(failed(describe(&error))),
        Err(_) => Err(failed(too_long(CALL_TIMEOUT))),
    }
}
