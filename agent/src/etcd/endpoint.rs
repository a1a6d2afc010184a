//! The settings in `[etcd]`, the endpoints that they describe, and what is probably wrong with one that fails.
//!
//! The endpoint is built here since etcd-client's own connect cannot set HTTP/2 windows, which limit the rate over a real
//! network.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backstay_daemon::settings;
use backstay_protocol::certificates::{self, PemKind};
use serde::{Deserialize, Serialize};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::error::{EtcdError, with_causes};

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How many bytes a member may send before they are read. The rate is at most this per round trip, and the memory at
/// most twice this.
const WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// After this much silence, a ping checks the connection. etcd refuses clients that send one more often than every 5 s.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How these settings are named where they come from, for errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Words {
    /// As keys of `[etcd]`.
    #[default]
    Keys,
    /// As flags of `once`.
    Flags,
}

impl Words {
    /// The name of a key.
    fn word(self, key: &'static str) -> &'static str {
        match (self, key) {
            (Self::Keys, key) => key,
            (Self::Flags, "endpoints") => "--etcd",
            (Self::Flags, "ca") => "--etcd-ca",
            (Self::Flags, "cert") => "--etcd-cert",
            (Self::Flags, "key") => "--etcd-key",
            (Self::Flags, "user") => "--etcd-user",
            (Self::Flags, _) => "--etcd-password-file",
        }
    }

    /// The same if `[etcd]` is not before it.
    fn whole(self, key: &'static str) -> &'static str {
        match (self, key) {
            (Self::Keys, "ca") => "etcd.ca",
            (Self::Keys, "cert") => "etcd.cert",
            (Self::Keys, "key") => "etcd.key",
            (Self::Keys, "user") => "etcd.user",
            (words, key) => words.word(key),
        }
    }
}

/// `[etcd]`.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct EtcdSettings {
    /// Client URLs of the machine's *own* member, tried in this order; the first that answers is used. With another
    /// member's endpoint, that member would be backed up as if it were this machine's.
    pub endpoints: Vec<String>,
    /// The CA of etcd's certificate; needed for `https`.
    pub ca: Option<PathBuf>,
    /// Client certificate and key.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// A user with the root role, if authentication is on.
    pub user: String,
    #[serde(serialize_with = "settings::hidden::serialize")]
    pub password: String,
    pub password_file: Option<PathBuf>,
    /// How errors name the settings.
    #[serde(skip)]
    pub words: Words,
}

impl Default for EtcdSettings {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://127.0.0.1:2379".into()],
            ca: None,
            cert: None,
            key: None,
            user: String::new(),
            password: String::new(),
            password_file: None,
            words: Words::Keys,
        }
    }
}

