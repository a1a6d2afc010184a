//! etcd on a restored folder: it serves what was backed up, takes writes, survives kills, grows.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backstay_snapshot::inspect::Inspector;
use backstay_snapshot::restore::Options;
use backstay_tests::{Etcd, EtcdOptions, eventually};
use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions, ConnectOptions};

use super::source::{Backup, backup, backup_by, keys, leases, lived, options, restore, restored};

const SOON: Duration = Duration::from_secs(60);

/// The jump, without anything marked as compacted: so every revision of the backup can still be asked for.
fn jumping(options: Options) -> Options {
    Options { bump: Some(1000), mark_compacted: false, ..options }
}

async fn holds(etcd: &Etcd, backup: &Backup) -> Result<()> {
    ensure!(keys(&mut etcd.client().await?).await? == backup.keys, "the keys differ");
    assert_eq!(leases(&mut etcd.client().await?).await?, backup.leases);
    for member in &etcd.members {
        let hash = member.client().await?.hash_kv(backup.revision).await?.hash();
        assert_eq!(Some(hash), backup.hash, "HashKV of {} at {}", member.name, backup.revision);
    }
    Ok(())
}

#[tokio::test]
async fn one_and_three_members_serve_what_was_backed_up() -> Result<()> {
    let source = backup(&lived().await?).await?;
    for (members, defragment) in [(1, false), (1, true), (3, false), (3, true)] {
        let context = || format!("{members} members, defragment {defragment}");
        let change = |options| Options { defragment, ..jumping(options) };
        let (mut etcd, told) = restored(members, &source, change).await.with_context(context)?;
        holds(&etcd, &source).await.with_context(context)?;
        let listed = etcd.client().await?.member_list().await?;
        assert_eq!(listed.members().len(), members, "{}", context());
        assert_eq!(listed.header().context("a header")?.cluster_id(), told.cluster_id);
        assert_eq!((told.revision_before, told.revision_after), (source.revision, source.revision + 1000));
        goes_on(&mut etcd, told.revision_after).await.with_context(context)?;
        holds_after_writes(&etcd, &source).await.with_context(context)?;
    }
    Ok(())
}

/// Writes count on from the jump, and survive the death of every member.
async fn goes_on(etcd: &mut Etcd, from: i64) -> Result<()> {
    let written = etcd.put_many("/new/", 150, 100).await?;
    assert_eq!(written, from + 2, "150 keys are two transactions");
    for member in &mut etcd.members {
        member.kill();
    }
    for member in &mut etcd.members {
        member.restart_without_waiting()?;
    }
    for member in &mut etcd.members {
        member.ready().await?;
    }
    let answer = etcd.client().await?.get("/new/00000149", None).await?;
    assert_eq!((answer.count(), answer.header().context("a header")?.revision()), (1, written));
    // A second restart would have applied twice what an index that was not saved brings again.
    assert_eq!(answer.kvs()[0].version(), 1);
    Ok(())
}

/// What etcd itself does to a database finds the restored one in order: compaction, defragmentation, a backup of it.
async fn holds_after_writes(etcd: &Etcd, source: &Backup) -> Result<()> {
    let mut client = etcd.client().await?;
    let now = client.get("any", None).await?.header().context("a header")?.revision();
    // At the revision of a compaction itself older releases refuse to hash.
    client.compact(now - 1, Some(CompactionOptions::new().with_physical())).await?;
    for member in &etcd.members {
        member.client().await?.defragment().await?;
    }
    let (kept, new): (Vec<_>, Vec<_>) =
        keys(&mut etcd.client().await?).await?.into_iter().partition(|found| !found.0.starts_with(b"/new/"));
    ensure!(kept == source.keys, "the keys differ after compaction and defragmentation");
    assert_eq!(new.len(), 150);
    // Members that lag would hash less: each is asked at the same revision.
    let mut hashes = Vec::new();
    for member in &etcd.members {
        hashes.push(eventually(SOON, || async { Ok(member.client().await?.hash_kv(now).await?.hash()) }).await?);
    }
    ensure!(hashes.iter().all(|hash| *hash == hashes[0]), "the members disagree: {hashes:?}");
    Ok(())
}

#[tokio::test]
async fn a_restored_cluster_can_be_backed_up_and_restored_again() -> Result<()> {
    let first = backup(&lived().await?).await?;
    let (etcd, _) = restored(1, &first, |options| Options { bump: Some(500), ..options }).await?;
    etcd.put_many("/again/", 20, 100).await?;
    let second = backup(&etcd).await?;
    let (again, told) = restored(3, &second, jumping).await?;
    assert_eq!(told.revision_before, second.revision);
    holds(&again, &second).await?;
    Ok(())
}

