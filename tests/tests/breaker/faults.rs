//! S3 that lies, breaks and dawdles under the whole system: one backup, or an error that says why; never a false
//! success, never something left over.

use anyhow::{Context, Result, ensure};
use backstay_archive::catalog;
use backstay_daemon::SystemClock;
use backstay_protocol::{Clock, Timestamp};
use backstay_tests::s3::Matching;
use backstay_tests::{Fault, Op};

use super::LONG;
use super::rig::{Rig, Status, builder};

/// Random text that makes two parts and a bit.
const VALUES: usize = 500;
const VALUE_BYTES: usize = 64 * 1024;

async fn with_parts(builder: backstay_tests::StandBuilder) -> Result<Rig> {
    let rig = Rig::start(builder.cluster("a", 1)).await?;
    rig.cluster("a").etcd.put_many("k", VALUES, VALUE_BYTES).await?;
    Ok(rig)
}

impl Rig {
    /// One backup under a fault that does what it should. The answer says how it ended.
    async fn under(&mut self, what: &str, matching: Matching, fault: Fault, backups: &mut usize) -> Result<Status> {
        let injected = self.s3.inject(matching, fault);
        let round = self.begin("a").await.with_context(|| what.to_owned())?;
        let status = self.end(&round).await.with_context(|| what.to_owned())?;
        ensure!(injected.fired() > 0, "{what}: the fault met no request");
        self.s3.clear_faults();
        ensure!(status.is_ok() || status.is_error(), "{what}: {status:?}");
        *backups += usize::from(status.is_ok());
        self.holds("a", *backups).await.with_context(|| format!("{what}: {status:?}"))?;
        self.s3.retries_are_identical().with_context(|| what.to_owned())?;
        Ok(status)
    }
}

#[tokio::test]
async fn faults_that_pass_end_in_one_backup() -> Result<()> {
    let mut rig = with_parts(builder()).await?;
    let mut backups = 0;
    for (what, matching, fault) in [
        ("503 on every third request", Matching::every(3), Fault::Status(503)),
        ("500 on every second part", Op::UploadPart.every(2), Fault::Status(500)),
        ("resets in mid-part", Op::UploadPart.first(3), Fault::ResetInBody(100_000)),
        ("resets before the body", Op::UploadPart.every(2), Fault::Reset),
        ("a slow store", Op::UploadPart.first(2), Fault::Slow(4 << 20)),
    ] {
        let status = rig.under(what, matching, fault, &mut backups).await?;
        ensure!(status.is_ok(), "{what}: {status:?}");
    }
    ensure!(rig.s3.retries_are_identical()? > 0, "no part was sent again");
    rig.proven("a", backups).await?;
    Ok(())
}

#[tokio::test]
async fn lost_answers_end_in_one_backup() -> Result<()> {
    let mut rig = with_parts(builder()).await?;
    let mut backups = 0;
    for (what, matching) in [
        ("CreateMultipartUpload", Op::CreateMultipartUpload.nth(1)),
        ("UploadPart", Op::UploadPart.every(2)),
        ("PutObject of the intent", Op::PutObject.nth(1).key("/intents/")),
        ("CompleteMultipartUpload", Op::CompleteMultipartUpload.nth(1)),
        ("PutObject of the manifest", Op::PutObject.nth(1).key(".manifest.json")),
        ("DeleteObject of the intent", Op::DeleteObject.nth(1).key("/intents/")),
    ] {
        let status = rig.under(what, matching, Fault::LoseAnswer, &mut backups).await?;
        ensure!(status.is_ok(), "{what}: {status:?}");
    }
    rig.s3.forget_completed_uploads(true);
    let complete = Op::CompleteMultipartUpload.nth(1);
    let status = rig.under("a forgotten upload", complete, Fault::LoseAnswer, &mut backups).await?;
    ensure!(status.is_ok(), "{status:?}");
    let complete = Op::CompleteMultipartUpload.nth(1);
    let status = rig.under("an error in a 200", complete, Fault::ErrorIn200, &mut backups).await?;
    ensure!(status.is_ok(), "{status:?}");
    rig.proven("a", backups).await?;
    Ok(())
}

