//! gRPC by hand over HTTP/2: status, range and snapshot, answered by a script.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use backstay_agent::attempt::Member;
use backstay_agent::etcd::{Etcd, EtcdSettings};
use backstay_agent::proof::settings::InspectionSettings;
use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub const CLUSTER: u64 = 0xBABC_9795_B64F_03E3;
pub const MEMBER: u64 = 0x0628_170C_800D_BCEE;
pub const REVISION: i64 = 42;

#[derive(Clone, PartialEq, Message)]
pub struct Header {
    #[prost(uint64, tag = 1)]
    pub cluster_id: u64,
    #[prost(uint64, tag = 2)]
    pub member_id: u64,
    #[prost(int64, tag = 3)]
    pub revision: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Status {
    #[prost(message, optional, tag = 1)]
    pub header: Option<Header>,
    #[prost(string, tag = 2)]
    pub version: String,
    #[prost(uint64, tag = 4)]
    pub leader: u64,
    #[prost(string, repeated, tag = 8)]
    pub errors: Vec<String>,
    #[prost(bool, tag = 10)]
    pub learner: bool,
}

#[derive(Clone, PartialEq, Message)]
struct RangeAnswer {
    #[prost(message, optional, tag = 1)]
    header: Option<Header>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SnapshotFrame {
    #[prost(uint64, tag = 2)]
    pub remaining: u64,
    #[prost(bytes = "bytes", tag = 3)]
    pub blob: Bytes,
}

/// How a snapshot stream goes on after its frames.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    Clean,
    Error,
    /// The connection breaks.
    Reset,
    Silence,
    EmptyForever,
}

/// What the server says.
#[derive(Clone)]
pub struct Script {
    pub status: Status,
    pub quorum: bool,
    /// So many reads are cut short by an election.
    pub elections: usize,
    /// So many reads are answered a revision short, as a member does that has not caught up yet.
    pub behind: usize,
    pub frames: Vec<SnapshotFrame>,
    pub end: End,
}

impl Script {
    /// A healthy member with this database, sent in frames of `size` bytes.
    pub fn healthy(database: &[u8], size: usize) -> Self {
        let header = Header { cluster_id: CLUSTER, member_id: MEMBER, revision: REVISION };
        let status = Status { header: Some(header), version: "3.4.23".into(), leader: MEMBER, ..Status::default() };
        Self { status, quorum: true, elections: 0, behind: 0, frames: frames(database, size), end: End::Clean }
    }
}

/// A snapshot as etcd sends it: the database in pieces, then its sha256.
pub fn frames(database: &[u8], size: usize) -> Vec<SnapshotFrame> {
    let mut left = database.len();
    let mut frames: Vec<_> = database
        .chunks(size)
        .map(|piece| {
            left -= piece.len();
            SnapshotFrame { remaining: left as u64, blob: Bytes::copy_from_slice(piece) }
        })
        .collect();
    frames.push(SnapshotFrame { remaining: 0, blob: Bytes::copy_from_slice(&Sha256::digest(database)) });
    frames
}

struct Shared {
    script: Mutex<Script>,
    snapshots: AtomicUsize,
    reads: AtomicUsize,
}

/// The server; it ends when dropped.
pub struct FakeEtcd {
    url: String,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl FakeEtcd {
    pub async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let shared =
            Arc::new(Shared { script: Mutex::new(script), snapshots: AtomicUsize::new(0), reads: AtomicUsize::new(0) });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Self { url, shared, _tasks: tasks }
    }

    pub fn say(&self, script: Script) {
        *self.shared.script.lock().expect("not poisoned") = script;
    }

    /// How many snapshot streams were asked for.
    pub fn snapshots(&self) -> usize {
        self.shared.snapshots.load(Relaxed)
    }

    /// How many reads were asked for.
    pub fn reads(&self) -> usize {
        self.shared.reads.load(Relaxed)
    }

    pub fn settings(&self) -> EtcdSettings {
        EtcdSettings { endpoints: vec![self.url.clone()], ..EtcdSettings::default() }
    }

    pub fn etcd(&self) -> Etcd {
        Etcd::new(self.settings()).expect("the settings fit")
    }

    pub fn member(&self) -> Member {
        // What it sends is no database.
        Member { etcd: self.etcd(), inspection: InspectionSettings::off() }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.expect("accepts");
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(|request| {
                let answer = answer(&request, &shared);
                async { Ok::<_, Infallible>(answer) }
            });
            // A client that goes away in mid-stream is what many tests are about.
            let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

type Body = StreamBody<BoxStream<'static, Result<Frame<Bytes>, std::io::Error>>>;

fn answer(request: &Request<Incoming>, shared: &Shared) -> Response<Body> {
    let script = shared.script.lock().expect("not poisoned").clone();
    let items = match request.uri().path() {
        "/etcdserverpb.Maintenance/Status" => unary(&script.status),
        "/etcdserverpb.KV/Range" => range(&script, shared.reads.fetch_add(1, Relaxed)),
        "/etcdserverpb.Maintenance/Snapshot" => {
            shared.snapshots.fetch_add(1, Relaxed);
            snapshot(script)
        }
        other => stream::iter([trailers("12", other)]).boxed(),
    };
    Response::builder()
        .header("content-type", "application/grpc")
        .body(StreamBody::new(items))
        .expect("a sound response")
}

type Items = BoxStream<'static, Result<Frame<Bytes>, std::io::Error>>;

fn unary(message: &impl Message) -> Items {
    stream::iter([data(message), trailers("0", "")]).boxed()
}

fn range(script: &Script, nth: usize) -> Items {
    if nth < script.elections {
        return stream::iter([trailers("14", "etcdserver: leader changed")]).boxed();
    }
    if !script.quorum {
        return stream::iter([trailers("14", "etcdserver: request timed out")]).boxed();
    }
    let short = i64::from(nth < script.behind);
    let header = script.status.header.clone().map(|header| Header { revision: header.revision - short, ..header });
    unary(&RangeAnswer { header })
}

fn snapshot(script: Script) -> Items {
    let last = script.frames.last().map_or(512, |f| f.remaining);
    let frames = stream::iter(script.frames).map(|frame| data(&frame));
    let empty = move || data(&SnapshotFrame { remaining: last, blob: Bytes::new() });
    match script.end {
        End::Clean => frames.chain(stream::iter([trailers("0", "")])).boxed(),
        End::Error => frames.chain(stream::iter([trailers("2", "disk on fire")])).boxed(),
        End::Reset => frames.chain(stream::iter([Err(std::io::Error::other("reset"))])).boxed(),
        End::Silence => frames.chain(stream::pending()).boxed(),
        End::EmptyForever => frames.chain(stream::repeat_with(empty).enumerate().then(in_bursts)).boxed(),
    }
}

/// Faster than they can be read at times, but never so many that HTTP/2 itself calls it an attack.
async fn in_bursts<T>((n, item): (usize, T)) -> T {
    if n.is_multiple_of(64) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    item
}

fn data(message: &impl Message) -> Result<Frame<Bytes>, std::io::Error> {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len() as u32);
    message.encode(&mut bytes).expect("there is room");
    Ok(Frame::data(bytes.freeze()))
}

fn trailers(status: &'static str, text: &str) -> Result<Frame<Bytes>, std::io::Error> {
    let mut map = HeaderMap::new();
    map.insert("grpc-status", HeaderValue::from_static(status));
    map.insert("grpc-message", HeaderValue::from_str(text).expect("plain text"));
    Ok(Frame::trailers(map))
}
