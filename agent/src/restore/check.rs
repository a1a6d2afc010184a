//! What etcd reports after it was started on a restored folder, so that the coordinator can compare the members.

use backstay_protocol::bus::MemberCheck;

use crate::etcd::{Etcd, EtcdError};

/// Asks the machine's own member. With `hash_revision` 0, no hash is requested.
pub async fn check(etcd: &Etcd, hash_revision: i64) -> MemberCheck {
    let mut check = MemberCheck::default();
    if let Err(error) = ask(etcd, hash_revision, &mut check).await {
        check.error = error.to_string();
    }
    check
}

async fn ask(etcd: &Etcd, hash_revision: i64, check: &mut MemberCheck) -> Result<(), EtcdError> {
    let mut connection = etcd.connect().await?;
    let member = connection.member().await?;
    (check.cluster_id, check.member_id) = (member.cluster_id, member.member_id);
    check.revision = connection.revision().await?;
    check.members = connection.members().await?;
    check.healthy = true;
    if hash_revision > 0 {
        let hash = connection.hash_at(hash_revision).await?;
        (check.hash_revision, check.hash, check.compact_revision) = (hash.revision, hash.hash, hash.compact_revision);
    }
    Ok(())
}
