//! A snapshot of a member, what inspection says of it, and what etcd's own tool says.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use backstay_snapshot::Frames;
use backstay_snapshot::inspect::{Contents, InspectError, Inspection, Inspector, Options};
use backstay_tests::etcd::EtcdMember;
use backstay_tests::{Folder, releases};
use etcd_client::Client;

use crate::PIECE;

/// A snapshot file: the database and its trailer.
pub struct Snapshot {
    file: Vec<u8>,
    database: usize,
}

impl Snapshot {
    /// Takes one over the wire.
    pub async fn of(client: &mut Client) -> Result<Self> {
        let (mut frames, mut file) = (Frames::default(), Vec::new());
        let mut stream = client.snapshot().await.context("failed to open the snapshot stream")?;
        while let Some(frame) = stream.message().await? {
            let database = frames.feed(frame.blob(), frame.remaining_bytes())?;
            file.extend_from_slice(&frame.blob()[database]);
        }
        let trailer = frames.finish()?;
        let database = file.len();
        file.extend_from_slice(&trailer.sha256);
        Ok(Self { file, database })
    }

    /// As the agent does: after a linearizable read, since a follower may be behind.
    pub async fn of_member(member: &EtcdMember) -> Result<Self> {
        let mut client = member.client().await?;
        revision(&mut client).await?;
        Self::of(&mut client).await
    }

    pub fn database(&self) -> &[u8] {
        &self.file[..self.database]
    }

    /// What inspection says, for HashKV at `at`, and that `snapshot status` of etcd's own tool says the same.
    pub fn looked_at(&self, at: Option<i64>) -> Result<Inspection> {
        let inspection = look(self.database(), at)?;
        let contents = contents(&inspection)?;
        let status = self.status()?;
        let number = |name: &str| status.get(name).and_then(serde_json::Value::as_u64);
        ensure!(number("hash") == Some(contents.status_hash.into()), "{status} is not {contents:?}");
        ensure!(number("totalKey") == Some(contents.entries), "{status} is not {contents:?}");
        ensure!(number("revision") == Some(contents.last_revision.cast_unsigned()), "{status} is not {contents:?}");
        ensure!(number("totalSize") == Some(inspection.bytes), "{status} is not {inspection:?}");
        Ok(inspection)
    }

    /// Writes it as `etcdctl snapshot save` does.
    pub fn save(&self, file: &Path) -> Result<()> {
        fs::write(file, &self.file).with_context(|| format!("failed to write {}", file.display()))
    }

    fn status(&self) -> Result<serde_json::Value> {
        let folder = Folder::new("proof")?;
        let path = folder.path().join("snapshot.db");
        self.save(&path)?;
        let release = releases::chosen()?;
        let mut command = Command::new(release.program(release.snapshot_tool()));
        command.env("ETCDCTL_API", "3").args(["snapshot", "status", "-w", "json"]).arg(&path);
        let output = command.output().context("failed to run etcd's own tool")?;
        ensure!(output.status.success(), "its own tool: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).context("its own tool's status is no JSON")
    }
}

/// Looks at a database, in pieces.
pub fn look(database: &[u8], at: Option<i64>) -> Result<Inspection, InspectError> {
    let mut inspector = Inspector::new(Options { hash_at: at, ..Options::default() });
    for piece in database.chunks(PIECE) {
        inspector.update(piece)?;
    }
    inspector.finish()
}

pub fn contents(inspection: &Inspection) -> Result<&Contents> {
    inspection.contents.as_ref().map_err(|why| anyhow::anyhow!("not wholly looked at: {why}"))
}

/// The revision of a linearizable read.
pub async fn revision(client: &mut Client) -> Result<i64> {
    let answer = client.get("\0", None).await?;
    Ok(answer.header().context("etcd's answer has no header")?.revision())
}

/// Takes a snapshot of a member, looks at it, and compares HashKV at `at` with what `asked` says of itself.
pub async fn agrees(taken: &EtcdMember, asked: &EtcdMember, at: i64) -> Result<Inspection> {
    let inspection = Snapshot::of_member(taken).await?.looked_at(Some(at))?;
    let mut asked = asked.client().await?;
    revision(&mut asked).await?;
    let answer = asked.hash_kv(at).await.context("no HashKV")?;
    let own = inspection.hash_kv(answer.compact_version());
    ensure!(
        own.as_ref().is_ok_and(|own| own.is(answer.hash())),
        "at {at} the member says {answer:?}, the file {own:?}, {:?}",
        inspection.contents
    );
    Ok(inspection)
}
