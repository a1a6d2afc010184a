//! Ports of 127.0.0.1 that belong to one part of one stand for as long as it lives.
//!
//! A port that the kernel hands out for "any" lies where outgoing connections take theirs, so it can be gone
//! when a stopped server wants it back. So ports come from below that range, and an abstract Unix socket per
//! port, which vanishes with its process, keeps other stands away from it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

use anyhow::{Result, bail};
use rand::Rng;

/// Below the kernel's range for outgoing connections (32768 and up).
const RANGE: std::ops::Range<u16> = 20_000..32_000;

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

/// Claims a port that no stand uses and nobody listens on.
pub fn free_port() -> Result<Port> {
    let start = rand::rng().random_range(RANGE);
    let candidates = (start..RANGE.end).chain(RANGE.start..start);
    for number in candidates {
        if let Some(port) = claim(number) {
            return Ok(port);
        }
    }
    bail!("every port of {RANGE:?} is taken");
}

fn claim(number: u16) -> Option<Port> {
    let name = UnixAddr::from_abstract_name(format!("backstay-stand-port-{number}")).ok()?;
    let claim = UnixListener::bind_addr(&name).ok()?;
    TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
    Some(Port { number, _claim: claim })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

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
}
