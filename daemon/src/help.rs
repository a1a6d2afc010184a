//! The help of a program: the text below the options is shown as it is written, without wrapping, so that an example can be
//! pasted from a terminal of any width.

use clap::Command;

/// The same command with help whose text below the options is not wrapped, for the command and all its subcommands.
pub fn unwrapped(command: Command) -> Command {
    let template = template(&command);
    let command = match template {
        Some(template) => command.help_template(template),
        None => command,
    };
    command.mut_subcommands(unwrapped)
}

/// clap's own template with that text in place of its placeholder: clap wraps what it fills in, but not the template
/// itself.
fn template(command: &Command) -> Option<String> {
    let text = command.get_after_long_help().or_else(|| command.get_after_help())?.to_string();
    // There is always one argument: --help.
    Some(format!("{{before-help}}{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{{all-args}}\n\n{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    #[test]
    fn only_what_follows_the_options_keeps_its_lines() {
        let example =
            "  program below --selector 'omni.sidero.dev/cluster=talos-default' -o jsonpath='{.spec.error}' file";
        let below = Command::new("below")
            .about("Words that are broken where a terminal is narrower than they are long")
            .arg(Arg::new("selector").long("selector").help("More words that are broken where it is narrow"))
            .after_help(format!("Examples:\n{example}"));
        let program = || Command::new("program").subcommand(below.clone());
        for width in [30, 200] {
            let help = |program: Command| {
                let mut program = program.term_width(width);
                program.build();
                program.find_subcommand_mut("below").expect("there").render_long_help().to_string()
            };
            let shown = help(unwrapped(program()));
            assert!(shown.lines().any(|line| line == example), "{shown}");
            assert_eq!(shown.contains("broken where a terminal is narrower"), width == 200, "{shown}");
            if width == 200 {
                assert_eq!(shown.trim_end(), help(program()).trim_end());
            }
        }
    }
}
