//! Members that the database of etcd 3.5.1 to 3.5.19 calls learners for ever, though the cluster promoted them.

use anyhow::{Context, Result, ensure};
use backstay_tests::{Etcd, Folder, releases};

use crate::backup::back_up;

#[tokio::test]
async fn a_promoted_learner_is_told_where_the_database_has_not_heard_of_it() -> Result<()> {
    let version = releases::chosen()?.version();
    // 3.4 keeps members in the bucket, too, and writes them anew.
    let forgets = ((3, 5, 1)..(3, 5, 20)).contains(&version);
    let mut etcd = Etcd::start(1).await?;
    etcd.put_many("a/", 100, 100).await?;
    etcd.add_learner().await?;
    let before = back_up(&etcd.members[0], &Folder::new("proof")?).await?;
    let told = before.manifest.inspection.as_ref().context("an inspection")?;
    assert_eq!((told.warning(), told.promoted_learners.len()), (None, 0), "it is a learner still");

    let id = etcd.promote_learner().await?;
    for member in &etcd.members {
        let taken = back_up(member, &Folder::new("proof")?).await?;
        let told = taken.manifest.inspection.as_ref().context("an inspection")?;
        let expected = if forgets { vec![format!("{id:016x}")] } else { Vec::new() };
        assert_eq!(told.promoted_learners, expected, "{version:?}");
        let text = taken.to_string();
        ensure!(text.contains(&format!("still lists {id:016x} as a learner")) == forgets, "{text}");
    }
    Ok(())
}
