//! What this agent knows about restoring its machine: how etcd is controlled, and which member it is. The member list
//! is kept in the state folder, so that a member whose etcd is dead can be restored.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use backstay_protocol::bus::{ListedMember, Member, MemberIdentity};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::control::Control;
use super::folders::{free_bytes, moved_folder};
use super::settings::RestoreSettings;
use crate::state::{StateDir, read_optional, write_atomic};

const FILE: &str = "members";

/// The last member list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    cluster_id: u64,
    member_id: u64,
    members: Vec<KeptMember>,
    #[serde(default)]
    etcd_version: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct KeptMember {
    id: u64,
    name: String,
    peer_urls: Vec<String>,
    learner: bool,
}

/// The member identity in beats; saved in the state folder.
#[derive(Debug)]
pub struct MemberIdentityStore {
    path: PathBuf,
    data_dir: Option<PathBuf>,
    control: Option<Control>,
    kept: Mutex<Kept>,
}

impl MemberIdentityStore {
    pub fn open(state: &StateDir, settings: &RestoreSettings, control: Option<Control>) -> Self {
        let path = state.file(FILE);
        let kept = match read_optional(&path) {
            Ok(bytes) => bytes.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default(),
            Err(error) => {
                warn!(%error, "the member list is unknown until etcd answers");
                Kept::default()
            }
        };
        Self { path, data_dir: settings.data_dir.clone(), control, kept: Mutex::new(kept) }
    }

    /// Saves the member list that etcd has just returned, unless it is empty.
    pub fn note(&self, member: &Member, members: &[ListedMember]) {
        let keep = |listed: &ListedMember| KeptMember {
            id: listed.id,
            name: listed.name.clone(),
            peer_urls: listed.peer_urls.clone(),
            learner: listed.learner,
        };
        let now = Kept {
            cluster_id: member.cluster_id,
            member_id: member.member_id,
            members: members.iter().map(keep).collect(),
            etcd_version: member.etcd_version.clone(),
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if *kept == now || members.is_empty() {
            return;
        }
        let json = serde_json::to_vec(&now).expect("plain data");
        if let Err(error) = write_atomic(&self.path, &json) {
            warn!(%error, "the member list could not be saved; it is kept in memory only");
        }
        *kept = now;
    }

    /// The part of a beat about this.
    pub fn message(&self) -> MemberIdentity {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let tell = |member: KeptMember| ListedMember {
            id: member.id,
            name: member.name,
            peer_urls: member.peer_urls,
            learner: member.learner,
        };
        let identity = MemberIdentity {
            member_id: kept.member_id,
            cluster_id: kept.cluster_id,
            members: kept.members.into_iter().map(tell).collect(),
            etcd_version: kept.etcd_version,
            ..MemberIdentity::default()
        };
        let (Some(control), Some(data_dir)) = (&self.control, &self.data_dir) else {
            let error = "this agent does not know how to stop and start etcd: set [restore] in its agent.toml";
            return MemberIdentity { error: error.into(), ..identity };
        };
        let identity = MemberIdentity { control: control.kind().as_str().into(), ..identity };
        match moved_folder(data_dir).and_then(|folder| Ok((free_bytes(parent(&folder))?, folder))) {
            Ok((free_bytes, folder)) => MemberIdentity {
                free_bytes,
                folder: folder.display().to_string(),
                error: control.check().err().unwrap_or_default(),
                ..identity
            },
            Err(error) => {
                MemberIdentity { error: format!("cannot look at {}: {error}", data_dir.display()), ..identity }
            }
        }
    }
}

fn parent(folder: &Path) -> &Path {
    folder.parent().unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_member_list_outlives_etcd_and_the_agent() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::open(folder.path()).expect("fresh");
        let etcd_version = "3.6.14".to_owned();
        let member = Member { cluster_id: 1, member_id: 2, etcd_version, ..Member::default() };
        let listed = ListedMember { id: 2, name: "m1".into(), peer_urls: vec!["http://h:1".into()], learner: false };
        let member_identity = MemberIdentityStore::open(&state, &RestoreSettings::default(), None);
        assert!(member_identity.message().members.is_empty());
        member_identity.note(&member, std::slice::from_ref(&listed));
        member_identity.note(&member, &[]);
        let again = MemberIdentityStore::open(&state, &RestoreSettings::default(), None).message();
        assert_eq!((again.cluster_id, again.member_id, again.members), (1, 2, vec![listed.clone()]));
        assert_eq!(again.etcd_version, "3.6.14");
        assert!(again.control.is_empty() && again.error.contains("[restore]"), "{}", again.error);
        member_identity.note(&Member { etcd_version: "3.7.1".into(), ..member }, &[listed]);
        let again = MemberIdentityStore::open(&state, &RestoreSettings::default(), None).message();
        assert_eq!(again.etcd_version, "3.7.1", "it was updated");
        // What an agent kept that knew no versions.
        std::fs::write(state.file(FILE), r#"{"cluster_id":1,"member_id":2,"members":[]}"#).expect("writable");
        let older = MemberIdentityStore::open(&state, &RestoreSettings::default(), None).message();
        assert_eq!((older.member_id, older.etcd_version.as_str()), (2, ""));
    }
}
