//! The demo: start the parts, walk the page, open a backup with standard tools, restore it, say what was proven.

use std::time::Instant;

use anyhow::Result;
use backstay_tests::interrupt::interrupted;

mod console;
mod contents;
mod open;
mod page;
mod restore;
mod system;
mod table;

use system::{System, mib};

/// What was measured on the way.
struct Proof {
    backups: usize,
    sealed_bytes: u64,
    opened: open::Opened,
    /// The revision that the restored etcd began with.
    restored_at: i64,
}

/// Runs the demo to its end; with `keep`, everything stays until Ctrl-C.
pub async fn demo(keep: bool) -> Result<()> {
    let begun = Instant::now();
    let system = System::start().await?;
    let walked = walk(&system).await;
    match &walked {
        Ok(proof) => println!("\n{}", proof.line(begun)),
        Err(_) => eprintln!("\n{}", system.log_tails()),
    }
    if keep {
        if let Err(error) = &walked {
            eprintln!("Error: {error:#}");
        }
        println!("\n{}", system.how_to_talk());
        interrupted().await?;
    }
    walked.map(drop)
}

async fn walk(system: &System) -> Result<Proof> {
    page::check_status(system).await?;
    page::configure_s3(system).await?;
    page::refuse_a_wrong_secret(system).await?;
    let manual = page::manual_backup(system).await?;
    page::cluster_template(system, manual).await?;
    page::cluster_resource(system).await?;
    let opened = open::newest_backup(system).await?;
    let (backups, sealed_bytes) = open::nothing_else_in_the_bucket(system).await?;
    let restored_at = restore::newest_backup(system, &opened).await?;
    Ok(Proof { backups, sealed_bytes, opened, restored_at })
}

impl Proof {
    fn line(&self, begun: Instant) -> String {
        let open::Opened { name, contents, revision, database_bytes } = &self.opened;
        format!(
            "Proven in {:.0} s: {} backups in s3://mybucket ({:.1} MiB sealed) and nothing unfinished; the newest, {name}, \
             opened with age, zstd and etcd's own tool alone ({:.1} MiB), holds {} keys ({:.1} MiB) at revision {revision}, \
             all equal to the live cluster's at that revision (sha256 {}…); restored from the bucket by one command, an \
             etcd serves the same from revision {} on.",
            begun.elapsed().as_secs_f64(),
            self.backups,
            mib(self.sealed_bytes),
            mib(*database_bytes),
            contents.keys,
            mib(contents.bytes),
            &contents.sha256[..16],
            self.restored_at,
        )
    }
}
