//! The grammar: what is understood, and what is a usage error.

use super::*;
use clap::CommandFactory;
use clap::error::ErrorKind;

fn parse(line: &str) -> Result<Arguments, ErrorKind> {
    let words = std::iter::once("backstayctl").chain(line.split_whitespace());
    Arguments::read(words).map_err(|e| e.kind())
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
fn what_writes_into_a_bucket_takes_the_flags_of_writing_and_what_reads_does_not() {
    let (read, written) = (
        "--region r --endpoint http://e --s3-ca ca --s3-addressing path",
        "--s3-checksum crc32c --storage-class C --server-side-encryption aws:kms --kms-key-id k",
    );
    let merge = format!("merge --store s3://b --cluster c {read} {written}");
    let Ok(Arguments { command: Command::Merge(merge), .. }) = parse(&merge) else { panic!("{merge}") };
    let settings = merge.bucket.settings();
    assert_eq!((settings.checksum.as_str(), settings.objects.kms_key_id.as_str()), ("crc32c", "k"));
    for reads in ["list --store s3://b", "restore --store s3://b --snapshot latest --data-dir d"] {
        assert!(parse(&format!("{reads} {read}")).is_ok(), "{reads}");
        assert_eq!(parse(&format!("{reads} {written}")).err(), Some(ErrorKind::UnknownArgument), "{reads}");
    }
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
        "runs -o wide --no-headers",
        "backups",
        "backups talos-default -o name",
        "get types",
        "get cluster/talos-default -o wide",
        "describe cluster talos-default",
        "describe cluster/talos-default",
        "version --client",
        "version -o json",
        "status -o wide --no-headers",
        "backup talos-default",
        "backup talos-default --wait --timeout 90m",
        "status",
        "status talos-default other --grace 30m -o json",
        "cluster template status -f etcd-backup.yaml",
        "cluster template export -c talos-default",
        "cluster template -f etcd-backup.yaml delete --dry-run",
        "completion zsh",
        "man folder",
        "restore c --snapshot latest --bump-revision 5 --timeout 1h -y",
        "restore c --before 2026-11-22T10:00:00Z --nats nats://h:1",
        "--nats nats://h:1 restore c --snapshot latest --data-of-another-cluster other",
        "restore --store s3://b --snapshot latest --data-dir d --identity k --name a --bump-revision 0 --region r",
        "restore --store file:///s --cluster prod --before 2026-11-22T10:00:00Z --data-dir d",
        "restore --snapshot latest --data-dir d --defragment --remove-auth --remove-alarms --store=file:///s",
    ] {
        assert!(parse(line).is_ok(), "{line}: {:?}", parse(line));
    }
}

#[test]
fn misuse_is_a_usage_error() {
    assert_eq!(parse("apply").map(|_| ()), Err(ErrorKind::MissingRequiredArgument));
    assert_eq!(parse("delete cluster").map(|_| ()), Err(ErrorKind::MissingRequiredArgument));
    assert_eq!(parse("get cluster -o tall").map(|_| ()), Err(ErrorKind::ValueValidation));
    assert_eq!(parse("backup c --timeout 1h").map(|_| ()), Err(ErrorKind::MissingRequiredArgument));
    assert_eq!(parse("backup c --wait --timeout soon").map(|_| ()), Err(ErrorKind::ValueValidation));
    assert_eq!(parse("status -o jsonpath={.x}").map(|_| ()), Err(ErrorKind::ValueValidation));
    assert_eq!(parse("describe").map(|_| ()), Err(ErrorKind::MissingRequiredArgument));
    assert_eq!(parse("completion powershell").map(|_| ()), Err(ErrorKind::InvalidValue));
    assert_eq!(parse("get cluster --bogus").map(|_| ()), Err(ErrorKind::UnknownArgument));
}

/// The usage error of a line.
fn misused(line: &str) -> String {
    let words = std::iter::once("backstayctl").chain(line.split_whitespace());
    let error = Arguments::read(words).expect_err(line);
    assert_eq!(error.exit_code(), 2, "{line}");
    error.to_string()
}

#[test]
fn a_flag_of_the_other_way_to_restore_is_refused_and_says_where_it_belongs() {
    let cluster = "`backstayctl restore CLUSTER`";
    let store = "`backstayctl restore --store URL`";
    for flag in [
        "--data-dir ./peek",
        "--remove-auth",
        "--remove-alarms",
        "--defragment",
        "--name a",
        "--identity k",
        "--cluster-uuid 7d3a5a4c-9a0d-4c39-9b3c-3a2f1d9c2f10",
        "--cluster other",
        "--initial-cluster a=http://a:1",
        "--initial-advertise-peer-urls http://a:1",
        "--initial-cluster-token t",
        "--mark-compacted=false",
        "--region r",
        "--endpoint http://h:1",
        "--s3-ca f",
    ] {
        let name = flag.split([' ', '=']).next().expect("a flag");
        for line in
            [format!("restore prod --snapshot latest {flag} --yes"), format!("restore {flag} --snapshot latest prod")]
        {
            let error = misused(&line);
            assert!(
                error.contains(&format!("{name} belongs to {store}")) && error.contains(cluster),
                "{line}: {error}"
            );
        }
    }
    let base = "restore --store file:///s --snapshot latest --data-dir d";
    for flag in ["--yes", "--data-of-another-cluster other", "--timeout 3h", "--nats nats://h:1", "--nats-user u"] {
        let name = flag.split(' ').next().expect("a flag");
        let error = misused(&format!("{base} {flag}"));
        assert!(error.contains(&format!("{name} belongs to {cluster}")) && error.contains(store), "{flag}: {error}");
    }
    let error = misused("restore prod --snapshot latest --data-dir d --name a");
    assert!(error.contains("--data-dir, --name belong to"), "{error}");
    for (line, part) in [
        ("restore prod --store file:///s --snapshot latest", "cannot be used together"),
        ("restore --snapshot latest --data-dir d", "give either CLUSTER or --store"),
        ("restore --store file:///s --snapshot latest", "--data-dir is required"),
        ("restore prod", "--snapshot"),
        ("restore --store file:///s --data-dir d", "--snapshot"),
        ("restore prod --snapshot latest --before 2026-11-22T10:00:00Z", "cannot be used with"),
    ] {
        let error = misused(line);
        assert!(error.contains(part) && error.contains("Usage: backstayctl restore"), "{line}: {error}");
    }
}

