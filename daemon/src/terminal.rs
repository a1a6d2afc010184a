//! Standard output and standard error, which may be closed or full, and may be a terminal.
//!
//! What is printed comes from manifests, from heartbeats and from errors of other programs, so it must not control the
//! terminal: escape sequences are made visible. And if the reader is gone, the work continues and nothing panics.

use std::borrow::Cow;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;

use crate::help;
use crate::secrecy::without_secrets;
use crate::tips::{Tip, helpful};

/// Replaces a character that would control a terminal.
const INSTEAD: char = '\u{FFFD}';

/// Whether a terminal would obey a character instead of showing it: control characters (line ends too), and characters that
/// are invisible or change the direction of text.
pub fn is_command(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
}

/// The text with such characters replaced; line ends and tabs stay.
pub fn plain(text: &str) -> Cow<'_, str> {
    let is_bad = |c: char| is_command(c) && !matches!(c, '\n' | '\t');
    match text.contains(is_bad) {
        true => Cow::Owned(text.chars().map(|c| if is_bad(c) { INSTEAD } else { c }).collect()),
        false => Cow::Borrowed(text),
    }
}

/// The text as one line, such characters replaced.
pub fn line(text: &str) -> String {
    let shown = |c: char| match c {
        c if c.is_whitespace() => ' ',
        c if is_command(c) => INSTEAD,
        c => c,
    };
    text.trim_end().chars().map(shown).collect()
}

/// Prints to standard output and flushes.
///
/// # Errors
/// The output is closed or full.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(plain(text).as_bytes())?;
    out.flush()
}

/// Prints the only output of a command. A reader that has closed the pipe, as `head` does, has what it wanted: that is
/// not an error.
///
/// # Errors
/// The output is full.
pub fn answer(text: &str) -> io::Result<()> {
    match print(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints a line to standard error; a failure to do so is ignored.
pub fn tell(text: &str) {
    to_stderr(&format!("{}\n", told(text)));
}

/// What is said of something: it may quote what a person gave, so secrets are hidden.
pub fn told(text: &str) -> String {
    without_secrets(&plain(text.trim_end())).into_owned()
}

/// Moves to the first column and clears the line: the only escape sequence that is written here.
const CLEAR: &str = "\r\u{1b}[K";

/// Whether a line of [`status`] is shown on standard error.
static STATUS: AtomicBool = AtomicBool::new(false);

/// Shows a line on standard error that replaces the previous such line; an empty text removes it. Anything else that is
/// printed here removes it, too. Only for terminals.
pub fn status(text: &str) {
    let _ = io::stderr().lock().write_all(status_line(text).as_bytes());
    STATUS.store(!text.is_empty(), Ordering::Relaxed);
}

fn status_line(text: &str) -> String {
    format!("{CLEAR}{}", line(text))
}

fn to_stderr(text: &str) {
    let clear = if STATUS.swap(false, Ordering::Relaxed) { CLEAR } else { "" };
    let _ = io::stderr().lock().write_all(format!("{clear}{text}").as_bytes());
}

/// A text as one word of a shell's command line, in single quotes if needed.
pub fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("'{}'", text.replace('\'', r"'\''"))),
    }
}

/// The arguments of the process; `tips` are for words that people type by habit and that are none of them.
///
/// # Errors
/// The exit code, after the help, the version or what is wrong with the arguments has been printed.
pub fn arguments<P: Parser>(tips: &[Tip]) -> Result<P, ExitCode> {
    let mut program = help::unwrapped(P::command());
    let matches = program.try_get_matches_from_mut(std::env::args_os());
    let parsed = matches.and_then(|matches| P::from_arg_matches(&matches).map_err(|error| error.format(&mut program)));
    parsed.map_err(|error| ended(&helpful(error, tips)))
}

