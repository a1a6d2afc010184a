//! A TCP wire between two parts that a test can cut, stop or slow down.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::port::{Port, listen};

const BUFFER: usize = 64 * 1024;

/// What the wire does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Open,
    /// Connections are taken and kept, and no byte passes.
    Frozen,
    /// So many bytes a second, in each direction of each connection.
    Slow(u64),
    /// Connections end at once, new ones too.
    Shut,
}

/// A listener that hands every connection on to one target.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    shared: Shared,
    _tasks: JoinSet<()>,
}

/// What answers have, and what they get in its place.
type Rewrite = (Vec<u8>, Vec<u8>);

#[derive(Debug, Clone)]
struct Shared {
    target: SocketAddr,
    wire: Arc<watch::Sender<Wire>>,
    passed: Arc<AtomicU64>,
    limit: Arc<AtomicU64>,
    rewrite: Arc<Mutex<Option<Rewrite>>>,
}

impl Proxy {
    /// Listens on a port of its own; `target` need not be there yet.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let (port, listener) = listen()?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let shared = Shared {
            target,
            wire: Arc::new(watch::Sender::new(Wire::Open)),
            passed: Arc::default(),
            limit: Arc::new(AtomicU64::new(u64::MAX)),
            rewrite: Arc::default(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, shared.clone()));
        Ok(Self { port, shared, _tasks: tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub fn set(&self, wire: Wire) {
        self.shared.wire.send_replace(wire);
    }

    /// Bytes that came from the target and were handed on, over all connections.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::SeqCst)
    }

    /// Hands on so many more bytes from the target, over all connections, and then ends them.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.limit.store(self.passed() + bytes, Ordering::SeqCst);
    }

    /// From now on answers have `to` wherever they had `from`, which is as long.
    pub fn rewrite(&self, from: &str, to: &str) {
        assert_eq!(from.len(), to.len(), "answers keep their length");
        let pair = (from.as_bytes().to_vec(), to.as_bytes().to_vec());
        *self.shared.rewrite.lock().unwrap_or_else(PoisonError::into_inner) = Some(pair);
    }

    /// Ends the effect of [`Proxy::cut_after`].
    pub fn mend(&self) {
        self.shared.limit.store(u64::MAX, Ordering::SeqCst);
    }
}

async fn accept(listener: TcpListener, shared: Shared) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(stream, shared.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, until either side, the limit or the test ends it.
async fn connection(mut near: TcpStream, shared: Shared) {
    let mut wire = shared.wire.subscribe();
    let carried = async {
        let Ok(mut far) = TcpStream::connect(shared.target).await else { return };
        let (mut near_in, mut near_out) = near.split();
        let (mut far_in, mut far_out) = far.split();
        // Either way one that is cut ends both.
        let _ = tokio::try_join!(
            carry(&mut near_in, &mut far_out, &shared, false),
            carry(&mut far_in, &mut near_out, &shared, true)
        );
    };
    tokio::select! {
        () = carried => {}
        _ = wire.wait_for(|wire| *wire == Wire::Shut) => {}
    }
}

/// The connection cannot or shall not go on.
struct Cut;

async fn carry(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    shared: &Shared,
    is_answer: bool,
) -> Result<(), Cut> {
    let mut wire = shared.wire.subscribe();
    let mut buffer = vec![0; BUFFER];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let state = match wire.wait_for(|wire| *wire != Wire::Frozen).await {
            Ok(state) => *state,
            Err(_) => return Err(Cut),
        };
        let allowed = if is_answer { shared.take(count) } else { count };
        if is_answer {
            shared.alter(&mut buffer[..allowed]);
        }
        if to.write_all(&buffer[..allowed]).await.is_err() || allowed < count {
            return Err(Cut);
        }
        if let Wire::Slow(rate) = state {
            tokio::time::sleep(Duration::from_secs_f64(count as f64 / rate.max(1) as f64)).await;
        }
    }
    to.shutdown().await.map_err(|_| Cut)
}

impl Shared {
    /// Answers that are split just there stay as they are: small ones never are.
    fn alter(&self, bytes: &mut [u8]) {
        let rewrite = self.rewrite.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((from, to)) = rewrite else { return };
        for at in 0..bytes.len().saturating_sub(from.len() - 1) {
            if bytes[at..].starts_with(&from) {
                bytes[at..at + to.len()].copy_from_slice(&to);
            }
        }
    }

    /// How many of `count` bytes may pass under the limit; counts them as passed.
    fn take(&self, count: usize) -> usize {
        let (count, limit) = (count as u64, self.limit.load(Ordering::SeqCst));
        let before = self.passed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |passed| {
            Some(passed + count.min(limit.saturating_sub(passed)))
        });
        let before = before.unwrap_or_else(|passed| passed);
        // At most `count`, which was a usize.
        count.min(limit.saturating_sub(before)) as usize
    }
}
