//! How far a backup is: a bar on a terminal, plain lines elsewhere. Both go to stderr.

use std::io;

use backstay_protocol::own::BackupRunSpec;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::follow::Seen;
use crate::cli::api::CallError;
use crate::cli::console::Console;
use crate::cli::units;

const BAR: &str = "{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
const MESSAGE: &str = "{spinner} {msg}";

/// What was said last.
#[derive(Debug)]
pub struct Show {
    cluster: String,
    bar: Option<ProgressBar>,
    said: String,
}

impl Show {
    pub fn new(cluster: &str, bar: bool) -> Self {
        let bar =
            bar.then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style(MESSAGE)));
        Self { cluster: cluster.to_owned(), bar, said: String::new() }
    }

    /// It is not begun, or runs.
    pub fn under_way(&mut self, seen: &Seen, console: &mut Console<'_>) -> io::Result<()> {
        let cluster = &self.cluster;
        match seen {
            Seen::Running(run) if run.bytestotal > 0 => self.amount(run, console),
            Seen::Running(run) => {
                self.message(format!("backup of {cluster} begins on machine {}", run.machine), console)
            }
            _ => self.message(format!("backup of {cluster} waits for its turn"), console),
        }
    }

    /// Nobody answers for now.
    pub fn away(&mut self, error: &CallError, console: &mut Console<'_>) -> io::Result<()> {
        self.message(format!("waiting: {error}"), console)
    }

    fn amount(&mut self, run: &BackupRunSpec, console: &mut Console<'_>) -> io::Result<()> {
        let Some(bar) = &self.bar else {
            let (read, total) = (units::bytes(run.bytesread), units::bytes(run.bytestotal));
            let line = format!("backup of {} runs on machine {}: {read} of {total}", self.cluster, run.machine);
            return self.message(line, console);
        };
        if bar.length() != Some(run.bytestotal) {
            bar.set_length(run.bytestotal);
            bar.set_style(style(BAR).progress_chars("=> "));
        }
        bar.set_message(format!("backup of {}", self.cluster));
        bar.set_position(run.bytesread);
        Ok(())
    }

    fn message(&mut self, text: String, console: &mut Console<'_>) -> io::Result<()> {
        if let Some(bar) = &self.bar {
            bar.unset_length();
            bar.set_style(style(MESSAGE));
            bar.set_message(text);
            bar.tick();
            return Ok(());
        }
        if text != self.said {
            console.remark(&text)?;
            self.said = text;
        }
        Ok(())
    }

    /// It is in the store.
    pub fn done(&mut self, run: Option<&BackupRunSpec>, console: &mut Console<'_>) -> io::Result<()> {
        self.clear();
        let details = run.map(details).unwrap_or_default();
        console.print(&format!("backup of {} is in the store{details}\n", self.cluster))
    }

    /// Takes the bar off the screen.
    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Show {
    /// However the wait ends, what is printed next begins on a line of its own.
    fn drop(&mut self) {
        self.clear();
    }
}

fn details(run: &BackupRunSpec) -> String {
    let mut parts = vec![run.snapshot.clone()];
    if run.bytesread > 0 {
        let (read, stored) = (units::bytes(run.bytesread), units::bytes(run.bytesstored));
        parts.push(format!("{read}, {stored} stored, revision {}", run.revision));
    }
    if let (Some(started), Some(ended)) = (run.started, run.ended) {
        parts.push(format!("took {}", units::took(units::since(started, ended))));
    }
    format!(": {}", parts.join(", "))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a fixed template is well-formed: a test draws with each")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_well_formed() {
        for template in [BAR, MESSAGE] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
