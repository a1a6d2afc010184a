//! The proxy: open, frozen, shut, cut.

use std::time::Duration;

use anyhow::Result;
use backstay_tests::{Proxy, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A server that says everything back.
async fn echo(tasks: &mut JoinSet<()>) -> Result<std::net::SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    Ok(address)
}

async fn says_back(stream: &mut TcpStream, text: &[u8]) -> Result<()> {
    stream.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer, text);
    Ok(())
}

#[tokio::test]
async fn an_open_wire_carries_and_a_shut_one_ends_connections() -> Result<()> {
    let mut tasks = JoinSet::new();
    let proxy = Proxy::start(echo(&mut tasks).await?).await?;
    let mut stream = TcpStream::connect(proxy.address()).await?;
    says_back(&mut stream, b"hello").await?;
    assert_eq!(proxy.passed(), 5);
    proxy.set(Wire::Shut);
    assert!(matches!(stream.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    let mut refused = TcpStream::connect(proxy.address()).await?;
    assert!(matches!(refused.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    proxy.set(Wire::Open);
    says_back(&mut TcpStream::connect(proxy.address()).await?, b"again").await
}

#[tokio::test]
async fn a_frozen_wire_carries_later_what_was_sent() -> Result<()> {
    let mut tasks = JoinSet::new();
    let proxy = Proxy::start(echo(&mut tasks).await?).await?;
    let mut stream = TcpStream::connect(proxy.address()).await?;
    says_back(&mut stream, b"hello").await?;
    proxy.set(Wire::Frozen);
    stream.write_all(b"later").await?;
    let mut answer = [0; 5];
    let early = tokio::time::timeout(Duration::from_millis(200), stream.read_exact(&mut answer)).await;
    assert!(early.is_err() && proxy.passed() == 5);
    proxy.set(Wire::Open);
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"later");
    Ok(())
}

#[tokio::test]
async fn a_cut_comes_after_exactly_so_many_bytes() -> Result<()> {
    let mut tasks = JoinSet::new();
    let proxy = Proxy::start(echo(&mut tasks).await?).await?;
    let mut stream = TcpStream::connect(proxy.address()).await?;
    says_back(&mut stream, b"hello").await?;
    proxy.cut_after(3);
    stream.write_all(b"goodbye").await?;
    let mut answer = Vec::new();
    // Whether the end is clean or a reset is the kernel's choice.
    let _ = stream.read_to_end(&mut answer).await;
    assert_eq!(answer, b"goo");
    proxy.mend();
    says_back(&mut TcpStream::connect(proxy.address()).await?, b"again").await
}
