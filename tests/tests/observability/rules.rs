//! The alert rules that come with Backstay: sound, tested, and about metrics that there are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::look::{CLUSTER, SOON, address, back_up, scrape, stand};

const RULES: &str = "backstay.rules.yml";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus")
}

/// What `promtool` printed; an error where it found something.
fn promtool(arguments: &[&str]) -> Result<String> {
    let output = Command::new("promtool").args(arguments).current_dir(folder()).output();
    let output = output.context("failed to run promtool: apt-get install --no-install-recommends prometheus")?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "promtool {}: {text}", arguments.join(" "));
    Ok(text)
}

#[test]
fn the_rules_are_sound_and_fire_when_they_should() -> Result<()> {
    let text = promtool(&["check", "rules", RULES])?;
    ensure!(text.contains("SUCCESS"), "{text}");
    let text = promtool(&["test", "rules", "backstay.test.yml"])?;
    ensure!(text.contains("SUCCESS"), "{text}");
    Ok(())
}

#[tokio::test]
async fn every_metric_in_the_rules_is_one_that_a_daemon_shows() -> Result<()> {
    let rules = std::fs::read_to_string(folder().join(RULES))?;
    let expressions = rules.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words = expressions.flat_map(|line| line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')));
    let named: std::collections::BTreeSet<&str> = words.filter(|word| word.starts_with("backstay_")).collect();
    ensure!(named.len() >= 7, "only {named:?}");

    let stand = stand().start().await?;
    backstay_tests::eventually(SOON, || stand.configure_s3()).await?;
    back_up(&stand, 1).await?;
    stand.configure_backups(CLUSTER, "{interval: {seconds: 3600, nanos: 0}, enabled: true}").await?;
    let mut shown = scrape(&address(&stand.coordinators[0].daemon).await?).await?;
    shown.extend(scrape(&address(&stand.cluster(CLUSTER).agents[0].daemon).await?).await?);
    for name in named {
        ensure!(shown.keys().any(|sample| sample.split('{').next() == Some(name)), "no {name} in {shown:?}");
    }
    assert_eq!(shown[&format!("backstay_cluster_backup_interval_seconds{{cluster=\"{CLUSTER}\"}}")], 3600.0);
    Ok(())
}
