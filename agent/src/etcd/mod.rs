//! The machine's own etcd member: connecting to it, its status, and a linearizable read.
//!
//! - `endpoint`: settings and TLS; `connect`: the HTTP/2 connection; `connection`: the calls over it;
//! - [`source`]: the snapshot stream as the source of a backup;
//! - `stream`: its frames on the wire;
//! - [`poll`]: the member as beats show it;
//! - [`sample`]: keys read back, for a verification.
//!
//! What a backup is, and when one is made, is not decided here.

mod connect;
mod connection;
mod endpoint;
mod error;
pub mod poll;
pub mod sample;
pub mod source;
mod stream;

pub use connection::{CALL_TIMEOUT, Connection, HashKv, HashKvError, READ_TIMEOUT, Voter};
pub use endpoint::{EtcdSettings, Words};
pub use error::EtcdError;

/// Where the member is; the settings are checked, and the password is loaded.
#[derive(Clone)]
pub struct Etcd {
    settings: EtcdSettings,
    password: Option<String>,
}

impl Etcd {
    /// # Errors
    /// The settings contradict each other, or the password's file cannot be read.
    pub fn new(settings: EtcdSettings) -> Result<Self, EtcdError> {
        let password = settings.check()?;
        Ok(Self { settings, password })
    }

    /// Another member of the same cluster, with the same certificates and user.
    ///
    /// # Errors
    /// The settings do not fit its URLs.
    pub fn at(&self, client_urls: &[String]) -> Result<Self, EtcdError> {
        let settings = EtcdSettings { endpoints: client_urls.to_vec(), ..self.settings.clone() };
        Self::new(settings)
    }

    /// Connects to the first endpoint that answers.
    ///
    /// # Errors
    /// [`EtcdError::Unreachable`] if none does; [`EtcdError::File`] if a file for TLS or with the password cannot be used.
    pub async fn connect(&self) -> Result<Connection, EtcdError> {
        connect::connect(&self.settings, self.password.as_deref()).await
    }
}
