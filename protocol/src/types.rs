//! The resource types: names, namespaces, columns, and which type a name means that a person typed.
//!
//! ```
//! use backstay_protocol::types;
//!
//! let definition = types::resolve("eb")?;
//! assert_eq!((definition.name, definition.namespace), ("EtcdBackups.omni.sidero.dev", "external"));
//! assert_eq!(types::by_plural("etcdbackups"), Some(definition));
//! assert!(types::resolve("ebs").unwrap_err().to_string().contains("ambiguous"));
//! # Ok::<(), types::ResolveError>(())
//! ```

/// What all resources of a type have in common.
#[derive(Debug, PartialEq, Eq)]
pub struct TypeDefinition {
    /// The type as a value to match on.
    pub kind: Kind,
    /// The full name, e.g. `EtcdBackupStatuses.omni.sidero.dev`.
    pub name: &'static str,
    /// What a table's TYPE column shows, e.g. `EtcdBackupStatus`.
    pub singular: &'static str,
    /// The default namespace.
    pub namespace: &'static str,
    /// The controller that writes it. A type with an owner is read-only for everybody else.
    pub owner: Option<&'static str>,
    /// The columns of a table after NAMESPACE, TYPE, ID and VERSION: the heading, and the path of the field in the spec.
    pub columns: &'static [(&'static str, &'static str)],
    /// The additional columns of `-o wide`.
    pub wide: &'static [(&'static str, &'static str)],
    /// Short forms that people may type. One that several types have is ambiguous.
    pub aliases: &'static [&'static str],
}

