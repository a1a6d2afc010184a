//! Which etcd a series of backups is of: one name, one UUID, one etcd, unless somebody says otherwise; and several series of
//! one cluster that are put together again.

use anyhow::{Context, Result, ensure};
use backstay_tests::{Etcd, EtcdOptions, Stand};
use futures::future::try_join_all;

use crate::terminal::Terminal;
use crate::world::{CLUSTER, back_up, stand, start};

/// A stand of which only etcd is used, and a folder for backups.
async fn parts() -> Result<(Stand, Terminal, String)> {
    let stand = stand().cluster(CLUSTER, 1).idle().start().await?;
    let terminal = Terminal::new(&stand)?;
    terminal.silent("mkdir store && age-keygen -o own.key 2> own.log").await?;
    let endpoint = stand.cluster(CLUSTER).etcd.members[0].client_url.clone();
    Ok((stand, terminal, endpoint))
}

fn once(etcd: &str, flags: &str) -> String {
    format!(
        "backstay-agent once --cluster {CLUSTER} --etcd {etcd} --store file://$PWD/store \
         --recipient $(age-keygen -y own.key) {flags}"
    )
}

/// The values that stand behind `key` in the store's manifests, the oldest first.
async fn manifests(terminal: &Terminal, key: &str) -> Result<Vec<String>> {
    let line =
        format!("cat $(ls -r store/*-*/*.manifest.json) | sed -n 's/^ *\"{key}\": \"*\\([^\",]*\\)\"*,*$/\\1/p'");
    Ok(terminal.prints(&line).await?.lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn two_etcds_do_not_share_one_series() -> Result<()> {
    let (_stand, terminal, first) = parts().await?;
    let other = Etcd::start_with(EtcdOptions { members: 1, ..EtcdOptions::default() }).await?;
    let second = other.members[0].client_url.clone();
    terminal.prints(&once(&first, "")).await?;
    let id = manifests(&terminal, "etcd_cluster_id").await?.first().context("a manifest")?.clone();

    let error = terminal.refused(&once(&second, "")).await?;
    for part in ["the newest backup of", &id, "at revision", "but this etcd is cluster", "--new-cluster-id this once"] {
        ensure!(error.contains(part), "no {part}: {error}");
    }
    assert_eq!(manifests(&terminal, "etcd_cluster_id").await?, [id.as_str()], "nothing was written");

    let said = terminal.prints(&once(&second, "--new-cluster-id")).await?;
    ensure!(said.contains(&format!("replaces   cluster {id}")), "{said}");
    terminal.prints(&once(&second, "")).await?;
    let error = terminal.refused(&once(&first, "")).await?;
    ensure!(error.contains("--new-cluster-id"), "{error}");

    // The listing shows which backup is of which.
    let listed = terminal.prints("backstayctl list --store file://$PWD/store -o wide").await?;
    let heading = listed.lines().next().unwrap_or_default();
    ensure!(heading.ends_with("ETCD CLUSTER"), "{listed}");
    assert_eq!(listed.lines().filter(|line| line.ends_with(&id)).count(), 1, "{listed}");
    let json = terminal.prints("backstayctl list --store file://$PWD/store -o json").await?;
    ensure!(json.contains(&format!("\"etcdclusterid\": \"{id}\"")), "{json}");
    Ok(())
}

#[tokio::test]
async fn an_etcd_that_has_lost_revisions_is_refused_though_its_id_is_the_same() -> Result<()> {
    let (stand, terminal, etcd) = parts().await?;
    terminal.prints(&once(&etcd, "")).await?;
    // As if that backup had been taken later: an etcd that is made anew with the same URLs and token has the same id.
    terminal.silent("sed -i 's/\"revision\": [0-9]*/\"revision\": 1000/' store/*-*/*.manifest.json").await?;
    let error = terminal.refused(&once(&etcd, "")).await?;
    for part in
        ["is at revision 1000, but this etcd is only at", "with the same cluster ID", "--new-cluster-id this once"]
    {
        ensure!(error.contains(part), "no {part}: {error}");
    }
    terminal.prints(&once(&etcd, "--new-cluster-id")).await?;
    stand.cluster(CLUSTER).etcd.put_many("/a/", 3, 10).await?;
    terminal.prints(&once(&etcd, "")).await?;
    Ok(())
}

#[tokio::test]
async fn the_first_backups_of_one_second_agree_on_one_uuid() -> Result<()> {
    let (_stand, terminal, etcd) = parts().await?;
    let line = once(&etcd, "");
    try_join_all((0..3).map(|_| terminal.prints(&line))).await?;
    let mut uuids = manifests(&terminal, "cluster_uuid").await?;
    assert_eq!(uuids.len(), 3);
    uuids.dedup();
    assert_eq!(uuids.len(), 1, "{uuids:?}");
    let kept = terminal.prints(&format!("cat store/names/{CLUSTER}.json")).await?;
    ensure!(kept.contains(&uuids[0]), "{kept}");
    // A store from before there were such objects: the backups are asked, and the object is there again.
    terminal.silent("rm -r store/names").await?;
    terminal.prints(&line).await?;
    assert_eq!(terminal.prints(&format!("cat store/names/{CLUSTER}.json")).await?.matches(&uuids[0]).count(), 1);
    Ok(())
}

#[tokio::test]
async fn several_series_of_one_cluster_are_put_together_and_all_can_be_restored() -> Result<()> {
    let (_stand, terminal, etcd) = parts().await?;
    let [one, two] = ["11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"];
    for uuid in [one, two] {
        // Each with a key of its own, which the recovery key opens.
        let make = format!(
            "mkdir -p store/{uuid} && age-keygen -o {uuid}.key 2> {uuid}.log && \
             age -r $(age-keygen -y own.key) -o store/{uuid}/key.age {uuid}.key"
        );
        terminal.silent(&make).await?;
        let line = once(&etcd, &format!("--cluster-uuid {uuid}"));
        terminal.prints(&line.replace("own.key", &format!("{uuid}.key"))).await?;
    }
    let merge = format!("backstayctl merge --store file://$PWD/store --cluster {CLUSTER} --into {one}");
    let planned = terminal.prints(&format!("{merge} --dry-run")).await?;
    ensure!(planned.contains("To copy:   1") && planned.contains(two), "{planned}");
    let before = terminal.prints("find store -type f | sort").await?;
    let asked = terminal.run(&merge).await?;
    ensure!(asked.status.code() == Some(1) && asked.stderr.contains("pass --yes"), "{asked:?}");
    assert_eq!(terminal.prints("find store -type f | sort").await?, before, "nothing was done");

    let merged = terminal.prints(&format!("{merge} --yes")).await?;
    ensure!(merged.contains(&format!("are under {one}")), "{merged}");
    assert_eq!(manifests(&terminal, "cluster_uuid").await?, [two, one, one], "the source stays");
    let again = terminal.prints(&format!("{merge} --yes")).await?;
    ensure!(again.contains("To copy:   0") && again.contains("1 already there"), "{again}");
    let names = terminal.prints(&format!("ls store/{one} | grep '[.]snapshot$'")).await?;
    for (place, name) in names.lines().enumerate() {
        let restored = terminal
            .prints(&format!(
                "backstayctl restore --store file://$PWD/store --cluster-uuid {one} --snapshot {name} --identity own.key \
                 --data-dir data{place} 2> notes"
            ))
            .await?;
        let next = format!("next       pass --new-cluster-id to the next `backstay-agent once --cluster {CLUSTER}`");
        ensure!(restored.contains(&next) && restored.contains("(was "), "{restored}");
    }
    assert_eq!(names.lines().count(), 2);
    Ok(())
}

#[tokio::test]
async fn a_backup_that_was_copied_is_opened_by_the_key_that_came_with_it() -> Result<()> {
    let stand = start(stand().cluster(CLUSTER, 1).local()).await?;
    let own = back_up(&stand, CLUSTER).await?.remove(0);
    let (terminal, other) = (Terminal::new(&stand)?, "22222222-2222-4222-8222-222222222222");
    let (store, keys) = (stand.local_path().display().to_string(), &stand.coordinators[0].folder);
    // A series with a key of its own, as a coordinator with the same identity file makes it.
    let etcd = &stand.cluster(CLUSTER).etcd.members[0].client_url;
    let make = format!(
        "age-keygen -o other.key 2> other.log && mkdir -p {store}/{other} && \
         age -r $(age-keygen -y {}/coordinator.key) -o {store}/{other}/key.age other.key",
        keys.display()
    );
    terminal.silent(&make).await?;
    let once =
        format!("backstay-agent once --cluster {CLUSTER} --cluster-uuid {other} --etcd {etcd} --store file://{store}");
    terminal.run(&format!("{once} --recipient $(age-keygen -y other.key)")).await?.ok()?;
    let merge = format!("backstayctl merge --store file://{store} --cluster {CLUSTER} --into {} --yes", own.uuid);
    let merged = terminal.prints(&merge).await?;
    let copied = merged.lines().find_map(|line| line.strip_prefix("copied ")?.split_whitespace().nth(2));
    let copied = copied.with_context(|| format!("nothing was copied: {merged}"))?;
    for snapshot in [copied, own.snapshot.as_str()] {
        let proven = stand.ctl(&["verify", CLUSTER, "--snapshot", snapshot]).await?.ok()?;
        ensure!(proven.contains(snapshot), "{proven}");
    }
    // It is that key, and no other.
    let key = format!("{store}/{}/keys/{other}.age", own.uuid);
    terminal.silent(&format!("mv {key} away.age")).await?;
    let refused = stand.ctl(&["verify", CLUSTER, "--snapshot", copied]).await?;
    ensure!(!refused.status.success(), "{refused:?}");
    stand.ctl(&["verify", CLUSTER, "--snapshot", &own.snapshot]).await?.ok()?;
    // One that is none, or is sealed to somebody else, does not hide it.
    let beside = format!("{store}/{}/keys", own.uuid);
    let strange =
        format!("echo none > {beside}/a.age && age -r $(age-keygen -y other.key) -o {beside}/b.age other.key");
    terminal.silent(&format!("mv away.age {key} && {strange}")).await?;
    stand.ctl(&["verify", CLUSTER, "--snapshot", copied]).await?.ok()?;
    Ok(())
}
