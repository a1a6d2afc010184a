//! A client that shares no code with Backstay: Python, with nats-py from PyPI.

use anyhow::{Context, Result, ensure};
use backstay_tests::pypi::{python, run};
use serde_json::Value;

use crate::world::{CLUSTER, leads, listed, stand, start};

const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients");

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
