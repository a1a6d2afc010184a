//! Databases of every shape that etcd makes: each is found whole, and says what etcd's own tool and HashKV say.

use anyhow::{Context, Result, ensure};
use backstay_tests::{Etcd, releases};
use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions, ConnectOptions, DeleteOptions, PutOptions,
};

use crate::look::{Snapshot, agrees, contents, revision};

#[tokio::test]
async fn an_empty_one() -> Result<()> {
    let etcd = Etcd::start(1).await?;
    let snapshot = Snapshot::of_member(&etcd.members[0]).await?;
    let inspection = snapshot.looked_at(Some(1))?;
    let contents = contents(&inspection)?;
    assert_eq!((contents.live_keys, contents.last_revision), (Some(0), 0));
    assert_eq!(contents.about.members.len(), 1);
    assert_eq!(contents.about.members[0].peer_urls, [etcd.members[0].peer_url.as_str()]);
    assert_eq!(contents.about.cluster_version.as_deref().map(|v| &v[..2]), Some("3."));
    Ok(())
}

#[tokio::test]
async fn tombstones_and_compactions_at_several_points() -> Result<()> {
    let etcd = Etcd::start(1).await?;
    let (member, mut client) = (&etcd.members[0], etcd.client().await?);
    etcd.put_many("a/", 900, 300).await?;
    for round in 0..4 {
        etcd.put_many("a/", 500, 100 + round).await?;
        client.delete(format!("a/0000{round}"), Some(DeleteOptions::new().with_prefix())).await?;
        let now = revision(&mut client).await?;
        agrees(member, member, now).await?;
        agrees(member, member, now - 2).await?;
        let compaction = now - 3 + round as i64;
        client.compact(compaction, Some(CompactionOptions::new().with_physical())).await?;
        client.put("after", "compaction", None).await?;
        let now = revision(&mut client).await?;
        let inspection = agrees(member, member, now).await?;
        let about = &contents(&inspection)?.about;
        assert_eq!((about.finished_compact, about.scheduled_compact), (Some(compaction), Some(compaction)));
        let live = client.get("", Some(etcd_client::GetOptions::new().with_all_keys().with_count_only())).await?;
        assert_eq!(contents(&inspection)?.live_keys, u64::try_from(live.count()).ok());
    }
    Ok(())
}

#[tokio::test]
async fn all_keys_deleted_and_compacted_at_the_latest_revision() -> Result<()> {
    let etcd = Etcd::start(1).await?;
    let (member, mut client) = (&etcd.members[0], etcd.client().await?);
    etcd.put_many("a/", 300, 20).await?;
    client.delete("", Some(DeleteOptions::new().with_all_keys())).await?;
    let now = revision(&mut client).await?;
    let inspection = agrees(member, member, now).await?;
    assert_eq!(contents(&inspection)?.live_keys, Some(0));
    client.compact(now, Some(CompactionOptions::new().with_physical())).await?;
    let inspection = Snapshot::of_member(member).await?.looked_at(Some(now))?;
    let after = contents(&inspection)?;
    // These keep a tombstone at the compact revision itself.
    let version = releases::chosen()?.version();
    let keeps = version >= (3, 5, 15) || ((3, 4, 33)..(3, 5, 0)).contains(&version);
    ensure!(after.revision == now && (after.last_revision == now) == keeps, "{after:?}");
    client.put("again", "", None).await?;
    agrees(member, member, now + 1).await?;
    Ok(())
}

