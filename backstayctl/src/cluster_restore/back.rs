//! What remains after a restore was undone: for each machine, its data, its etcd, and every folder beside it.

use backstay_protocol::backstay_types::{RestoreMachineSpec, RestoreSpec};
use backstay_protocol::machines;

/// The end of a sentence that names the cause, and a line for each machine.
pub fn text(spec: &RestoreSpec) -> String {
    let all = spec.machines.iter().all(is_as_before);
    let first = if all { "the cluster is back as it was before" } else { "NOT everything is back as it was before" };
    let lines = spec.machines.iter().map(|machine| format!("\n  {}", line(machine)));
    format!("{first}{}", lines.collect::<String>())
}

/// Whether a machine is known to be as before, both its data and its etcd.
fn is_as_before(machine: &RestoreMachineSpec) -> bool {
    match (machine.step.as_str(), machine.etcd.as_str()) {
        ("pending", _) | ("returned", "serves" | "untouched") => true,
        // An agent that does not look, and has nothing to complain of.
        ("returned", "") => machine.error.is_empty(),
        _ => false,
    }
}

fn line(machine: &RestoreMachineSpec) -> String {
    let RestoreMachineSpec { machine: id, host, member, step, etcd, etcdtext, error, left, .. } = machine;
    let holds = match (step.as_str(), etcd.as_str()) {
        ("pending", _) | ("returned", "untouched") => "nothing was touched".to_owned(),
        ("returned", "serves") => "its old data is back and etcd is serving".to_owned(),
        ("returned", "runs") => format!("its old data is back and etcd was started: {etcdtext}"),
        ("returned", "down") => format!("its old data is back, but etcd IS NOT RUNNING: {etcdtext}"),
        ("returned", _) if error.is_empty() => "its old data is back".to_owned(),
        ("returned", _) => error.clone(),
        (step, _) => {
            let why = if error.is_empty() { String::new() } else { format!(": {error}") };
            format!("it has not gone back yet ({step}){why}; the coordinator keeps telling it to")
        }
    };
    let left = match left.as_slice() {
        [] => String::new(),
        // Of a machine that is not back its old data may be among them.
        left if step == "returned" => format!("; left behind, for you to delete: {}", left.join(", ")),
        left => format!("; next to its data directory: {}", left.join(", ")),
    };
    format!("machine {}: {holds}{left}", machines::called(member, host, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(step: &str, etcd: &str) -> RestoreMachineSpec {
        RestoreMachineSpec {
            machine: "4c4c4544-0039-3010-8048-b7c04f384432".into(),
            member: "m1".into(),
            step: step.into(),
            etcd: etcd.into(),
            ..RestoreMachineSpec::default()
        }
    }

    fn said(machines: impl IntoIterator<Item = RestoreMachineSpec>) -> String {
        text(&RestoreSpec { machines: machines.into_iter().collect(), ..RestoreSpec::default() })
    }

    #[test]
    fn a_cluster_is_as_before_only_where_each_machine_is() {
        for (step, etcd, error, as_before) in [
            ("returned", "serves", "", true),
            ("returned", "untouched", "", true),
            ("pending", "", "", true),
            ("returned", "", "", true),
            ("returned", "", "the old data is back, but etcd does not start: no", false),
            ("returned", "runs", "", false),
            ("returned", "down", "", false),
            ("returning", "", "", false),
            ("switched", "", "it did not answer", false),
        ] {
            let second = RestoreMachineSpec { error: error.into(), ..machine(step, etcd) };
            let text = said([machine("returned", "serves"), second]);
            assert_eq!(text.starts_with("the cluster is back as it was before\n"), as_before, "{step} {etcd}: {text}");
            assert_eq!(text.starts_with("NOT everything"), !as_before, "{text}");
            assert_eq!(text.matches("\n  machine m1: ").count(), 2, "{text}");
            assert!(text.contains(error), "{text}");
        }
    }

    #[test]
    fn the_cause_and_every_folder_are_named() {
        let folder = "/var/lib/etcd.before-restore-20231210T000000Z.restored-and-put-back";
        let down = RestoreMachineSpec {
            etcdtext: "its unit is failed (exit-code); its last lines: panic: no".into(),
            left: vec![folder.into(), "/var/lib/etcd.before-restore-20231210T000000Z.unexpected".into()],
            ..machine("returned", "down")
        };
        let text = said([down]);
        for part in ["etcd IS NOT RUNNING: its unit is failed", "last lines: panic: no", folder, ".unexpected"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
