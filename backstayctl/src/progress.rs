//! Shows progress: a bar on a terminal, plain lines elsewhere. Both go to stderr.

use std::io;

use backstay_daemon::terminal;
use backstay_daemon::units;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::console::Console;

const BAR: &str = "{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
const MESSAGE: &str = "{spinner} {msg}";

/// The last line.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    said: String,
}

impl Progress {
    pub fn new(bar: bool) -> Self {
        let bar =
            bar.then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style(MESSAGE)));
        Self { bar, said: String::new() }
    }

    /// Shows `done` of `total` bytes. `name` is the text before a bar; without a bar, a line that begins with `line` is
    /// printed.
    ///
    /// # Errors
    /// None, as of [`Console::print`].
    pub fn amount(
        &mut self,
        name: &str,
        line: &str,
        done: u64,
        total: u64,
        console: &mut Console<'_>,
    ) -> io::Result<()> {
        let Some(bar) = &self.bar else {
            let (done, total) = (units::bytes(done), units::bytes(total));
            return self.message(format!("{line}: {done} of {total}"), console);
        };
        if bar.length() != Some(total) {
            bar.set_length(total);
            bar.set_style(style(BAR).progress_chars("=> "));
        }
        bar.set_message(terminal::line(name));
        bar.set_position(done);
        Ok(())
    }

    /// Shows a text without an amount. Without a bar, the same text twice is printed once.
    ///
    /// # Errors
    /// None, as of [`Console::print`].
    pub fn message(&mut self, text: String, console: &mut Console<'_>) -> io::Result<()> {
        if let Some(bar) = &self.bar {
            bar.unset_length();
            bar.set_style(style(MESSAGE));
            bar.set_message(terminal::line(&text));
            bar.tick();
            return Ok(());
        }
        if text != self.said {
            console.remark(&text)?;
            self.said = text;
        }
        Ok(())
    }

    /// Removes the bar from the screen.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    /// Removes the bar in every case, so that the next output begins on its own line.
    fn drop(&mut self) {
        self.clear();
    }
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
