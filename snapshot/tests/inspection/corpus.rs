//! The corpus: files `NAME.REVISION.COMPACT.HASH.db.zst`. Each is a database without its trailer; its name contains
//! the revision of a linearizable read and the member's own answer for HashKV there. `tests/tests/proof/corpus.rs`
//! makes those whose names do not begin with a release. The others were made by etcd 3.6.14 and 3.7.1, and beside
//! each is a JSON file with what their own tool says about it.

use std::path::Path;
use std::sync::OnceLock;

use serde::Deserialize;

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
        let files = entries.map(|entry| entry.expect("readable").path());
        let samples: Vec<Sample> =
            files.filter(|file| file.to_string_lossy().ends_with(".zst")).map(|file| sample(&file)).collect();
        assert!(samples.len() >= 26, "the corpus is not whole");
        samples
    })
    .clone()
}

fn sample(path: &Path) -> Sample {
    let name = path.file_name().and_then(|name| name.to_str()).expect("text").to_owned();
    // A release contains a dot, too.
    let mut parts = name.strip_suffix(".db.zst").expect("named as the corpus is").rsplit('.');
    let mut next = || parts.next().expect("named as the corpus is");
    let hash = u32::from_str_radix(next(), 16).expect("a hash");
    let compact = next().parse().expect("a revision");
    let at = next().parse().expect("a revision");
    let database = zstd::decode_all(&std::fs::read(path).expect("readable")[..]).expect("packed");
    Sample { name, database, at, compact, hash }
}

/// What a release's own tool says about a sample.
#[derive(Debug, Deserialize)]
pub struct Facts {
    /// The sample's name.
    pub file: String,
    /// The release.
    pub etcd: String,
    pub status: Status,
}

/// The output of `etcdutl snapshot status`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub hash: u32,
    pub revision: i64,
    pub total_key: u64,
    pub total_size: u64,
    /// The version that the database is marked with.
    pub version: String,
}

/// The facts beside the samples.
pub fn facts() -> Vec<Facts> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let files = std::fs::read_dir(folder).expect("the corpus is there").map(|entry| entry.expect("readable").path());
    let read = |file| serde_json::from_slice(&std::fs::read(file).expect("readable")).expect("facts");
    files.filter(|file| file.extension().is_some_and(|end| end == "json")).map(read).collect()
}
