//! Beside what etcd's own tools make of the same backup.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use backstay_snapshot::restore::Options;
use backstay_tests::releases::Release;
use backstay_tests::{Etcd, EtcdOptions, Folder, releases};

use super::contents::contents;
use super::source::{backup, lived, options, restore, restore_by, writes_as_3_5};

const WAL: &str = "member/wal/0000000000000000-0000000000000000.wal";

/// Where the last record begins, and the bytes of all, without the zeros after them.
fn records(log: &[u8]) -> Result<(usize, &[u8])> {
    let (mut at, mut last) = (0, 0);
    while let Some(head) = log.get(at..).and_then(|rest| rest.first_chunk::<8>()).map(|head| u64::from_le_bytes(*head))
    {
        if head == 0 {
            break;
        }
        let padding = if head >> 63 == 1 { (head >> 56 & 7) as usize } else { 0 };
        last = at;
        at += 8 + (head & 0x00ff_ffff_ffff_ffff) as usize + padding;
    }
    ensure!(log[at..].iter().all(|byte| *byte == 0), "zeros follow the records");
    Ok((last, &log[..at]))
}

fn snap(folder: &Path) -> Result<(String, Vec<u8>)> {
    for entry in fs::read_dir(folder.join("member/snap"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".snap") {
            let bytes = fs::read(folder.join("member/snap").join(&name))?;
            return Ok((name, bytes));
        }
    }
    anyhow::bail!("no .snap in {}", folder.display())
}

#[tokio::test]
async fn files_and_contents_are_those_of_etcd_s_own_restore() -> Result<()> {
    let (release, source) = (releases::chosen()?, backup(&lived().await?).await?);
    for members in [1, 3] {
        let (cluster, folder) = (Etcd::prepare(EtcdOptions::of(release, members))?, Folder::new("compared")?);
        for member in 0..members {
            let (theirs, ours) =
                (folder.path().join(format!("theirs-{member}")), folder.path().join(format!("ours-{member}")));
            restore_by(release, &source, &cluster, member, &theirs)?;
            let restored = restore(&source.database, &ours, options(&cluster, member))?;
            assert_eq!((restored.revision_before, restored.revision_after), (source.revision, source.revision));
            compare(release, &theirs, &ours).with_context(|| format!("{release:?}, member {member} of {members}"))?;
        }
    }
    Ok(())
}

/// A command that runs bbolt's own check on a file: by the program that is named, or by one that is built here from
/// Debian's package of bbolt.
fn bbolt_check(folder: &Path) -> Result<impl Fn(&Path) -> Result<Output>> {
    let (program, verb) = match std::env::var_os("BACKSTAY_TEST_BBOLT") {
        Some(program) => (PathBuf::from(program), Some("check")),
        None => (folder.join("bbolt-check"), None),
    };
    if verb.is_none() {
        let mut go = Command::new("go");
        go.env("GO111MODULE", "off").env("GOFLAGS", "").env("GOPATH", "/usr/share/gocode");
        go.env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go")).arg("build").arg("-o").arg(&program);
        go.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/restore/bbolt-check/main.go"));
        let built = go.output().context("failed to run go (make setup installs it)")?;
        ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    }
    Ok(move |file: &Path| {
        let output = Command::new(&program).args(verb).arg(file).output();
        output.with_context(|| format!("failed to run {}", program.display()))
    })
}

#[tokio::test]
async fn bbolt_finds_nothing_wrong() -> Result<()> {
    let folder = Folder::new("checked")?;
    let check = bbolt_check(folder.path())?;
    let source = backup(&lived().await?).await?;
    let cluster = Etcd::prepare(EtcdOptions { members: 3, ..EtcdOptions::default() })?;
    for (bump, defragment) in [(None, false), (Some(1000), false), (Some(1000), true)] {
        let at = folder.path().join(format!("{}-{defragment}", bump.is_some()));
        let change = Options { bump, defragment, remove_alarms: true, remove_auth: true, ..options(&cluster, 0) };
        restore(&source.database, &at, change)?;
        let file = at.join("member/snap/db");
        let output = check(&file)?;
        ensure!(output.status.success(), "bump {bump:?}, defragment {defragment}: {output:?}");
        // Nothing but the two meta pages is left.
        let mut bytes = fs::read(&file)?;
        bytes[2 * 4096..].fill(0);
        fs::write(&file, bytes)?;
        ensure!(!check(&file)?.status.success(), "the check finds nothing wrong with anything");
    }
    Ok(())
}

fn compare(release: &Release, theirs: &Path, ours: &Path) -> Result<()> {
    assert_eq!(snap(theirs)?, snap(ours)?);
    let (their_log, our_log) = (fs::read(theirs.join(WAL))?, fs::read(ours.join(WAL))?);
    assert_eq!(their_log.len(), our_log.len());
    let ((their_last, their_records), (our_last, our_records)) = (records(&their_log)?, records(&our_log)?);
    assert_eq!(their_last, our_last);
    if writes_as_3_5(release) {
        ensure!(their_records == our_records, "the logs differ");
    } else {
        // The last record of 3.4 says less: who votes came with 3.5.
        ensure!(their_records[..their_last] == our_records[..our_last], "the logs differ");
    }

    let database = |folder: &Path| anyhow::Ok(contents(&fs::read(folder.join("member/snap/db"))?)?);
    let (mut theirs, mut ours) = (database(theirs)?, database(ours)?);
    let meta = ours.get_mut("meta").context("meta")?;
    // The tools leave the old voters there, which a later etcd would read; 3.4 knows neither these nor the term, and
    // leaves the old members, which it does not read.
    meta.remove(&b"confState"[..]).context("it says who votes")?;
    theirs.get_mut("meta").context("meta")?.remove(&b"confState"[..]);
    if !writes_as_3_5(release) {
        meta.remove(&b"term"[..]).context("it says the term")?;
        theirs.remove("members");
        ours.remove("members");
    }
    assert_eq!(theirs.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>());
    for (bucket, entries) in &theirs {
        ensure!(*entries == ours[bucket], "the bucket {bucket} differs");
    }
    Ok(())
}
