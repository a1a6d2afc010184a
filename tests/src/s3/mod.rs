//! An S3 endpoint that checks signatures, keeps what it is given in a folder, answers as AWS does, and does
//! wrong what a test asks for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::S3ServiceBuilder;

mod client;
mod fault;
mod hashing;
mod join;
mod names;
mod op;
mod options;
mod record;
mod serve;
mod server;
mod storage;
mod uploads;
mod wire;

pub use fault::{Fault, Gate, Injected, Matching};
pub use op::Op;
pub use options::S3Options;
pub use record::PartRecord;
pub use uploads::OpenUpload;

use crate::folder::Folder;
use fault::Faults;
use record::Recorder;
use serve::App;
use server::Server;
use storage::{Quirks, Storage};

/// The variable that points the stand at another endpoint.
pub const ENDPOINT_VARIABLE: &str = "BACKSTAY_TEST_S3_ENDPOINT";

/// An endpoint: the stand's own server in this process, or another one that the environment names.
pub struct S3 {
    endpoint: String,
    options: S3Options,
    own: Option<OwnServer>,
}

/// What only the stand's own server has.
struct OwnServer {
    server: Server,
    app: App,
    quirks: Arc<Quirks>,
    folder: Folder,
}

impl S3 {
    /// The endpoint that `BACKSTAY_TEST_S3_ENDPOINT` names; else a server of its own, on its own port, with an
    /// empty bucket.
    pub fn start() -> Result<Self> {
        let Ok(endpoint) = std::env::var(ENDPOINT_VARIABLE) else { return Self::start_own(S3Options::default()) };
        let standard = S3Options::default();
        let variable = |name: &str, or: String| std::env::var(format!("BACKSTAY_TEST_S3_{name}")).unwrap_or(or);
        let options = S3Options {
            bucket: variable("BUCKET", standard.bucket),
            region: variable("REGION", standard.region),
            access_key_id: variable("ACCESS_KEY_ID", standard.access_key_id),
            secret_access_key: variable("SECRET_ACCESS_KEY", standard.secret_access_key),
        };
        Ok(Self { endpoint, options, own: None })
    }

    /// The endpoint at this URL, with the page's bucket and keys; somebody else serves it.
    pub fn at(endpoint: &str) -> Self {
        Self { endpoint: endpoint.to_owned(), options: S3Options::default(), own: None }
    }

    /// A server of its own, whatever the environment says.
    pub fn start_own(options: S3Options) -> Result<Self> {
        let folder = Folder::new("s3")?;
        let (app, quirks) = app(folder.path(), &options, Recorder::default())?;
        let server = Server::start(app.clone())?;
        let endpoint = format!("http://{}", server.address());
        Ok(Self { endpoint, options, own: Some(OwnServer { server, app, quirks, folder }) })
    }

