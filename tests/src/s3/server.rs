//! The server's thread. It has a runtime of its own, so that a test that blocks, or stops its clock, does not
//! stop the server with it.

use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;

use super::serve::{App, serve};
use crate::port::{Port, listen};

pub(super) struct Server {
    port: Port,
    running: Option<Running>,
}

struct Running {
    stop: watch::Sender<Option<Duration>>,
    thread: JoinHandle<Result<()>>,
}

impl Server {
    pub fn start(app: App) -> Result<Self> {
        let (port, listener) = listen()?;
        let mut server = Self { port, running: None };
        server.serve(app, listener)?;
        Ok(server)
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Listens from when this returns.
    pub fn run(&mut self, app: App) -> Result<()> {
        let address = self.address();
        let listener = TcpListener::bind(address).with_context(|| format!("failed to listen on {address}"))?;
        self.serve(app, listener)
    }

    fn serve(&mut self, app: App, listener: TcpListener) -> Result<()> {
        let address = self.address();
        let (stop, stopped) = watch::channel(None);
        let thread = std::thread::Builder::new().name(format!("s3 {address}"));
        let thread = thread.spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(2).thread_name("s3").enable_all().build();
            runtime.context("failed to build the server's runtime")?.block_on(serve(listener, app, stopped))
        });
        self.running = Some(Running { stop, thread: thread.context("failed to start the server's thread")? });
        Ok(())
    }

    /// Stops it where it runs. After this nobody listens.
    pub fn stop(&mut self, grace: Duration) {
        let Some(running) = self.running.take() else { return };
        running.stop.send_replace(Some(grace));
        match running.thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("the S3 server had failed: {error:#}"),
            Err(_) => eprintln!("the S3 server had panicked"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}
