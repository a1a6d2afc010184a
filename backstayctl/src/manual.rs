//! Completions for shells, and the manual pages: both made from the grammar, so they cannot differ from it.

use std::io;
use std::path::Path;

use clap::CommandFactory;

use super::arguments::{Arguments, Shell};
use super::console::{Console, Failure};

const PROGRAM: &str = "backstayctl";

/// Prints the completions for a shell.
pub fn completion(shell: Shell, console: &mut Console<'_>) -> Result<(), Failure> {
    let generator = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(generator, &mut Arguments::command(), PROGRAM, &mut script);
    Ok(console.print(&String::from_utf8_lossy(&script))?)
}

/// Writes `backstayctl.1` and a page for each command into an existing folder.
pub fn pages(folder: &Path) -> Result<(), Failure> {
    let failed = |cause: io::Error| Failure::Manual { folder: folder.display().to_string(), cause };
    clap_mangen::generate_to(Arguments::command(), folder).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::capture;

    async fn script(shell: Shell) -> String {
        capture(async |console| completion(shell, console)).await.expect("a script").0
    }

    #[tokio::test]
    async fn completions_know_every_command_that_is_shown() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell).await;
            let program = Arguments::command();
            for command in program.get_subcommands().filter(|command| !command.is_hide_set()) {
                assert!(script.contains(command.get_name()), "{shell:?}: {}", command.get_name());
            }
            let has = |flag: &str| script.contains(&format!("--{flag}")) || script.contains(&format!("-l {flag}"));
            assert!(has("data-of-another-cluster") && has("data-dir"), "both ways to restore: {shell:?}");
            assert!(script.contains("--selector") || script.contains("-l selector"), "{shell:?}");
        }
    }

    #[tokio::test]
    async fn bash_takes_the_script_and_completes_with_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("completion.bash");
        std::fs::write(&file, script(Shell::Bash).await).expect("written");
        let line = "source \"$1\"; COMP_WORDS=(backstayctl ba); COMP_CWORD=1; \
                    _backstayctl backstayctl ba backstayctl; echo \"${COMPREPLY[@]}\"";
        let ended = std::process::Command::new("bash").args(["-c", line, "bash"]).arg(&file).output().expect("bash");
        assert_eq!(
            String::from_utf8_lossy(&ended.stdout),
            "backup backups\n",
            "{}",
            String::from_utf8_lossy(&ended.stderr)
        );
    }

    #[test]
    fn each_command_has_its_page() {
        let folder = tempfile::tempdir().expect("a folder");
        pages(folder.path()).expect("pages");
        for name in ["backstayctl.1", "backstayctl-status.1", "backstayctl-cluster-template-export.1"] {
            let page = std::fs::read_to_string(folder.path().join(name)).expect(name);
            assert!(page.starts_with(".ie") && page.contains(".TH"), "{page}");
            assert!(page.contains("Examples:"), "{name}");
        }
        let restore = std::fs::read_to_string(folder.path().join("backstayctl-restore.1")).expect("a page");
        for flag in ["data\\-of\\-another\\-cluster", "data\\-dir"] {
            assert!(restore.contains(flag), "{flag}: {restore}");
        }
        let nowhere = pages(&folder.path().join("nowhere")).expect_err("no folder").to_string();
        assert!(nowhere.starts_with("cannot write the man pages to "), "{nowhere}");
    }
}
