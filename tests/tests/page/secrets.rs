//! No secret leaves its place: not into a log, not into what NATS keeps, not onto the bus, not into the store, not into
//! metrics or settings that are printed.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use backstay_tests::{Stand, http};
use futures::StreamExt;

use crate::terminal::Terminal;
use crate::world::{CLUSTER, SOON, back_up, leads, stand, start};

/// It opens nothing, but it travels and rests like one that does.
const SESSION_TOKEN: &str = "FwoGZXIvYXdzEBYaDHNlc3Npb24tdG9rZW4";
const WRONG_SECRET: &str = "hunter2hunter2";
/// A server that asks nobody who he is takes it as well.
const NATS_PASSWORD: &str = "correct-horse-battery-staple";
/// How every private half of an age key begins.
const PRIVATE_KEY: &str = "AGE-SECRET-KEY-1";
/// The files that hold private keys, for their owner's eyes only.
const KEY_FILES: [&str; 3] = ["coordinator.key", "recovery.key", "identity"];

#[tokio::test]
async fn no_secret_is_in_a_log_in_nats_or_in_the_store() -> Result<()> {
    let mut stand = stand();
    for (name, value) in [
        ("BACKSTAY_LOG", "debug"),
        ("BACKSTAY_NATS__USER", "backstay"),
        ("BACKSTAY_NATS__PASSWORD", NATS_PASSWORD),
        ("BACKSTAY_HTTP__LISTEN", "127.0.0.1:0"),
    ] {
        stand = stand.agent_variable(name, value).coordinator_variable(name, value);
    }
    let mut stand = start(stand.cluster(CLUSTER, 1)).await?;
    let mut bus = stand.nats.client().await?.subscribe(">").await?;
    let terminal = Terminal::new(&stand)?;
    walk(&stand, &terminal).await?;
    stand.coordinators[0].daemon.start_and_wait(SOON).await?;
    stand.cluster_mut(CLUSTER).agents[0].daemon.start_and_wait(SOON).await?;
    leads(&stand).await?;
    back_up(&stand, CLUSTER).await?;
    let seen = seen_inside(&stand).await? + &printed_settings(&stand, &terminal).await?;
    // Their files stand still from here on.
    stand.cluster_mut(CLUSTER).agents[0].daemon.sigterm_and_wait(SOON).await?;
    stand.coordinators[0].daemon.sigterm_and_wait(SOON).await?;

    let secrets = [stand.s3.secret_access_key(), SESSION_TOKEN, WRONG_SECRET, NATS_PASSWORD, PRIVATE_KEY];
    ensure_free_of(&secrets, seen.as_bytes(), "what is seen inside")?;
    let applied = std::fs::read(terminal.folder().join("good.yaml"))?;
    ensure!(ensure_free_of(&secrets, &applied, "good.yaml").is_err(), "this test would find nothing");
    // What a person applied is where secrets come from.
    for folder in [stand.folder(), stand.nats.folder()] {
        for file in files(folder)?.iter().filter(|path| path.extension().is_none_or(|e| e != "yaml")) {
            if file.file_name().is_some_and(|name| KEY_FILES.iter().any(|key| name == *key)) {
                let mode = std::fs::metadata(file)?.permissions().mode() & 0o777;
                ensure!(mode == 0o600, "{} has mode {mode:o}", file.display());
                continue;
            }
            let bytes = std::fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
            ensure_free_of(&secrets, &bytes, &file.display().to_string())?;
        }
    }
    for key in stand.s3.objects().await?.into_keys() {
        ensure_free_of(&secrets, &crate::world::object(&stand, &key).await?, &key)?;
    }
    let mut messages = 0;
    let end = stand.nats.client().await?;
    end.publish("the.end", "".into()).await?;
    end.flush().await?;
    while let Some(message) = bus.next().await {
        match message.subject.as_str() {
            "the.end" => break,
            subject if subject.starts_with("backstay.v1.api.apply.") => {}
            subject => ensure_free_of(&secrets, &message.payload, subject)?,
        }
        messages += 1;
    }
    ensure!(messages > 20, "only {messages} messages were overheard");
    Ok(())
}

