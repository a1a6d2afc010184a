//! What is suggested for a misspelt command: whole names, never the aliases of one letter. `dl` must not be answered
//! with the `d` that deletes. And what is said of words that people type by habit of other tools.

use backstay_daemon::tips::{self, Tip};
use clap::Error;
use clap::error::{ContextKind, ContextValue};

const AN_ARGUMENT: &str = "the cluster is an argument and no flag, such as 'prod' in 'backstayctl status prod'";
const ONE_CLUSTER: &str = "the command takes one cluster; 'backstayctl get clusters' lists them";
const NO_COORDINATOR: &str = "verify needs a coordinator; without one, restore the backup from the store into a scratch \
    directory: 'backstayctl restore --store URL --data-dir DIR …'";
const BACKUPS: &str = "'backups' lists a cluster's backups; 'list --store URL' does so without a coordinator";
const NO_FORGET: &str = "no command deletes backups: delete a backup and its manifest with the store's own tools";

/// Words of other tools, and what they are here.
const HABITS: [Tip; 9] = [
    habit(&["status", "backup", "schedule", "backups", "agents", "runs", "verify"], &["--cluster"], AN_ARGUMENT),
    habit(&["backup", "verify"], &["--all", "-A"], ONE_CLUSTER),
    habit(&["verify"], &["--store"], NO_COORDINATOR),
    habit(&["verify"], &["--dry-run"], ""),
    habit(&["backups"], &["--store"], BACKUPS),
    habit(&[], &["snapshots", "snapshot"], BACKUPS),
    habit(&[], &["forget", "prune"], NO_FORGET),
    habit(&[], &["init"], "'backstay-coordinator init' writes a first configuration"),
    habit(&[], &["once"], "'backstay-agent once' takes a backup without a coordinator"),
];

const fn habit(commands: &'static [&'static str], given: &'static [&'static str], tip: &'static str) -> Tip {
    Tip { commands, given, tip }
}

/// The error with tips that help.
pub fn helpful(error: Error) -> Error {
    tips::helpful(without_aliases(error), &HABITS)
}

/// The error without tips that are aliases.
fn without_aliases(mut error: Error) -> Error {
    let is_name = |tip: &String| tip.chars().count() > 1;
    let names = match error.remove(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::String(tip)) => vec![tip],
        Some(ContextValue::Strings(tips)) => tips,
        _ => return error,
    };
    let names: Vec<String> = names.into_iter().filter(is_name).collect();
    if !names.is_empty() {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(names));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Arguments;
    use clap::Parser;

    fn errors(word: &str) -> (String, String) {
        let parse = || Arguments::try_parse_from(["backstayctl", word]).expect_err("misspelt");
        (parse().render().to_string(), without_aliases(parse()).render().to_string())
    }

    #[test]
    fn words_of_other_tools_are_answered_with_what_they_are_here() {
        for (line, said, unsaid) in [
            ("backup --cluster prod", "the cluster is an argument", "as a value"),
            ("backup --cluster=prod", "the cluster is an argument", "as a value"),
            ("backup -A", "takes one cluster", "as a value"),
            ("verify prod --store s3://b", "scratch directory", "as a value"),
            ("forget latest", "no command deletes backups", "merge"),
            ("snapshots", "'list --store URL'", "schedule"),
            ("status --nothing", "'--nothing' found", "tip:"),
        ] {
            let words = std::iter::once("backstayctl").chain(line.split_whitespace());
            let text = helpful(Arguments::read(words).expect_err(line)).render().to_string();
            assert!(text.contains(said) && !text.contains(unsaid), "{line}: {text}");
        }
    }

    #[test]
    fn a_tip_is_never_an_alias() {
        let mut of_clap = 0;
        for word in ["dl", "ad", "de", "dd", "del", "rd", "gt", "cd", "x", "statsu", "delet"] {
            let (raw, ours) = errors(word);
            for alias in ["'d'", "'g'", "'c'", "'t'"] {
                of_clap += usize::from(raw.contains(alias));
                assert!(!ours.contains(alias), "{ours}");
            }
        }
        assert!(of_clap > 0, "clap itself suggests them");
        assert!(errors("statsu").1.contains("'status'") && errors("delet").1.contains("'delete'"));
    }
}
