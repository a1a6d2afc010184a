//! Where output goes, and how a command ends: the only place where failures become text.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};

use backstay_daemon::settings::SettingsError;
use backstay_daemon::terminal;
use backstay_protocol::selector::SelectorError;
use backstay_protocol::types::ResolveError;
use backstay_protocol::{NameError, validate};

use super::api::CallError;
use super::contexts::file::ContextError;
use super::documents::DocumentError;
use super::interrupt::Interrupts;
use super::output::jsonpath::FieldMissing;
use super::restore::error::RestoreFailure;
use super::template::TemplateError;

/// The longest answer to a question, in bytes.
const ANSWER_MAX: u64 = 1024;

/// Both outputs of a command. If one is closed or full, the work continues, and the failure is reported at the end.
pub struct Console<'a> {
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
    /// Whether output is coloured.
    pub colour: bool,
    /// Whether progress is a bar: stderr is a terminal.
    pub bar: bool,
    /// Whether output can be redrawn: stdout is a terminal.
    pub screen: bool,
    /// Whether a question can be asked: stdin is a terminal.
    pub asks: bool,
    /// Ctrl-C while the command follows work that continues without it.
    pub interrupts: Interrupts,
    /// Why nothing can be printed any more.
    pub lost: Option<io::Error>,
}

impl fmt::Debug for Console<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("colour", &self.colour).finish_non_exhaustive()
    }
}

/// The only escape sequences that are printed: the program's own colours.
const COLOURS: [&str; 6] = ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m", "\u{1b}[36m"];

/// Clears the screen and moves to its first line. The lines above the screen stay.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// Why something was not done that needs confirmation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unconfirmed {
    #[error("stdin is not a terminal; pass --yes to skip the confirmation")]
    NoTerminal,
    #[error("not confirmed; nothing was changed")]
    NotTyped,
}

impl<'a> Console<'a> {
    /// Two outputs that are not terminals, and a person at stdin.
    #[cfg(test)]
    pub fn of(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        let interrupts = Interrupts::Token(tokio_util::sync::CancellationToken::new());
        Self { out, err, colour: false, bar: false, screen: false, asks: true, interrupts, lost: None }
    }

    /// Prints in place of everything on the terminal; without a terminal, prints below it.
    ///
    /// # Errors
    /// None, as of [`print`](Self::print).
    pub fn redraw(&mut self, text: &str) -> io::Result<()> {
        if self.screen && self.lost.is_none() {
            self.lost = self.out.write_all(CLEAR.as_bytes()).err();
        }
        self.print(text)
    }

    /// Prints and flushes, so that a step is shown before it is taken.
    ///
    /// # Errors
    /// None: what cannot be printed any more is [`lost`](Self::lost), and the work goes on.
    pub fn print(&mut self, text: &str) -> io::Result<()> {
        if self.lost.is_none() {
            let shown = if self.colour { coloured(text) } else { terminal::plain(text).into_owned() };
            let written = self.out.write_all(shown.as_bytes()).and_then(|()| self.out.flush());
            self.lost = written.err();
        }
        Ok(())
    }

    /// Checks that a question can be asked at all.
    ///
    /// # Errors
    /// Standard input is no terminal.
    pub fn can_ask(&self) -> Result<(), Unconfirmed> {
        if self.asks { Ok(()) } else { Err(Unconfirmed::NoTerminal) }
    }

    /// Whether exactly this text is typed on stdin. A stray `y` is not enough to replace or delete something.
    ///
    /// # Errors
    /// Standard input cannot be read.
    pub fn typed(&mut self, prompt: &str, text: &str, stdin: &mut dyn Read) -> io::Result<bool> {
        self.print(prompt)?;
        // Nobody has seen what it is about.
        if self.lost.is_some() {
            return Ok(false);
        }
        let mut line = String::new();
        BufReader::new(stdin.take(ANSWER_MAX)).read_line(&mut line)?;
        Ok(line.trim() == text)
    }

    /// Prints what a person should know besides the output, to stderr. A failure to print it is ignored.
    ///
    /// # Errors
    /// None, as of [`print`](Self::print).
    pub fn remark(&mut self, text: &str) -> io::Result<()> {
        let _ = writeln!(self.err, "{}", terminal::told(text));
        Ok(())
    }
}