impl fmt::Debug for EtcdSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdSettings")
            .field("endpoints", &self.endpoints)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl EtcdSettings {
    /// Refuses settings that do not go together, and returns the password.
    pub(super) fn check(&self) -> Result<Option<String>, EtcdError> {
        if let Some((_, text)) = self.contradiction() {
            return Err(self.wrong(text));
        }
        let what = match self.words {
            Words::Keys => "the etcd password",
            Words::Flags => "the password of --etcd-password-file",
        };
        settings::secret(what, &self.password, self.password_file.as_deref()).map_err(|e| self.wrong(e.to_string()))
    }

    fn wrong(&self, text: String) -> EtcdError {
        EtcdError::Settings(match self.words {
            Words::Keys => format!("[etcd] {text}"),
            Words::Flags => text,
        })
    }

    /// The key to change, such as `etcd.cert`, and why. No file is read.
    pub fn contradiction(&self) -> Option<(&'static str, String)> {
        let wrong = |key, text: String| Some((key, text));
        let [endpoints, ca, cert, key, user, password] =
            ["endpoints", "ca", "cert", "key", "user", "password"].map(|key| self.words.word(key));
        if self.endpoints.is_empty() {
            return wrong("etcd.endpoints", format!("{endpoints} must have at least one URL"));
        }
        if self.endpoints.iter().any(|e| e.contains('@')) {
            // Not repeated: what stands before the @ is a secret.
            let text = format!("an etcd URL cannot contain a user: set {user} and {password} instead");
            return wrong("etcd.endpoints", text);
        }
        if let Some(endpoint) = self.endpoints.iter().find(|endpoint| !is_usable(&self.url(endpoint))) {
            let text = format!("{endpoints}: {endpoint:?} must be http:// or https:// with a host and a port");
            return wrong("etcd.endpoints", text);
        }
        let pair = format!("{cert} and {key} must be given together");
        match (&self.cert, &self.key) {
            (Some(_), None) => return wrong("etcd.cert", pair),
            (None, Some(_)) => return wrong("etcd.key", pair),
            _ => {}
        }
        if self.ca.is_none() && self.endpoints.iter().any(|e| e.starts_with("https://")) {
            return wrong("etcd.endpoints", format!("{ca} is required for an https endpoint"));
        }
        let pair = format!("{user} and {password} must be given together");
        match (self.user.is_empty(), self.password.is_empty() && self.password_file.is_none()) {
            (false, true) => wrong("etcd.user", pair),
            (true, false) if self.password_file.is_some() => wrong("etcd.password_file", pair),
            (true, false) => wrong("etcd.password", pair),
            _ => None,
        }
    }

    /// The URL with its scheme: without one, it is `https` if a CA is given.
    pub(super) fn url(&self, endpoint: &str) -> String {
        match (endpoint.contains("://"), &self.ca) {
            (true, _) => endpoint.to_owned(),
            (false, Some(_)) => format!("https://{endpoint}"),
            (false, None) => format!("http://{endpoint}"),
        }
    }

    pub(super) fn build(&self, url: &str) -> Result<Endpoint, EtcdError> {
        let wrong = |e: tonic::transport::Error| {
            let cause = with_causes(e.to_string(), std::error::Error::source(&e));
            if let (true, Some(cert), Some(key)) = (cause.contains("KeyMismatch"), &self.cert, &self.key) {
                let [cert_word, key_word] = ["cert", "key"].map(|key| self.words.word(key));
                let (cert, key) = (cert.display(), key.display());
                return self.wrong(format!("{key_word} {key} does not belong to {cert_word} {cert}"));
            }
            self.wrong(format!("cannot use the endpoint {url}: {cause}"))
        };
        let endpoint = Endpoint::from_shared(url.to_owned())
            .map_err(wrong)?
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        if !url.starts_with("https://") {
            return Ok(endpoint);
        }
        endpoint.tls_config(self.tls()?).map_err(wrong)
    }

    /// The files are read again for every connection, since certificates are renewed while the agent runs.
    fn tls(&self) -> Result<ClientTlsConfig, EtcdError> {
        let mut tls = ClientTlsConfig::new();
        if let Some(ca) = &self.ca {
            tls = tls.ca_certificate(Certificate::from_pem(self.read("CA", "ca", ca)?));
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            let cert = self.read("certificate", "cert", cert)?;
            tls = tls.identity(Identity::from_pem(cert, self.read("key", "key", key)?));
        }
        Ok(tls)
    }

    /// The PEM file of a setting, which can be used.
    fn read(&self, what: &'static str, key: &'static str, path: &Path) -> Result<Vec<u8>, EtcdError> {
        let set_by = self.words.whole(key);
        let failed = |cause| EtcdError::File { what, path: path.display().to_string(), set_by, cause };
        let wanted = if key == "key" { PemKind::PrivateKey } else { PemKind::Certificates };
        let text = std::fs::read(path).map_err(|cause| failed(cause.to_string()))?;
        match certificates::unusable(&text, wanted) {
            None => Ok(text),
            Some(cause) => Err(failed(cause)),
        }
    }
}

