//! The transport over NATS, and what its failures mean to a person.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_nats::client::{Request, RequestErrorKind};
use async_nats::connection::State;
use async_nats::{Client, HeaderMap, Message};
use backstay_daemon::nats::{self, ClientIdentity, NatsError, NatsSettings, Patience};
use backstay_daemon::settings::{self, Override, SettingsError, Unknown, variable};
use backstay_protocol::api::{ApiError, ErrorCode};
use backstay_protocol::codec::{CONTENT_TYPE, ContentType};
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::api::{CallError, QUICK, Transport};
use super::contexts::layers::{Chosen, merged};
use super::contexts::model;

/// How long connecting may take; what is left of [`QUICK`] is for the answer.
const CONNECT: Duration = Duration::from_secs(4);
/// The name of this program's connections on the server.
const NAME: &str = "backstayctl";
const SERVICE_ERROR: &str = "Nats-Service-Error";
const SERVICE_ERROR_CODE: &str = "Nats-Service-Error-Code";

/// The part of the daemons' settings that the command line has, too.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Sections {
    nats: NatsSettings,
}

/// The `[nats]` settings from variables such as `BACKSTAY_NATS__USER`, from a context, and from flags. `url` is the
/// value of the variable `BACKSTAY_NATS_URL`.
///
/// # Errors
/// A value does not fit, or the settings contradict each other.
pub fn settings(
    variables: impl IntoIterator<Item = (String, String)>,
    url: Option<String>,
    context: Option<&Chosen>,
    flags: BTreeMap<String, String>,
) -> Result<NatsSettings, SettingsError> {
    let environment = settings::from_environment::<Sections>(variables).into_iter();
    let mut environment: BTreeMap<String, String> =
        environment.filter_map(|Override { mut path, value }| Some((path.pop()?, settings::text(&value)))).collect();
    environment.extend(url.map(|url| ("url".to_owned(), url)));
    let of_context = |key: &str| {
        let context = context.filter(|context| context.nats.contains_key(key))?;
        let is_over = flags.contains_key(key) || !context.named && environment.contains_key(key);
        (!is_over).then(|| context.name.clone())
    };
    let place = |key: &str| {
        let key = key.trim_start_matches("nats.");
        of_context(key).map_or_else(|| format!("{}: ", word(key)), |name| format!("context {name:?}: {key}: "))
    };
    let nats = model::settings(&merged(context, environment.clone(), flags.clone()));
    nats.check(place).map_err(|error| match error {
        SettingsError::Nonsense { place, text } => {
            SettingsError::Nonsense { place, text: text.trim_start_matches("[nats] ").to_owned() }
        }
        other => other,
    })?;
    Ok(nats)
}

/// The name of a key of `[nats]` on the command line: its flag, or its variable if there is no flag.
fn word(name: &str) -> String {
    match name {
        "url" => "--nats".into(),
        "password" => variable(&["nats", name]),
        name => format!("--nats-{}", name.replace('_', "-")),
    }
}

/// Variables that look like settings of `[nats]` but are not. Other variables of the daemons may be set on the same
/// machine.
pub fn unknown(variables: &[(String, String)]) -> Vec<Unknown> {
    let section = variable(&["nats", ""]);
    let ours = variables.iter().filter(|(name, _)| name.starts_with(&section)).cloned();
    settings::unknown::<Sections>(ours)
}

/// A connection for a few requests.
#[derive(Debug)]
pub struct Bus {
    client: Client,
    url: String,
    /// What the server does not permit this user.
    refusals: broadcast::Receiver<String>,
    /// How much of the time for the answer was needed to connect.
    spent: Duration,
    /// When the coordinator answered last.
    answered: Mutex<Option<Instant>>,
}

/// If the coordinator has answered within this time, it is not checked whether one is there.
const FRESH: Duration = Duration::from_secs(2);
/// A subject on which every coordinator answers immediately, to everybody who may send any request.
const THERE: &str = "backstay.v1.api.get.etcdbackupoverallstatuses";

/// What to say if the server has no JetStream, without which no coordinator can lead.
const NO_JETSTREAM: &str = "JetStream is disabled on that server, and the coordinator needs it: start nats-server with \
    -js";

/// However long connecting took, an answer may take this long.
const ANSWER_MIN: Duration = Duration::from_millis(500);

