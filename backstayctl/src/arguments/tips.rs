//! What clap suggests for a misspelt command: only full names, never the aliases of one letter. For `dl` it must not
//! suggest `d`, which deletes.

use clap::Error;
use clap::error::{ContextKind, ContextValue};

/// The error without tips that are aliases.
pub fn without_aliases(mut error: Error) -> Error {
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