#[tokio::test]
async fn leases_authentication_and_alarms() -> Result<()> {
    let etcd = Etcd::start(1).await?;
    let (member, mut client) = (&etcd.members[0], etcd.client().await?);
    for number in 0..300 {
        let lease = client.lease_grant(3600, None).await?.id();
        client.put(format!("l/{number}"), "leased", Some(PutOptions::new().with_lease(lease))).await?;
    }
    let status = client.status().await?;
    let id = status.header().context("a header")?.member_id();
    let mut nospace = AlarmOptions::new();
    nospace.with_member(id);
    client.alarm(AlarmAction::Activate, AlarmType::Nospace, Some(nospace)).await?;
    assert_eq!(client.alarm(AlarmAction::Get, AlarmType::None, None).await?.alarms().len(), 1);
    for number in 0..40 {
        let (role, user) = (format!("a-role-with-a-long-name-{number:04}"), format!("a-user-with-a-name-{number:04}"));
        client.role_add(role.as_str()).await?;
        let reads = etcd_client::Permission::read(format!("/some/prefix/{number}")).with_prefix();
        client.role_grant_permission(role.as_str(), reads).await?;
        client.user_add(user.as_str(), "password", None).await?;
        client.user_grant_role(user, role).await?;
    }
    client.user_add("root", "password", None).await?;
    client.role_add("root").await.ok();
    client.user_grant_role("root", "root").await?;
    let now = revision(&mut client).await?;
    let inspection = agrees(member, member, now).await?;
    assert_eq!(contents(&inspection)?.about.members[0].id, id);
    client.auth_enable().await?;
    let options = ConnectOptions::new().with_user("root", "password");
    let mut root = Client::connect([member.client_url.as_str()], Some(options)).await?;
    Snapshot::of(&mut root).await?.looked_at(Some(now))?;
    Ok(())
}

#[tokio::test]
async fn three_members_and_a_learner() -> Result<()> {
    let mut etcd = Etcd::start(3).await?;
    etcd.put_many("a/", 2000, 200).await?;
    etcd.add_learner().await?;
    let mut client = etcd.members[0].client().await?;
    let now = revision(&mut client).await?;
    for taken in &etcd.members[..3] {
        for asked in &etcd.members[..3] {
            let read = revision(&mut asked.client().await?).await?;
            assert_eq!(read, now);
            let inspection = agrees(taken, asked, now).await?;
            let members = &contents(&inspection)?.about.members;
            assert_eq!((members.len(), members.iter().filter(|m| m.learner).count()), (4, 1));
        }
    }
    Ok(())
}

#[tokio::test]
async fn large_values_and_long_keys() -> Result<()> {
    let etcd = Etcd::start(1).await?;
    let (member, mut client) = (&etcd.members[0], etcd.client().await?);
    etcd.put_many("large/", 12, 1 << 20).await?;
    etcd.put_many("middle/", 400, 9000).await?;
    etcd.put_many(&"long/".repeat(2000), 30, 10).await?;
    etcd.put_many("small/", 3000, 4).await?;
    client.delete("large/00000003", None).await?;
    let now = revision(&mut client).await?;
    agrees(member, member, now).await?;
    client.defragment().await?;
    let inspection = agrees(member, member, now).await?;
    let live = contents(&inspection)?.live_keys;
    assert_eq!(live, Some(12 + 400 + 30 + 3000 - 1));
    client.compact(now, Some(CompactionOptions::new().with_physical())).await?;
    client.put("x", "y", None).await?;
    client.defragment().await?;
    agrees(member, member, now + 1).await?;
    Ok(())
}

#[tokio::test]
async fn while_it_is_written_to_and_compacted() -> Result<()> {
    let etcd = Etcd::start(1).await?;
    etcd.put_many("a/", 3000, 500).await?;
    let member = &etcd.members[0];
    let (mut writer, mut compactor, mut reader) = (etcd.client().await?, etcd.client().await?, etcd.client().await?);
    let write = async {
        for number in 0..4000_u32 {
            writer.put(format!("a/{:08}", number * 7 % 3000), vec![b'x'; 900], None).await?;
        }
        anyhow::Ok(())
    };
    let look = async {
        let mut equal = 0;
        for _ in 0..12 {
            let at = revision(&mut reader).await?;
            let inspection = Snapshot::of_member(member).await?.looked_at(Some(at))?;
            ensure!(contents(&inspection)?.revision >= at, "{inspection:?}");
            let answer = reader.hash_kv(at).await?;
            let own = inspection.hash_kv(answer.compact_version())?;
            ensure!(own.is(answer.hash()), "{answer:?} {own:?} {inspection:?}");
            equal += 1;
            compactor.compact(at - 20, None).await?;
        }
        anyhow::Ok(equal)
    };
    let (_, equal) = tokio::try_join!(write, look)?;
    assert_eq!(equal, 12);
    Ok(())
}
