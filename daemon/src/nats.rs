//! The connection to NATS, with the same settings for the daemons and the command line.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Client, ClientError, ConnectOptions, Event, ServerAddr, ServerError};
use backstay_protocol::certificates::{self, PemKind};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tracing::{info, warn};

use crate::settings::{self, SettingsError};
use crate::trouble::Trouble;
use login::UrlLogin;

pub mod login;

/// The URL if none is set: nats-server on this machine, on its default port.
pub const DEFAULT_URL: &str = "nats://127.0.0.1:4222";

/// The settings in `[nats]`. At most one of `user`, `credentials` and `nkey` may be given.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsSettings {
    /// One URL, or several with commas between them.
    #[serde(serialize_with = "settings::urls::serialize")]
    pub url: String,
    /// Empty: no user and password.
    pub user: String,
    /// Never shown. Empty: none, or the one in `password_file`.
    #[serde(serialize_with = "settings::hidden::serialize")]
    pub password: String,
    /// A file that contains the password and nothing else, except a line end.
    pub password_file: Option<PathBuf>,
    /// A credentials file, as `nsc` creates it.
    pub credentials: Option<PathBuf>,
    /// A file with a user's nkey seed (`SU…`), as `nk -gen user` creates it.
    pub nkey: Option<PathBuf>,
    /// A PEM file of CAs to trust instead of the system's. If it is set, the connection must use TLS.
    pub ca: Option<PathBuf>,
    /// The client certificate, a PEM file; goes together with `key`.
    pub cert: Option<PathBuf>,
    /// The certificate's private key, a PEM file without a passphrase.
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
            nkey: None,
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
    /// The URLs without users and passwords, for people and logs.
    pub fn shown_url(&self) -> String {
        login::without(&self.url)
    }
}

impl NatsSettings {
    /// Checks that the settings go together. `place` returns where a key, such as `nats.cert`, was set.
    ///
    /// # Errors
    /// [`SettingsError::Nonsense`]: an invalid URL, two ways to authenticate, two passwords, a password without a user,
    /// or a certificate without its key.
    pub fn check(&self, place: impl Fn(&str) -> String) -> Result<(), SettingsError> {
        match self.contradiction() {
            Some((key, text)) => Err(SettingsError::Nonsense { place: place(key), text: format!("[nats] {text}") }),
            None => Ok(()),
        }
    }

    /// The key that is to be changed, and why.
    fn contradiction(&self) -> Option<(&'static str, String)> {
        if let Err(cause) = self.servers().iter().try_for_each(|url| address(url)) {
            let cause = self.without_secrets(&cause);
            return Some(("nats.url", format!("url is not a valid NATS address, such as nats://host:4222: {cause}")));
        }
        let in_url = match login::find(&self.url) {
            Err(text) => return Some(("nats.url", text.to_owned())),
            Ok(login) => login.is_some(),
        };
        let other = self.separate_login().filter(|_| in_url);
        if let Some(key) = other {
            let name = key.trim_start_matches("nats.");
            return Some((key, format!("the URL contains a login, and {name} is another: use only one of them")));
        }
        let ways = [
            ("nats.user", !self.user.is_empty()),
            ("nats.credentials", self.credentials.is_some()),
            ("nats.nkey", self.nkey.is_some()),
        ];
        let mut given = ways.iter().filter(|(_, given)| *given);
        if let (Some(_), Some((second, _))) = (given.next(), given.next()) {
            let text = "user, credentials and nkey are three ways to authenticate: use only one of them";
            return Some((second, text.into()));
        }
        let password = match (&self.password_file, self.password.is_empty()) {
            (Some(_), false) => {
                return Some(("nats.password_file", "password and password_file cannot be used together".into()));
            }
            (Some(_), true) => Some("nats.password_file"),
            (None, false) => Some("nats.password"),
            (None, true) => None,
        };
        if let (Some(key), true) = (password, self.user.is_empty()) {
            return Some((key, "a password can only be used with a user".into()));
        }
        let half = match (&self.cert, &self.key) {
            (Some(_), None) => "nats.cert",
            (None, Some(_)) => "nats.key",
            _ => return None,
        };
        Some((half, "cert and key must be given together".into()))
    }

    /// The first key that says who connects, beside the URL.
    fn separate_login(&self) -> Option<&'static str> {
        let keys = [
            ("nats.user", !self.user.is_empty()),
            ("nats.password", !self.password.is_empty()),
            ("nats.password_file", self.password_file.is_some()),
            ("nats.credentials", self.credentials.is_some()),
            ("nats.nkey", self.nkey.is_some()),
        ];
        keys.into_iter().find(|(_, is_given)| *is_given).map(|(key, _)| key)
    }

    /// Where to connect to, one URL each; who connects is not in them.
    fn servers(&self) -> Vec<String> {
        login::without(&self.url).split(',').map(str::to_owned).collect()
    }

    /// The cause of an error for people. If it quotes the password or a URL with a password, only that it cannot be used.
    pub fn without_secrets(&self, cause: &str) -> String {
        let password = &self.password;
        if cause.contains('@') || (!password.is_empty() && cause.contains(password.as_str())) {
            return "it cannot be used".into();
        }
        cause.trim().replace('\n', " ")
    }
}

