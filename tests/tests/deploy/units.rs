//! The systemd units, by systemd's own eyes.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::root;

/// systemd-analyze's exposure runs from 0 (nothing to lose) to 10.
const EXPOSURE_MAX: f64 = 2.0;

fn systemd() -> PathBuf {
    root().join("deploy/systemd")
}

fn analyze(arguments: &[&str], file: &Path) -> String {
    let output = Command::new("systemd-analyze").args(arguments).arg(file).output();
    let output = output.expect("systemd-analyze is installed: Debian has it in the package systemd");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_daemons_are_hardened() {
    for unit in ["backstay-agent.service", "backstay-coordinator.service"] {
        let said = analyze(&["security", "--offline=true", "--no-pager"], &systemd().join(unit));
        let level = said.lines().find_map(|line| line.split_once("Overall exposure level for ")?.1.split_once(": "));
        let level = level.and_then(|(_, rest)| rest.split_whitespace().next()?.parse::<f64>().ok());
        assert!(level.expect("a level") <= EXPOSURE_MAX, "{said}");
    }
}

#[test]
fn units_and_examples_verify() {
    let folder = tempfile::tempdir().expect("a folder");
    let names = ["backstay-agent.service", "backstay-coordinator.service"];
    let examples = ["examples/backstay-once.service", "examples/backstay-once.timer"];
    for name in names.iter().chain(&examples) {
        let text = std::fs::read_to_string(systemd().join(name)).expect("a unit");
        // Verifying looks for the program, too; what this machine has installed is not the question.
        let text = text.replace("ExecStart=/usr/bin/", "ExecStart=/usr/bin/env ");
        let file = folder.path().join(name.rsplit('/').next().expect("a name"));
        std::fs::write(&file, text).expect("writable");
    }
    let drop_ins = ["kubeadm", "talos", "nats-password", "nats-nkey", "nats-tls", "local-store", "restore", "verify"];
    for drop_in in drop_ins {
        let text = std::fs::read_to_string(systemd().join(format!("examples/{drop_in}.conf"))).expect("a drop-in");
        let place = folder.path().join("backstay-agent.service.d");
        std::fs::create_dir_all(&place).expect("writable");
        std::fs::write(place.join(format!("{drop_in}.conf")), text).expect("writable");
    }
    for name in std::fs::read_dir(folder.path()).expect("readable") {
        let path = name.expect("an entry").path();
        if path.is_file() {
            let said = analyze(&["verify", "--man=no", "--recursive-errors=no"], &path);
            let ours: Vec<&str> = said.lines().filter(|line| line.contains("backstay")).collect();
            assert!(ours.is_empty(), "{}: {said}", path.display());
        }
    }
}

#[test]
fn the_units_name_settings_that_exist() {
    let overrides = |text: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("Environment="));
        lines.filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect()
    };
    let read = |name: &str| std::fs::read_to_string(systemd().join(name)).expect("a unit");
    for name in ["kubeadm", "talos", "nats-password", "nats-nkey", "nats-tls"] {
        let text = read(&format!("examples/{name}.conf"));
        let mut variables: Vec<_> = overrides(&text).into_iter().map(|name| (name, "/x".to_owned())).collect();
        assert!(!variables.is_empty(), "{name} sets something");
        assert_eq!(backstay_daemon::settings::unknown::<backstay_agent::Settings>(variables.clone()), [], "{name}");
        if name == "nats-password" {
            // As its head says, the user itself stands in the configuration.
            assert!(text.contains("the password of `user`"));
            variables.push(("BACKSTAY_NATS__USER".into(), "agent".into()));
        }
        backstay_agent::Settings::load(None, variables, Vec::new()).expect("these are settings of the agent");
    }
    let variables = overrides(&read("backstay-coordinator.service")).into_iter().map(|name| (name, "/x".to_owned()));
    let recovery = backstay_daemon::settings::Override::new("encryption.mode", "off");
    let mut layers = backstay_daemon::settings::from_environment::<backstay_coordinator::config::Settings>(variables);
    layers.push(recovery);
    let config = backstay_coordinator::config::load(None, &layers).expect("these are settings of the coordinator");
    assert_eq!(config.settings.identity_file(), Path::new("/x"));
}