impl Bus {
    /// Connects within five seconds.
    ///
    /// # Errors
    /// NATS does not answer or refuses the user, or a file in the settings cannot be used.
    pub async fn connect(settings: &NatsSettings) -> Result<Self, CallError> {
        let url = settings.shown_url();
        let absent = |cause: &str| CallError::NoNats { url: url.clone(), cause: cause.to_owned() };
        let begun = Instant::now();
        let (role, refusals) = ClientIdentity::from(NAME).refusals();
        match tokio::time::timeout(CONNECT, nats::connect(settings, role, Patience::Command)).await {
            Err(_) => Err(absent(&format!("no connection after {} s", CONNECT.as_secs()))),
            Ok(Err(NatsError::Connect { cause, .. })) if cause.contains("authorization violation") => {
                Err(CallError::Transport { url: url.clone(), cause: "NATS rejected the user or password".into() })
            }
            Ok(Err(NatsError::Connect { cause, .. })) => Err(absent(&settings.without_secrets(&cause))),
            Ok(Err(other)) => Err(CallError::Unusable(other.to_string())),
            Ok(Ok(client)) => Ok(Self { client, url, refusals, spent: begun.elapsed(), answered: Mutex::new(None) }),
        }
    }
}

impl Transport for Bus {
    async fn call(&self, subject: &str, body: Vec<u8>, wait: Duration) -> Result<Vec<u8>, CallError> {
        if wait <= QUICK {
            return self.ask(subject, body, wait.saturating_sub(self.spent).max(ANSWER_MIN)).await;
        }
        // What may take long is asked of somebody who is there: silence is told soon, and leaves nothing behind that
        // a coordinator which wakes up later would still do.
        if !self.is_fresh() {
            self.is_there().await?;
        }
        self.ask(subject, body, wait).await
    }
}

impl Bus {
    async fn ask(&self, subject: &str, body: Vec<u8>, wait: Duration) -> Result<Vec<u8>, CallError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, ContentType::Json.as_str());
        let bytes = body.len();
        let request = Request::new().payload(Bytes::from(body)).headers(headers).timeout(Some(wait));
        // Heard from here on: what was refused before concerned an earlier request.
        let refusals = self.refusals.resubscribe();
        tokio::select! {
            // An answer that is there counts more than a refusal that meant something else.
            biased;
            answered = self.client.send_request(subject.to_owned(), request) => match answered {
                Ok(message) => {
                    *self.answered.lock().expect("nobody panics with it") = Some(Instant::now());
                    answer(message)
                }
                Err(error) if error.kind() == RequestErrorKind::MaxPayloadExceeded => {
                    let (url, max_payload) = (self.url.clone(), self.client.max_payload());
                    Err(CallError::TooLargeForNats { url, bytes, max_payload })
                }
                Err(error) => Err(self.failure(error.kind(), &error.to_string(), wait)),
            },
            cause = refused(refusals, subject) => Err(CallError::NotAllowed { url: self.url.clone(), cause }),
        }
    }

    /// A broken connection is not a silent coordinator.
    fn failure(&self, kind: RequestErrorKind, cause: &str, wait: Duration) -> CallError {
        if self.client.connection_state() != State::Connected {
            return CallError::NoNats { url: self.url.clone(), cause: "the connection was lost".into() };
        }
        let server = self.client.server_info();
        failure(kind, cause, &self.url, wait, server.jetstream)
    }

    fn is_fresh(&self) -> bool {
        self.answered.lock().expect("nobody panics with it").is_some_and(|at| at.elapsed() < FRESH)
    }

    /// Whether any coordinator answers, even with a refusal. A user without the permission for this request gets no
    /// answer.
    async fn is_there(&self) -> Result<(), CallError> {
        let wait = QUICK.saturating_sub(self.spent).max(ANSWER_MIN);
        match self.ask(THERE, Vec::new(), wait).await {
            Ok(_) | Err(CallError::NotAllowed { .. } | CallError::Refused(_)) => Ok(()),
            Err(silent) => Err(silent),
        }
    }
}

