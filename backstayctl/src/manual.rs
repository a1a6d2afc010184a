//! Completions for shells, and manual pages. Both are generated from the grammar, so they always match it.

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::env::Shells;

use super::arguments::{Arguments, Shell};
use super::completion::VARIABLE;
use super::console::{Console, Failure};

const PROGRAM: &str = "backstayctl";

/// Prints the script that makes a shell complete arguments. The script calls this program for that.
///
/// # Errors
/// There is no script for this shell.
pub fn completion(shell: Shell, console: &mut Console<'_>) -> Result<(), Failure> {
    let name = match shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let asking = shells.completer(name).ok_or_else(|| io::Error::other(format!("no completions for {name}")))?;
    asking.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
    if shell == Shell::Zsh {
        // Where zsh loads the file by itself, the first completion is this very call.
        script.extend(b"[[ $funcstack[1] = _backstayctl ]] && _clap_dynamic_completer_backstayctl \"$@\"\n");
    }
    Ok(console.print(&String::from_utf8_lossy(&script))?)
}

/// Writes `backstayctl.1` and a page for each command into an existing folder.
///
/// # Errors
/// The folder cannot be written to.
pub fn pages(folder: &Path) -> Result<(), Failure> {
    let failed = |cause: io::Error| Failure::Manual { folder: folder.display().to_string(), cause };
    write(Arguments::command(), folder).map_err(failed)
}

/// Writes the manual pages of a program into an existing folder: one for it, and one for each of its commands.
///
/// # Errors
/// The folder cannot be written to.
pub fn write(program: Command, folder: &Path) -> io::Result<()> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let source = format!("{} {}", program.get_name(), program.get_version().unwrap_or_default());
    page(&program, &source, folder)
}

/// `source` is the text at the foot: the program and its version.
fn page(command: &Command, source: &str, folder: &Path) -> io::Result<()> {
    if command.get_name() == "help" {
        return Ok(());
    }
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).source(source).render(&mut text)?;
    std::fs::write(folder.join(format!("{name}.1")), with_whole_lines(&String::from_utf8_lossy(&text)))?;
    command.get_subcommands().filter(|below| !below.is_hide_set()).try_for_each(|below| page(below, source, folder))
}

/// The page, with the lines below the options kept as they are: otherwise `man` would wrap them, and an example could
/// not be pasted.
fn with_whole_lines(page: &str) -> String {
    let Some((before, extra)) = page.split_once(".SH EXTRA\n") else { return page.to_owned() };
    let end = extra.find("\n.SH ").map_or(extra.len(), |at| at + 1);
    let (extra, after) = extra.split_at(end);
    let (mut sections, mut current) = (String::new(), "");
    for line in extra.lines() {
        let (section, is_heading) = match line {
            "Examples:" => ("EXAMPLES", true),
            "Exit codes:" => ("\"EXIT STATUS\"", true),
            // Examples and exit codes are indented: what is not is about something else.
            _ if current.is_empty() || !line.is_empty() && !line.starts_with(' ') => ("NOTES", false),
            _ => (current, false),
        };
        if section != current {
            let close = if current.is_empty() { "" } else { ".fi\n" };
            sections.push_str(&format!("{close}.SH {section}\n.nf\n"));
            current = section;
        }
        if !is_heading {
            sections.push_str(&format!("{line}\n"));
        }
    }
    let close = if current.is_empty() { "" } else { ".fi\n" };
    format!("{before}{sections}{close}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::capture;

    async fn script(shell: Shell) -> String {
        capture(async |console| completion(shell, console)).await.expect("a script").0
    }

    #[tokio::test]
    async fn every_script_asks_the_program() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell).await;
            assert!(script.contains(VARIABLE) && script.contains(PROGRAM), "{shell:?}: {script}");
        }
        assert!(script(Shell::Zsh).await.starts_with("#compdef backstayctl\n"));
    }

    #[test]
    fn each_command_has_its_page() {
        let folder = tempfile::tempdir().expect("a folder");
        pages(folder.path()).expect("pages");
        for name in ["backstayctl.1", "backstayctl-status.1", "backstayctl-cluster-template-export.1"] {
            let page = std::fs::read_to_string(folder.path().join(name)).expect(name);
            assert!(page.starts_with(".ie") && page.contains(".TH"), "{page}");
            assert!(page.contains(".SH EXAMPLES\n.nf\n"), "{name}");
            let heading = page.lines().find(|line| line.starts_with(".TH ")).expect("a heading");
            assert!(heading.contains(&format!("backstayctl {}", env!("CARGO_PKG_VERSION"))), "{heading}");
        }
        let status = std::fs::read_to_string(folder.path().join("backstayctl-status.1")).expect("a page");
        let places: Vec<_> =
            [".SH NOTES\n", ".SH \"EXIT STATUS\"\n", ".SH EXAMPLES\n"].iter().map(|h| status.find(h)).collect();
        assert!(places.is_sorted() && places.iter().all(Option::is_some), "{status}");
        assert!(!status.contains("Exit codes:") && !status.contains("EXTRA"), "{status}");
        let restore = std::fs::read_to_string(folder.path().join("backstayctl-restore.1")).expect("a page");
        for flag in ["data\\-of\\-another\\-cluster", "data\\-dir"] {
            assert!(restore.contains(flag), "{flag}: {restore}");
        }
        let nowhere = pages(&folder.path().join("nowhere")).expect_err("no folder").to_string();
        assert!(nowhere.starts_with("cannot write the man pages to "), "{nowhere}");
    }

    #[test]
    fn an_example_in_a_page_stays_one_line_at_any_width() {
        let Ok(found) = std::process::Command::new("man").arg("--version").output() else { return };
        assert!(found.status.success());
        let folder = tempfile::tempdir().expect("a folder");
        pages(folder.path()).expect("pages");
        let example = "backstayctl get etcdbackup --selector omni.sidero.dev/cluster=talos-default";
        for width in ["40", "200"] {
            let shown = std::process::Command::new("man")
                .arg("-l")
                .arg(folder.path().join("backstayctl-get.1"))
                .env("MANWIDTH", width)
                .output()
                .expect("man");
            let shown = String::from_utf8_lossy(&shown.stdout).replace('\u{2010}', "-");
            assert!(shown.lines().any(|line| line.trim() == example), "{width}: {shown}");
        }
    }
}
