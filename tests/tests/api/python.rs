//! A client that shares no code with Backstay: Python, with nats-py from PyPI.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backstay_tests::daemon::binary;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::world::{CLUSTER, leads, listed, stand, start};

/// A venv and a download may take this long, and so may the client.
const LONG: Duration = Duration::from_secs(300);
const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients");

async fn run(program: &std::path::Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let what = format!("{} {}", program.display(), arguments.first().unwrap_or(&""));
    let output = timeout(LONG, command.output()).await.with_context(|| format!("{what} does not end"))?;
    let output = output.with_context(|| format!("failed to start {what}"))?;
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    ensure!(output.status.success(), "{what} ended with {}\n{out}{err}", output.status);
    Ok(out)
}

/// A Python with nats-py, in a venv beside the built programs; made where it is not there.
async fn python() -> Result<PathBuf> {
    let venv = binary("backstayctl")?.with_file_name("python-clients");
    let python = venv.join("bin/python");
    let requirements = format!("{CLIENTS}/requirements.txt");
    if !python.is_file() {
        let made = run("python3".as_ref(), &["-m", "venv", &venv.display().to_string()]).await;
        made.context("cannot make a venv: tests/setup.sh installs what that needs (Debian: python3-venv)")?;
    }
    let installed = run(&python, &["-m", "pip", "install", "--quiet", "-r", &requirements]).await;
    installed.context("cannot install nats-py from PyPI, which this test needs")?;
    Ok(python)
}

#[tokio::test]
async fn a_client_in_python_takes_a_backup() -> Result<()> {
    let python = python().await?;
    let stand = start(stand().cluster(CLUSTER, 1).with_permissions()).await?;
    leads(&stand).await?;
    stand.configure_s3().await?;
    let operator = &stand.users.as_ref().expect("built with permissions").operator;
    let url = stand.nats.url().replace("nats://", &format!("nats://{}:{}@", operator.user, operator.password));
    let told = run(&python, &[&format!("{CLIENTS}/backup.py"), &url, CLUSTER]).await?;
    let told: Value = serde_json::from_str(&told).with_context(|| format!("no JSON: {told}"))?;

    ensure!(told["ping"]["name"] == "backstay" && told["info"]["id"] == told["ping"]["id"], "{told}");
    ensure!(told["types"]["clusters"][0] == CLUSTER && told["types"]["clusteruuids"][0] == CLUSTER, "{told}");
    ensure!(told["types"]["etcdbackups3configs"][0] == "etcd-backup-s3-conf", "{told}");
    ensure!(told["applied"]["action"] == "created" && told["status"]["error"] == "", "{told}");
    let backups = listed(&stand, CLUSTER).await?;
    ensure!(backups.len() == 1 && told["backups"][0]["metadata"]["id"] == backups[0].id.as_str(), "{told}");
    ensure!(told["error"]["code"] == "invalid_argument", "{told}");
    ensure!(told["error"]["text"] == "cluster \"nowhere\" does not exist", "{told}");
    let endpoints = told["stats"]["endpoints"].as_array().context("the service has endpoints")?;
    let applied = endpoints.iter().find(|e| e["name"] == "apply").context("one of them is apply")?;
    ensure!(applied["num_requests"] == 3, "S3, a backup, and nowhere: {applied}");
    Ok(())
}