/// Everything that handles secrets: a configuration that is refused, one that is taken, showing it, a backup.
async fn walk(stand: &Stand, terminal: &Terminal) -> Result<()> {
    let good = stand.s3_config().replace("sessiontoken: \"\"", &format!("sessiontoken: {SESSION_TOKEN}"));
    std::fs::write(terminal.folder().join("good.yaml"), &good)?;
    let wrong = good.replace(stand.s3.secret_access_key(), WRONG_SECRET);
    std::fs::write(terminal.folder().join("wrong.yaml"), wrong)?;
    let mut shown = terminal.refused("backstayctl apply -f wrong.yaml").await?;
    shown += &terminal.prints("backstayctl apply -v -f good.yaml").await?;
    for format in ["table", "yaml", "json", "jsonpath={.spec}"] {
        shown += &terminal.prints(&format!("backstayctl get etcdbackups3config -o '{format}'")).await?;
    }
    let dry = terminal.run("sed s/us-east-1/us-east-2/ good.yaml | backstayctl apply --dry-run -f -").await?;
    ensure!(dry.stderr.contains("was not tested"), "{}", dry.stderr);
    shown += &(dry.stderr.clone() + &dry.ok()?);
    let secrets = [stand.s3.secret_access_key(), SESSION_TOKEN, WRONG_SECRET];
    ensure_free_of(&secrets, shown.as_bytes(), "what backstayctl printed")?;
    back_up(stand, CLUSTER).await?;
    Ok(())
}

/// Everything that both daemons answer over HTTP.
async fn seen_inside(stand: &Stand) -> Result<String> {
    let mut seen = String::new();
    for daemon in [&stand.coordinators[0].daemon, &stand.cluster(CLUSTER).agents[0].daemon] {
        let address = http::address(daemon).await?;
        for path in ["/healthz", "/readyz", "/metrics"] {
            let (status, body) = http::get(&address, path).await?;
            ensure!(status == 200, "{path} answers {status}: {body}");
            seen += &body;
        }
    }
    ensure!(seen.contains("backstay_attempts_total") && seen.contains("backstay_agent_attempts_total"), "{seen}");
    Ok(seen)
}

/// What both daemons print as their settings, with the password as they were started with it, and in the URL.
async fn printed_settings(stand: &Stand, terminal: &Terminal) -> Result<String> {
    let coordinator = stand.coordinators[0].folder.join("coordinator.toml").display().to_string();
    let agent = stand.cluster(CLUSTER).agents[0].config.display().to_string();
    let mut printed = String::new();
    for (program, config) in [("backstay-coordinator serve", coordinator), ("backstay-agent run", agent)] {
        let login = format!("BACKSTAY_NATS__USER=u BACKSTAY_NATS__PASSWORD={NATS_PASSWORD}");
        let print = format!("{program} --config {config} --print-config");
        let text = terminal.prints(&format!("{login} {print}")).await?;
        ensure!(text.contains("password = \"<hidden>\""), "{text}");
        printed += &text;
        let in_url = format!("--nats nats://u:{NATS_PASSWORD}@h:1");
        printed += &terminal.prints(&format!("{print} {in_url}")).await?;
        printed += &terminal.refused(&format!("{login} {print} {in_url}")).await?;
        // What is wrong is said without what it was set to.
        let wrong = format!(
            "BACKSTAY_HTTP__LISTEN=7 BACKSTAY_NATS__PASSWORD='[\"{NATS_PASSWORD}\"' BACKSTAY_LEASES={NATS_PASSWORD}"
        );
        printed += &terminal.refused(&format!("{wrong} {program} --config {config}")).await?;
    }
    Ok(printed)
}

fn ensure_free_of(secrets: &[&str], bytes: &[u8], place: &str) -> Result<()> {
    // What is no text stays apart from what is: a secret is found between other bytes too.
    let text = String::from_utf8_lossy(bytes);
    for secret in secrets {
        if let Some(at) = text.find(secret) {
            let before: String = text[..at].chars().rev().take(120).collect();
            anyhow::bail!("{place} holds a secret behind {:?}", before.chars().rev().collect::<String>());
        }
    }
    Ok(())
}

/// All plain files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            found.extend(files(&entry.path())?);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}