/// Whether it has a scheme that etcd speaks, and a host.
fn is_usable(url: &str) -> bool {
    let behind = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    behind.is_some_and(|host| !host.is_empty() && !host.contains(char::is_whitespace))
}

/// What is probably wrong, and what to do, if a connection failed with `cause`. With TLS 1.3, an etcd that rejects a
/// client says so only after the handshake, so the first call fails.
pub(super) fn advice(url: &str, cause: &str, certificate: bool, words: Words) -> String {
    let says = |words: &[&str]| words.iter().any(|word| cause.contains(word));
    let closed = says(&["connection closed", "broken pipe", "reset by peer", "error reading a body"]);
    let [ca, cert, key, user] = ["ca", "cert", "key", "user"].map(|key| words.whole(key));
    if says(&["permission denied", "user name is empty"]) {
        return format!(" (authentication is on: {user} must name a user with the root role)");
    }
    if !url.starts_with("https://") {
        let tls = closed || says(&["frame with invalid size", "http2 error"]);
        return if tls {
            format!(" (if this etcd uses TLS, the endpoint must begin with https://, and {ca} is required)")
        } else {
            String::new()
        };
    }
    if says(&["UnknownIssuer", "BadSignature"]) {
        return format!(" (this etcd's certificate was not signed by the CA in {ca})");
    }
    if says(&["NotValidForName"]) {
        return " (etcd's certificate is not valid for the host name in the endpoint)".into();
    }
    if says(&["handshake eof", "InvalidContentType"]) {
        return " (if this etcd does not use TLS, the endpoint must begin with http://)".into();
    }
    if let Some(advice) = certificates::advice(cause) {
        return format!(" ({advice})");
    }
    if !closed && !says(&["fatal alert"]) {
        return String::new();
    }
    match certificate {
        false => format!(
            " (etcd runs with --client-cert-auth and rejects clients without a certificate: set {cert} and {key})"
        ),
        true => {
            " (etcd rejected this client certificate: it must be signed by the CA in etcd's --trusted-ca-file)".into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut EtcdSettings)) -> Result<Option<String>, String> {
        let mut settings = EtcdSettings::default();
        change(&mut settings);
        settings.check().map_err(|e| e.to_string())
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        assert_eq!(check(|_| ()), Ok(None));
        assert!(check(|s| s.endpoints.clear()).is_err());
        let user = check(|s| s.endpoints = vec!["http://root:hunter2@h:1".into()]).expect_err("a user in a URL");
        assert!(user.contains("set user and password") && !user.contains("hunter2"), "{user}");
        assert!(check(|s| s.cert = Some("c".into())).is_err_and(|e| e.contains("cert and key")));
        assert!(check(|s| s.endpoints = vec!["https://h:1".into()]).is_err_and(|e| e.contains("ca is required")));
        assert!(check(|s| s.user = "root".into()).is_err_and(|e| e.contains("user and password")));
        for endpoint in ["ftp://h:1", "", "http://", "http://a b"] {
            let error = check(|s| s.endpoints = vec![endpoint.into()]).expect_err(endpoint);
            assert!(error.contains("must be http:// or https://"), "{error}");
        }
        for (change, says) in [
            (
                (|s| s.endpoints = vec!["https://h:1".into()]) as fn(&mut EtcdSettings),
                "--etcd-ca is required for an https",
            ),
            (|s| s.cert = Some("c".into()), "--etcd-cert and --etcd-key must be given together"),
            (|s| s.user = "root".into(), "--etcd-user and --etcd-password-file must be given together"),
            (|s| s.endpoints = vec!["ftp://h:1".into()], "--etcd: \"ftp://h:1\" must be"),
        ] {
            let mut settings = EtcdSettings { words: Words::Flags, ..EtcdSettings::default() };
            change(&mut settings);
            let (_, text) = settings.contradiction().expect("wrong");
            assert!(text.contains(says), "{text}");
        }
        let (user, password) = ("root".to_owned(), "hunter2".to_owned());
        let settings = EtcdSettings { user, password, ..EtcdSettings::default() };
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert_eq!(settings.check().expect("fits").as_deref(), Some("hunter2"));
    }

    #[test]
    fn a_connection_that_fails_comes_with_advice() {
        for (url, cause, certificate, part) in [
            ("https://h", "received fatal alert: BadCertificate", false, "set etcd.cert and"),
            ("https://h", "operation was canceled: transport error: connection closed", false, "set etcd.cert and"),
            ("https://h", "received fatal alert: UnknownCA", true, "rejected this client certificate"),
            ("https://h", "invalid peer certificate: UnknownIssuer", true, "was not signed by"),
            ("https://h", "tls handshake eof", false, "begin with http://"),
            ("https://h", "received fatal alert: HandshakeFailure", false, "such as the curve P-521"),
            ("https://h", "invalid peer certificate: UnsupportedSignatureAlgorithmForPublicKeyContext", true, "P-521"),
            ("http://h", "stream closed because of a broken pipe", false, "begin with https://"),
            ("http://h", "etcdserver: permission denied", false, "etcd.user must name a user with the root role"),
        ] {
            assert!(advice(url, cause, certificate, Words::Keys).contains(part), "{cause}");
        }
        assert_eq!(advice("https://h", "Connection refused (os error 111)", false, Words::Keys), "");
        assert_eq!(advice("http://h", "etcdserver: request timed out", false, Words::Keys), "");
        let flags = advice("http://h", "connection closed", false, Words::Flags);
        assert!(flags.contains("--etcd-ca is required"), "{flags}");
        let flags = advice("https://h", "received fatal alert: CertificateRequired", false, Words::Flags);
        assert!(flags.contains("set --etcd-cert and --etcd-key"), "{flags}");
        let flags = advice("https://h", "etcdserver: user name is empty", false, Words::Flags);
        assert!(flags.contains("--etcd-user must name a user"), "{flags}");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_what_named_it() {
        let (endpoints, absent) = (vec!["https://h:1".to_owned()], std::path::PathBuf::from("/no/such.crt"));
        for (words, ca, password) in [
            (Words::Keys, "CA /no/such.crt (etcd.ca): No such", "[etcd] cannot read the etcd password from /no/such"),
            (Words::Flags, "CA /no/such.crt (--etcd-ca): No such", "cannot read the password of --etcd-password-file"),
        ] {
            let (endpoints, absent) = (endpoints.clone(), absent.clone());
            let settings = EtcdSettings { endpoints, ca: Some(absent.clone()), words, ..EtcdSettings::default() };
            let error = settings.tls().expect_err("no such file").to_string();
            assert!(error.starts_with(&format!("cannot use the etcd {ca}")), "{error}");
            let settings = EtcdSettings { user: "u".into(), password_file: Some(absent), ..settings };
            let error = settings.check().expect_err("no such file").to_string();
            assert!(error.starts_with(password), "{error}");
        }
    }

    #[test]
    fn an_endpoint_without_a_scheme_gets_one() {
        let mut settings = EtcdSettings::default();
        assert_eq!(settings.url("h:1"), "http://h:1");
        settings.ca = Some("ca".into());
        assert_eq!((settings.url("h:1"), settings.url("http://h:1")), ("https://h:1".into(), "http://h:1".into()));
    }

    #[tokio::test]
    async fn an_etcd_that_is_not_there_is_named_with_the_cause() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        drop(listener);
        let etcd = super::super::Etcd::new(EtcdSettings { endpoints: vec![url.clone()], ..EtcdSettings::default() });
        let error = etcd.expect("fits").connect().await.err().expect("nobody listens").to_string();
        assert!(error.contains(&url) && error.contains("refused"), "{error}");
    }
}