#[test]
fn each_way_to_restore_shows_its_own_flags() {
    let help = |line: &str| {
        let words = std::iter::once("backstayctl").chain(line.split_whitespace());
        let shown = Arguments::read(words).expect_err(line);
        assert_eq!(shown.kind(), ErrorKind::DisplayHelp, "{line}");
        shown.to_string()
    };
    let of_cluster = ["--data-of-another-cluster", "--yes", "--timeout", "<CLUSTER>", "--nats-user"];
    let of_store = [
        "--data-dir",
        "--identity",
        "--name",
        "--cluster ",
        "--initial-cluster ",
        "--remove-auth",
        "--defragment",
        "--region",
    ];
    for line in
        ["restore --help", "restore -h", "help restore", "restore prod --help", "restore prod --data-dir d --help"]
    {
        let shown = help(line);
        let text = sections(&shown);
        assert!(of_cluster.iter().all(|flag| text.contains(flag)), "{line}: {text}");
        assert!(!of_store.iter().any(|flag| text.contains(flag)), "{line}: {text}");
        assert!(shown.contains("backstayctl restore --store URL --help"), "{line}: {shown}");
    }
    for line in ["restore --store file:///s --help", "restore -h --store=s3://b"] {
        let shown = help(line);
        let text = sections(&shown);
        assert!(of_store.iter().all(|flag| text.contains(flag)), "{line}: {text}");
        assert!(!of_cluster.iter().any(|flag| text.contains(flag)), "{line}: {text}");
        assert!(shown.contains("backstayctl restore --help"), "{line}: {shown}");
    }
}

/// What stands in a help under headings: flags, and not examples.
fn sections(help: &str) -> String {
    let end = help.find("\nThe command first prints").or(help.find("\nRestores a backup into")).unwrap_or(help.len());
    help[..end].to_owned()
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
    let way = |way| {
        let mut program = Arguments::program(way).term_width(100);
        program.build();
        program
    };
    let mut texts = Vec::new();
    visit(&mut way(Way::Cluster), "backstayctl", &mut texts);
    let mut from_store = way(Way::Store);
    let from_store = from_store.find_subcommand_mut("restore").expect("it is there");
    texts.push(("backstayctl restore store".into(), from_store.render_long_help().to_string()));
    assert!(texts.len() > 15, "{}", texts.len());
    for (path, text) in texts {
        insta::assert_snapshot!(path.replace(' ', "-"), text);
    }
}

/// Each command's help, and what stands below its options.
fn helps(way: Way, width: usize) -> Vec<(String, String, String)> {
    fn visit(command: &mut clap::Command, all: &mut Vec<(String, String, String)>) {
        let below = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        all.push((command.get_name().to_owned(), command.render_long_help().to_string(), below));
        command.get_subcommands_mut().filter(|c| c.get_name() != "help").for_each(|c| visit(c, all));
    }
    let mut program = Arguments::program(way).term_width(width);
    program.build();
    let mut all = Vec::new();
    visit(&mut program, &mut all);
    all
}

#[test]
fn an_example_can_be_pasted_at_any_width() {
    for way in [Way::Cluster, Way::Store] {
        for width in [40, 80, 200] {
            let mut examples = 0;
            for (name, help, below) in helps(way, width) {
                let (_, lines) = below.split_once("Examples:\n").unwrap_or_else(|| panic!("{name}: {below}"));
                for line in lines.lines().take_while(|line| !line.is_empty()) {
                    assert!(help.lines().any(|shown| shown == line), "{name} at {width}: {line}\n{help}");
                    examples += usize::from(line.trim_start().starts_with("backstayctl "));
                }
            }
            assert!(examples > 40, "{examples}");
        }
    }
}

/// Below the options nothing is wrapped: examples may be longer, sentences fit a terminal.
#[test]
fn sentences_below_the_options_fit_80_columns() {
    for way in [Way::Cluster, Way::Store] {
        for (name, _, below) in helps(way, 80) {
            let text = below.split("Examples:\n").next().unwrap_or_default();
            text.lines().for_each(|line| assert!(line.chars().count() <= 80, "{name}: {line}"));
        }
    }
}

#[test]
fn every_example_is_understood() {
    for way in [Way::Cluster, Way::Store] {
        for (name, _, below) in helps(way, 80) {
            let (_, lines) = below.split_once("Examples:\n").expect("examples");
            let joined = lines.replace("\\\n", " ");
            for line in joined.lines().filter(|line| line.trim_start().starts_with("backstayctl ")) {
                let command = line.split(['|', '>']).next().unwrap_or_default().replace('\'', "");
                let read = Arguments::read(command.split_whitespace());
                assert!(read.is_ok(), "{name}: {line}: {:?}", read.err().map(|error| error.to_string()));
            }
        }
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
        ["backup", "statsu", "get cluster -o tall", "backup c --wait --timeout soon", "apply", "completion tcsh"];
    insta::assert_snapshot!("misuse", lines.map(explained).join("\n"));
}
