//! Backups by the agent's own pipeline: the verdict that stands in the manifest, and what is no backup at all.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backstay_agent::attempt::{BackupFailure, Member};
use backstay_agent::etcd::EtcdSettings;
use backstay_agent::once::{Once, Taken, once};
use backstay_agent::proof::ask::Question;
use backstay_agent::proof::settings::InspectionSettings;
use backstay_archive::manifest::{Inspection, Origin, Verdict};
use backstay_archive::store::spec::StoreSpec;
use backstay_archive::writer::Limits;
use backstay_daemon::SystemClock;
use backstay_protocol::bus::FailureCode;
use backstay_tests::{Etcd, EtcdMember, EtcdOptions, Folder, releases};
use etcd_client::CompactionOptions;
use tokio_util::sync::CancellationToken;

use crate::look::{Snapshot, revision};

const LONG: Duration = Duration::from_secs(120);

fn agents_etcd(member: &EtcdMember) -> backstay_agent::etcd::Etcd {
    let settings = EtcdSettings { endpoints: vec![member.client_url.clone()], ..EtcdSettings::default() };
    backstay_agent::etcd::Etcd::new(settings).expect("the settings fit")
}

async fn back_up_as(
    member: &EtcdMember,
    store: &Folder,
    inspection: InspectionSettings,
) -> Result<Taken, BackupFailure> {
    let what = Once {
        cluster: "prod".parse().expect("a name"),
        cluster_uuid: None,
        new_cluster_id: false,
        store: StoreSpec::Local(store.path().into()),
        named: backstay_daemon::bucket::Named::default(),
        recipients: Vec::new(),
        allow_unencrypted: false,
        sign_key: None,
        signers: Default::default(),
        limits: Limits::default(),
        deadline: LONG,
        stall: LONG,
    };
    let member = Member { etcd: agents_etcd(member), inspection };
    once(what, &member, &SystemClock, &tokio::sync::watch::Sender::default(), &CancellationToken::new()).await
}

pub async fn back_up(member: &EtcdMember, store: &Folder) -> Result<Taken, BackupFailure> {
    back_up_as(member, store, InspectionSettings::default()).await
}

pub async fn id(member: &EtcdMember) -> Result<String> {
    let status = member.client().await?.status().await?;
    Ok(format!("{:016x}", status.header().context("a header")?.member_id()))
}

fn inspection(taken: Taken) -> Result<Inspection> {
    taken.manifest.inspection.context("an inspection stands in the manifest")
}

