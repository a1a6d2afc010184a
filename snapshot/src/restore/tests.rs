//! Tests of a whole restore, without etcd: what the files contain, and what remains after a failure.

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;

use super::membership::tests::{member, three};
use super::pages::Bucket;
use super::*;
use crate::bolt::{BUCKET_HEADER_BYTES, Meta, PAGE_HEADER_BYTES, array_at};
use crate::inspect::{self, Inspector};

/// A database of etcd 3.4.23: five puts, one with a lease, a delete; revision 8.
const SMALL: &[u8] = include_bytes!("../../tests/golden/restore/3.4.23.db");

/// Everything in a database: bucket, key, value.
pub(super) type Contents = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

pub(super) fn contents(database: &[u8]) -> Result<Contents, PageError> {
    let pages = Pages::open(database, database.len() as u64)?;
    let mut all = Contents::new();
    pages.walk::<PageError>(&Bucket::Tree(pages.meta.root.root), &mut |bucket| {
        let of_bucket = all.entry(String::from_utf8_lossy(&bucket.key).into_owned()).or_default();
        pages.walk::<PageError>(&Bucket::of(&bucket)?, &mut |entry| {
            let last = of_bucket.last_key_value().map(|(key, _)| key.clone());
            assert!(last.is_none_or(|last| last < entry.key), "keys are in order");
            of_bucket.insert(entry.key, entry.value);
            Ok(())
        })
    })?;
    Ok(all)
}

pub(super) fn restore(folder: &Path, options: Options, database: &[u8]) -> Result<Restored, RestoreError> {
    let mut restorer = Restorer::create(folder, options)?;
    for piece in database.chunks(1000) {
        restorer.write(piece)?;
    }
    restorer.finish()
}

fn one() -> Options {
    Options::new("a", vec![member("a", &["http://127.0.0.1:2380"])])
}

pub(super) fn database(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("member/snap/db")).expect("the database")
}

fn number(contents: &Contents, key: &str) -> u64 {
    u64::from_be_bytes(*contents["meta"][key.as_bytes()].first_chunk().expect("eight bytes"))
}

/// Both meta pages of a database with pages of 4 KiB.
fn metas(database: &[u8]) -> [Meta; 2] {
    [0, 4096].map(|at| Meta::parse(array_at(database, at + PAGE_HEADER_BYTES).expect("there")).expect("good"))
}

#[test]
fn the_mark_of_etcd_is_read_and_kept() {
    let later: [(&[u8], &str); 2] = [
        (include_bytes!("../../tests/corpus/3.6-for-restore.13.10.d9fdcf18.db.zst"), "3.6.0"),
        (include_bytes!("../../tests/corpus/3.7-for-restore.13.10.c673a14e.db.zst"), "3.7.0"),
    ];
    let later = later.map(|(packed, mark)| (zstd::decode_all(packed).expect("zstd"), Some(mark)));
    for (database, mark) in later.into_iter().chain([(SMALL.to_vec(), None)]) {
        let home = tempfile::tempdir().expect("folder");
        let folder = home.path().join("data");
        let restored = restore(&folder, one(), &database).expect("restored");
        assert_eq!(restored.storage_version.as_deref(), mark);
        let after = contents(&self::database(&folder)).expect("good");
        let kept =
            after["meta"].get(b"storageVersion".as_slice()).map(|mark| String::from_utf8_lossy(mark).into_owned());
        assert_eq!(kept.as_deref(), mark);
    }
}

#[test]
fn all_is_kept_but_what_makes_the_new_cluster() {
    let home = tempfile::tempdir().expect("folder");
    let folder = home.path().join("data");
    let options = Options { bump: None, token: "tok".into(), ..Options::new("a", three()) };
    let restored = restore(&folder, options, SMALL).expect("restored");
    assert_eq!((restored.revision_before, restored.revision_after), (8, 8));
    assert_eq!((restored.cluster_id, restored.member_id), (0xa29b_b119_24ab_c669, 0x7db2_9806_059d_e6fa));
    assert_eq!((restored.alarms, restored.auth_enabled), (0, false));

    let (before, mut after) = (contents(SMALL).expect("good"), contents(&database(&folder)).expect("good"));
    let members: Vec<_> = after["members"].keys().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
    assert_eq!(members, ["33b26550643022e", "7db29806059de6fa", "bff4e84ea9dfc65f"]);
    assert_eq!((number(&after, "consistent_index"), number(&after, "term")), (3, 1));
    for changed in ["members", "meta"] {
        after.insert(changed.into(), before[changed].clone());
    }
    assert_eq!(after, before);
}

