//! An S3 server in this process, on a free port and in a temporary folder; it ends when it is dropped.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstay_archive::store::s3::{Checksum, Patience, S3Credentials, S3Settings, S3Store};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use s3s::auth::{S3Auth, SecretKey};
use s3s::host::SingleDomain;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::faults::{Fate, Op, SharedFaults, Words};
use super::provider::{Habits, Provider};

pub const BUCKET: &str = "backups";
pub const ACCESS_KEY: &str = "AKIATEST";
pub const SECRET_KEY: &str = "not-to-be-printed";
/// A second key pair, for credentials that change.
pub const LATER_ACCESS_KEY: &str = "AKIALATER";
pub const LATER_SECRET_KEY: &str = "neither-to-be-printed";

/// The host of a provider that wants the bucket in the host's name; no real host has this name.
pub const DOMAIN: &str = "storage.invalid:9000";

/// The answer of such a provider if the bucket is in the path.
const NO_PATHS: Words = Words {
    status: 403,
    headers: &[("content-type", "application/xml")],
    body: "<Error><Code>SecondLevelDomainForbidden</Code><Message>Please use virtual hosted style</Message></Error>",
};

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// What a request's signature states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub access_key: String,
    pub region: String,
    pub session_token: Option<String>,
}

pub type SignedRequests = Arc<Mutex<Vec<Signed>>>;

pub struct Server {
    pub faults: SharedFaults,
    /// Who signed each request, in order.
    pub seen: SignedRequests,
    pub endpoint: String,
    folder: tempfile::TempDir,
    /// Ends every connection when the server is dropped.
    _tasks: JoinSet<()>,
}

impl Server {
    pub async fn start(habits: Habits) -> Self {
        Self::listen(habits, None).await
    }

    /// The same behind TLS, with a certificate for 127.0.0.1.
    pub async fn start_with_tls(habits: Habits, tls: TlsAcceptor) -> Self {
        Self::listen(habits, Some(tls)).await
    }

    async fn listen(habits: Habits, tls: Option<TlsAcceptor>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join(BUCKET)).expect("the bucket is a folder");
        let files = FileSystem::new(folder.path()).expect("the folder is there");
        let mut service = S3ServiceBuilder::new(Provider::new(files, habits));
        let seen = SignedRequests::default();
        service.set_auth(Keys);
        if habits.wants_virtual {
            service.set_host(SingleDomain::new(DOMAIN).expect("a domain"));
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let faults = SharedFaults::default();
        let mut tasks = JoinSet::new();
        let service = Service { s3: service.build(), habits, faults: faults.clone(), seen: seen.clone() };
        tasks.spawn(serve(listener, tls, service));
        Self { faults, seen, endpoint: format!("{scheme}://{address}"), folder, _tasks: tasks }
    }

    /// The same, created this long ago.
    pub fn seed_aged(&self, name: &str, age: Duration) {
        self.seed(name);
        let file = File::options().write(true).open(self.folder.path().join(BUCKET).join(name)).expect("there");
        let made = file.metadata().and_then(|file| file.modified()).expect("known");
        file.set_modified(made - age).expect("settable");
    }

    /// Puts an object there without the server.
    pub fn seed(&self, name: &str) {
        let path = self.folder.path().join(BUCKET).join(name);
        std::fs::create_dir_all(path.parent().expect("below the bucket")).expect("created");
        std::fs::write(path, "x").expect("written");
    }

    pub fn settings(&self) -> S3Settings {
        S3Settings {
            bucket: BUCKET.into(),
            endpoint: self.endpoint.clone(),
            credentials: Some(S3Credentials {
                access_key_id: ACCESS_KEY.into(),
                secret_access_key: SECRET_KEY.into(),
                session_token: None,
            }),
            ..S3Settings::default()
        }
    }

    pub async fn store(&self) -> S3Store {
        self.store_with(self.settings(), |_| {}).await
    }

    /// A store that does not pause for long, because faults here end by themselves.
    pub async fn store_with(&self, settings: S3Settings, change: impl FnOnce(&mut Patience)) -> S3Store {
        let mut patience = Patience { first_pause: std::time::Duration::from_millis(5), ..Patience::default() };
        change(&mut patience);
        S3Store::with_patience(settings, patience).await.expect("good settings")
    }
}

/// AWS's answer to an unknown key.
struct Keys;

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match access_key {
            ACCESS_KEY => Ok(SecretKey::from(SECRET_KEY)),
            LATER_ACCESS_KEY => Ok(SecretKey::from(LATER_SECRET_KEY)),
            _ => {
                Err(s3_error!(InvalidAccessKeyId, "The AWS Access Key Id you provided does not exist in our records."))
            }
        }
    }
}

/// Answers requests.
#[derive(Clone)]
struct Service {
    s3: S3Service,
    habits: Habits,
    faults: SharedFaults,
    seen: SignedRequests,
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, service: Service) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("the listener stays open");
        let (service, tls) = (service.clone(), tls.clone());
        connections.spawn(async move {
            match tls {
                None => connection(stream, service).await,
                // A handshake that fails is reported by the client.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        connection(stream, service).await;
                    }
                }
            }
        });
    }
}

