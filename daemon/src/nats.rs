//! The connection to NATS: one set of settings for both daemons and the command line.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::settings::{self, SettingsError};

/// Where NATS is when nobody says.
pub const DEFAULT_URL: &str = "nats://127.0.0.1:4222";

/// `[nats]`, the same everywhere.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsSettings {
    /// One URL, or several with commas between.
    #[serde(serialize_with = "settings::urls::serialize")]
    pub url: String,
    pub user: String,
    #[serde(serialize_with = "settings::hidden::serialize")]
    pub password: String,
    pub password_file: Option<PathBuf>,
    /// A credentials file, as `nsc` makes it.
    pub credentials: Option<PathBuf>,
    /// A CA to trust in place of the system's.
    pub ca: Option<PathBuf>,
    /// Client certificate and key.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

impl Default for NatsSettings {
    fn default() -> Self {
        Self {
            url: DEFAULT_URL.into(),
            user: String::new(),
            password: String::new(),
            password_file: None,
            credentials: None,
            ca: None,
            cert: None,
            key: None,
        }
    }
}

impl fmt::Debug for NatsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsSettings").field("url", &self.shown_url()).field("user", &self.user).finish_non_exhaustive()
    }
}

impl NatsSettings {
    /// The URL without a user or a password in it: for people and logs.
    pub fn shown_url(&self) -> String {
        let shown = |url: &str| match (url.find("://"), url.rfind('@')) {
            (Some(scheme), Some(at)) if at > scheme => format!("{}://{}", &url[..scheme], &url[at + 1..]),
            (None, Some(at)) => url[at + 1..].to_owned(),
            _ => url.to_owned(),
        };
        self.url.split(',').map(|u| shown(u.trim())).collect::<Vec<_>>().join(",")
    }
}

/// Whether to wait for a server that is not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// A daemon: start anyway, connect when the server is there, reconnect for ever.
    Daemon,
    /// A command: fail when the server is not there.
    Command,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("cannot use the NATS credentials file {path}: {cause}")]
    Credentials { path: PathBuf, cause: std::io::Error },
    #[error("[nats] cert and key must be given together")]
    HalfACertificate,
    #[error("cannot connect to NATS at {url}: {cause}")]
    Connect { url: String, cause: String },
}

/// The longest pause between two tries to reconnect.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Connects as `name`.
pub async fn connect(settings: &NatsSettings, name: &str, patience: Patience) -> Result<Client, NatsError> {
    let mut options = ConnectOptions::new()
        .name(name)
        .connection_timeout(CONNECT_TIMEOUT)
        .reconnect_delay_callback(|attempts| {
            Duration::from_millis(100 * attempts.min(20) as u64).min(RECONNECT_PAUSE_MAX)
        })
        .ping_interval(Duration::from_secs(10));
    if patience == Patience::Daemon {
        options =
            options.retry_on_initial_connect().max_reconnects(None).event_callback(|event| async move { log(&event) });
    }
    let password = settings::secret("the NATS password", &settings.password, settings.password_file.as_deref())?;
    if !settings.user.is_empty() {
        options = options.user_and_password(settings.user.clone(), password.unwrap_or_default());
    }
    if let Some(path) = &settings.credentials {
        let failed = |cause| NatsError::Credentials { path: path.clone(), cause };
        options = options.credentials_file(path).await.map_err(failed)?;
    }
    if let Some(ca) = &settings.ca {
        options = options.add_root_certificates(ca.clone()).require_tls(true);
    }
    match (&settings.cert, &settings.key) {
        (Some(cert), Some(key)) => options = options.add_client_certificate(cert.clone(), key.clone()),
        (None, None) => {}
        _ => return Err(NatsError::HalfACertificate),
    }
    let servers: Vec<String> = settings.url.split(',').map(|u| u.trim().to_owned()).collect();
    options.connect(servers).await.map_err(|e| NatsError::Connect { url: settings.shown_url(), cause: e.to_string() })
}

fn log(event: &Event) {
    match event {
        Event::Connected => info!("connected to NATS"),
        Event::Disconnected => warn!("the connection to NATS is lost; trying again"),
        other => warn!(event = %other, "NATS"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_has_no_password() {
        let shown = |url: &str| NatsSettings { url: url.into(), ..NatsSettings::default() }.shown_url();
        assert_eq!(shown("nats://u:p@ss@h:4222, h2:1"), "nats://h:4222,h2:1");
        assert_eq!(shown("u:p@h:4222"), "h:4222");
        let settings =
            NatsSettings { url: "nats://u:hunter2@h".into(), password: "hunter2".into(), ..NatsSettings::default() };
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