macro_rules! types {
    ($($(#[$about:meta])* $constant:ident, $kind:ident = TypeDefinition { $($field:tt)* };)*) => {
        /// Every type. Code that treats types differently matches on it, so the compiler finds each place when one is
        /// added.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = concat!("See [`", stringify!($constant), "`].")] $kind),*
        }

        impl Kind {
            /// What all resources of this type have in common.
            pub fn definition(self) -> &'static TypeDefinition {
                match self {
                    $(Self::$kind => &$constant),*
                }
            }
        }

        $($(#[$about])* pub static $constant: TypeDefinition = TypeDefinition { kind: Kind::$kind, $($field)* };)*

        /// Every type, in the order of their full names.
        pub static ALL: &[&TypeDefinition] = &[$(&$constant),*];
    };
}

types! {
    /// The agents that are connected: [`AgentSpec`](crate::backstay_types::AgentSpec).
    AGENTS, Agents = TypeDefinition {
        name: "Agents.backstay.dev", singular: "Agent", namespace: "ephemeral", owner: Some("AgentController"),
        columns: &[
            ("CLUSTER", "cluster"), ("ROLE", "role"), ("ETCD VERSION", "etcdversion"), ("DB SIZE", "dbsize"),
            ("REVISION", "revision"), ("LAST SEEN", "lastseen"), ("ERROR", "error"),
        ],
        wide: &[("MEMBER", "member"), ("HOST", "host"), ("AGENT VERSION", "agentversion"), ("ATTEMPT", "attempt")],
        aliases: &[],
    };
    /// The latest attempts of each cluster: [`BackupRunSpec`](crate::backstay_types::BackupRunSpec).
    BACKUP_RUNS, BackupRuns = TypeDefinition {
        name: "BackupRuns.backstay.dev", singular: "BackupRun", namespace: "ephemeral", owner: Some("EtcdBackupController"),
        columns: &[
            ("CLUSTER", "cluster"), ("MACHINE", "machine"), ("TRIGGER", "trigger"), ("STATE", "state"),
            ("STARTED", "started"), ("ENDED", "ended"), ("BYTES", "bytesread"), ("ERROR", "error"),
        ],
        wide: &[
            ("MEMBER", "member"), ("HOST", "host"), ("SNAPSHOT", "snapshot"), ("REVISION", "revision"),
            ("STORED", "bytesstored"), ("VERDICT", "verdict"),
        ],
        aliases: &["br", "run", "runs"],
    };
    /// The UUID of each cluster: [`ClusterUuidSpec`](crate::spec::ClusterUuidSpec).
    CLUSTER_UUIDS, ClusterUuids = TypeDefinition {
        name: "ClusterUUIDs.omni.sidero.dev", singular: "ClusterUUID", namespace: "default", owner: None,
        columns: &[("UUID", "uuid")],
        wide: &[],
        aliases: &["cuuid", "cuuids"],
    };
    /// The clusters, and how often they are backed up: [`ClusterSpec`](crate::spec::ClusterSpec).
    CLUSTERS, Clusters = TypeDefinition {
        name: "Clusters.omni.sidero.dev", singular: "Cluster", namespace: "default", owner: None,
        columns: &[("TALOS VERSION", "talosversion"), ("KUBERNETES VERSION", "kubernetesversion")],
        wide: &[("BACKUP INTERVAL", "backupconfiguration.interval")],
        aliases: &["c"],
    };
    /// The coordinator that leads: [`CoordinatorStatusSpec`](crate::backstay_types::CoordinatorStatusSpec).
    COORDINATOR_STATUSES, CoordinatorStatuses = TypeDefinition {
        name: "CoordinatorStatuses.backstay.dev", singular: "CoordinatorStatus", namespace: "ephemeral",
        owner: Some("CoordinatorController"),
        columns: &[("HOST", "host"), ("COORDINATOR VERSION", "version"), ("STARTED", "started"), ("CLOCK", "clock")],
        wide: &[("HOLDER", "holder"), ("EPOCH", "epoch")],
        aliases: &["coordinator", "coordinators"],
    };
    /// The state of the storage: [`OverallStatusSpec`](crate::spec::OverallStatusSpec).
    ETCD_BACKUP_OVERALL_STATUSES, EtcdBackupOverallStatuses = TypeDefinition {
        name: "EtcdBackupOverallStatuses.omni.sidero.dev", singular: "EtcdBackupOverallStatus", namespace: "ephemeral",
        owner: Some("EtcdBackupOverallStatusController"),
        columns: &[
            ("CONFIGURATION NAME", "configurationname"),
            ("CONFIGURATION ERROR", "configurationerror"),
            ("LAST BACKUP STATUS", "lastbackupstatus.status"),
            ("LAST BACKUP ERROR", "lastbackupstatus.error"),
            ("LAST BACKUP TIME", "lastbackupstatus.lastbackuptime"),
            ("CONFIGURATION ATTEMPT", "configurationattempt"),
        ],
        wide: &[],
        aliases: &["ebos"],
    };
    /// The storage, where it is S3: [`S3ConfigSpec`](crate::spec::S3ConfigSpec).
    ETCD_BACKUP_S3_CONFIGS, EtcdBackupS3Configs = TypeDefinition {
        name: "EtcdBackupS3Configs.omni.sidero.dev", singular: "EtcdBackupS3Config", namespace: "default", owner: None,
        columns: &[("BUCKET", "bucket"), ("REGION", "region"), ("ENDPOINT", "endpoint"), ("ACCESS KEY ID", "accesskeyid")],
        wide: &[],
        aliases: &["ebsc", "ebscs"],
    };
    /// How the latest backup of each cluster went: [`BackupStatusSpec`](crate::spec::BackupStatusSpec).
    ETCD_BACKUP_STATUSES, EtcdBackupStatuses = TypeDefinition {
        name: "EtcdBackupStatuses.omni.sidero.dev", singular: "EtcdBackupStatus", namespace: "ephemeral",
        owner: Some("EtcdBackupController"),
        columns: &[
            ("STATUS", "status"),
            ("ERROR", "error"),
            ("LAST BACKUP", "lastbackuptime"),
            ("LAST BACKUP ATTEMPT", "lastbackupattempt"),
        ],
        wide: &[],
        aliases: &["ebs"],
    };
    /// The backups in the store: [`BackupSpec`](crate::spec::BackupSpec).
    ETCD_BACKUPS, EtcdBackups = TypeDefinition {
        name: "EtcdBackups.omni.sidero.dev", singular: "EtcdBackup", namespace: "external", owner: Some("EtcdBackupController"),
        columns: &[("CREATED AT", "createdat"), ("SNAPSHOT", "snapshot")],
        wide: &[("SIZE", "size")],
        aliases: &["eb", "ebs"],
    };
    /// Requests for a backup now: [`ManualBackupSpec`](crate::spec::ManualBackupSpec).
    ETCD_MANUAL_BACKUPS, EtcdManualBackups = TypeDefinition {
        name: "EtcdManualBackups.omni.sidero.dev", singular: "EtcdManualBackup", namespace: "ephemeral", owner: None,
        columns: &[("BACKUP AT", "backupat")],
        wide: &[],
        aliases: &["emb", "embs"],
    };
    /// The machines of each machine set: [`MachineSetNodeSpec`](crate::spec::MachineSetNodeSpec).
    MACHINE_SET_NODES, MachineSetNodes = TypeDefinition {
        name: "MachineSetNodes.omni.sidero.dev", singular: "MachineSetNode", namespace: "default", owner: None,
        columns: &[],
        wide: &[],
        aliases: &["msn", "msns"],
    };
    /// The groups of machines of each cluster: [`MachineSetSpec`](crate::spec::MachineSetSpec).
    MACHINE_SETS, MachineSets = TypeDefinition {
        name: "MachineSets.omni.sidero.dev", singular: "MachineSet", namespace: "default", owner: None,
        columns: &[],
        wide: &[],
        aliases: &["ms"],
    };
    /// The latest restore of each cluster: [`RestoreSpec`](crate::backstay_types::RestoreSpec).
    RESTORES, Restores = TypeDefinition {
        name: "Restores.backstay.dev", singular: "Restore", namespace: "default", owner: None,
        columns: &[
            ("PHASE", "phase"), ("SNAPSHOT", "snapshot"), ("STARTED", "started"), ("ENDED", "ended"), ("ERROR", "error"),
        ],
        wide: &[("REVISION", "revision"), ("SOURCE CLUSTER", "sourcecluster")],
        aliases: &[],
    };
    /// The backups in the store with what their manifests say:
    /// [`StoredBackupSpec`](crate::backstay_types::StoredBackupSpec).
    STORED_BACKUPS, StoredBackups = TypeDefinition {
        name: "StoredBackups.backstay.dev", singular: "StoredBackup", namespace: "external", owner: Some("EtcdBackupController"),
        columns: &[
            ("CREATED AT", "createdat"), ("SNAPSHOT", "snapshot"), ("SIZE", "size"), ("REVISION", "revision"),
            ("CHECKED", "proven"),
        ],
        wide: &[("STORED", "stored"), ("ETCD VERSION", "etcdversion"), ("ETCD CLUSTER", "etcdclusterid"), ("SHA256", "sha256")],
        aliases: &["backup", "backups"],
    };
    /// The latest verification for each cluster: [`VerificationSpec`](crate::backstay_types::VerificationSpec).
    VERIFICATIONS, Verifications = TypeDefinition {
        name: "Verifications.backstay.dev", singular: "Verification", namespace: "default", owner: None,
        columns: &[
            ("STATE", "state"), ("SNAPSHOT", "snapshot"), ("STARTED", "started"), ("ENDED", "ended"), ("ERROR", "error"),
            ("LAST VERIFIED", "lastproven"),
        ],
        wide: &[
            ("MACHINE", "machine"), ("MEMBER", "member"), ("HOST", "host"), ("VERIFIED", "provensnapshot"),
            ("HOW", "provenhow"),
        ],
        aliases: &[],
    };
}

/// Why a name that a person typed does not mean one type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No type has this name.
    #[error("resource {given:?} is not registered; there are: {known}")]
    Unknown {
        /// The name as it was typed.
        given: String,
        /// The full names of all types, with commas between them.
        known: String,
    },
    /// Several types have this short form.
    #[error("resource type {given:?} is ambiguous: it may mean {candidates}")]
    Ambiguous {
        /// The name as it was typed.
        given: String,
        /// The full names of the types that it may mean, with commas between them.
        candidates: String,
    },
}

impl TypeDefinition {
    /// The plural without the group, in lower case: the last token of a subject, and part of keys.
    pub fn plural(&self) -> String {
        self.stem().to_ascii_lowercase()
    }

    fn stem(&self) -> &'static str {
        self.name.split('.').next().unwrap_or(self.name)
    }

    fn answers_to(&self, lower: &str) -> bool {
        let full = self.name.to_ascii_lowercase();
        let singular = self.singular.to_ascii_lowercase();
        let group = &full[self.stem().len()..];
        lower == full
            || lower == self.plural()
            || lower == singular
            || lower == format!("{singular}{group}")
            || self.prefixes().any(|prefix| prefix == lower)
            || self.aliases.contains(&lower)
    }

    /// `plural.omni`, `plural.omni.sidero`: the full name cut at a dot.
    fn prefixes(&self) -> impl Iterator<Item = String> {
        let full = self.name.to_ascii_lowercase();
        let dots: Vec<usize> = full.match_indices('.').map(|(at, _)| at).collect();
        dots.into_iter().skip(1).map(move |at| full[..at].to_owned())
    }
}

