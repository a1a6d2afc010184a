//! Unified diffs of resources as YAML.

use std::fmt::Write;

use backstay_daemon::terminal;
use backstay_protocol::resource::Resource;
use backstay_protocol::spec::S3ConfigSpec;
use backstay_protocol::types;
use similar::{DiffOp, TextDiff};

use super::output::yaml;

/// How many unchanged lines are shown around a change.
const CONTEXT: usize = 3;
const NOTHING: &str = "/dev/null";

/// The kind of a line, which alone determines its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Heading,
    Hunk,
    Kept,
    Removed,
    Added,
}

/// The difference between two states of one resource; empty where they are the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diff {
    lines: Vec<(Role, String)>,
}

impl Diff {
    /// `None` means that there is no resource.
    pub fn of(before: Option<&Resource>, after: Option<&Resource>) -> Self {
        let text = |resource: Option<&Resource>| resource.map(|r| yaml::resource(&shown(r))).unwrap_or_default();
        let name = |resource: Option<&Resource>| resource.map_or_else(|| NOTHING.to_owned(), Resource::address);
        Self::of_texts(&name(before), &text(before), &name(after), &text(after))
    }

    fn of_texts(before_name: &str, before: &str, after_name: &str, after: &str) -> Self {
        let diff = TextDiff::from_lines(before, after);
        let hunks = diff.grouped_ops(CONTEXT);
        let mut lines = Vec::new();
        if !hunks.is_empty() {
            lines.push((Role::Heading, format!("--- {}", terminal::line(before_name))));
            lines.push((Role::Heading, format!("+++ {}", terminal::line(after_name))));
        }
        let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
        for hunk in &hunks {
            lines.push((Role::Hunk, heading(hunk)));
            hunk.iter().for_each(|op| body(&mut lines, op, &old, &new));
        }
        Self { lines }
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// As text, with colours if `colour` is set.
    pub fn render(&self, colour: bool) -> String {
        self.lines.iter().fold(String::new(), |mut out, (role, text)| {
            let _ = match role.escape().filter(|_| colour) {
                Some(escape) => writeln!(out, "{escape}{text}\u{1b}[0m"),
                None => writeln!(out, "{text}"),
            };
            out
        })
    }
}

impl Role {
    fn escape(self) -> Option<&'static str> {
        match self {
            Self::Heading => Some("\u{1b}[1m"),
            Self::Hunk => Some("\u{1b}[36m"),
            Self::Kept => None,
            Self::Removed => Some("\u{1b}[31m"),
            Self::Added => Some("\u{1b}[32m"),
        }
    }
}

/// `@@ -a,b +c,d @@`, the counts always written; a side without lines begins at the line before.
fn heading(hunk: &[DiffOp]) -> String {
    let side = |ranges: Vec<std::ops::Range<usize>>| {
        let start = ranges.first().map_or(0, |r| r.start);
        let count: usize = ranges.iter().map(ExactSizeIterator::len).sum();
        format!("{},{count}", if count == 0 { start } else { start + 1 })
    };
    let old = side(hunk.iter().map(DiffOp::old_range).collect());
    let new = side(hunk.iter().map(DiffOp::new_range).collect());
    format!("@@ -{old} +{new} @@")
}

fn body(lines: &mut Vec<(Role, String)>, op: &DiffOp, old: &[&str], new: &[&str]) {
    if let DiffOp::Equal { .. } = op {
        lines.extend(old[op.old_range()].iter().map(|line| (Role::Kept, format!(" {line}"))));
        return;
    }
    lines.extend(old[op.old_range()].iter().map(|line| (Role::Removed, format!("-{line}"))));
    lines.extend(new[op.new_range()].iter().map(|line| (Role::Added, format!("+{line}"))));
}

