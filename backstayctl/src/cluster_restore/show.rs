//! How a restore is shown: the plan, each step, the end.

use std::collections::BTreeMap;
use std::io;

use backstay_daemon::units;
use backstay_protocol::backstay_types::{RestoreMachineSpec, RestorePhase, RestoreSpec};
use backstay_protocol::{Timestamp, machines};

use crate::api::CallError;
use crate::console::Console;
use crate::output::table;
use crate::progress::Progress;
use crate::restore::next::{kubelets, numbered};

/// What will be done.
pub fn plan(cluster: &str, spec: &RestoreSpec) -> String {
    let foreign =
        if spec.sourcecluster == cluster { String::new() } else { format!(" of cluster {}", spec.sourcecluster) };
    let bump = match spec.bump {
        Some(0) => "none: watchers and informers may keep stale data".into(),
        bump => format!(
            "the revision is raised by {}, and everything before it is marked as compacted",
            bump.unwrap_or_default()
        ),
    };
    let of_etcd = match spec.etcdclusterid.as_str() {
        "" => String::new(),
        id => format!(" of etcd cluster {id}"),
    };
    let mut text = format!(
        "Restore of cluster {cluster}\n  Backup:    {}{foreign}\n  Taken:     {}, revision {}{of_etcd}\n  etcd:      {}\n  \
         Size:      {} ({} in the store)\n  Digest:    sha256 {}\n  Verified:  {}\n  Bump:      {bump}\n\n\
         Machines (all are prepared before any of them is changed):\n",
        spec.snapshot,
        spec.takenat.map(Timestamp::rfc3339).unwrap_or_default(),
        spec.revision,
        etcd(spec),
        units::bytes(spec.bytes),
        units::bytes(spec.sealedbytes),
        spec.sha256,
        spec.proof,
    );
    let heading = ["MACHINE", "MEMBER", "ETCD", "CONTROL", "DATA DIRECTORY", "OLD DATA MOVES TO"];
    let row = |m: &RestoreMachineSpec| {
        let etcd = known(&m.etcdversion).to_owned();
        vec![machine(m), m.member.clone(), etcd, m.control.clone(), m.folder.clone(), m.aside.clone()]
    };
    text.push_str(&table::plain(&heading, spec.machines.iter().map(row)));
    text.push_str("\nEverything written since the backup will be lost, except in the data that is moved aside.\n");
    text
}

/// The host name of a machine, since the member's name is beside it.
fn machine(spec: &RestoreMachineSpec) -> String {
    machines::called("", &spec.host, &spec.machine)
}

/// The etcd that the backup was taken from.
fn etcd(spec: &RestoreSpec) -> String {
    let version = known(&spec.etcdversion);
    match spec.storageversion.as_str() {
        "" => version.to_owned(),
        mark => format!("{version}; the database is marked {mark}"),
    }
}

fn known(version: &str) -> &str {
    if version.is_empty() { "unknown" } else { version }
}

/// The end of a restore that succeeded.
pub fn end(cluster: &str, spec: &RestoreSpec) -> String {
    let took = match (spec.started, spec.ended) {
        (Some(started), Some(ended)) => format!(" in {}", units::took(ended.since(started))),
        _ => String::new(),
    };
    let members = match spec.machines.len() {
        1 => "its member is serving".to_owned(),
        count => format!("{count} members are serving and agree"),
    };
    let mut text = format!("* {cluster} was restored{took}: {members}\n");
    let left: Vec<String> = spec.machines.iter().flat_map(left).collect();
    text.extend(left.iter().map(String::as_str));
    text.push_str(&format!(
        "  etcd has a new cluster ID: pass --new-cluster-id to the next `backstay-agent once --cluster {cluster}`, \
         once\n"
    ));
    if !spec.error.is_empty() {
        text.push_str(&format!("  {}\n", spec.error));
    }
    let mut steps = vec![
        kubelets("So that no component keeps watching the old data, restart"),
        ("Take a first backup of the restored cluster:".into(), vec![format!("backstayctl backup {cluster} --wait")]),
    ];
    if !left.is_empty() {
        steps.push((
            "Once everything works, delete the directories named above: nothing else deletes them.".into(),
            Vec::new(),
        ));
    }
    text + "\n" + &numbered(&steps)
}

