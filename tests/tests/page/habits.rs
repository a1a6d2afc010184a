//! What people of other tools type first, on real parts: lists of backups, descriptions, names, versions.

use anyhow::{Result, ensure};
use backstay_tests::{Output, eventually};
use serde_json::Value;

use crate::terminal::Terminal;
use crate::world::{CLUSTER, SOON, back_up, manifest, objects, resources, stand, start};

/// Characters in the longest line.
fn width(table: &str) -> usize {
    table.lines().map(|line| line.chars().count()).max().unwrap_or_default()
}

#[tokio::test]
async fn what_is_there_is_read_as_with_other_tools() -> Result<()> {
    let stand = start(stand().cluster(CLUSTER, 3)).await?;
    stand.configure_s3().await?;
    let terminal = Terminal::new(&stand)?;
    eventually(SOON, || async {
        let agents = resources(&stand, &["agents"]).await?;
        let known = |agent: &Value| agent["spec"]["member"].is_string() && agent["spec"]["host"].is_string();
        ensure!(agents.len() == 3 && agents.iter().all(known), "{agents:?}");
        Ok(())
    })
    .await?;

    // Backups, before there is one and then.
    let none = terminal.run(&format!("backstayctl backups {CLUSTER}")).await?;
    ensure!(none.status.success() && none.stderr.contains("there is no backup"), "{none:?}");
    let backup = back_up(&stand, CLUSTER).await?.remove(0);
    let real = manifest(&stand, &backup).await?;
    let table = terminal.prints("backstayctl backups --no-headers").await?;
    let cells: Vec<&str> = table.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    ensure!(cells.len() == 7 && cells[0] == CLUSTER && cells[1] == backup.snapshot, "{table}");
    assert_eq!(cells[5], real["origin"]["revision"].to_string(), "{table}");
    ensure!(cells[6] == "pages+member" && width(&table) <= 120, "{table}");
    let name = terminal.prints(&format!("backstayctl backups {CLUSTER} -o jsonpath='{{.spec.snapshot}}'")).await?;
    let verified = terminal.run(&format!("backstayctl verify {CLUSTER} --snapshot {}", name.trim())).await?.ok()?;
    ensure!(verified.contains(" by machine m"), "its member's name: {verified}");

    // One shape of JSON: each is an object of its own.
    for (command, count) in [
        (format!("get etcdbackup -l omni.sidero.dev/cluster={CLUSTER}"), 1),
        ("backups".to_owned(), 1),
        ("runs".to_owned(), 1),
        ("agents".to_owned(), 3),
        ("get types".to_owned(), backstay_protocol::types::ALL.len()),
        ("version".to_owned(), 1),
    ] {
        let all = objects(&terminal.prints(&format!("backstayctl {command} -o json")).await?)?;
        ensure!(all.len() == count && all.iter().all(Value::is_object), "{command}: {all:?}");
    }
    let status = terminal.run("backstayctl status -o json").await?;
    ensure!(objects(&status.stdout)?.iter().all(|health| health["cluster"] == CLUSTER), "{status:?}");

    // Names in place of UUIDs, in lines that fit.
    let machine = stand.cluster(CLUSTER).agents[0].machine.to_string();
    let agents = terminal.prints("backstayctl agents").await?;
    ensure!(agents.contains("   m1") && !agents.contains(&machine) && width(&agents) <= 80, "{agents}");
    ensure!(terminal.prints("backstayctl agents -o wide").await?.contains(&machine), "no whole UUID");
    let Output { stdout: status, .. } = terminal.run("backstayctl status").await?;
    let table: Vec<&str> = status.lines().take_while(|line| !line.is_empty()).collect();
    ensure!(table[0].ends_with("LAST VERIFIED") && width(&table.join("\n")) <= 80, "{status}");
    let runs = terminal.prints("backstayctl runs").await?;
    ensure!(runs.starts_with("CLUSTER ") && runs.contains("   m") && width(&runs) <= 120, "{runs}");

    // One resource by its address, as `-o name` prints it; and all of it for people.
    let address = terminal.prints(&format!("backstayctl get cluster {CLUSTER} -o name")).await?;
    assert_eq!(address, format!("cluster/{CLUSTER}\n"));
    let by_address = terminal.prints(&format!("backstayctl get {address}")).await?;
    assert_eq!(by_address, terminal.prints(&format!("backstayctl get cluster {CLUSTER}")).await?);
    let described = terminal.prints(&format!("backstayctl describe {address}")).await?;
    for part in ["Schedule:", "Last backup:", "Last verified:", &backup.snapshot, "Agents:\n", "Last runs:\n", "m1"] {
        ensure!(described.contains(part), "no {part:?}: {described}");
    }
    let described = terminal.prints("backstayctl describe etcdbackups3config").await?;
    ensure!(described.contains("<hidden>") && !described.contains("secret123"), "{described}");
    let both = terminal.refused(&format!("backstayctl get cluster/{CLUSTER} {CLUSTER}")).await?;
    ensure!(both.contains("given twice"), "{both}");
    Ok(())
}

#[tokio::test]
async fn the_versions_are_told_where_somebody_answers() -> Result<()> {
    let mut stand = start(stand().cluster(CLUSTER, 1).local()).await?;
    let terminal = Terminal::new(&stand)?;
    let version = env!("CARGO_PKG_VERSION");
    eventually(SOON, || async {
        let told = terminal.prints("backstayctl version").await?;
        ensure!(told.starts_with(&format!("Client:       {version}\nCoordinator:  {version} on ")), "{told}");
        ensure!(told.contains(&format!("Agents:       {version} on machine {CLUSTER}/m1")), "{told}");
        Ok(())
    })
    .await?;
    stand.nats.stop();
    let alone = terminal.run("backstayctl version").await?;
    ensure!(alone.status.success() && alone.stdout == format!("Client:       {version}\n"), "{alone:?}");
    ensure!(alone.stderr.contains("the coordinator's version is not known"), "{alone:?}");
    assert_eq!(terminal.prints("backstayctl version --client").await?, format!("Client:       {version}\n"));
    Ok(())
}