/// The resource without its secrets. The coordinator hides them, too, but a diff must not depend on that.
fn shown(resource: &Resource) -> Resource {
    let mut resource = resource.clone();
    if resource.metadata.kind == types::ETCD_BACKUP_S3_CONFIGS.name
        && let Ok(spec) = resource.typed::<S3ConfigSpec>()
        && let Ok(spec) = serde_json::to_value(spec.redacted())
    {
        resource.spec = spec;
    }
    resource
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstay_protocol::spec::{BackupConfiguration, ClusterSpec, Interval, MachineSetNodeSpec};
    use proptest::prelude::*;

    fn cluster(interval: Option<u64>) -> Resource {
        let configuration = interval
            .map(|seconds| BackupConfiguration { interval: Some(Interval { seconds, nanos: 0 }), enabled: None });
        let spec = ClusterSpec {
            kubernetesversion: "1.28.2".into(),
            talosversion: "1.5.5".into(),
            backupconfiguration: configuration,
            ..ClusterSpec::default()
        };
        Resource::of("talos-default", &spec)
    }

    #[test]
    fn the_documented_diff_of_enabling_backups() {
        let expected = "\
--- Clusters.omni.sidero.dev(default/talos-default)
+++ Clusters.omni.sidero.dev(default/talos-default)
@@ -12,4 +12,7 @@
   features:
     enableworkloadproxy: false
     diskencryption: false
-  backupconfiguration: null
+  backupconfiguration:
+    interval:
+      seconds: 3600
+      nanos: 0
";
        assert_eq!(Diff::of(Some(&cluster(None)), Some(&cluster(Some(3600)))).render(false), expected);
    }

    #[test]
    fn creating_and_deleting_compare_with_nothing() {
        let node = Resource::of("node", &MachineSetNodeSpec {});
        let created = Diff::of(None, Some(&node)).render(false);
        let expected = "\
--- /dev/null
+++ MachineSetNodes.omni.sidero.dev(default/node)
@@ -0,0 +1,8 @@
+metadata:
+  namespace: default
+  type: MachineSetNodes.omni.sidero.dev
+  id: node
+  version: undefined
+  owner:
+  phase: running
+spec: {}
";
        assert_eq!(created, expected);
        let deleted = Diff::of(Some(&node), None).render(false);
        assert!(
            deleted.starts_with(
                "--- MachineSetNodes.omni.sidero.dev(default/node)\n+++ /dev/null\n@@ -1,8 +0,0 @@\n-metadata:\n"
            ),
            "{deleted}"
        );
    }

    #[test]
    fn no_change_is_no_diff_and_colour_is_asked_for() {
        assert!(Diff::of(Some(&cluster(None)), Some(&cluster(None))).is_empty());
        assert_eq!(Diff::default().render(true), "");
        let text = Diff::of(Some(&cluster(Some(60))), Some(&cluster(Some(61)))).render(true);
        assert!(
            text.contains("\u{1b}[31m-      seconds: 60\u{1b}[0m\n\u{1b}[32m+      seconds: 61\u{1b}[0m\n"),
            "{text}"
        );
    }

    #[test]
    fn a_changed_secret_shows_neither_value() {
        let config = |secret: &str, bucket: &str| {
            let spec =
                S3ConfigSpec { secretaccesskey: secret.into(), bucket: bucket.into(), ..S3ConfigSpec::default() };
            Resource::of("etcd-backup-s3-conf", &spec)
        };
        let text = Diff::of(Some(&config("hunter1", "a")), Some(&config("hunter2", "b"))).render(false);
        assert!(text.contains("+  bucket: b") && !text.contains("hunter"), "{text}");
    }

    proptest! {
        // The hunk numbers are what `patch` goes by: walking them must rebuild the new text.
        #[test]
        fn a_diff_rebuilds_the_new_text(
            old in prop::collection::vec("[abc]", 0..30), new in prop::collection::vec("[abc]", 0..30)
        ) {
            let text = |lines: &[String]| lines.iter().map(|l| format!("{l}\n")).collect::<String>();
            let diff = Diff::of_texts("a", &text(&old), "b", &text(&new));
            prop_assert_eq!(diff.is_empty(), old == new);
            prop_assert_eq!(patched(&old, &diff), new);
        }
    }

    fn patched(old: &[String], diff: &Diff) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        let mut at = 0;
        for (role, line) in &diff.lines {
            match role {
                Role::Heading => {}
                Role::Hunk => {
                    let (start, count) =
                        line[4..].split_once(' ').and_then(|(o, _)| o.split_once(',')).expect("numbers");
                    let (start, count): (usize, usize) = (start.parse().expect("start"), count.parse().expect("count"));
                    let begin = if count == 0 { start } else { start - 1 };
                    out.extend_from_slice(&old[at..begin]);
                    at = begin;
                }
                Role::Kept => {
                    out.push(old[at].clone());
                    at += 1;
                }
                Role::Removed => at += 1,
                Role::Added => out.push(line[1..].to_owned()),
            }
        }
        out.extend_from_slice(&old[at..]);
        out
    }
}