/// The type that a person means, in any case: plural, singular, full name or short form.
///
/// # Errors
/// [`ResolveError::Unknown`], or [`ResolveError::Ambiguous`].
pub fn resolve(given: &str) -> Result<&'static TypeDefinition, ResolveError> {
    let lower = given.to_ascii_lowercase();
    let found: Vec<_> = ALL.iter().filter(|d| d.answers_to(&lower)).collect();
    match found[..] {
        [definition] => Ok(definition),
        [] => Err(ResolveError::Unknown { given: given.to_owned(), known: names(ALL.iter()) }),
        _ => Err(ResolveError::Ambiguous { given: given.to_owned(), candidates: names(found.into_iter()) }),
    }
}

/// The type whose full name is exactly `name`; `None` if there is none.
pub fn by_full_name(name: &str) -> Option<&'static TypeDefinition> {
    ALL.iter().find(|d| d.name == name).copied()
}

/// The type whose [`plural`](TypeDefinition::plural) is exactly this; `None` if there is none.
pub fn by_plural(plural: &str) -> Option<&'static TypeDefinition> {
    ALL.iter().find(|d| d.plural() == plural).copied()
}

fn names<'a>(definitions: impl Iterator<Item = &'a &'static TypeDefinition>) -> String {
    definitions.map(|d| d.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_name_resolves() {
        for form in [
            "etcdbackup",
            "EtcdBackups",
            "etcdbackups.omni",
            "etcdbackups.omni.sidero",
            "EtcdBackups.omni.sidero.dev",
            "etcdbackup.omni.sidero.dev",
            "eb",
        ] {
            assert_eq!(resolve(form).map(|d| d.name), Ok(ETCD_BACKUPS.name), "{form}");
        }
        assert_eq!(resolve("cluster").map(|d| d.name), Ok(CLUSTERS.name));
        assert_eq!(resolve("etcdbackupoverallstatus").map(|d| d.name), Ok(ETCD_BACKUP_OVERALL_STATUSES.name));
    }

    #[test]
    fn unknown_and_ambiguous_names_list_what_exists() {
        let unknown = resolve("foo").expect_err("no such type").to_string();
        assert!(
            unknown.starts_with(r#"resource "foo" is not registered"#)
                && unknown.contains("EtcdBackups.omni.sidero.dev"),
            "{unknown}"
        );
        let ambiguous = resolve("ebs").expect_err("two types").to_string();
        assert!(ambiguous.contains("EtcdBackups.") && ambiguous.contains("EtcdBackupStatuses."), "{ambiguous}");
    }
}
