//! The grammar: what is understood, and what is a usage error.

use super::*;
use clap::CommandFactory;
use clap::error::ErrorKind;

fn parse(line: &str) -> Result<Arguments, ErrorKind> {
    let words = std::iter::once("backstayctl").chain(line.split_whitespace());
    Arguments::try_parse_from(words).map_err(|e| e.kind())
}

#[test]
fn the_grammar_is_sound_and_every_command_has_examples() {
    fn visit(command: &mut clap::Command) {
        let help = command.render_long_help().to_string();
        assert!(help.contains("Examples:"), "{}", command.get_name());
        command.get_subcommands_mut().filter(|c| c.get_name() != "help").for_each(visit);
    }
    Arguments::command().debug_assert();
    visit(&mut Arguments::command());
}

#[test]
fn the_template_stands_on_either_side_of_the_verb() {
    for line in [
        "cluster template -f x.yaml diff",
        "cluster template diff -f x.yaml",
        "c t diff --file x.yaml",
        "--nats nats://h:1 c t -f x.yaml diff",
        "c t -f x.yaml diff --nats nats://h:1",
    ] {
        let Ok(Arguments { command: Command::Cluster { command: ClusterCommand::Template(template) }, .. }) =
            parse(line)
        else {
            panic!("{line}")
        };
        assert_eq!(template.file.as_deref(), Some(std::path::Path::new("x.yaml")), "{line}");
    }
}

#[test]
fn the_documented_commands_are_understood() {
    for line in [
        "get etcdbackupoverallstatus",
        "get etcdbackupstatus -o yaml",
        "get etcdbackup --selector omni.sidero.dev/cluster=talos-default",
        "g cluster c -o yaml",
        "apply -f a.yaml -f b.yaml -v --dry-run",
        "apply -f -",
        "cluster template -f etcd-backup.yaml sync",
        "delete etcdbackups3config etcd-backup-s3-conf",
    ] {
        assert!(parse(line).is_ok(), "{line}: {:?}", parse(line));
    }
}

#[test]
fn misuse_is_a_usage_error() {
    assert_eq!(parse("apply").map(|_| ()), Err(ErrorKind::MissingRequiredArgument));
    assert_eq!(parse("delete cluster").map(|_| ()), Err(ErrorKind::MissingRequiredArgument));
    assert_eq!(parse("get cluster -o wide").map(|_| ()), Err(ErrorKind::ValueValidation));
    assert_eq!(parse("get cluster --bogus").map(|_| ()), Err(ErrorKind::UnknownArgument));
}