#[test]
fn the_old_pages_stay_and_both_meta_pages_name_the_new_root() {
    let home = tempfile::tempdir().expect("folder");
    let folder = home.path().join("data");
    let restored = restore(&folder, one(), SMALL).expect("restored");
    let after = database(&folder);
    assert_eq!(restored.database_bytes, after.len() as u64);
    assert_eq!(after[2 * 4096..SMALL.len()], SMALL[2 * 4096..]);
    let ([old, _], [first, second]) = (metas(SMALL), metas(&after));
    assert!(first.root.root * 4096 >= SMALL.len() as u64);
    assert_eq!(Meta { txid: first.txid, ..second }, first);
    assert_eq!(first.end * 4096, after.len() as u64);
    let (even, odd) = (first.txid, second.txid);
    assert!(even.is_multiple_of(2) && !odd.is_multiple_of(2) && even.max(odd) == old.txid + 1, "{even} {odd}");
}

#[test]
fn the_jump_adds_one_empty_entry_and_marks_it_compacted() {
    let home = tempfile::tempdir().expect("folder");
    for mark_compacted in [true, false] {
        let folder = home.path().join(format!("data-{mark_compacted}"));
        let restored = restore(&folder, Options { mark_compacted, ..one() }, SMALL).expect("restored");
        assert_eq!((restored.revision_before, restored.revision_after), (8, 1_000_000_008));
        let after = contents(&database(&folder)).expect("good");
        let (last, value) = after["key"].last_key_value().expect("keys");
        assert_eq!(last[..8], 1_000_000_008_i64.to_be_bytes());
        assert!(last[8..] == *b"_\0\0\0\0\0\0\0\0" && value.is_empty());
        assert_eq!(after["meta"].get(&b"scheduledCompactRev"[..]), mark_compacted.then_some(last));
        assert_eq!(after["key"].len(), contents(SMALL).expect("good")["key"].len() + 1);
    }
    let too_far = restore(&home.path().join("far"), Options { bump: Some(u64::MAX), ..one() }, SMALL);
    assert!(matches!(too_far, Err(RestoreError::Bump { revision: 8, bump: u64::MAX })), "{too_far:?}");
}

#[test]
fn a_database_that_ends_too_early_leaves_nothing_behind() {
    let home = tempfile::tempdir().expect("folder");
    let until = |revision, bump| {
        let mut restorer = Restorer::create(&home.path().join("data"), Options { bump, ..one() })?.at_least(revision);
        restorer.write(SMALL)?;
        restorer.finish()
    };
    for bump in [None, Some(500)] {
        let error = until(9, bump).expect_err("it ends at 8");
        assert!(matches!(error, RestoreError::TooOld { is: 8, wanted: 9 }), "{error}");
        assert_eq!(fs::read_dir(home.path()).expect("readable").count(), 0);
    }
    assert_eq!(until(8, None).expect("restored").revision_before, 8);
}

#[test]
fn writing_it_anew_keeps_everything() {
    let home = tempfile::tempdir().expect("folder");
    let (plain, dense) = (home.path().join("plain"), home.path().join("dense"));
    let original = grown(900);
    restore(&plain, one(), &original).expect("restored");
    restore(&dense, Options { defragment: true, ..one() }, &original).expect("restored");
    let (plain, dense_bytes) = (database(&plain), database(&dense));
    assert_eq!(contents(&dense_bytes).expect("good"), contents(&plain).expect("good"));
    assert!(dense_bytes.len() < plain.len(), "{} and {}", dense_bytes.len(), plain.len());
    assert_eq!(fs::read_dir(dense.join("member/snap")).expect("readable").count(), 2, "the database and the .snap");
}

/// Databases that real members sent, in many states.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let files = fs::read_dir(folder).expect("the corpus").map(|entry| entry.expect("an entry").path());
    let databases = files.filter(|file| file.to_string_lossy().ends_with(".db.zst"));
    let read = |file: PathBuf| {
        let packed = fs::read(&file).expect("readable");
        (file.display().to_string(), zstd::decode_all(&packed[..]).expect("packed"))
    };
    databases.map(read).chain([("small".to_owned(), SMALL.to_vec())]).collect()
}

#[test]
fn inspection_finds_nothing_wrong_with_what_is_restored() {
    let home = tempfile::tempdir().expect("folder");
    let all = corpus();
    assert!(all.len() > 1, "there is a corpus");
    for (number, (name, original)) in all.iter().enumerate() {
        for (bump, defragment) in [(None, false), (Some(500), false), (Some(500), true)] {
            let folder = home.path().join(format!("{number}-{}-{defragment}", bump.is_some()));
            let restored = restore(&folder, Options { bump, defragment, ..one() }, original).expect(name);
            let mut inspector = Inspector::new(inspect::Options::default());
            inspector.update(&database(&folder)).expect(name);
            let inspection =
                inspector.finish().unwrap_or_else(|error| panic!("{name}, {bump:?}, {defragment}: {error}"));
            let contents = inspection.contents.expect("small enough");
            assert_eq!(contents.revision, restored.revision_after, "{name}");
            let members: Vec<&str> = contents.about.members.iter().map(|member| member.name.as_str()).collect();
            assert_eq!(members, ["a"], "{name}");
            assert_eq!((contents.about.consistent_index, contents.about.term), (Some(1), Some(1)), "{name}");
        }
    }
}

