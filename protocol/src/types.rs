//! The resource types: names, namespaces, columns, and how a name that a person typed is resolved.

use serde_json::Value;

/// What is fixed about a resource type.
#[derive(Debug, PartialEq, Eq)]
pub struct TypeDefinition {
    /// The full name, e.g. `EtcdBackupStatuses.omni.sidero.dev`.
    pub name: &'static str,
    /// What a table's TYPE column shows, e.g. `EtcdBackupStatus`.
    pub singular: &'static str,
    /// The default namespace.
    pub namespace: &'static str,
    /// Who writes it; a type with an owner is read-only.
    pub owner: Option<&'static str>,
    /// Table columns after NAMESPACE TYPE ID VERSION: heading, and path into the resource (`spec.…`).
    pub columns: &'static [(&'static str, &'static str)],
    /// Short forms besides the initials.
    pub aliases: &'static [&'static str],
}

macro_rules! types {
    ($($constant:ident = $definition:expr;)*) => {
        $(pub static $constant: TypeDefinition = $definition;)*

        /// Every type, in the order of their full names.
        pub static ALL: &[&TypeDefinition] = &[$(&$constant),*];
    };
}

types! {
    AGENTS = TypeDefinition {
        name: "Agents.backstay.dev", singular: "Agent", namespace: "ephemeral", owner: Some("AgentController"),
        columns: &[
            ("CLUSTER", "cluster"), ("ROLE", "role"), ("ETCD VERSION", "etcdversion"), ("DB SIZE", "dbsize"),
            ("REVISION", "revision"), ("LAST SEEN", "lastseen"), ("ERROR", "error"),
        ],
        aliases: &[],
    };
    BACKUP_RUNS = TypeDefinition {
        name: "BackupRuns.backstay.dev", singular: "BackupRun", namespace: "ephemeral", owner: Some("EtcdBackupController"),
        columns: &[
            ("CLUSTER", "cluster"), ("MACHINE", "machine"), ("TRIGGER", "trigger"), ("STATE", "state"),
            ("STARTED", "started"), ("ENDED", "ended"), ("BYTES", "bytesread"), ("ERROR", "error"),
        ],
        aliases: &["br", "run", "runs"],
    };
    CLUSTER_UUIDS = TypeDefinition {
        name: "ClusterUUIDs.omni.sidero.dev", singular: "ClusterUUID", namespace: "default", owner: None,
        columns: &[("UUID", "uuid")], aliases: &["cuuid", "cuuids"],
    };
    CLUSTERS = TypeDefinition {
        name: "Clusters.omni.sidero.dev", singular: "Cluster", namespace: "default", owner: None,
        columns: &[("TALOS VERSION", "talosversion"), ("KUBERNETES VERSION", "kubernetesversion")], aliases: &["c"],
    };
    COORDINATOR_STATUSES = TypeDefinition {
        name: "CoordinatorStatuses.backstay.dev", singular: "CoordinatorStatus", namespace: "ephemeral",
        owner: Some("CoordinatorController"),
        columns: &[("HOST", "host"), ("COORDINATOR VERSION", "version"), ("STARTED", "started"), ("CLOCK", "clock")],
        aliases: &["coordinator", "coordinators"],
    };
    ETCD_BACKUP_OVERALL_STATUSES = TypeDefinition {
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
        aliases: &["ebos"],
    };
    ETCD_BACKUP_S3_CONFIGS = TypeDefinition {
        name: "EtcdBackupS3Configs.omni.sidero.dev", singular: "EtcdBackupS3Config", namespace: "default", owner: None,
        columns: &[("BUCKET", "bucket"), ("REGION", "region"), ("ENDPOINT", "endpoint"), ("ACCESS KEY ID", "accesskeyid")],
        aliases: &["ebsc", "ebscs"],
    };
    ETCD_BACKUP_STATUSES = TypeDefinition {
        name: "EtcdBackupStatuses.omni.sidero.dev", singular: "EtcdBackupStatus", namespace: "ephemeral",
        owner: Some("EtcdBackupController"),
        columns: &[
            ("STATUS", "status"),
            ("ERROR", "error"),
            ("LAST BACKUP", "lastbackuptime"),
            ("LAST BACKUP ATTEMPT", "lastbackupattempt"),
        ],
        aliases: &["ebs"],
    };
    ETCD_BACKUPS = TypeDefinition {
        name: "EtcdBackups.omni.sidero.dev", singular: "EtcdBackup", namespace: "external", owner: Some("EtcdBackupController"),
        columns: &[("CREATED AT", "createdat"), ("SNAPSHOT", "snapshot")], aliases: &["eb", "ebs"],
    };
    ETCD_MANUAL_BACKUPS = TypeDefinition {
        name: "EtcdManualBackups.omni.sidero.dev", singular: "EtcdManualBackup", namespace: "ephemeral", owner: None,
        columns: &[("BACKUP AT", "backupat")], aliases: &["emb", "embs"],
    };
    MACHINE_SET_NODES = TypeDefinition {
        name: "MachineSetNodes.omni.sidero.dev", singular: "MachineSetNode", namespace: "default", owner: None,
        columns: &[], aliases: &["msn", "msns"],
    };
    MACHINE_SETS = TypeDefinition {
        name: "MachineSets.omni.sidero.dev", singular: "MachineSet", namespace: "default", owner: None,
        columns: &[], aliases: &["ms"],
    };
    RESTORES = TypeDefinition {
        name: "Restores.backstay.dev", singular: "Restore", namespace: "default", owner: None,
        columns: &[
            ("PHASE", "phase"), ("SNAPSHOT", "snapshot"), ("STARTED", "started"), ("ENDED", "ended"), ("ERROR", "error"),
        ],
        aliases: &[],
    };
    VERIFICATIONS = TypeDefinition {
        name: "Verifications.backstay.dev", singular: "Verification", namespace: "default", owner: None,
        columns: &[
            ("STATE", "state"), ("SNAPSHOT", "snapshot"), ("STARTED", "started"), ("ENDED", "ended"), ("ERROR", "error"),
            ("LAST PROVEN", "lastproven"),
        ],
        aliases: &[],
    };
}

