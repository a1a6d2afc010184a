//! What the command line's parser suggests for a word that it does not know: only what helps.

use clap::Error;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue};

/// What to say of words that people type by habit and that are none of the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// The subcommands that they are given to; empty: to any, or in place of one.
    pub commands: &'static [&'static str],
    /// The flags or the subcommands as they are typed.
    pub given: &'static [&'static str],
    /// Stands behind `tip: `; empty: nothing is suggested.
    pub tip: &'static str,
}

/// The error with our tip where there is one, and never with the parser's advice to pass a flag as a value: nobody who
/// mistypes a flag means that.
pub fn helpful(mut error: Error, tips: &[Tip]) -> Error {
    error.remove(ContextKind::Suggested);
    let given =
        [ContextKind::InvalidArg, ContextKind::InvalidSubcommand].into_iter().find_map(|kind| text(&error, kind));
    let usage = error.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    let is_of = |names: &[&str]| names.is_empty() || usage.split_whitespace().any(|word| names.contains(&word));
    let is_given = |tip: &&Tip| given.as_deref().is_some_and(|given| tip.given.contains(&given)) && is_of(tip.commands);
    let Some(tip) = tips.iter().find(is_given) else { return error };
    error.remove(ContextKind::SuggestedArg);
    error.remove(ContextKind::SuggestedSubcommand);
    if !tip.tip.is_empty() {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip.tip)]));
    }
    error
}

fn text(error: &Error, kind: ContextKind) -> Option<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.split([' ', '=']).next().unwrap_or_default().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, Command};

    const TIPS: [Tip; 2] = [
        Tip { commands: &["verify"], given: &["--store"], tip: "ask the store" },
        Tip { commands: &[], given: &["forget"], tip: "" },
    ];

    fn said(line: &str) -> String {
        let name = || Arg::new("name");
        let program = Command::new("x")
            .subcommand(Command::new("verify").arg(name()))
            .subcommand(Command::new("list").arg(name()).arg(Arg::new("stores").long("stores")))
            .subcommand(Command::new("forge"));
        let error = program.try_get_matches_from(line.split_whitespace()).expect_err("misspelt");
        helpful(error, &TIPS).render().to_string()
    }

    #[test]
    fn a_word_of_habit_has_our_tip_and_others_what_is_similar() {
        let text = said("x verify prod --store s3://b");
        assert!(text.contains("tip: ask the store") && !text.contains("as a value"), "{text}");
        let text = said("x list prod --store s3://b");
        assert!(text.contains("'--stores'") && !text.contains("ask the store"), "{text}");
        let text = said("x verify prod --nothing");
        assert!(text.contains("--nothing") && !text.contains("tip:"), "{text}");
        assert!(!said("x forget prod").contains("tip:"));
        assert!(said("x forg").contains("'forge'"));
    }
}
