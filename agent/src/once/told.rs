//! What `once` prints about the backup that it made: what it is, and the commands that decrypt and restore it.

use std::fmt;
use std::time::Duration;

use backstay_archive::Manifest;
use backstay_archive::manifest::{self as archive, Inspection, NO_OTHER_MEMBER, Origin, Replaced};
use backstay_daemon::bucket::Named;
use backstay_daemon::terminal::shell_word;
use backstay_daemon::units;

/// The file of `age-keygen -o`, as README names it.
const KEY_FILE: &str = "recovery.key";

/// A backup that was taken.
#[derive(Debug)]
pub struct Taken {
    pub manifest: Manifest,
    /// The URL or path of the stored object.
    pub url: String,
    pub named: Named,
    /// Whether the store had no backup of this cluster.
    pub first: bool,
    /// How far this machine's clock, by which the backup is named, is from the store's; `None` if they agree.
    pub clock_off: Option<String>,
    /// The time from the beginning until the manifest was in the store.
    pub took: Duration,
    /// The fingerprint of the key that signed it.
    pub signed_by: Option<String>,
}

impl Taken {
    /// The command that writes `snapshot.db` from it, with standard tools only.
    fn open_line(&self) -> String {
        let file = self.url.strip_prefix("file://");
        let is_encrypted = !self.manifest.seal.recipients.is_empty();
        match (file.map(shell_word), is_encrypted) {
            (Some(file), true) => format!("age -d -i {KEY_FILE} {file} | zstd -d > snapshot.db"),
            (Some(file), false) => format!("zstd -d < {file} > snapshot.db"),
            (None, true) => format!("{} | age -d -i {KEY_FILE} | zstd -d > snapshot.db", self.fetch_line()),
            (None, false) => format!("{} | zstd -d > snapshot.db", self.fetch_line()),
        }
    }

    /// The command that prints the object of a bucket.
    fn fetch_line(&self) -> String {
        let mut line = "aws".to_owned();
        for pair in self.named.flags.chunks(2) {
            let [flag, value] = pair else { continue };
            let theirs = match flag.as_str() {
                "--endpoint" => "--endpoint-url",
                "--s3-ca" => "--ca-bundle",
                "--region" => "--region",
                // It is a setting there, and no flag.
                _ => continue,
            };
            line.push_str(&format!(" {theirs} {}", shell_word(value)));
        }
        format!("{line} s3 cp {} -", shell_word(&self.url))
    }

    /// The command that restores it into a data folder of etcd.
    fn restore_line(&self) -> String {
        let Manifest { cluster_uuid, snapshot, seal, .. } = &self.manifest;
        let named = &self.named;
        let mut line = format!("backstayctl restore {named} --cluster-uuid {cluster_uuid} --snapshot {snapshot}");
        if !seal.recipients.is_empty() {
            line.push_str(&format!(" --identity {KEY_FILE}"));
        }
        line + " --data-dir restored"
    }
}

/// The output of `once`: for programs and for people.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)?;
        if self.0 < 1024 { Ok(()) } else { write!(f, " ({})", units::bytes(self.0)) }
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Manifest { cluster, cluster_uuid, origin, seal, .. } = &self.manifest;
        let new = if self.first { ", new: the first backup of this name in the store" } else { "" };
        writeln!(f, "stored     {}", self.url)?;
        writeln!(f, "cluster    {cluster} (UUID {cluster_uuid}{new})")?;
        let Origin { etcd_version, etcd_cluster_id, member_id, revision, .. } = origin;
        writeln!(f, "etcd       {etcd_version}, cluster {etcd_cluster_id}, member {member_id}, revision {revision}")?;
        if let Some(Replaced { etcd_cluster_id, revision, snapshot }) = &self.manifest.replaces {
            writeln!(f, "replaces   cluster {etcd_cluster_id}, revision {revision} ({snapshot})")?;
        }
        writeln!(f, "database   {}", Size(self.manifest.snapshot_bytes))?;
        writeln!(f, "sha256     {}", self.manifest.snapshot_sha256)?;
        if let Some(inspection) = &self.manifest.inspection {
            writeln!(f, "inspected  {}", Verdict(inspection, inspection.is_own(origin)))?;
            if let Some(warning) = inspection.warning() {
                writeln!(f, "warning    {warning}")?;
            }
        }
        writeln!(f, "in store   {}", Size(self.manifest.sealed_bytes))?;
        writeln!(f, "took       {}", units::took(self.took))?;
        match seal.recipients.as_slice() {
            [] => writeln!(f, "encrypted  no")?,
            recipients => writeln!(f, "encrypted  for {}", recipients.join(", "))?,
        }
        match &self.signed_by {
            Some(key) => writeln!(f, "signed     by {key}")?,
            None => writeln!(f, "signed     no")?,
        }
        writeln!(f, "open with  {}", self.open_line())?;
        write!(f, "restore    {}", self.restore_line())
    }
}