#[tokio::test]
async fn an_empty_cluster_and_one_that_is_compacted_to_the_end_are_restored() -> Result<()> {
    let etcd = Etcd::start(1).await?;
    let empty = backup(&etcd).await?;
    let (restored_empty, told) = restored(1, &empty, jumping).await?;
    assert_eq!((told.revision_before, told.revision_after), (1, 1001));
    ensure!(keys(&mut restored_empty.client().await?).await?.is_empty());

    etcd.put_many("/a/", 10, 10).await?;
    let mut client = etcd.client().await?;
    client.delete("/a/", Some(etcd_client::DeleteOptions::new().with_prefix())).await?;
    let last = client.get("any", None).await?.header().context("a header")?.revision();
    client.compact(last, Some(CompactionOptions::new().with_physical())).await?;
    let compacted = backup(&etcd).await?;
    let (etcd, told) = restored(1, &compacted, jumping).await?;
    // No key is left that says how far the revisions had come: the mark of the compaction does.
    assert_eq!(told.revision_before, last);
    ensure!(keys(&mut etcd.client().await?).await?.is_empty());
    assert_eq!(etcd.put_many("/b/", 1, 1).await?, last + 1001);
    Ok(())
}

#[tokio::test]
async fn a_member_that_is_added_gets_everything() -> Result<()> {
    let source = backup(&lived().await?).await?;
    let (mut etcd, told) = restored(1, &source, jumping).await?;
    let mut added = etcd.add_voter().await?.client().await?;
    let hash = eventually(SOON, || {
        let mut added = added.clone();
        async move { Ok(added.hash_kv(told.revision_before).await?.hash()) }
    });
    assert_eq!(Some(hash.await?), source.hash);
    let all = etcd_client::GetOptions::new().with_from_key().with_serializable();
    let found = added.get("\0", Some(all)).await?;
    assert_eq!(found.count(), source.keys.len() as i64);
    Ok(())
}

/// Where etcd 3.5.1 to 3.5.19 took the backup, its database calls the second member a learner for ever.
#[tokio::test]
async fn a_promoted_learner_is_no_learner_after_the_restore() -> Result<()> {
    let mut etcd = lived().await?;
    etcd.add_learner().await?;
    etcd.promote_learner().await?;
    let source = backup(&etcd).await?;
    let (mut etcd, _) = restored(2, &source, jumping).await?;
    holds(&etcd, &source).await?;
    for member in &mut etcd.members {
        member.restart_without_waiting()?;
    }
    for member in &mut etcd.members {
        member.ready().await?;
        let status = member.client().await?.status().await?;
        ensure!(!status.is_learner(), "{status:?}");
    }
    let listed = etcd.client().await?.member_list().await?;
    ensure!(listed.members().len() == 2 && listed.members().iter().all(|member| !member.is_learner()), "{listed:?}");
    let again = backup(&etcd).await?;
    let mut inspector = Inspector::new(backstay_snapshot::inspect::Options::default());
    inspector.update(&again.database)?;
    let members = inspector.finish()?.contents?.about.members;
    ensure!(members.len() == 2 && members.iter().all(|member| !member.learner), "{members:?}");
    Ok(())
}

#[tokio::test]
async fn alarms_and_authentication_stay_unless_they_are_removed() -> Result<()> {
    let etcd = lived().await?;
    let mut client = etcd.client().await?;
    let member = client.member_list().await?.members()[0].id();
    let mut nospace = AlarmOptions::new();
    nospace.with_member(member);
    client.alarm(AlarmAction::Activate, AlarmType::Nospace, Some(nospace)).await?;
    client.user_add("root", "hunter2", None).await?;
    client.role_add("root").await?;
    client.user_grant_role("root", "root").await?;
    client.auth_enable().await?;
    let root = ConnectOptions::new().with_user("root", "hunter2");
    let locked = backup_by(Client::connect(etcd.endpoints(), Some(root.clone())).await?).await?;

    let mut kept = Etcd::prepare(EtcdOptions::default())?;
    let told = restore(&locked.database, &kept.members[0].data_dir, options(&kept, 0))?;
    assert_eq!((told.alarms, told.auth_enabled), (1, true));
    kept.members[0].restart_without_waiting()?;
    let member = &kept.members[0];
    let refused = eventually(SOON, || async {
        let error = member.client().await?.get("any", None).await.err().context("a request without a user")?;
        let text = error.to_string();
        if text.contains("user name is empty") { Ok(()) } else { anyhow::bail!(text) }
    });
    refused.await?;
    let mut client = Client::connect(kept.endpoints(), Some(root)).await?;
    assert_eq!(keys(&mut client).await?, locked.keys);
    let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await?;
    assert_eq!(alarms.alarms().len(), 1);

    let remove = |options| Options { remove_alarms: true, remove_auth: true, ..options };
    let (open, told) = restored(1, &locked, remove).await?;
    assert_eq!((told.alarms, told.auth_enabled), (0, false));
    ensure!(keys(&mut open.client().await?).await? == locked.keys);
    let mut client = open.client().await?;
    let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await?;
    ensure!(alarms.alarms().is_empty());
    ensure!(client.user_list().await?.users().is_empty());
    open.put_many("/new/", 1, 1).await?;
    Ok(())
}
