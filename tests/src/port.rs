//! Ports of 127.0.0.1 that belong to one part of one stand for as long as it lives.
//!
//! A port that the kernel hands out for "any" lies where outgoing connections take theirs, so it can be gone
//! when a stopped server wants it back. So ports come from below that range, and an abstract Unix socket per
//! port, which vanishes with its process, keeps other stands away from it. Somebody else may take it all the same before
//! a foreign server does: [`on_free_ports`] starts that again, with others.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

use anyhow::{Result, bail};
use rand::Rng;

/// Below the kernel's range for outgoing connections (32768 and up).
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// How often a start is tried.
const STARTS: usize = 5;

/// A port that is ours until this is dropped, whether or not somebody listens on it.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: UnixListener,
}

impl Port {
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

/// Claims a port that no stand uses and nobody listens on, for a server that listens on it itself.
pub fn free_port() -> Result<Port> {
    listen().map(|(port, _)| port)
}

/// Claims such a port and listens on it: nobody can be quicker.
pub fn listen() -> Result<(Port, TcpListener)> {
    let start = rand::rng().random_range(RANGE);
    let candidates = (start..RANGE.end).chain(RANGE.start..start);
    for number in candidates {
        if let Some(claimed) = claim(number) {
            return Ok(claimed);
        }
    }
    bail!("every port of {RANGE:?} is taken");
}

/// Starts something that claims ports of its own. Where somebody took one of them meanwhile, it is started again and
/// claims others; every other error is the answer.
pub async fn on_free_ports<T, Fut>(mut start: impl FnMut() -> Fut) -> Result<T>
where
    Fut: Future<Output = Result<T>>,
{
    let mut tries = 1;
    loop {
        match start().await {
            Err(error) if tries < STARTS && met_a_taken_port(&error) => tries += 1,
            end => return end,
        }
    }
}

/// Whether an error, which shows the log of what was started, says so.
fn met_a_taken_port(error: &anyhow::Error) -> bool {
    format!("{error:#}").to_lowercase().contains("address already in use")
}

fn claim(number: u16) -> Option<(Port, TcpListener)> {
    let name = UnixAddr::from_abstract_name(format!("backstay-stand-port-{number}")).ok()?;
    let claim = UnixListener::bind_addr(&name).ok()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
    Some((Port { number, _claim: claim }, listener))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    use anyhow::{Context, anyhow};

    #[test]
    fn no_port_is_given_twice() {
        let ports: Vec<Port> = (0..200).map(|_| free_port().expect("a port is free")).collect();
        let numbers: HashSet<u16> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
    }

    #[test]
    fn a_port_is_claimed_until_dropped_and_can_be_listened_on() {
        let port = free_port().expect("a port is free");
        assert!(claim(port.number()).is_none());
        let listener = TcpListener::bind(port.address()).expect("a claimed port is open to its owner");
        let number = port.number();
        drop(port);
        assert!(claim(number).is_none(), "somebody listens on it");
        drop(listener);
        assert!(claim(number).is_some());
    }
    /// Starts something that finds its port taken so many times; how often it was started.
    async fn starts(taken: usize, otherwise: Result<()>) -> (Result<()>, usize) {
        let (mut tries, mut otherwise) = (0, Some(otherwise));
        let end = on_free_ports(|| {
            tries += 1;
            let port = free_port().expect("a port is free");
            // Whoever was quicker.
            let first = (tries <= taken).then(|| TcpListener::bind(port.address()).expect("it is free"));
            let end = match TcpListener::bind(port.address()).context("failed to listen") {
                Ok(_) => otherwise.take().expect("this is the last try"),
                Err(error) => Err(error),
            };
            drop(first);
            std::future::ready(end)
        });
        let end = end.await;
        (end, tries)
    }

    #[tokio::test]
    async fn a_port_that_was_taken_meanwhile_is_given_up_for_another() {
        let (end, tries) = starts(2, Ok(())).await;
        assert!(end.is_ok() && tries == 3, "{end:?} after {tries}");
        let (end, tries) = starts(STARTS, Ok(())).await;
        assert!(met_a_taken_port(&end.expect_err("they were all taken")) && tries == STARTS, "{tries}");
        let (end, tries) = starts(0, Err(anyhow!("no such flag"))).await;
        assert!(end.is_err() && tries == 1, "what fails for another reason is started once, not {tries} times");
    }
}