/// Whether this is an address that can be connected to.
fn address(url: &str) -> Result<(), String> {
    // Where no scheme is given, it is nats://.
    let scheme = url.split_once("://").map_or("nats", |(scheme, _)| scheme);
    if !["nats", "tls"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return Err(format!("its scheme {scheme:?} is neither nats nor tls"));
    }
    let address = url.parse::<ServerAddr>().map_err(|e| e.to_string())?;
    match address.into_inner().host_str() {
        None | Some("") => Err("it has no host".into()),
        Some(_) => Ok(()),
    }
}

/// What to do if there is no server yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Start anyway, connect when there is a server, and reconnect forever.
    Daemon,
    /// Fail.
    Command,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// The settings do not go together, or the file with the password cannot be read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The credentials file cannot be read.
    #[error("cannot use the NATS credentials file {path}: {cause}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file with the nkey seed cannot be read, or has no seed of a user.
    #[error("cannot use the nkey seed file {path}: {cause}")]
    Nkey {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A file for TLS cannot be read or used.
    #[error("cannot use the NATS {what} {path}: {cause}")]
    File {
        /// What it is for, such as `CA`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// No server answered, or the server refused the connection.
    #[error("cannot connect to NATS at {url}: {cause}")]
    Connect {
        /// The URLs, without users and passwords.
        url: String,
        /// The words of the client.
        cause: String,
    },
}

/// The longest pause between two attempts to reconnect.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// How many refusals of the server are kept until they are read.
const REFUSALS: usize = 16;

/// Who connects: the name that the server shows, and which inbox it uses.
#[derive(Debug, Clone)]
pub struct ClientIdentity {
    name: String,
    inbox: Option<String>,
    refusals: Option<broadcast::Sender<String>>,
}

impl From<&str> for ClientIdentity {
    fn from(name: &str) -> Self {
        Self { name: name.to_owned(), inbox: None, refusals: None }
    }
}

impl ClientIdentity {
    /// Answers arrive on subjects below `prefix`, so that NATS permissions can forbid them to everybody else.
    pub fn inbox(self, prefix: impl Into<String>) -> Self {
        Self { inbox: Some(prefix.into()), ..self }
    }

    /// Also returns what the server does not permit this user, in the server's words. The oldest are dropped if nobody
    /// reads them.
    pub fn refusals(self) -> (Self, broadcast::Receiver<String>) {
        let (sender, receiver) = broadcast::channel(REFUSALS);
        (Self { refusals: Some(sender), ..self }, receiver)
    }
}

/// Connects as `role`. With [`Patience::Daemon`] this returns before there is a connection.
///
/// # Errors
/// Every [`NatsError`]; [`NatsError::Connect`] only with [`Patience::Command`], or if TLS cannot be set up.
pub async fn connect(
    settings: &NatsSettings,
    role: impl Into<ClientIdentity>,
    patience: Patience,
) -> Result<Client, NatsError> {
    let role = role.into();
    settings.check(|_| String::new())?;
    let mut options = ConnectOptions::new()
        .name(&role.name)
        .connection_timeout(CONNECT_TIMEOUT)
        .reconnect_delay_callback(|attempts| {
            Duration::from_millis(100 * attempts.min(20) as u64).min(RECONNECT_PAUSE_MAX)
        })
        .ping_interval(Duration::from_secs(10));
    if let Some(prefix) = &role.inbox {
        options = options.custom_inbox_prefix(prefix);
    }
    if patience == Patience::Daemon {
        options = options.retry_on_initial_connect().max_reconnects(None);
    }
    let log = Mutex::new(ConnectionLog::new(settings.shown_url()));
    options = options.event_callback(move |event| {
        if patience == Patience::Daemon {
            log.lock().unwrap_or_else(PoisonError::into_inner).note(&event);
        }
        if let (Event::ServerError(ServerError::Other(text)), Some(refusals)) = (&event, &role.refusals) {
            // Nobody may be listening just now.
            let _ = refusals.send(text.clone());
        }
        std::future::ready(())
    });
    options = tls(settings, user(settings, options)?)?;
    options
        .connect(settings.servers())
        .await
        .map_err(|e| NatsError::Connect { url: settings.shown_url(), cause: cause(&e) })
}

/// The client's words, with an advice if it is about a certificate.
fn cause(error: &async_nats::ConnectError) -> String {
    let text = error.to_string();
    certificates::advice(&text).map_or(text.clone(), |advice| format!("{text} ({advice})"))
}

/// Who one is: a login in the URL, a user with a password, a credentials file, or an nkey.
fn user(settings: &NatsSettings, mut options: ConnectOptions) -> Result<ConnectOptions, NatsError> {
    // What contradicts itself was refused before.
    match login::find(&settings.url).ok().flatten() {
        Some(UrlLogin::User { user, password }) => options = options.user_and_password(user, password),
        Some(UrlLogin::Token(token)) => options = options.token(token),
        None => {}
    }
    let password = settings::secret("the NATS password", &settings.password, settings.password_file.as_deref())?;
    if !settings.user.is_empty() {
        options = options.user_and_password(settings.user.clone(), password.unwrap_or_default());
    }
    if let Some(path) = &settings.credentials {
        let failed = |cause| NatsError::Credentials { path: path.clone(), cause };
        let text = std::fs::read_to_string(path).map_err(failed)?;
        options = options.credentials(&text).map_err(failed)?;
    }
    if let Some(path) = &settings.nkey {
        options = options.nkey(seed(path)?);
    }
    Ok(options)
}

/// The seed in a file: the first line that looks like one, since comments and the public key may be there, too.
fn seed(path: &Path) -> Result<String, NatsError> {
    let failed = |cause: String| NatsError::Nkey { path: path.to_owned(), cause };
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    let found = text.lines().map(str::trim).find(|line| line.starts_with("SU"));
    found.map(str::to_owned).ok_or_else(|| failed("it does not contain the seed of a user (SU…)".into()))
}

/// The client reads these files only when it connects, and then reports a missing one as a failure of TLS; so they are
/// checked here.
fn tls(settings: &NatsSettings, mut options: ConnectOptions) -> Result<ConnectOptions, NatsError> {
    if let Some(ca) = &settings.ca {
        pem("CA", ca, PemKind::Certificates)?;
        options = options.add_root_certificates(ca.clone()).require_tls(true);
    }
    if let (Some(cert), Some(key)) = (&settings.cert, &settings.key) {
        pem("client certificate", cert, PemKind::Certificates)?;
        pem("key of the client certificate", key, PemKind::PrivateKey)?;
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    Ok(options)
}

/// Checks that a file can be read and has the right content.
fn pem(what: &'static str, path: &Path, kind: PemKind) -> Result<(), NatsError> {
    let failed = |cause: String| NatsError::File { what, path: path.to_owned(), cause };
    let text = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
    certificates::unusable(&text, kind).map_or(Ok(()), |cause| Err(failed(cause)))
}

/// What a daemon logs about its connection. The client tries again every second or two, so repeated messages get rarer.
struct ConnectionLog {
    url: String,
    away: Trouble,
    /// Whatever else the server reports, such as missing permissions.
    other: Trouble,
}

impl ConnectionLog {
    fn new(url: String) -> Self {
        Self { url, away: Trouble::default(), other: Trouble::default() }
    }

    fn note(&mut self, event: &Event) {
        let Self { url, away, other } = self;
        match event {
            Event::Connected => {
                away.over();
                info!(url = url.as_str(), "connected to NATS");
            }
            Event::Disconnected => {
                if let Some(told) = away.note("lost") {
                    warn!(url = url.as_str(), lasting = told.lasting, "lost the connection to NATS; trying again");
                }
            }
            Event::ClientError(ClientError::Other(cause)) => {
                if let Some(told) = away.note(cause) {
                    let cause = in_words(cause);
                    warn!(url = url.as_str(), cause, lasting = told.lasting, "cannot connect to NATS; trying again");
                }
            }
            event => {
                let mut text = event.to_string();
                // Each answer has a subject of its own: the next one is no news.
                if text.contains("for Publish to \"_R_.") {
                    text = UNANSWERED.into();
                }
                if let Some(told) = other.note(&text) {
                    warn!(url = url.as_str(), event = text, lasting = told.lasting, "NATS");
                }
            }
        }
    }
}

/// Newer servers count a request that reaches two subscriptions of one connection as answered once.
const UNANSWERED: &str = "NATS does not let answers through: this user's permissions need allow_responses { max: 2 }, \
    as in the sample backstay.conf";

/// The client has only a word for why it cannot connect.
fn in_words(cause: &str) -> &str {
    match cause {
        "IO error" => "nothing answers there: check that nats-server is running and can be reached from here",
        "DNS error" => "its name cannot be resolved",
        "timed out" => "it did not answer in time",
        "TLS error" => "TLS could not be set up: check ca, cert and key in [nats]",
        "authorization violation" => "NATS rejected this user, password, credentials or nkey: check [nats]",
        other => other,
    }
}

#[cfg(test)]
mod tests;
