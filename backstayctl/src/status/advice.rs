//! The command to run next, for each state that a cluster can be in. Pure.

use backstay_protocol::spec::BackupState;

use super::facts::{Facts, Word};

/// The text of the overall status if nothing was configured yet.
const NOT_INITIALIZED: &str = "not initialized";

/// The next command; empty if there is nothing to do.
pub fn next(word: Word, facts: &Facts) -> String {
    let cluster = &facts.cluster;
    let (failed, running) = (!facts.status.error.is_empty(), facts.status.status == BackupState::Running);
    match word {
        Word::NoStorage if facts.storage == NOT_INITIALIZED => "backstayctl apply -f etcd-backup-s3-conf.yaml".into(),
        Word::NoStorage => "backstayctl get etcdbackupoverallstatus".into(),
        Word::FewAgents { .. } if !facts.twins.is_empty() => format!("backstayctl agents {cluster} -o wide"),
        // On the machines of the control plane.
        Word::NoAgent | Word::FewAgents { .. } => "systemctl status backstay-agent".into(),
        Word::Damaged => format!("backstayctl backup {cluster} --wait && backstayctl verify {cluster}"),
        Word::Never if running && !failed => format!("backstayctl get etcdbackupstatus {cluster} --watch"),
        Word::Never if !failed => format!("backstayctl backup {cluster} --wait"),
        Word::Never | Word::Failing => format!("backstayctl runs {cluster}"),
        Word::Clock => "backstayctl get coordinator -o yaml && backstayctl get agents -o yaml".into(),
        Word::Stale => format!("backstayctl backup {cluster} --wait"),
        Word::Restoring => format!("backstayctl get restore {cluster}"),
        Word::MemberDown => format!("backstayctl agents {cluster}"),
        Word::Unproven => format!("backstayctl verify {cluster}"),
        Word::NoSchedule => format!("backstayctl schedule {cluster} 1h"),
        Word::NotScheduled | Word::Ok => String::new(),
    }
}
