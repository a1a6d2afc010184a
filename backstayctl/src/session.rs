//! Where the connection's settings come from: the command line, the environment and the contexts.

use backstay_daemon::nats::NatsSettings;

use super::api::Api;
use super::arguments::Connection;
use super::bus::{self, Bus};
use super::console::{Console, Failure};
use super::contexts;

/// The settings from each source.
#[derive(Debug, Default)]
pub struct Session {
    pub connection: Connection,
    /// The one that `--context` names.
    pub context: Option<String>,
    pub variables: Vec<(String, String)>,
}

impl Session {
    /// Connects. Variables that look like settings but are not are reported.
    ///
    /// # Errors
    /// The settings make no sense, or NATS cannot be reached.
    pub async fn api(self, console: &mut Console<'_>) -> Result<Api<Bus>, Failure> {
        bus::unknown(&self.variables).iter().try_for_each(|unknown| console.remark(&format!("Warning: {unknown}")))?;
        let settings = self.settings()?;
        Ok(Api::new(Bus::connect(&settings).await?))
    }

    /// The settings after all layers.
    ///
    /// # Errors
    /// They make no sense, or the context cannot be read.
    pub fn settings(self) -> Result<NatsSettings, Failure> {
        let context = contexts::commands::chosen(self.context.as_deref(), &self.variables)?;
        let url = self.connection.nats_of_environment.clone();
        Ok(bus::settings(self.variables, url, context.as_ref(), self.connection.settings())?)
    }
}
