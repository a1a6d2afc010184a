//! Each type's spec with every field present: which fields a file may have, and which fields a table's columns refer to.

use serde_json::Value;

use crate::backstay_types;
use crate::spec::{self, Spec};
use crate::types::{Kind, TypeDefinition};

/// The spec of `definition` with every field present. The values mean nothing; a list has one item.
///
/// # Examples
/// ```
/// use backstay_protocol::{fields, types, validate};
/// use serde_json::json;
///
/// let known = fields::every_field(&types::CLUSTERS);
/// let given = json!({ "backupconfiguration": { "intervall": { "seconds": 3600 } } });
/// let error = validate::unknown_fields(&given, &known, "spec").unwrap_err();
/// assert_eq!(error.path, "spec.backupconfiguration.intervall");
/// assert_eq!(error.nearest.as_deref(), Some("interval"));
/// ```
pub fn every_field(definition: &TypeDefinition) -> Value {
    match definition.kind {
        Kind::Agents => backstay_types::AgentSpec::every_field(),
        Kind::BackupRuns => backstay_types::BackupRunSpec::every_field(),
        Kind::ClusterUuids => spec::ClusterUuidSpec::every_field(),
        Kind::Clusters => spec::ClusterSpec::every_field(),
        Kind::CoordinatorStatuses => backstay_types::CoordinatorStatusSpec::every_field(),
        Kind::EtcdBackupOverallStatuses => spec::OverallStatusSpec::every_field(),
        Kind::EtcdBackupS3Configs => spec::S3ConfigSpec::every_field(),
        Kind::EtcdBackupStatuses => spec::BackupStatusSpec::every_field(),
        Kind::EtcdBackups => spec::BackupSpec::every_field(),
        Kind::EtcdManualBackups => spec::ManualBackupSpec::every_field(),
        Kind::MachineSetNodes => spec::MachineSetNodeSpec::every_field(),
        Kind::MachineSets => spec::MachineSetSpec::every_field(),
        Kind::Restores => backstay_types::RestoreSpec::every_field(),
        Kind::StoredBackups => backstay_types::StoredBackupSpec::every_field(),
        Kind::Verifications => backstay_types::VerificationSpec::every_field(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ALL;
    use crate::validate;

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
        use crate::backstay_types::*;
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
            is_lenient::<StoredBackupSpec>(),
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
            for (heading, path) in definition.columns.iter().chain(definition.wide) {
                let found = path.split('.').try_fold(&full, |value, key| value.get(key));
                assert!(found.is_some(), "{} {heading}: no {path}", definition.name);
            }
        }
    }
}