#[tokio::test]
async fn refusals_end_in_an_error_and_leave_nothing() -> Result<()> {
    let mut rig = with_parts(builder()).await?;
    let mut backups = 0;
    for (what, matching) in [
        ("CreateMultipartUpload", Op::CreateMultipartUpload.always()),
        ("UploadPart", Op::UploadPart.always()),
        ("a later part", Op::UploadPart.after(1)),
        ("PutObject of the intent", Op::PutObject.always().key("/intents/")),
        ("CompleteMultipartUpload", Op::CompleteMultipartUpload.always()),
    ] {
        let status = rig.under(what, matching, Fault::Status(403), &mut backups).await?;
        ensure!(status.is_error() && status.error.contains("AccessDenied"), "{what}: {status:?}");
    }
    // The object is there and cannot be described: not a backup, and not to be taken for one.
    let manifest = Op::PutObject.always().key(".manifest.json");
    let injected = rig.s3.inject(manifest, Fault::Status(403));
    let status = rig.back_up("a").await?;
    ensure!(injected.fired() > 0 && status.is_error() && rig.listed("a").await?.is_empty(), "{status:?}");
    rig.s3.clear_faults();
    rig.must_back_up("a").await?;
    ensure!(rig.listed("a").await?.len() == 1, "{:?}", rig.listed("a").await?);
    // But nothing is lost: the coordinator's sweep, which comes later, makes it the backup that it is.
    let later = Timestamp::from_seconds(SystemClock.now().seconds + 3600);
    let swept = catalog::sweep(&rig.store().await?, rig.uuid("a").await?.parse()?, later).await?;
    ensure!(swept.promoted == 1, "{swept:?}");
    rig.proven("a", 2).await?;
    Ok(())
}

#[tokio::test]
async fn a_store_that_hangs_is_noticed_by_the_deadline() -> Result<()> {
    // A small database: within the deadline a busy machine must get to the request that hangs.
    let deadline = builder().coordinator_variable("BACKSTAY_BACKUP__DEADLINE", "15s");
    let mut rig = Rig::start(deadline.cluster("a", 1)).await?;
    let mut backups = 0;
    for (what, matching) in [
        ("CreateMultipartUpload", Op::CreateMultipartUpload.nth(1)),
        ("UploadPart", Op::UploadPart.nth(1)),
        ("CompleteMultipartUpload", Op::CompleteMultipartUpload.nth(1)),
    ] {
        let status = rig.under(what, matching, Fault::Hang, &mut backups).await?;
        ensure!(status.is_error() && status.error.contains("within 15s"), "{what}: {status:?}");
    }
    // What was done although nobody said so is a backup.
    let silent = Op::CompleteMultipartUpload.nth(1);
    let status = rig.under("a silent completion", silent, Fault::DoneButSilent, &mut backups).await?;
    ensure!(status.is_ok(), "{status:?}");
    rig.proven("a", backups).await?;
    Ok(())
}

#[tokio::test]
async fn a_store_that_is_away_for_a_while_is_waited_for() -> Result<()> {
    let mut rig = with_parts(builder()).await?;
    let gate = rig.s3.hold(Op::UploadPart.nth(1));
    let round = rig.begin("a").await?;
    gate.reached(LONG).await?;
    rig.s3.stop();
    rig.s3.clear_faults();
    // The manual backup of another time waits meanwhile.
    let next = rig.begin("a").await?;
    rig.s3.restart()?;
    let status = rig.end(&round).await?;
    ensure!(status.is_ok(), "{status:?}");
    rig.holds("a", 2).await?;
    rig.s3.retries_are_identical()?;
    ensure!(rig.end(&next).await?.is_ok(), "the second one failed");
    rig.proven("a", 2).await?;
    Ok(())
}