/// Prints the help that was asked for, or what is wrong with the arguments, and returns the exit code: 0, or 2 as in clap
/// itself; 1 if the help could not be printed.
pub fn ended(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    let printed = match without_secrets(&text) {
        Cow::Borrowed(_) => error.print().and_then(|()| io::stdout().flush()),
        Cow::Owned(shown) => io::stderr().write_all(shown.as_bytes()),
    };
    let lost = printed.is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe);
    match error.use_stderr() {
        // As clap itself ends.
        true => ExitCode::from(2),
        false if lost => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// Standard error for logs: each event is one line of plain text. What cannot be written is dropped.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogLines;

impl Write for LogLines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        to_stderr(&log_line(event));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An event arrives in one piece, with its line end.
fn log_line(event: &[u8]) -> String {
    format!("{}\n", without_secrets(&line(&String::from_utf8_lossy(event))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What must never reach a terminal: an escape sequence in 7 bits and in 8, the bell, a backspace, a carriage return
    /// that overwrites the line, and the turns of direction.
    const HOSTILE: [&str; 8] = [
        "\u{1b}[2J\u{1b}]0;title\u{7}",
        "\u{9b}31m",
        "\u{90}q\u{9c}",
        "a\u{8}b",
        "good\rbad",
        "\u{202e}txt.exe\u{202c}",
        "\u{2066}x\u{2069}",
        "\u{7f}\u{feff}\u{200f}",
    ];

    #[test]
    fn nothing_commands_a_terminal() {
        for text in HOSTILE {
            let (plain, line) = (plain(text), line(text));
            assert!(!plain.chars().any(is_command), "{plain:?}");
            assert!(!line.chars().any(is_command), "{line:?}");
        }
        assert_eq!(plain("two\n\tlines, ü and 漢"), "two\n\tlines, ü and 漢");
        assert_eq!(line("two\n\tlines\r\nof a text\n"), "two  lines  of a text");
    }

    #[test]
    fn an_event_is_one_line_whatever_it_holds() {
        assert_eq!(log_line(b"INFO x: one\n2026 INFO forged: yes\n"), "INFO x: one 2026 INFO forged: yes\n");
        assert_eq!(log_line(b"\xff\x1b[0m\n"), "\u{fffd}\u{fffd}[0m\n");
        let seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
        assert_eq!(log_line(format!("WARN x: no {seed}\n").as_bytes()), "WARN x: no <hidden>\n");
        assert_eq!(told(&format!("Error: no file {seed}\n")), "Error: no file <hidden>");
    }

    #[test]
    fn a_status_is_one_line_over_the_last_and_cannot_command_either() {
        assert_eq!(status_line("10 of\n20\u{1b}[2J"), "\r\u{1b}[K10 of 20\u{fffd}[2J");
        assert_eq!(status_line(""), "\r\u{1b}[K");
    }

    #[test]
    fn a_word_is_quoted_where_a_shell_would_read_more_than_a_word() {
        for plain in ["/var/backups/etcd", "s3://b/p", "age1xyz", "--region=eu-1"] {
            assert_eq!(shell_word(plain), plain);
        }
        assert_eq!(shell_word("file:///a b/$(x)"), "'file:///a b/$(x)'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }

    proptest! {
        #[test]
        fn a_shell_reads_every_word_as_it_was(text in "[ -~äß]{0,20}") {
            let script = format!("printf %s {}", shell_word(&text));
            let read = std::process::Command::new("sh").args(["-c", &script]).output().expect("a shell");
            prop_assert_eq!(String::from_utf8_lossy(&read.stdout).into_owned(), text);
        }

        #[test]
        fn what_is_printed_is_the_text_but_for_commands(text in "\\PC{0,20}|[\\x00-\\x20a-z\u{80}-\u{9f}\u{2000}-\u{2070}]{0,20}") {
            let shown = plain(&text);
            prop_assert_eq!(shown.chars().count(), text.chars().count());
            for (is, was) in shown.chars().zip(text.chars()) {
                prop_assert!(is == was || is_command(was), "{:?} for {:?}", is, was);
                prop_assert!(!is_command(is) || matches!(is, '\n' | '\t'));
            }
            prop_assert!(!line(&text).chars().any(is_command));
        }
    }
}