    /// Whether faults can be injected; where not, prints why the test of that name is skipped.
    pub fn can_fail(&self, test: &str) -> bool {
        if self.own.is_none() {
            println!("skipped: {test}: {ENDPOINT_VARIABLE} is set, and {} takes no orders to fail", self.endpoint);
        }
        self.own.is_some()
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub fn bucket(&self) -> &str {
        &self.options.bucket
    }

    pub fn region(&self) -> &str {
        &self.options.region
    }

    pub fn access_key_id(&self) -> &str {
        &self.options.access_key_id
    }

    pub fn secret_access_key(&self) -> &str {
        &self.options.secret_access_key
    }

    /// The usual AWS environment of whoever works with it.
    pub fn variables(&self) -> [(&'static str, &str); 4] {
        [
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_REGION", self.region()),
            ("AWS_ACCESS_KEY_ID", self.access_key_id()),
            ("AWS_SECRET_ACCESS_KEY", self.secret_access_key()),
        ]
    }

    /// The same, as it stands before a command on a line.
    pub fn environment(&self) -> String {
        self.variables().map(|(name, value)| format!("{name}={value}")).join(" ")
    }

    /// A plain client without retries.
    pub fn client(&self) -> aws_sdk_s3::Client {
        client::client(&self.endpoint, &self.options)
    }

    /// A plain client that signs with other keys.
    pub fn client_with(&self, access_key_id: &str, secret_access_key: &str) -> aws_sdk_s3::Client {
        let (access_key_id, secret_access_key) = (access_key_id.to_owned(), secret_access_key.to_owned());
        client::client(&self.endpoint, &S3Options { access_key_id, secret_access_key, ..self.options.clone() })
    }

    /// All objects with their sizes, by key. The stand's own server need not run for this: its disk is read.
    pub async fn objects(&self) -> Result<BTreeMap<String, u64>> {
        match &self.own {
            Some(own) => storage::objects_on_disk(own.folder.path(), self.bucket()),
            None => client::objects(&self.client(), self.bucket()).await,
        }
    }

    /// All uploads that were begun and neither completed nor aborted, by key; from the disk as well.
    pub async fn unfinished(&self) -> Result<Vec<OpenUpload>> {
        match &self.own {
            Some(own) => storage::unfinished_on_disk(own.folder.path(), self.bucket()),
            None => client::unfinished(&self.client(), self.bucket()).await,
        }
    }

    /// Files of parts whose upload is open no more: nobody would ever remove them.
    pub fn stray_parts(&self) -> Result<Vec<PathBuf>> {
        storage::stray_parts(self.own().folder.path(), self.bucket())
    }

    /// Stops the server: connections break, requests are lost.
    pub fn stop(&mut self) {
        self.own_mut().server.stop(Duration::ZERO);
    }

    /// Stops it where it runs, and starts it again on the same port with the same objects, uploads, faults and
    /// counts.
    pub fn restart(&mut self) -> Result<()> {
        let own = self.own_mut();
        own.server.stop(Duration::ZERO);
        own.server.run(own.app.clone())
    }

    /// Makes requests fail; see [`Op::nth`] and its like for which.
    pub fn inject(&self, matching: Matching, fault: Fault) -> Injected {
        self.own().app.faults.inject(matching, fault)
    }

    /// Holds matching requests until the gate is opened.
    pub fn hold(&self, matching: Matching) -> Gate {
        let gate = Gate::default();
        self.inject(matching, Fault::Hold(gate.clone()));
        gate
    }

    /// Ends all faults. What is held or hangs stays so.
    pub fn clear_faults(&self) {
        self.own().app.faults.clear();
    }

    /// Whether `If-None-Match` is ignored, as by garage.
    pub fn ignore_if_none_match(&self, ignore: bool) {
        self.own().quirks.ignores_if_none_match.store(ignore, Ordering::SeqCst);
    }

    /// Whether completing a completed upload again is NoSuchUpload; else it is 412 where create-only was asked
    /// for and success where not.
    pub fn forget_completed_uploads(&self, forget: bool) {
        self.own().quirks.forgets_completed.store(forget, Ordering::SeqCst);
    }

    /// Gives listings in pages of at most so many entries.
    pub fn set_page(&self, entries: u16) {
        self.own().quirks.page.store(i32::from(entries).clamp(1, storage::PAGE), Ordering::SeqCst);
    }

    /// How many requests of an operation have arrived, refused ones too.
    pub fn count(&self, op: Op) -> u64 {
        self.own().app.recorder.count(op)
    }

    /// How many requests of an operation were being answered at the same time, at most.
    pub fn most_in_flight(&self, op: Op) -> u64 {
        self.own().app.recorder.most_in_flight(op)
    }

    /// Waits until so many requests of an operation have arrived.
    pub async fn reached(&self, op: Op, count: u64, deadline: Duration) -> Result<()> {
        self.own().app.recorder.reached(op, count, deadline).await
    }

    /// Every UploadPart whose body was read, in the order of their ends, refused ones too.
    pub fn parts(&self) -> Vec<PartRecord> {
        self.own().app.recorder.parts()
    }

    /// Fails unless all whole bodies that came for one part of one upload were the same. The answer is how many
    /// parts came more than once.
    pub fn retries_are_identical(&self) -> Result<usize> {
        let mut parts: BTreeMap<(String, i32), Vec<PartRecord>> = BTreeMap::new();
        for record in self.parts() {
            parts.entry((record.upload_id.clone(), record.number)).or_default().push(record);
        }
        for ((upload, number), tries) in &parts {
            let mut whole = tries.iter().filter(|t| t.whole);
            if let Some(first) = whole.next()
                && let Some(other) = whole.find(|t| t.sha256 != first.sha256)
            {
                bail!("part {number} of upload {upload} came with two bodies: {first:?} and {other:?}");
            }
        }
        Ok(parts.values().filter(|tries| tries.len() > 1).count())
    }

    /// The file that holds an object: change it to make the store corrupt.
    pub fn path_of(&self, key: &str) -> PathBuf {
        self.own().folder.path().join("data").join(&self.options.bucket).join(key)
    }

    /// The folder of the server's data.
    pub fn folder(&self) -> &Path {
        self.own().folder.path()
    }

    fn own(&self) -> &OwnServer {
        self.own.as_ref().expect("the test asked can_fail first: only the stand's own server does this")
    }

    fn own_mut(&mut self) -> &mut OwnServer {
        self.own.as_mut().expect("the test asked can_fail first: only the stand's own server does this")
    }
}

/// The one key that opens the endpoint.
struct OneKey {
    id: String,
    secret: SecretKey,
}

#[async_trait::async_trait]
impl S3Auth for OneKey {
    async fn get_secret_key(&self, id: &str) -> s3s::S3Result<SecretKey> {
        let unknown = "The AWS Access Key Id you provided does not exist in our records.";
        if id == self.id { Ok(self.secret.clone()) } else { Err(s3s::s3_error!(InvalidAccessKeyId, "{unknown}")) }
    }
}

fn app(folder: &Path, options: &S3Options, recorder: Recorder) -> Result<(App, Arc<Quirks>)> {
    let (quirks, recorder) = (Arc::new(Quirks::default()), Arc::new(recorder));
    let storage = Storage::open(folder, quirks.clone(), recorder.clone())?;
    let bucket = folder.join("data").join(&options.bucket);
    std::fs::create_dir_all(&bucket).with_context(|| format!("failed to make {}", bucket.display()))?;
    let mut service = S3ServiceBuilder::new(storage);
    let secret = SecretKey::from(options.secret_access_key.clone());
    service.set_auth(OneKey { id: options.access_key_id.clone(), secret });
    Ok((App { s3: service.build(), faults: Arc::new(Faults::default()), recorder }, quirks))
}

/// Serves a folder at an address that is given, until `stop`; then lets requests end for up to five seconds.
/// This is the stand's server as a process of its own.
pub async fn serve_folder(
    listener: std::net::TcpListener,
    folder: &Path,
    options: &S3Options,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    const GRACE: Duration = Duration::from_secs(5);
    let (app, _) = app(folder, options, Recorder::counting_only())?;
    let (sender, receiver) = tokio::sync::watch::channel(None);
    let stopping = async {
        stop.await;
        sender.send_replace(Some(GRACE));
        std::future::pending().await
    };
    tokio::select! {
        served = serve::serve(listener, app, receiver) => served,
        never = stopping => never,
    }
}
