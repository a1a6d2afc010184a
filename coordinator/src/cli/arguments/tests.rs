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
        "get etcdbackupstatus --watch",
        "agents",
        "agents talos-default -o yaml",
        "runs talos-default",
        "backup talos-default",
        "backup talos-default --wait --timeout 90m",
        "status",
        "status talos-default other --grace 30m -o json",
        "cluster template status -f etcd-backup.yaml",
        "cluster template export -c talos-default",
        "cluster template -f etcd-backup.yaml delete --dry-run",
        "completion zsh",
        "man folder",
    ] {
        assert!(parse(line).is_ok(), "{line}: {:?}", parse(line));
    }
}

#[test]
fn misuse_is_a_usage_error() {
    assert_eq!(parse("apply").map(|_| ()), Err(ErrorKind::MissingRequiredArgument));
    assert_eq!(parse("delete cluster").map(|_| ()), Err(ErrorKind::MissingRequiredArgument));
    assert_eq!(parse("get cluster -o wide").map(|_| ()), Err(ErrorKind::ValueValidation));
    assert_eq!(parse("backup c --timeout 1h").map(|_| ()), Err(ErrorKind::MissingRequiredArgument));
    assert_eq!(parse("backup c --wait --timeout soon").map(|_| ()), Err(ErrorKind::ValueValidation));
    assert_eq!(parse("status -o jsonpath={.x}").map(|_| ()), Err(ErrorKind::ValueValidation));
    assert_eq!(parse("runs").map(|_| ()), Err(ErrorKind::MissingRequiredArgument));
    assert_eq!(parse("completion powershell").map(|_| ()), Err(ErrorKind::InvalidValue));
    assert_eq!(parse("get cluster --bogus").map(|_| ()), Err(ErrorKind::UnknownArgument));
}

/// The help of each command, and what clap says of misuse, at a width of 100.
#[test]
fn every_help_is_as_it_was() {
    fn visit(command: &mut clap::Command, path: &str, texts: &mut Vec<(String, String)>) {
        texts.push((path.to_owned(), command.render_long_help().to_string()));
        let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
        for name in names.iter().filter(|name| *name != "help") {
            let inner = command.find_subcommand_mut(name).expect("it was just named");
            visit(inner, &format!("{path} {name}"), texts);
        }
    }
    let mut program = Arguments::command().term_width(100);
    program.build();
    let mut texts = Vec::new();
    visit(&mut program, "backstayctl", &mut texts);
    assert!(texts.len() > 15, "{}", texts.len());
    for (path, text) in texts {
        insta::assert_snapshot!(path.replace(' ', "-"), text);
    }
}

#[test]
fn misuse_is_explained() {
    let explained = |line: &str| {
        let words = std::iter::once("backstayctl").chain(line.split_whitespace());
        let error = Arguments::command().term_width(100).try_get_matches_from(words).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
        format!("$ backstayctl {line}\n{}", error.render())
    };
    let lines =
        ["backup", "statsu", "get cluster -o wide", "backup c --wait --timeout soon", "apply", "completion tcsh"];
    insta::assert_snapshot!("misuse", lines.map(explained).join("\n"));
}
