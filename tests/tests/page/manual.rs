//! What a manual backup means: one for each time that is asked for, whatever else is under way.

use anyhow::{Result, ensure};
use backstay_tests::{Fault, Op, Stand, eventually};

use crate::world::{
    CLUSTER, SOON, at_least, back_up, back_up_at, configured, listed, manifest, now, only_whole_backups, stand, start,
    status, succeeds,
};

#[tokio::test]
async fn the_same_time_is_one_backup_and_a_new_time_another() -> Result<()> {
    let stand = configured().await?;
    let first = now();
    for _ in 0..3 {
        stand.apply(&Stand::manual_backup(CLUSTER, first)).await?.ok()?;
    }
    at_least(&stand, CLUSTER, 1).await?;
    succeeds(&stand, CLUSTER).await?;
    stand.apply(&Stand::manual_backup(CLUSTER, first)).await?.ok()?;
    // A backup of the first time that was still to come would stand before this one.
    stand.apply(&Stand::manual_backup(CLUSTER, first + 1)).await?.ok()?;
    let two = at_least(&stand, CLUSTER, 2).await?;
    stand.apply(&Stand::manual_backup(CLUSTER, first)).await?.ok()?;
    stand.apply(&Stand::manual_backup(CLUSTER, first + 2)).await?.ok()?;
    let three = at_least(&stand, CLUSTER, 3).await?;
    assert_eq!((two.len(), three.len()), (2, 3));
    for backup in &three {
        assert_eq!(manifest(&stand, backup).await?["trigger"], "manual");
    }
    assert_eq!(only_whole_backups(&stand).await?, 3);
    Ok(())
}

#[tokio::test]
async fn times_that_come_while_one_is_running_all_happen() -> Result<()> {
    let stand = configured().await?;
    if !stand.s3.can_fail("times_that_come_while_one_is_running_all_happen") {
        return Ok(());
    }
    let gate = stand.s3.hold(Op::CreateMultipartUpload.always());
    let first = now();
    stand.apply(&Stand::manual_backup(CLUSTER, first)).await?.ok()?;
    eventually(SOON, || async {
        let status = status(&stand, CLUSTER).await?;
        ensure!(status["status"] == 3, "not running yet: {status}");
        Ok(())
    })
    .await?;
    for seconds in [first + 1, first + 2, first + 1] {
        stand.apply(&Stand::manual_backup(CLUSTER, seconds)).await?.ok()?;
    }
    ensure!(listed(&stand, CLUSTER).await?.is_empty(), "a backup is visible that is not complete");
    gate.open();
    at_least(&stand, CLUSTER, 3).await?;
    succeeds(&stand, CLUSTER).await?;
    // Whatever else there was to do comes before this one.
    let listed = back_up_at(&stand, CLUSTER, first + 3).await?;
    assert_eq!(listed.len(), 4);
    assert_eq!(only_whole_backups(&stand).await?, 4);
    Ok(())
}

#[tokio::test]
async fn clusters_are_independent() -> Result<()> {
    let names = ["alpha", "beta", "gamma"];
    let stand = names.iter().fold(stand(), |builder, name| builder.cluster(name, 1));
    let stand = start(stand).await?;
    stand.configure_s3().await?;
    if !stand.s3.can_fail("clusters_are_independent") {
        return Ok(());
    }
    for name in names {
        back_up(&stand, name).await?;
    }
    let stuck = listed(&stand, "beta").await?[0].uuid.clone();
    stand.s3.inject(Op::CreateMultipartUpload.always().key(&stuck), Fault::Hang);
    let at = now() + 5;
    stand.apply(&Stand::manual_backup("beta", at)).await?.ok()?;
    eventually(SOON, || async {
        let status = status(&stand, "beta").await?;
        ensure!(status["status"] == 3, "not running yet: {status}");
        Ok(())
    })
    .await?;
    for name in ["alpha", "gamma"] {
        assert_eq!(back_up(&stand, name).await?.len(), 2);
        succeeds(&stand, name).await?;
    }
    let status = status(&stand, "beta").await?;
    ensure!(status["status"] == 3 && !status["lastbackuptime"].is_null(), "the stuck one: {status}");
    assert_eq!(listed(&stand, "beta").await?.len(), 1);
    let uuids: std::collections::BTreeSet<String> = {
        let mut uuids = std::collections::BTreeSet::new();
        for name in names {
            uuids.extend(listed(&stand, name).await?.into_iter().map(|backup| backup.uuid));
        }
        uuids
    };
    assert_eq!(uuids.len(), 3, "each cluster has a folder of its own");
    Ok(())
}

#[tokio::test]
async fn a_coordinator_that_dies_after_apply_takes_the_backup_once() -> Result<()> {
    let mut stand = configured().await?;
    let at = now();
    stand.apply(&Stand::manual_backup(CLUSTER, at)).await?.ok()?;
    stand.coordinators[0].daemon.start_and_wait(SOON).await?;
    crate::world::leads(&stand).await?;
    at_least(&stand, CLUSTER, 1).await?;
    stand.apply(&Stand::manual_backup(CLUSTER, at)).await?.ok()?;
    assert_eq!(back_up(&stand, CLUSTER).await?.len(), 2, "one, and the one that was asked for now");
    succeeds(&stand, CLUSTER).await?;
    assert_eq!(only_whole_backups(&stand).await?, 2);
    Ok(())
}