/// The result of an inspection in a line for people, and whether there was no other member to compare with.
struct Verdict<'a>(&'a Inspection, bool);

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inspection { verdict, compared_with, reason, contents, .. } = self.0;
        match contents {
            Some(contents) => write!(f, "{} entries, all pages intact; ", contents.entries)?,
            None => write!(f, "incomplete; ")?,
        }
        if self.1 {
            return f.write_str(NO_OTHER_MEMBER);
        }
        match (verdict, compared_with) {
            // Its own word would not say what is unknown.
            (archive::Verdict::Unknown, _) => f.write_str("not compared with another member")?,
            (verdict, Some(member)) => write!(f, "{} to member {member}", verdict.as_str())?,
            (verdict, None) => f.write_str(verdict.as_str())?,
        }
        reason.iter().try_for_each(|reason| write!(f, ": {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = include_str!("../../../archive/tests/golden/manifest.json");

    fn taken(url: &str, named: &[&str], recipients: &[&str]) -> Taken {
        let mut manifest = Manifest::from_json(MANIFEST.as_bytes()).expect("a manifest");
        manifest.seal.recipients = recipients.iter().map(|&recipient| recipient.to_owned()).collect();
        (manifest.snapshot_bytes, manifest.sealed_bytes) = (20_488_224, 900);
        let (first, rest) = named.split_first().expect("a store");
        let named = Named { url: (*first).to_owned(), flags: rest.iter().map(|&word| word.to_owned()).collect() };
        Taken {
            manifest,
            url: url.to_owned(),
            named,
            first: true,
            clock_off: None,
            took: Duration::from_millis(3_210),
            signed_by: None,
        }
    }

    fn line<'a>(text: &'a str, heading: &str) -> &'a str {
        text.lines().find_map(|line| line.strip_prefix(heading)).expect(heading).trim_start()
    }

    #[test]
    fn sizes_are_for_programs_and_people_and_the_time_is_told() {
        let text = taken("file:///b/u/F.snapshot", &["file:///b"], &["age1x"]).to_string();
        assert_eq!(line(&text, "database "), "20488224 bytes (19.5 MiB)");
        assert_eq!(line(&text, "in store "), "900 bytes");
        assert_eq!(line(&text, "took "), "3.2s");
        assert_eq!(line(&text, "encrypted "), "for age1x");
    }

    #[test]
    fn what_was_not_compared_is_told_with_its_reason() {
        let mut taken = taken("file:///b/u/F.snapshot", &["file:///b"], &["age1x"]);
        taken.manifest.inspection = Some(Inspection {
            verdict: archive::Verdict::Unknown,
            compared_with: None,
            reason: Some("no other member answers".into()),
            ..Inspection::default()
        });
        let text = taken.to_string();
        let told = line(&text, "inspected ");
        assert!(told.ends_with("; not compared with another member: no other member answers"), "{told}");
    }

    #[test]
    fn the_lines_that_open_it_can_be_pasted() {
        let text = taken("file:///my backups/u/F.snapshot", &["file:///my%20backups"], &["age1x"]).to_string();
        let open = "age -d -i recovery.key '/my backups/u/F.snapshot' | zstd -d > snapshot.db";
        assert_eq!(line(&text, "open with "), open);
        let (uuid, name) = {
            let Taken { manifest, .. } = taken("", &[""], &[]);
            (manifest.cluster_uuid, manifest.snapshot)
        };
        let which = format!("--cluster-uuid {uuid} --snapshot {name}");
        let restore = format!("backstayctl restore --store file:///my%20backups {which} --identity recovery.key");
        assert_eq!(line(&text, "restore "), format!("{restore} --data-dir restored"));
        let text = taken("file:///b/u/F.snapshot", &["file:///b"], &[]).to_string();
        assert_eq!(line(&text, "open with "), "zstd -d < /b/u/F.snapshot > snapshot.db");
        assert_eq!(
            line(&text, "restore "),
            format!("backstayctl restore --store file:///b {which} --data-dir restored")
        );

        let flags =
            ["s3://b/p", "--region", "eu", "--endpoint", "http://h:1", "--s3-ca", "a b", "--s3-addressing", "path"];
        let text = taken("s3://b/p/u/F.snapshot", &flags, &["age1x"]).to_string();
        let fetch = "aws --region eu --endpoint-url http://h:1 --ca-bundle 'a b' s3 cp s3://b/p/u/F.snapshot -";
        let open = format!("{fetch} | age -d -i recovery.key | zstd -d > snapshot.db");
        assert_eq!(line(&text, "open with "), open);
        let flags = "--region eu --endpoint http://h:1 --s3-ca 'a b' --s3-addressing path";
        let restore =
            format!("backstayctl restore --store s3://b/p {flags} {which} --identity recovery.key --data-dir restored");
        assert_eq!(line(&text, "restore "), restore);
        let text = taken("s3://b/u/F.snapshot", &["s3://b"], &[]).to_string();
        assert_eq!(line(&text, "open with "), "aws s3 cp s3://b/u/F.snapshot - | zstd -d > snapshot.db");
    }
}
