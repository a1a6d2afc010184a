//! The sample configurations are understood, with every line that is commented out as well.

use backstay_agent::Settings;
use backstay_coordinator::config;
use backstay_daemon::settings::Override;

use crate::root;

fn sample(name: &str) -> String {
    std::fs::read_to_string(root().join("deploy/samples").join(name)).expect("a sample")
}

/// The sample with its settings that are commented out switched on.
fn with_everything(name: &str) -> String {
    let is_setting = |line: &str| {
        let key = line.split(" = ").next().unwrap_or_default();
        line.contains(" = ") && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let line = |line: &str| match line.strip_prefix("# ") {
        Some(rest) if is_setting(rest) => rest.to_owned(),
        _ => line.to_owned(),
    };
    sample(name).lines().map(line).collect::<Vec<_>>().join("\n")
}

fn written(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("writable");
    file
}

#[test]
fn the_agent_s_sample_parses() {
    // With the packages the CA comes by a drop-in.
    let drop_in = [("BACKSTAY_ETCD__CA".to_owned(), "/run/credentials/etcd-ca.crt".to_owned())];
    let settings = Settings::load(Some(written(&sample("agent.toml")).path()), drop_in, Vec::new());
    let settings = settings.expect("understood");
    assert_eq!(settings.cluster.expect("given").as_str(), "prod");
    assert_eq!(settings.etcd.endpoints, ["https://127.0.0.1:2379"]);
    // Three ways to say who one is are two too many.
    let all = with_everything("agent.toml");
    let ways = ["user = \"agent\"", "password_file = \"/path\"", "credentials = \"/path\"", "nkey = \"/path\""];
    for kept in [&ways[..2], &ways[2..3], &ways[3..]] {
        let others = ways.iter().filter(|way| !kept.contains(way));
        let text = others.fold(all.clone(), |text, way| text.replacen(way, "", 1));
        let settings = Settings::load(Some(written(&text).path()), [], Vec::new()).expect("understood");
        assert!(settings.etcd.key.is_some(), "commented lines are settings");
    }
}

#[test]
fn the_coordinator_s_sample_parses_and_needs_a_recovery_recipient_of_one_s_own() {
    let text = sample("coordinator.toml");
    let error = config::load(Some(written(&text).path()), &[]).expect_err("nobody's key is in the sample");
    assert!(error.to_string().contains("no recovery recipient"), "{error}");
    let recipient = backstay_archive::seal::Identity::generate().to_public().to_string();
    let text = text.replace("# recovery_recipients = [\"age1…\"]", &format!("recovery_recipients = [\"{recipient}\"]"));
    let config = config::load(Some(written(&text).path()), &[Override::new("state_dir", "/x")]).expect("understood");
    assert_eq!(config.settings.identity_file(), std::path::Path::new("/x/coordinator.key"));
    assert_eq!(config.recovery.len(), 1);
}
