//! Where output goes, and how a command ends: the one place where failures become text.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};

use backstay_daemon::settings::SettingsError;
use backstay_protocol::NameError;
use backstay_protocol::selector::SelectorError;
use backstay_protocol::types::ResolveError;

use super::api::CallError;
use super::documents::DocumentError;
use super::output::jsonpath::FieldMissing;
use super::restore::RestoreFailure;
use super::template::TemplateError;

/// A line that is longer is no answer.
const ANSWER_MAX: u64 = 1024;

/// Both outputs of a command.
pub struct Console<'a> {
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
    /// Whether what is printed is coloured.
    pub colour: bool,
    /// Whether progress is a bar: stderr is a terminal.
    pub bar: bool,
    /// Somebody can be asked: standard input is a terminal.
    pub asks: bool,
}

impl fmt::Debug for Console<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("colour", &self.colour).finish_non_exhaustive()
    }
}

impl Console<'_> {
    /// Prints at once: a step is seen before it is taken.
    pub fn print(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Whether this very text is typed on standard input: a stray `y` replaces or deletes nothing.
    pub fn typed(&mut self, prompt: &str, text: &str, stdin: &mut dyn Read) -> io::Result<bool> {
        self.print(prompt)?;
        let mut line = String::new();
        BufReader::new(stdin.take(ANSWER_MAX)).read_line(&mut line)?;
        Ok(line.trim() == text)
    }

    /// What a person should know, apart from what was asked for.
    pub fn remark(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.err, "{text}")
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Type(#[from] ResolveError),
    #[error(transparent)]
    Selector(#[from] SelectorError),
    #[error("cannot specify both resource ID and selector")]
    IdAndSelector,
    #[error(transparent)]
    Field(#[from] FieldMissing),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("failed to delete {address}: {cause}")]
    Delete { address: String, cause: CallError },
    #[error("failed to delete {address}: {reason}")]
    NotDeleted { address: String, reason: String },
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Name(NameError),
    #[error("cluster {0:?} does not exist")]
    NoCluster(String),
    #[error("failed to back up {cluster:?}: {reason}")]
    Backup { cluster: String, reason: String },
    #[error(
        "the backup of {cluster:?} has not ended after {waited}; it goes on: look with `backstayctl runs {cluster}`"
    )]
    NotEnded { cluster: String, waited: String },
    #[error("failed to prove a backup of {cluster:?}: {reason}")]
    Verify { cluster: String, reason: String },
    #[error("failed to restore {cluster:?}: {reason}")]
    RestoreCluster { cluster: String, reason: String },
    #[error(transparent)]
    Restore(#[from] RestoreFailure),
    #[error("cannot write the manual pages into {folder}: {cause}")]
    Manual { folder: String, cause: io::Error },
    /// Everything that there is to say was printed.
    #[error("not everything is as it should be")]
    No,
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// What the process ends with; `--help` documents it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::No => 3,
            _ => 1,
        }
    }

    /// The reader went away, as `head` does: nothing is wrong.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
