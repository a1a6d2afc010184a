//! etcd: one member and three, killed, paused, restarted, loaded.

use anyhow::Result;
use backstay_tests::{Etcd, EtcdOptions, loader};

use super::runs;

#[tokio::test]
async fn one_member_serves_and_is_gone_when_dropped() -> Result<()> {
    let etcd = Etcd::start(1).await?;
    let revision = etcd.put_many("/a/", 250, 1000).await?;
    assert_eq!(revision, 4, "250 keys are three transactions behind revision 1");
    let mut client = etcd.client().await?;
    let all = client.get("/a/", Some(etcd_client::GetOptions::new().with_prefix())).await?;
    assert_eq!(all.count(), 250);
    assert!(all.kvs().iter().all(|kv| kv.value().len() == 1000));
    let member = &etcd.members[0];
    let (id, folder) = (member.process().expect("it runs").id(), member.data_dir.clone());
    assert!(runs(id) && folder.is_dir());
    drop(etcd);
    assert!(!runs(id) && !folder.exists());
    Ok(())
}

#[tokio::test]
async fn a_member_keeps_its_data_and_ports_over_a_kill() -> Result<()> {
    let mut etcd = Etcd::start(1).await?;
    etcd.put_many("/a/", 10, 10).await?;
    let url = etcd.members[0].client_url.clone();
    etcd.members[0].kill();
    assert!(etcd.members[0].process().is_none());
    etcd.members[0].restart().await?;
    assert_eq!(etcd.members[0].client_url, url);
    let all = etcd.client().await?.get("/a/", Some(etcd_client::GetOptions::new().with_prefix())).await?;
    assert_eq!(all.count(), 10);
    Ok(())
}

#[tokio::test]
async fn three_members_elect_another_leader_when_theirs_is_paused() -> Result<()> {
    let mut etcd = Etcd::start(3).await?;
    assert_eq!(etcd.client().await?.member_list().await?.members().len(), 3);
    let first = etcd.leader().await?;
    etcd.members[first].pause()?;
    // The paused one says nothing, so the answer is another.
    let second = etcd.leader().await?;
    assert_ne!(first, second);
    etcd.members[first].resume()?;
    etcd.members[first].ready().await?;
    Ok(())
}

#[tokio::test]
async fn a_learner_learns() -> Result<()> {
    let mut etcd = Etcd::start(1).await?;
    let learner = etcd.add_learner().await?;
    assert!(learner.client().await?.status().await?.is_learner());
    assert_eq!(etcd.leader().await?, 0);
    Ok(())
}

#[tokio::test]
async fn the_quota_is_obeyed() -> Result<()> {
    let options = EtcdOptions { quota_bytes: Some(16 << 20), ..EtcdOptions::default() };
    let etcd = Etcd::start_with(options).await?;
    let error = etcd.put_many("/full/", 100, 900_000).await.expect_err("90 MB do not fit");
    assert!(format!("{error:#}").contains("space exceeded"), "{error:#}");
    Ok(())
}

#[tokio::test]
async fn the_loader_loads_the_same_data_for_the_same_seed() -> Result<()> {
    let etcd = Etcd::start(1).await?;
    let url = &etcd.members[0].client_url;
    let loaded = loader::load(url, 3_000_000, 42).await?;
    assert!((3_000_000..3_010_000).contains(&loaded.bytes), "{loaded:?}");
    assert!(loaded.revision > 1);
    let mut client = etcd.client().await?;
    let count = etcd_client::GetOptions::new().with_prefix().with_count_only();
    assert_eq!(client.get("/registry/", Some(count)).await?.count(), i64::try_from(loaded.objects)?);
    for index in [0, loaded.objects / 2, loaded.objects - 1] {
        let object = loader::object(42, index);
        let answer = client.get(object.key.as_str(), None).await?;
        assert_eq!(answer.kvs()[0].value(), object.value.as_bytes());
    }
    Ok(())
}
