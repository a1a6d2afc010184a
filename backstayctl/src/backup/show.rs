//! Shows how far a backup is, and how it ended.

use std::io;

use backstay_daemon::units;
use backstay_protocol::backstay_types::BackupRunSpec;
use backstay_protocol::machines;

use super::follow::Seen;
use crate::api::CallError;
use crate::console::Console;
use crate::progress::Progress;

#[derive(Debug)]
pub struct Show {
    cluster: String,
    progress: Progress,
}

impl Show {
    pub fn new(cluster: &str, bar: bool) -> Self {
        Self { cluster: cluster.to_owned(), progress: Progress::new(bar) }
    }

    /// It waits to start, or is running.
    ///
    /// # Errors
    /// None, as of [`Console::print`].
    pub fn under_way(&mut self, seen: &Seen, console: &mut Console<'_>) -> io::Result<()> {
        let cluster = &self.cluster;
        match seen {
            Seen::Running(run) if run.bytestotal > 0 => {
                let name = format!("backup of {cluster}");
                let line = format!("{name} is running on machine {}", machine(run));
                self.progress.amount(&name, &line, run.bytesread, run.bytestotal, console)
            }
            Seen::Running(run) => {
                self.progress.message(format!("backup of {cluster} is starting on machine {}", machine(run)), console)
            }
            _ => self.progress.message(format!("backup of {cluster} is waiting to start"), console),
        }
    }

    /// The coordinator does not answer for the moment.
    ///
    /// # Errors
    /// None, as of [`Console::print`].
    pub fn away(&mut self, error: &CallError, console: &mut Console<'_>) -> io::Result<()> {
        self.progress.message(format!("waiting: {error}"), console)
    }

    /// It is in the store.
    ///
    /// # Errors
    /// None, as of [`Console::print`].
    pub fn done(&mut self, run: Option<&BackupRunSpec>, console: &mut Console<'_>) -> io::Result<()> {
        self.progress.clear();
        let details = run.map(details).unwrap_or_default();
        console.print(&format!("backup of {} is complete{details}\n", self.cluster))
    }
}

/// The name of the machine on which it runs.
fn machine(run: &BackupRunSpec) -> String {
    machines::called(&run.member, &run.host, &run.machine)
}

fn details(run: &BackupRunSpec) -> String {
    let mut parts = vec![run.snapshot.clone()];
    if run.bytesread > 0 {
        let (read, stored) = (units::bytes(run.bytesread), units::bytes(run.bytesstored));
        parts.push(format!("{read}, {stored} stored, revision {}", run.revision));
    }
    if let (Some(started), Some(ended)) = (run.started, run.ended) {
        parts.push(format!("took {}", units::took(ended.since(started))));
    }
    format!(": {}", parts.join(", "))
}