/// Why a typed name is no type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("resource {given:?} is not registered; there are: {known}")]
    Unknown { given: String, known: String },
    #[error("resource type {given:?} is ambiguous: it may mean {candidates}")]
    Ambiguous { given: String, candidates: String },
}

impl TypeDefinition {
    /// The plural without the group in lower case: the token that stands in subjects and keys.
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

/// The type that a person means, without regard to case: plural, singular, full name or short form.
pub fn resolve(given: &str) -> Result<&'static TypeDefinition, ResolveError> {
    let lower = given.to_ascii_lowercase();
    let found: Vec<_> = ALL.iter().filter(|d| d.answers_to(&lower)).collect();
    match found[..] {
        [definition] => Ok(definition),
        [] => Err(ResolveError::Unknown { given: given.to_owned(), known: names(ALL.iter()) }),
        _ => Err(ResolveError::Ambiguous { given: given.to_owned(), candidates: names(found.into_iter()) }),
    }
}

/// The type whose full name is exactly `name`.
pub fn by_full_name(name: &str) -> Option<&'static TypeDefinition> {
    ALL.iter().find(|d| d.name == name).copied()
}

/// The type whose subject token is exactly `plural`.
pub fn by_plural(plural: &str) -> Option<&'static TypeDefinition> {
    ALL.iter().find(|d| d.plural() == plural).copied()
}

fn names<'a>(definitions: impl Iterator<Item = &'a &'static TypeDefinition>) -> String {
    definitions.map(|d| d.name).collect::<Vec<_>>().join(", ")
}