/// No file at all below a store's folder, but the name's own: whoever tries first takes the name.
fn holds_nothing(store: &Folder) -> Result<()> {
    let mut folders = vec![store.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.ends_with("names") {
                continue;
            }
            ensure!(path.is_dir(), "{} is there", path.display());
            folders.push(path);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_member_that_is_alone_is_compared_with_itself() -> Result<()> {
    let etcd = Etcd::start(1).await?;
    etcd.put_many("a/", 700, 300).await?;
    let taken = back_up(&etcd.members[0], &Folder::new("proof")?).await?;
    let said = taken.to_string();
    ensure!(said.contains("inspected") && said.contains("there is no other member to compare with"), "{said}");
    ensure!(!said.contains("matches member"), "{said}");
    let at = taken.manifest.origin.revision;
    let found = inspection(taken)?;
    assert_eq!((found.verdict, found.compared_with), (Verdict::Equal, Some(id(&etcd.members[0]).await?)));
    let contents = found.contents.context("known")?;
    assert_eq!((contents.live_keys, contents.revision), (Some(700), at));
    // Releases of the list count keys of all buckets; those that count otherwise are in the corpus.
    ensure!(contents.total_key == Some(contents.entries) && contents.storage_version.is_none(), "{contents:?}");
    Ok(())
}

#[tokio::test]
async fn each_of_three_is_compared_with_another_also_while_one_is_silent() -> Result<()> {
    let mut etcd = Etcd::start(3).await?;
    etcd.put_many("a/", 700, 300).await?;
    for member in &etcd.members {
        let found = inspection(back_up(member, &Folder::new("proof")?).await?)?;
        ensure!(found.verdict == Verdict::Equal && found.compared_with != Some(id(member).await?), "{found:?}");
    }
    // The leader is read: without it there would be an election. Who would be asked first falls silent.
    let leader = etcd.leader().await?;
    let found = inspection(back_up(&etcd.members[leader], &Folder::new("proof")?).await?)?;
    let (mut first, mut second) = (usize::MAX, usize::MAX);
    for other in (0..3).filter(|&other| other != leader) {
        let asked = found.compared_with == Some(id(&etcd.members[other]).await?);
        *if asked { &mut first } else { &mut second } = other;
    }
    etcd.members[first].pause()?;
    let found = inspection(back_up(&etcd.members[leader], &Folder::new("proof")?).await?)?;
    assert_eq!((found.verdict, found.compared_with), (Verdict::Equal, Some(id(&etcd.members[second]).await?)));
    etcd.members[first].resume()
}

#[tokio::test]
async fn who_cannot_be_asked_leaves_the_verdict_unknown_and_says_why() -> Result<()> {
    // The last of a flag counts: these URLs lead nowhere.
    let arguments = vec!["--advertise-client-urls=http://127.0.0.1:1".to_owned()];
    let etcd = Etcd::start_with(EtcdOptions { members: 3, arguments, ..EtcdOptions::default() }).await?;
    etcd.put_many("a/", 100, 100).await?;
    let member = &etcd.members[0];
    let found = inspection(back_up(member, &Folder::new("proof")?).await?)?;
    let reason = found.reason.context("a reason")?;
    ensure!(found.verdict == Verdict::Unknown && reason.contains("127.0.0.1:1"), "{reason}");
    ensure!(found.contents.is_some(), "the structure is known all the same");

    let not_asked = InspectionSettings { ask: false, ..InspectionSettings::default() };
    let found = inspection(back_up_as(member, &Folder::new("proof")?, not_asked).await?)?;
    ensure!(found.verdict == Verdict::Unknown && found.reason.is_some_and(|r| r.contains("disabled")));

    let taken = back_up_as(member, &Folder::new("proof")?, InspectionSettings::off()).await?;
    assert_eq!(taken.manifest.inspection, None);
    Ok(())
}

#[tokio::test]
async fn a_slow_answer_and_too_little_memory_fail_nothing() -> Result<()> {
    let etcd = Etcd::start(1).await?;
    etcd.put_many("a/", 5000, 1000).await?;
    let slow = InspectionSettings { patience: Duration::from_nanos(1), ..InspectionSettings::default() };
    let found = inspection(back_up_as(&etcd.members[0], &Folder::new("proof")?, slow).await?)?;
    ensure!(
        found.verdict == Verdict::Unknown
            && found.reason.is_some_and(|r| r.contains("no HashKV after") || r.contains("after the end of the stream"))
    );
    let small = InspectionSettings { memory_limit: 50_000, ..InspectionSettings::default() };
    let found = inspection(back_up_as(&etcd.members[0], &Folder::new("proof")?, small).await?)?;
    ensure!(found.verdict == Verdict::Unknown && found.reason.is_some_and(|r| r.contains("memory")));
    assert_eq!(found.contents, None);
    Ok(())
}

#[tokio::test]
async fn a_compacted_revision_is_unknown_and_a_future_one_is_waited_for() -> Result<()> {
    let etcd = Etcd::start(1).await?;
    etcd.put_many("a/", 300, 10).await?;
    etcd.put_many("a/", 300, 10).await?;
    let (member, mut client) = (&etcd.members[0], etcd.client().await?);
    let now = revision(&mut client).await?;
    client.compact(now, Some(CompactionOptions::new().with_physical())).await?;
    let status = client.status().await?;
    let header = status.header().context("a header")?;
    let question = |at| {
        let origin = Origin {
            etcd_cluster_id: format!("{:016x}", header.cluster_id()),
            member_id: format!("{:016x}", header.member_id()),
            revision: at,
            ..Origin::default()
        };
        Question::new(Arc::new(agents_etcd(member)), LONG, &origin)
    };
    let reason = question(now - 1).ask().await.expect_err("compacted");
    ensure!(reason.contains("compacted the revision"), "{reason}");
    let later = question(now + 1);
    let write = async { anyhow::Ok(client.put("a", "b", None).await?) };
    let (answer, _) = tokio::join!(later.ask(), write);
    assert_eq!(answer.map(|answer| answer.compact), Ok(now));
    Ok(())
}

/// Compact, defragment, back up: a common routine.
#[tokio::test]
async fn a_quiet_cluster_that_was_compacted_at_its_newest_revision() -> Result<()> {
    let etcd = Etcd::start(1).await?;
    let (member, mut client) = (&etcd.members[0], etcd.client().await?);
    let compacted = async |client: &mut etcd_client::Client| {
        let now = revision(client).await?;
        client.compact(now, Some(CompactionOptions::new().with_physical())).await?;
        client.defragment().await?;
        anyhow::Ok((now, inspection(back_up(member, &Folder::new("proof")?).await?)?))
    };
    let version = releases::chosen()?.version();
    // Earlier ones refuse to say HashKV at the revision of a compaction, or have none that they keep.
    let answers = version >= (3, 5, 10);

    etcd.put_many("a/", 50, 10).await?;
    // Nothing was compacted away: what the member says of the time before can be said by what is left.
    let (_, found) = compacted(&mut client).await?;
    assert_eq!(found.verdict == Verdict::Equal, answers, "{found:?}");

    // What was written since the last compaction and is overwritten is in the member's answer, and gone from the file.
    for _ in 0..2 {
        etcd.put_many("a/", 60, 10).await?;
    }
    let (now, found) = compacted(&mut client).await?;
    let reason = found.reason.context("a reason")?;
    let says =
        if answers { format!("compacted at its newest revision, {now}:") } else { "compacted the revision".into() };
    ensure!(found.verdict == Verdict::Unknown && reason.contains(&says) && !reason.contains("-1"), "{reason}");
    ensure!(found.contents.is_some_and(|contents| contents.compact_revision == Some(now)));

    client.put("a", "b", None).await?;
    let found = inspection(back_up(member, &Folder::new("proof")?).await?)?;
    ensure!(found.verdict == Verdict::Equal, "{found:?}");
    Ok(())
}

/// Changes bytes of a member's database at rest.
pub async fn damage(etcd: &mut Etcd, index: usize, change: impl Fn(&mut [u8])) -> Result<()> {
    let member = &mut etcd.members[index];
    // A snapshot makes the member write down all that it has applied.
    Snapshot::of_member(member).await?;
    member.kill();
    let path = member.data_dir.join("member/snap/db");
    let mut database = fs::read(&path)?;
    change(&mut database);
    fs::write(&path, database)?;
    member.restart().await
}

/// Every place of `needle`.
pub fn places(database: &[u8], needle: &[u8]) -> Vec<usize> {
    database.windows(needle.len()).enumerate().filter(|(_, bytes)| *bytes == needle).map(|(at, _)| at).collect()
}

#[tokio::test]
async fn members_that_disagree_make_no_backup_and_are_named() -> Result<()> {
    let mut etcd = Etcd::start(3).await?;
    etcd.put_many("a/", 300, 100).await?;
    damage(&mut etcd, 0, |database| {
        for at in places(database, b"a/00000123") {
            database[at + 60] ^= 1;
        }
    })
    .await?;
    let store = Folder::new("proof")?;
    let failure = back_up(&etcd.members[0], &store).await.err().context("members differ")?;
    assert_eq!(failure.code, FailureCode::Disagreement);
    ensure!(failure.text.contains(&id(&etcd.members[0]).await?) && failure.text.contains("disagree"), "{failure}");
    let others = [id(&etcd.members[1]).await?, id(&etcd.members[2]).await?];
    ensure!(others.iter().any(|other| failure.text.contains(other)), "{failure}");
    holds_nothing(&store)
}

#[tokio::test]
async fn a_broken_structure_makes_no_backup() -> Result<()> {
    let mut etcd = Etcd::start(1).await?;
    let at = etcd.put_many("a/", 30, 100).await?;
    damage(&mut etcd, 0, |database| {
        // The separator of a revision: etcd itself does not look at it.
        let key = [&at.to_be_bytes()[..], b"_"].concat();
        for place in places(database, &key) {
            database[place + 8] = b'-';
        }
    })
    .await?;
    let store = Folder::new("proof")?;
    let failure = back_up(&etcd.members[0], &store).await.err().context("it is broken")?;
    assert_eq!(failure.code, FailureCode::Source);
    ensure!(failure.text.contains("is damaged: page ") && failure.text.contains("offset"), "{failure}");
    holds_nothing(&store)
}