#[test]
fn truncated_input_leaves_nothing_behind() {
    let home = tempfile::tempdir().expect("folder");
    let folder = home.path().join("data");
    for length in [0, 1, 80, 4095, 4096, 4176, SMALL.len() - 4096, SMALL.len() - 1] {
        let error = restore(&folder, one(), &SMALL[..length]).expect_err("truncated");
        assert!(matches!(error, RestoreError::Page(PageError::EndedEarly { .. })), "{length}: {error}");
        assert_eq!(fs::read_dir(home.path()).expect("readable").count(), 0, "{length}");
    }
}

/// The small database with more entries, written by this crate's own pages, so that trees have levels.
fn grown(entries: usize) -> Vec<u8> {
    let pages = Pages::open(SMALL, SMALL.len() as u64).expect("good");
    let mut root = commit::collect(&pages, &Bucket::Tree(pages.meta.root.root)).expect("good");
    let (mut next, mut bytes, mut children) = (pages.meta.end, SMALL.to_vec(), Vec::new());
    let revisions: Vec<i64> = (9..9 + entries as i64).collect();
    for revisions in revisions.chunks(7) {
        let entry = |revision: &i64| pages::LeafEntry {
            flags: 0,
            key: [&revision.to_be_bytes()[..], b"_\0\0\0\0\0\0\0\0"].concat(),
            value: vec![*revision as u8; (*revision as usize * 37) % 900],
        };
        let leaf: Vec<_> = revisions.iter().map(entry).collect();
        let page = commit::leaf_page(next, 4096, &leaf).expect("fits");
        children.push((leaf[0].key.clone(), next));
        next += page.len() as u64 / 4096;
        bytes.extend(page);
    }
    while children.len() > 1 {
        let mut above = Vec::new();
        for children in children.chunks(20) {
            let borrowed: Vec<(&[u8], u64)> = children.iter().map(|(key, child)| (&key[..], *child)).collect();
            bytes.extend(commit::branch_page(next, 4096, &borrowed).expect("fits"));
            above.push((children[0].0.clone(), next));
            next += 1;
        }
        children = above;
    }
    let key = root.iter_mut().find(|entry| entry.key == b"key").expect("etcd's");
    key.value = [children[0].1.to_le_bytes(), [0; 8]].concat();
    assert_eq!(key.value.len(), BUCKET_HEADER_BYTES);
    bytes.extend(commit::leaf_page(next, 4096, &root).expect("fits"));
    let root = crate::bolt::BucketHeader { root: next, sequence: 0 };
    let meta = Meta { root, end: next + 1, ..pages.meta };
    for (page, txid) in [(0, meta.txid), (1, meta.txid - 1)] {
        let meta = commit::meta_page(page, &Meta { txid, ..meta });
        bytes[page as usize * 4096..][..meta.len()].copy_from_slice(&meta);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_tree_of_any_size_is_kept_whole(entries in 1..2500_usize, bump in 0..10_u64, defragment: bool) {
        let home = tempfile::tempdir().expect("folder");
        let folder = home.path().join("data");
        let original = grown(entries);
        let options = Options { bump: Some(bump), defragment, mark_compacted: false, ..one() };
        let restored = restore(&folder, options, &original).expect("restored");
        prop_assert_eq!(restored.revision_after, restored.revision_before + bump as i64);
        let (before, mut after) = (contents(&original).expect("good"), contents(&database(&folder)).expect("good"));
        if bump > 0 {
            let last = after.get_mut("key").and_then(|key| key.pop_last()).expect("the jump's entry");
            prop_assert_eq!(last.0[..8].to_vec(), restored.revision_after.to_be_bytes().to_vec());
        }
        prop_assert_eq!(&after["key"], &before["key"]);
        prop_assert_eq!(&after["lease"], &before["lease"]);
    }

    #[test]
    fn damage_anywhere_is_an_error_or_a_restore_and_never_a_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 1..6), defragment: bool,
    ) {
        let home = tempfile::tempdir().expect("folder");
        let mut damaged = grown(60);
        for (at, bit) in flips {
            let at = at.index(damaged.len());
            damaged[at] ^= 1 << bit;
        }
        let folder = home.path().join("data");
        match restore(&folder, Options { defragment, ..one() }, &damaged) {
            Ok(_) => prop_assert!(folder.join("member/snap/db").exists()),
            Err(_) => prop_assert_eq!(fs::read_dir(home.path()).expect("readable").count(), 0),
        }
    }

    #[test]
    fn contradictory_pages_are_errors(at in any::<prop::sample::Index>(), word: u32, defragment: bool) {
        let home = tempfile::tempdir().expect("folder");
        let mut damaged = grown(60);
        // Whole words of headers and elements, behind the meta pages, whose checksum reveals everything.
        let page = 2 + at.index(damaged.len() / 4096 - 2);
        let offset = page * 4096 + at.index(30) * 4;
        damaged[offset..offset + 4].copy_from_slice(&word.to_le_bytes());
        let _ = restore(&home.path().join("data"), Options { defragment, ..one() }, &damaged);
    }
}