async fn connection<T>(stream: T, service: Service)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let answer = service_fn(move |request| answer(service.clone(), request));
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
    // It ends with an error if a fault ends it.
    connection.await.unwrap_or_default();
}

fn op(request: &Request<Incoming>) -> Op {
    let query = request.uri().query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let method = request.method();
    match () {
        () if method == Method::HEAD => Op::Head,
        () if method == Method::POST && has("uploads") => Op::Begin,
        () if method == Method::POST => Op::Complete,
        () if method == Method::PUT && has("partNumber") => Op::Part,
        () if method == Method::PUT => Op::Put,
        () if method == Method::DELETE && has("uploadId") => Op::Abort,
        () if method == Method::DELETE => Op::Delete,
        () if has("uploads") => Op::ListUploads,
        () if has("uploadId") => Op::ListParts,
        () if has("list-type") => Op::List,
        () => Op::Get,
    }
}

/// Who signed: `AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/s3/aws4_request, …`.
fn signed(request: &Request<Incoming>) -> Option<Signed> {
    let header = |name: &str| request.headers().get(name)?.to_str().ok().map(str::to_owned);
    let authorization = header("authorization")?;
    let mut scope = authorization.split_once("Credential=")?.1.split('/');
    let (access_key, region) = (scope.next()?.to_owned(), scope.nth(1)?.to_owned());
    Some(Signed { access_key, region, session_token: header("x-amz-security-token") })
}

/// A header of the checksums that later SDKs introduced: many providers refuse it.
fn newer_checksum(request: &Request<Incoming>) -> bool {
    request.headers().iter().any(|(name, value)| {
        let name = name.as_str();
        name.starts_with("x-amz-checksum-")
            || ["x-amz-sdk-checksum-algorithm", "x-amz-trailer"].contains(&name)
            || name == "content-encoding" && value.as_bytes().starts_with(b"aws-chunked")
    })
}

async fn answer(service: Service, request: Request<Incoming>) -> io::Result<Answer> {
    let Service { s3, habits, faults, seen } = service;
    seen.lock().expect("unpoisoned").extend(signed(&request));
    if newer_checksum(&request) && habits.demands != Some(Checksum::Crc32c) {
        return Ok(refusal(400));
    }
    let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    if habits.wants_virtual && !host.starts_with(&format!("{BUCKET}.")) {
        return Ok(words(&NO_PATHS));
    }
    let op = op(&request);
    let fate = faults.meet(op);
    let (head, mut body) = request.into_parts();
    if fate == Fate::CutRequest {
        let _first = body.frame().await;
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    if let Some(said) = head.headers.get("content-md5") {
        use base64::Engine;
        let found = base64::engine::general_purpose::STANDARD.encode(<md5::Md5 as md5::Digest>::digest(&body));
        assert_eq!(said.to_str().expect("text"), found, "Content-MD5 is that of the body");
    }
    if op == Op::Part {
        faults.remember(head.uri.query().unwrap_or_default(), &body);
    }
    match fate {
        Fate::Refuse(status) => return Ok(refusal(status)),
        Fate::Say(said) => return Ok(words(said)),
        Fate::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
        Fate::Hang => std::future::pending().await,
        _ => {}
    }
    let done = s3.call(Request::from_parts(head, s3s::Body::from(body))).await.map_err(io::Error::other)?;
    let (head, body) = done.into_parts();
    // Collected, so that a completion has run to its end before its answer is lost.
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    match fate {
        Fate::LoseAnswer => Err(io::ErrorKind::ConnectionReset.into()),
        Fate::CutAnswer(bytes) => Ok(Response::from_parts(head, cut(body, bytes))),
        _ => Ok(Response::from_parts(head, whole(body))),
    }
}

fn whole(body: Bytes) -> UnsyncBoxBody<Bytes, io::Error> {
    Full::new(body).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn cut(body: Bytes, bytes: usize) -> UnsyncBoxBody<Bytes, io::Error> {
    use futures::StreamExt;
    let first = body.slice(..bytes.min(body.len()));
    let frames = futures::stream::once(async { Ok(Frame::data(first)) }).chain(futures::stream::once(async {
        // Lets the first bytes leave before the connection ends.
        tokio::task::yield_now().await;
        Err(io::ErrorKind::ConnectionReset.into())
    }));
    StreamBody::new(frames).boxed_unsync()
}

fn words(said: &Words) -> Answer {
    let mut answer = Response::builder().status(said.status);
    for (name, value) in said.headers {
        answer = answer.header(*name, *value);
    }
    answer.body(whole(said.body.into())).expect("a good answer")
}

fn refusal(status: u16) -> Answer {
    let code = match status {
        403 => "AccessDenied",
        500 => "InternalError",
        503 => "SlowDown",
        _ => "Refused",
    };
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as the test wants</Message></Error>");
    let answer = Response::builder().status(status).header("content-type", "application/xml");
    answer.body(whole(body.into())).expect("a good answer")
}
