//! How fast a database is looked into by itself, on one core, with everything on.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use backstay_snapshot::inspect::{Inspector, Options};

/// As the pipeline hands it on.
const PIECE: usize = 256 * 1024;

/// The best of so many looks counts: reading the file is not what is measured, and its cache is warm then.
const LOOKS: usize = 3;

/// What a look took.
#[derive(Debug, Clone, Copy)]
pub struct Inspected {
    pub mib_per_s: f64,
    pub bytes_per_page: f64,
}

impl Inspected {
    /// Looks at the database that the file begins with.
    pub fn measure(file: &Path, database_bytes: u64) -> Result<Self> {
        let at = look(file, database_bytes, None)?.revision;
        let mut best = look(file, database_bytes, Some(at))?;
        for _ in 1..LOOKS {
            let next = look(file, database_bytes, Some(at))?;
            best = if next.took < best.took { next } else { best };
        }
        let mib = database_bytes as f64 / f64::from(1 << 20);
        let pages = database_bytes as f64 / f64::from(best.page_bytes);
        Ok(Self { mib_per_s: mib / best.took.as_secs_f64(), bytes_per_page: best.memory as f64 / pages })
    }
}

struct Look {
    took: Duration,
    memory: u64,
    page_bytes: u32,
    revision: i64,
}

fn look(file: &Path, database_bytes: u64, hash_at: Option<i64>) -> Result<Look> {
    let mut inspector = Inspector::new(Options { hash_at, ..Options::default() });
    let mut file = File::open(file)?.take(database_bytes);
    let (mut piece, mut took) = (vec![0; PIECE], Duration::ZERO);
    loop {
        let bytes = file.read(&mut piece)?;
        let begin = Instant::now();
        if bytes == 0 {
            let inspection = inspector.finish()?;
            let contents = inspection.contents.as_ref().map_err(|why| anyhow::anyhow!("not wholly known: {why}"))?;
            let (memory, page_bytes, revision) = (inspection.memory, inspection.page_bytes, contents.revision);
            if hash_at.is_some() {
                inspection.hash_kv(i64::MAX).context("no HashKV")?;
            }
            return Ok(Look { took: took + begin.elapsed(), memory, page_bytes, revision });
        }
        inspector.update(&piece[..bytes])?;
        took += begin.elapsed();
    }
}

impl fmt::Display for Inspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} MiB/s on one core, {:.1} bytes of memory per page", self.mib_per_s, self.bytes_per_page)
    }
}