/// The spec of `definition` with every field present.
pub fn every_field(definition: &TypeDefinition) -> Value {
    use crate::own;
    use crate::spec::{self, Spec};
    match definition.name {
        n if n == AGENTS.name => own::AgentSpec::every_field(),
        n if n == BACKUP_RUNS.name => own::BackupRunSpec::every_field(),
        n if n == CLUSTER_UUIDS.name => spec::ClusterUuidSpec::every_field(),
        n if n == CLUSTERS.name => spec::ClusterSpec::every_field(),
        n if n == COORDINATOR_STATUSES.name => own::CoordinatorStatusSpec::every_field(),
        n if n == ETCD_BACKUP_OVERALL_STATUSES.name => spec::OverallStatusSpec::every_field(),
        n if n == ETCD_BACKUP_S3_CONFIGS.name => spec::S3ConfigSpec::every_field(),
        n if n == ETCD_BACKUP_STATUSES.name => spec::BackupStatusSpec::every_field(),
        n if n == ETCD_BACKUPS.name => spec::BackupSpec::every_field(),
        n if n == ETCD_MANUAL_BACKUPS.name => spec::ManualBackupSpec::every_field(),
        n if n == RESTORES.name => own::RestoreSpec::every_field(),
        n if n == VERIFICATIONS.name => own::VerificationSpec::every_field(),
        n if n == MACHINE_SETS.name => spec::MachineSetSpec::every_field(),
        _ => spec::MachineSetNodeSpec::every_field(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Spec;
    use crate::validate;

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

    /// Every map of a value, itself among them, by its path.
    fn maps(value: &Value, path: String) -> Vec<String> {
        let below: Vec<(String, &Value)> = match value {
            Value::Object(map) => map.iter().map(|(key, value)| (format!("{path}/{key}"), value)).collect(),
            Value::Array(items) => items.iter().enumerate().map(|(n, item)| (format!("{path}/{n}"), item)).collect(),
            _ => return Vec::new(),
        };
        let own = value.is_object().then_some(path);
        own.into_iter().chain(below.into_iter().flat_map(|(path, value)| maps(value, path))).collect()
    }

    fn with_news(value: &Value, path: &str) -> Value {
        let mut told = value.clone();
        told.pointer_mut(path).expect("it is there")["newfield"] = serde_json::json!({ "any": [1] });
        told
    }

    /// What a newer coordinator tells, in any map of the spec, is passed over.
    fn is_lenient<S: Spec>() -> &'static str {
        let (full, name) = (S::every_field(), S::definition().name);
        for path in maps(&full, String::new()) {
            let told = with_news(&full, &path);
            let read = S::deserialize(&told).unwrap_or_else(|error| panic!("{name}{path}: {error}"));
            assert_eq!(serde_json::to_value(read).expect("plain data"), full, "{name}{path}");
        }
        name
    }

    #[test]
    fn what_is_told_may_have_fields_that_are_not_known_here() {
        use crate::own::*;
        use crate::spec::*;
        let mut read = [
            is_lenient::<AgentSpec>(),
            is_lenient::<BackupRunSpec>(),
            is_lenient::<ClusterUuidSpec>(),
            is_lenient::<ClusterSpec>(),
            is_lenient::<CoordinatorStatusSpec>(),
            is_lenient::<OverallStatusSpec>(),
            is_lenient::<S3ConfigSpec>(),
            is_lenient::<BackupStatusSpec>(),
            is_lenient::<BackupSpec>(),
            is_lenient::<ManualBackupSpec>(),
            is_lenient::<MachineSetNodeSpec>(),
            is_lenient::<MachineSetSpec>(),
            is_lenient::<RestoreSpec>(),
            is_lenient::<VerificationSpec>(),
        ];
        let mut all: Vec<&str> = ALL.iter().map(|definition| definition.name).collect();
        all.sort_unstable();
        read.sort_unstable();
        assert_eq!(read.as_slice(), all.as_slice(), "each type once");
    }

    #[test]
    fn what_is_applied_may_not() {
        for definition in ALL {
            let full = every_field(definition);
            assert_eq!(validate::unknown_fields(&full, &full, "spec"), Ok(()));
            for path in maps(&full, String::new()) {
                let refused = validate::unknown_fields(&with_news(&full, &path), &full, "spec");
                let error = refused.expect_err(definition.name).to_string();
                assert!(error.starts_with("unknown field \"newfield\" (spec"), "{}{path}: {error}", definition.name);
            }
        }
    }

    #[test]
    fn columns_point_at_fields_that_exist() {
        for definition in ALL {
            let full = every_field(definition);
            for (heading, path) in definition.columns {
                let found = path.split('.').try_fold(&full, |value, key| value.get(key));
                assert!(found.is_some(), "{} {heading}: no {path}", definition.name);
            }
        }
    }
}
