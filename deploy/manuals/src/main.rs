//! Writes the manual pages and completions of both daemons into a folder; `make deb` puts them into the packages.
//!
//! A program of its own: the daemons parse a few flags, and need nothing of what makes pages of them.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("Usage: backstay-manuals DIR");
        return ExitCode::from(2);
    };
    match write(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: cannot write into {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

/// Both daemons' grammars.
fn programs() -> [Command; 2] {
    [backstay_agent::cli::Cli::command(), backstay_coordinator::arguments::Arguments::command()]
}

/// `PROGRAM/man/*.1`, and `PROGRAM/bash`, `zsh` and `fish`.
fn write(folder: &Path) -> io::Result<()> {
    for program in programs() {
        let folder = folder.join(program.get_name());
        let pages = folder.join("man");
        fs::create_dir_all(&pages)?;
        backstayctl::manual::write(program.clone(), &pages)?;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut program.clone(), program.get_name(), &mut script);
            fs::write(folder.join(shell.to_string()), script)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_daemon_has_its_pages_and_completions() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path()).expect("written");
        let text = |path: &str| fs::read_to_string(folder.path().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        for (program, commands) in [("backstay-agent", ["run", "once"]), ("backstay-coordinator", ["init", "serve"])] {
            for shell in ["bash", "zsh", "fish"] {
                let script = text(&format!("{program}/{shell}"));
                assert!(commands.iter().all(|command| script.contains(command)), "{program} {shell}: {script}");
            }
            assert!(text(&format!("{program}/man/{program}.1")).contains(".TH"));
            for command in commands {
                let page = text(&format!("{program}/man/{program}-{command}.1"));
                assert!(page.contains(".SH OPTIONS"), "{program} {command}: {page}");
            }
        }
        let once = text("backstay-agent/man/backstay-agent-once.1");
        assert!(once.contains(".SH EXAMPLES\n.nf\n") && once.contains("\\-\\-etcd"), "{once}");
    }

    /// What the packages name, as `make deb` leaves it.
    #[test]
    fn the_packages_take_what_is_written() {
        let (folder, mut files) = (tempfile::tempdir().expect("a folder"), 0);
        write(folder.path()).expect("written");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for program in ["agent", "coordinator"] {
            let manifest = fs::read_to_string(root.join(program).join("Cargo.toml")).expect("a manifest");
            for line in manifest.lines() {
                let Some((_, rest)) = line.split_once("target/release/manuals/") else { continue };
                let path = rest.split('"').next().expect("a path").trim_end_matches(".gz");
                let there = match path.split_once("/*") {
                    Some((above, _)) => fs::read_dir(folder.path().join(above)).is_ok_and(|found| found.count() >= 3),
                    None => folder.path().join(path).is_file(),
                };
                assert!(there, "{program}: nobody writes {path}");
                files += 1;
            }
        }
        assert_eq!(files, 2 * 4, "a folder of pages and three scripts each");
    }

    /// The daemons have no need of what makes pages and completions.
    #[test]
    fn no_daemon_depends_on_what_writes_its_manual() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for program in ["agent", "coordinator"] {
            let manifest = fs::read_to_string(root.join(program).join("Cargo.toml")).expect("a manifest");
            assert!(!manifest.contains("clap_complete") && !manifest.contains("clap_mangen"), "{program}");
        }
    }
}