/// Waits until the server reports that a request on `subject`, or receiving answers, is not permitted.
///
/// NATS reports this on the connection; the request itself gets no answer.
async fn refused(mut refusals: broadcast::Receiver<String>, subject: &str) -> String {
    loop {
        match refusals.recv().await {
            Ok(text) if concerns(&text, subject) => return text,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            // The connection has ended: the request says so itself.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// `Permissions Violation for Publish to "backstay.v1.api.apply.clusters"`, or `… for Subscription to "_INBOX.…"`.
fn concerns(refusal: &str, subject: &str) -> bool {
    let lower = refusal.to_ascii_lowercase();
    lower.contains("permissions violation")
        && (lower.contains("for subscription") || lower.contains(&format!("\"{subject}\"")))
}

fn failure(kind: RequestErrorKind, cause: &str, url: &str, wait: Duration, jetstream: bool) -> CallError {
    let url = url.to_owned();
    match kind {
        RequestErrorKind::NoResponders => {
            let nobody =
                "NATS is running, but no coordinator is connected to it: check backstay-coordinator on its machine";
            let cause = if jetstream { nobody.to_owned() } else { format!("{nobody}; {NO_JETSTREAM}") };
            CallError::NoCoordinator { url, cause }
        }
        RequestErrorKind::TimedOut if wait <= QUICK => {
            // What was really waited: connecting may have taken some of the time.
            let seconds = if wait < Duration::from_secs(1) { wait.as_secs_f32() } else { wait.as_secs_f32().round() };
            CallError::NoCoordinator { url, cause: format!("no answer within {seconds} s") }
        }
        RequestErrorKind::TimedOut => CallError::NoAnswer { url, waited: wait },
        _ => CallError::Transport { url, cause: cause.to_owned() },
    }
}

/// The body of an answer. If a service refused a request before reading it, there is only a header.
fn answer(message: Message) -> Result<Vec<u8>, CallError> {
    let header = |name: &str| message.headers.as_ref().and_then(|h| h.get(name)).map(|v| v.as_str().to_owned());
    match header(SERVICE_ERROR) {
        Some(text) if message.payload.is_empty() => {
            let number = header(SERVICE_ERROR_CODE).and_then(|n| n.parse::<usize>().ok());
            Err(ApiError::new(code(number), text).into())
        }
        _ => Ok(message.payload.to_vec()),
    }
}

fn code(number: Option<usize>) -> ErrorCode {
    use ErrorCode::{Conflict, Internal, InvalidArgument, NotFound, ReadOnly, Unavailable};
    [InvalidArgument, ReadOnly, NotFound, Conflict, Unavailable]
        .into_iter()
        .find(|code| Some(code.number()) == number)
        .unwrap_or(Internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(pairs: &[(&'static str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_context_stands_below_the_environment_and_one_that_is_named_above() {
        let variables = [("BACKSTAY_NATS__URL", "nats://env:1"), ("BACKSTAY_NATS__USER", "e")];
        let variables = || variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let context = |named| Chosen { name: "c".into(), nats: owned(&[("url", "nats://c:1"), ("cert", "x")]), named };
        let url = |named, url: Option<&str>, flags: &[(&'static str, &str)]| {
            let flags = [flags, &[("key", "k"), ("cert", "y")]].concat();
            settings(variables(), url.map(str::to_owned), Some(&context(named)), owned(&flags)).expect("settings").url
        };
        assert_eq!(url(false, None, &[]), "nats://env:1");
        assert_eq!(url(false, Some("nats://own:1"), &[]), "nats://own:1");
        assert_eq!(url(true, Some("nats://own:1"), &[]), "nats://c:1");
        assert_eq!(url(true, None, &[("url", "nats://flag:1")]), "nats://flag:1");
        let error = settings([], None, Some(&context(false)), BTreeMap::new()).expect_err("half a pair").to_string();
        assert_eq!(error, "context \"c\": cert: cert and key must be given together");
    }

    #[test]
    fn a_password_keeps_its_quotes() {
        let quoted = r#""hunter2""#;
        let context = Chosen { name: "c".into(), nats: owned(&[("user", "u"), ("password", quoted)]), named: false };
        let found = settings([], None, Some(&context), BTreeMap::new()).expect("settings");
        assert_eq!(found.password, quoted);
        // A variable is read as the daemons read it.
        let variables = [("BACKSTAY_NATS__USER", "u"), ("BACKSTAY_NATS__PASSWORD", quoted)];
        assert_eq!(read(&variables, &[]).password, "hunter2");
    }

    fn read(variables: &[(&str, &str)], flags: &[(&'static str, &str)]) -> NatsSettings {
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        settings(variables, None, None, owned(flags)).expect("settings")
    }

    #[test]
    fn flags_beat_the_environment_and_the_daemons_variables_are_not_ours() {
        let variables = [
            ("BACKSTAY_NATS__URL", "nats://env:1"),
            ("BACKSTAY_NATS__USER", "42"),
            ("BACKSTAY_NATS__PASSWORD_FILE", "/run/p"),
            ("BACKSTAY_STATE_DIR", "/var"),
            ("BACKSTAY_NATS_URL", "nats://clap-reads-this:1"),
        ];
        let found = read(&variables, &[("url", "nats://flag:1")]);
        assert_eq!((found.url.as_str(), found.user.as_str()), ("nats://flag:1", "42"));
        assert_eq!(found.password_file.as_deref(), Some(std::path::Path::new("/run/p")));
        assert_eq!(read(&variables, &[]).url, "nats://env:1");
        assert_eq!(read(&[], &[]).url, "nats://127.0.0.1:4222");
    }

    #[test]
    fn a_flag_that_is_missing_is_named_as_the_flag() {
        let wrong =
            |flags: &[(&'static str, &str)]| settings([], None, None, owned(flags)).expect_err("wrong").to_string();
        assert_eq!(wrong(&[("cert", "c")]), "--nats-cert: cert and key must be given together");
        assert_eq!(wrong(&[("key", "k")]), "--nats-key: cert and key must be given together");
        assert_eq!(wrong(&[("password_file", "p")]), "--nats-password-file: a password can only be used with a user");
        assert!(wrong(&[("url", "http://h")]).starts_with("--nats: url is not a valid NATS address"));
    }

    #[test]
    fn what_is_misspelt_among_them_is_told_and_what_is_the_daemons_is_not() {
        let variables = [
            ("BACKSTAY_NATS__USR", "u"),
            ("BACKSTAY_STATE_DIR", "/var"),
            ("BACKSTAY_STAT_DIR", "/var"),
            ("BACKSTAY_PORT", "tcp://10.0.0.7:9479"),
            ("BACKSTAY_NATS_PORT", "tcp://10.0.0.7:4222"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let told: Vec<String> = unknown(&variables).iter().map(ToString::to_string).collect();
        let expected =
            "ignoring the variable BACKSTAY_NATS__USR, which is not a setting: did you mean BACKSTAY_NATS__USER?";
        assert_eq!(told, [expected]);
        assert_eq!(settings(variables, None, None, BTreeMap::new()).expect("all the same").user, "");
    }

    #[tokio::test]
    async fn nobody_there_is_said_without_the_password() {
        // Port 1 on the loopback: nothing listens there.
        let settings = read(&[], &[("url", "nats://me:hunter2@127.0.0.1:1")]);
        let text = Bus::connect(&settings).await.expect_err("nobody").to_string();
        assert!(text.starts_with("cannot reach NATS on nats://127.0.0.1:1 (IO error: Connection refused"), "{text}");
        assert!(text.contains("nats-server") && text.contains("BACKSTAY_NATS_URL"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_no_failed_request() {
        let settings = read(&[], &[("credentials", "/nowhere/ops.creds")]);
        let text = Bus::connect(&settings).await.expect_err("no file").to_string();
        assert!(text.starts_with("cannot use the NATS credentials file /nowhere/ops.creds: No such file"), "{text}");
    }

    #[test]
    fn causes_do_not_quote_secrets() {
        let settings = read(&[], &[("user", "me"), ("password", "hunter2")]);
        assert_eq!(settings.without_secrets("bad password hunter2"), "it cannot be used");
        assert_eq!(settings.without_secrets("cannot parse a:b@c"), "it cannot be used");
        assert_eq!(settings.without_secrets("authorization violation"), "authorization violation");
    }

    #[test]
    fn each_failure_has_its_meaning() {
        let text = |kind, wait| failure(kind, "broken pipe", "nats://h", wait, true).to_string();
        let absent = text(RequestErrorKind::NoResponders, QUICK);
        assert!(absent.starts_with("no coordinator answers on nats://h (") && !absent.contains("-js"), "{absent}");
        let off = failure(RequestErrorKind::NoResponders, "", "nats://h", QUICK, false).to_string();
        assert!(
            off.starts_with("no coordinator answers on nats://h (") && off.contains("nats-server with -js"),
            "{off}"
        );
        let silent = text(RequestErrorKind::TimedOut, QUICK);
        assert_eq!(silent, "no coordinator answers on nats://h (no answer within 5 s)");
        for (millis, said) in [(4_960, "5"), (2_340, "2"), (500, "0.5")] {
            let late = text(RequestErrorKind::TimedOut, Duration::from_millis(millis));
            assert_eq!(late, format!("no coordinator answers on nats://h (no answer within {said} s)"));
        }
        let slow = text(RequestErrorKind::TimedOut, Duration::from_secs(60));
        assert!(
            slow.contains("did not answer within 60 s")
                && slow.contains("it is unknown whether the request was carried out"),
            "{slow}"
        );
        assert_eq!(text(RequestErrorKind::Other, QUICK), "the request to nats://h failed: broken pipe");
    }

    #[tokio::test]
    async fn a_refusal_of_this_request_or_of_the_inbox_ends_it() {
        let (sender, receiver) = broadcast::channel(4);
        for text in ["Permissions Violation for Publish to \"other\"", "Maximum Payload Violation", "mine"] {
            assert!(!concerns(text, "mine"), "{text}");
            sender.send(text.to_owned()).expect("heard");
        }
        sender.send("Permissions Violation for Publish to \"mine\"".into()).expect("heard");
        assert_eq!(refused(receiver, "mine").await, "Permissions Violation for Publish to \"mine\"");
        assert!(concerns("Permissions Violation for Subscription to \"_INBOX.a.*\"", "mine"));
    }

    #[test]
    fn numbers_in_headers_are_codes() {
        for error in [ErrorCode::NotFound, ErrorCode::Conflict, ErrorCode::ReadOnly, ErrorCode::Unavailable] {
            assert_eq!(code(Some(error.number())), error);
        }
        assert_eq!((code(None), code(Some(7))), (ErrorCode::Internal, ErrorCode::Internal));
    }
}
