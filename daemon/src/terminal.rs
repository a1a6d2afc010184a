//! The edge to whoever reads: standard output and standard error, which may be closed or full, and may be a terminal.
//!
//! What is printed comes from manifests, from beats and from other programs' errors: nothing in it may command a
//! terminal. And a reader that went away stops no work and makes nobody panic.

use std::borrow::Cow;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::help;

/// Stands in place of what a terminal would obey.
const INSTEAD: char = '\u{FFFD}';

/// Whether a terminal obeys it instead of showing it: control characters (line ends too), and those that turn the
/// direction of what follows, or hide.
pub fn is_command(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
}

/// A text whose lines stay lines, and in which nothing else is a command.
pub fn plain(text: &str) -> Cow<'_, str> {
    let is_bad = |c: char| is_command(c) && !matches!(c, '\n' | '\t');
    match text.contains(is_bad) {
        true => Cow::Owned(text.chars().map(|c| if is_bad(c) { INSTEAD } else { c }).collect()),
        false => Cow::Borrowed(text),
    }
}

/// A text as one line.
pub fn line(text: &str) -> String {
    let shown = |c: char| match c {
        c if c.is_whitespace() => ' ',
        c if is_command(c) => INSTEAD,
        c => c,
    };
    text.trim_end().chars().map(shown).collect()
}

/// Prints, at once.
///
/// # Errors
/// The output is closed or full.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(plain(text).as_bytes())?;
    out.flush()
}

/// Prints what was asked for and is all that was asked for. A reader that went away, as `head` does, has what it wanted.
///
/// # Errors
/// The output is full.
pub fn answer(text: &str) -> io::Result<()> {
    match print(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Says something on standard error; where nobody hears it, that is nobody's fault.
pub fn tell(text: &str) {
    let _ = io::stderr().lock().write_all(format!("{}\n", plain(text.trim_end())).as_bytes());
}

/// The process's arguments, or how it ends without any: with their help, or a word on what is wrong with them.
pub fn arguments<P: Parser>() -> Result<P, ExitCode> {
    let mut program = help::unwrapped(P::command());
    let matches = program.try_get_matches_from_mut(std::env::args_os());
    let parsed = matches.and_then(|matches| P::from_arg_matches(&matches).map_err(|error| error.format(&mut program)));
    parsed.map_err(|error| ended(&error))
}

/// Prints what the grammar has to say, and ends as it does: with the help that was asked for, or with what is wrong.
pub fn ended(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| io::stdout().flush());
    let lost = printed.is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe);
    match error.use_stderr() {
        // As clap itself ends.
        true => ExitCode::from(2),
        false if lost => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// Standard error for logs: each event is one line of plain text, and what cannot be written is let go.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogLines;

impl Write for LogLines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().lock().write_all(log_line(event).as_bytes());
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An event comes in one piece, with its line end.
fn log_line(event: &[u8]) -> String {
    format!("{}\n", line(&String::from_utf8_lossy(event)))
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
    }

    proptest! {
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
