//! What a daemon serves over HTTP: where, and what it answers.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::daemon::Daemon;
use crate::wait::eventually;

/// From its start until it listens.
const SOON: Duration = Duration::from_secs(60);

/// Where a daemon said that it listens, at its last start.
pub async fn address(daemon: &Daemon) -> Result<String> {
    eventually(SOON, || async {
        let log = daemon.log();
        let line = log.lines().rev().find(|line| line.contains("serving /healthz")).context("it serves nothing yet")?;
        let (_, rest) =
            line.split_once("address=").or_else(|| line.split_once("\"address\":\"")).context("no address")?;
        Ok(rest.split([' ', '"']).next().unwrap_or_default().to_owned())
    })
    .await
}

/// The status and the body of `GET path`.
pub async fn get(address: &str, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("{address} does not listen"))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no head in {answer:?}"))?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    Ok((status.with_context(|| format!("no status in {head:?}"))?, body.to_owned()))
}
