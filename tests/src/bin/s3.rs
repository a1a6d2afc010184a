//! `backstay-test-s3`: the stand's S3 server as a process of its own, for the demo and for benchmarks.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context, Result};
use backstay_tests::S3Options;
use backstay_tests::s3::serve_folder;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// Serves a folder as one S3 bucket. For tests and demonstrations: nothing here is made for production.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// The folder that holds everything; made where it is missing.
    #[arg(long)]
    dir: PathBuf,
    /// The bucket; made where it is missing.
    #[arg(long, default_value = "mybucket")]
    bucket: String,
    #[arg(long, default_value = "access")]
    access_key_id: String,
    #[arg(long, default_value = "secret123", env = "BACKSTAY_TEST_S3_SECRET_ACCESS_KEY", hide_env_values = true)]
    secret_access_key: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(arguments.listen);
    let listener = listener.with_context(|| format!("failed to listen on {}", arguments.listen))?;
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let options = S3Options {
        bucket: arguments.bucket,
        access_key_id: arguments.access_key_id,
        secret_access_key: arguments.secret_access_key,
        ..S3Options::default()
    };
    println!("serving bucket {} at http://{}", options.bucket, listener.local_addr()?);
    serve_folder(listener, &arguments.dir, &options, stop).await
}