/// The text with the program's own colours, and without any other escape sequence.
fn coloured(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        let (before, escape) = rest.split_at(at);
        let length = COLOURS.iter().find(|colour| escape.starts_with(**colour)).map(|colour| colour.len());
        shown.push_str(&terminal::plain(before));
        match length {
            Some(length) => shown.push_str(&escape[..length]),
            None => shown.push_str(&terminal::plain(&escape[..1])),
        }
        rest = &escape[length.unwrap_or(1)..];
    }
    shown + &terminal::plain(rest)
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Unconfirmed(#[from] Unconfirmed),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Context(#[from] ContextError),
    #[error(transparent)]
    Type(#[from] ResolveError),
    #[error(transparent)]
    Selector(#[from] SelectorError),
    #[error("cannot specify both resource ID and selector")]
    IdAndSelector,
    #[error("the ID is given twice: in {address:?} and as {id:?}")]
    IdTwice { address: String, id: String },
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
    #[error("cluster {name:?} does not exist: {hint}")]
    NoCluster { name: String, hint: String },
    #[error("{cause}: {hint}")]
    NoResource { cause: CallError, hint: String },
    #[error("backup storage is not available: {0} (see `backstayctl status`)")]
    Store(String),
    #[error("failed to back up {cluster:?}: {reason}")]
    Backup { cluster: String, reason: String },
    #[error(
        "the backup of {cluster:?} has not ended after {waited} and is still running: see `backstayctl runs {cluster}`"
    )]
    NotEnded { cluster: String, waited: String },
    #[error("failed to verify a backup of {cluster:?}: {reason}")]
    Verify { cluster: String, reason: String },
    #[error("failed to verify a backup of {cluster:?}: {reason}")]
    Damaged { cluster: String, reason: String },
    #[error("failed to set the schedule of {cluster:?}: {reason}")]
    Schedule { cluster: String, reason: String },
    #[error("failed to restore {cluster:?}: {reason}")]
    RestoreCluster { cluster: String, reason: String },
    #[error(transparent)]
    Restore(#[from] RestoreFailure),
    #[error("cannot write the man pages to {folder}: {cause}")]
    Manual { folder: String, cause: io::Error },
    /// Ctrl-C ended the command, but not the work that it followed.
    #[error("Interrupted. {what} goes on: follow it with `{follow}`")]
    Interrupted { what: String, follow: String },
    /// The result is "no", and everything about it was printed.
    #[error("not everything is ok")]
    No,
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// That there is no such cluster, with the one of `known` that was probably meant.
    pub fn no_cluster<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let hint = match validate::nearest(name, known) {
            Some(meant) => format!("did you mean {meant}?"),
            None => "see `backstayctl get clusters`".into(),
        };
        Self::NoCluster { name: name.to_owned(), hint }
    }

    /// The exit code of the process; `--help` documents it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::No | Self::Damaged { .. } => 3,
            // As a shell says of a command that SIGINT ended.
            Self::Interrupted { .. } => 130,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str, colour: bool) -> String {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console { colour, ..Console::of(&mut out, &mut err) };
        console.print(text).expect("never fails");
        console.remark(text).expect("never fails");
        let (out, err) = (String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"));
        assert!(!err.contains('\u{1b}'), "{err:?}");
        out
    }

    #[test]
    fn only_our_own_colours_reach_a_terminal() {
        let hostile = "\u{1b}[32mok\u{1b}[0m \u{1b}[2J\u{1b}]0;x\u{7} \u{9b}31m\u{1b}";
        assert_eq!(printed(hostile, true), "\u{1b}[32mok\u{1b}[0m \u{fffd}[2J\u{fffd}]0;x\u{fffd} \u{fffd}31m\u{fffd}");
        assert_eq!(printed(hostile, false).matches('\u{fffd}').count(), 7);
        assert_eq!(printed("a\n\tb", true), "a\n\tb");
    }

    #[test]
    fn an_error_shows_no_secret_that_was_given_in_place_of_a_name() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
        let mut console = Console::of(&mut out, &mut err);
        console.remark(&format!("Error: cannot read the nkey file {seed}: No such file")).expect("never fails");
        assert_eq!(String::from_utf8_lossy(&err), "Error: cannot read the nkey file <hidden>: No such file\n");
    }

    #[test]
    fn an_output_that_is_full_is_remembered_and_stops_nothing() {
        let (mut out, mut err) = ([0_u8; 3], [0_u8; 0]);
        let (mut out, mut err) = (&mut out[..], &mut err[..]);
        let mut console = Console::of(&mut out, &mut err);
        for text in ["ab", "cde", "f"] {
            console.print(text).expect("never fails");
            console.remark(text).expect("never fails");
        }
        assert!(console.lost.is_some_and(|error| error.kind() == io::ErrorKind::WriteZero));
    }
}
