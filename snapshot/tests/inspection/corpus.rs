//! The corpus: `NAME.REVISION.COMPACT.HASH.db.zst`, a database without its trailer, the revision of a linearizable read,
//! and what the member said of itself for HashKV there. `tests/tests/proof/corpus.rs` makes it.

use std::path::Path;
use std::sync::OnceLock;

/// One database.
#[derive(Debug, Clone)]
pub struct Sample {
    pub name: String,
    pub database: Vec<u8>,
    pub at: i64,
    pub compact: i64,
    pub hash: u32,
}

/// All of them.
pub fn samples() -> Vec<Sample> {
    static ALL: OnceLock<Vec<Sample>> = OnceLock::new();
    ALL.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
        let entries = std::fs::read_dir(folder).expect("the corpus is there");
        let samples: Vec<Sample> = entries.map(|entry| sample(&entry.expect("readable").path())).collect();
        assert!(samples.len() >= 6, "the corpus is not whole");
        samples
    })
    .clone()
}

fn sample(path: &Path) -> Sample {
    let name = path.file_name().and_then(|name| name.to_str()).expect("text").to_owned();
    let mut parts = name.split('.');
    let mut next = || parts.next().expect("named as the corpus is");
    let _title = next();
    let at = next().parse().expect("a revision");
    let compact = next().parse().expect("a revision");
    let hash = u32::from_str_radix(next(), 16).expect("a hash");
    let database = zstd::decode_all(&std::fs::read(path).expect("readable")[..]).expect("packed");
    Sample { name, database, at, compact, hash }
}