/// The directories that a restore leaves on a machine for people to delete, each in a line.
fn left(spec: &RestoreMachineSpec) -> Vec<String> {
    let RestoreMachineSpec { member, aside, left, .. } = spec;
    let name = machine(spec);
    let line = |folder: &String| match is_old_data(folder) {
        true => format!("  the old data of {member} is in {folder} on machine {name}\n"),
        false => format!("  the restore of {member} also left {folder} on machine {name}\n"),
    };
    match left.as_slice() {
        [] if aside.is_empty() => Vec::new(),
        // An agent that does not say it yet sets aside what the plan says.
        [] => vec![line(aside)],
        left => left.iter().map(line).collect(),
    }
}

/// Whether it has the name that old data is given. What else a restore leaves has an ending after that, or another name.
fn is_old_data(folder: &str) -> bool {
    folder.rsplit_once(".before-restore-").is_some_and(|(_, time)| !time.contains('.'))
}

/// One line: the phase, and how many machines have reached which step.
pub fn line(spec: &RestoreSpec) -> String {
    let mut steps: BTreeMap<&str, usize> = BTreeMap::new();
    for machine in &spec.machines {
        *steps.entry(machine.step.as_str()).or_default() += 1;
    }
    let total = spec.machines.len();
    let steps: Vec<String> =
        steps.iter().map(|(step, count)| format!("{count} of {total} {}", step_text(step))).collect();
    let (done, all) = bytes(spec);
    let amount = match spec.phase {
        RestorePhase::Preparing if all > 0 => format!(", {} of {}", units::bytes(done), units::bytes(all)),
        _ => String::new(),
    };
    format!("{}: {}{amount}", phase_text(spec.phase), steps.join(", "))
}

/// A phase for people; scripts get [`RestorePhase::text`].
fn phase_text(phase: RestorePhase) -> &'static str {
    match phase {
        RestorePhase::Keeping => "confirming",
        RestorePhase::PuttingBack => "going back to the old data",
        phase => phase.text(),
    }
}

/// A machine's step for people.
fn step_text(step: &str) -> &str {
    match step {
        "stopping" => "stopping etcd",
        "moving" => "moving the data",
        "starting" => "starting etcd",
        "switched" => "running on the restored data",
        "returning" => "going back",
        "returned" => "back on the old data",
        "kept" => "done",
        other => other,
    }
}

fn bytes(spec: &RestoreSpec) -> (u64, u64) {
    let sum = |f: fn(&RestoreMachineSpec) -> u64| spec.machines.iter().map(f).sum();
    (sum(|m| m.bytesdone), sum(|m| m.bytestotal))
}

/// Shows progress on stderr; a text is not repeated.
#[derive(Debug)]
pub struct Show(Progress);

impl Show {
    pub fn new(bar: bool) -> Self {
        Self(Progress::new(bar))
    }

    /// Shows how far the restore is, unless it has ended.
    ///
    /// # Errors
    /// None, as of [`Console::print`].
    pub fn look(&mut self, spec: &RestoreSpec, console: &mut Console<'_>) -> io::Result<()> {
        if spec.phase.has_ended() {
            self.0.clear();
            return Ok(());
        }
        let error = if spec.error.is_empty() { String::new() } else { format!(" ({})", spec.error) };
        self.0.message(format!("{}{error}", line(spec)), console)
    }

    /// The coordinator does not answer for the moment.
    ///
    /// # Errors
    /// None, as of [`Console::print`].
    pub fn away(&mut self, error: &CallError, console: &mut Console<'_>) -> io::Result<()> {
        self.0.message(format!("waiting: {error}"), console)
    }
}
