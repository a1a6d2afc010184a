//! Inspection on the corpus: real databases, whole, cut, and changed in many ways.

mod corpus;
mod large;
#[path = "../../fuzz/targets.rs"]
mod targets;

use backstay_snapshot::bolt::{Meta, PAGE_HEADER_BYTES, PageHeader};
use backstay_snapshot::inspect::{Fault, InspectError, Inspection, Inspector, Options, Unknown};
use backstay_snapshot::restore::{NewMember, Options as RestoreOptions, Restorer};
use corpus::Sample;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

fn look(database: &[u8], options: Options, pieces: &[usize]) -> Result<Inspection, InspectError> {
    let mut inspector = Inspector::new(options);
    let mut rest = database;
    for size in pieces.iter().copied().chain([usize::MAX]) {
        let (piece, more) = rest.split_at(size.min(rest.len()));
        inspector.update(piece)?;
        rest = more;
    }
    inspector.finish()
}

fn at(sample: &Sample) -> Options {
    Options { hash_at: Some(sample.at), ..Options::default() }
}

#[test]
fn every_sample_is_whole_and_says_its_members_hash_however_it_is_cut() {
    for sample in corpus::samples() {
        for size in [1, 100, 4096, 5000, 1 << 20] {
            let pieces = vec![size; sample.database.len() / size];
            let inspection = look(&sample.database, at(&sample), &pieces).expect(&sample.name);
            let contents = inspection.contents.as_ref().expect("known");
            assert_eq!(contents.revision, sample.at, "{}", sample.name);
            assert!(inspection.hash_kv(sample.compact).is_ok_and(|hash| hash.is(sample.hash)), "{inspection:?}");
        }
    }
}

/// HashKV of every sample is compared above.
#[test]
fn databases_of_later_releases_are_what_their_own_tool_says() {
    let facts = corpus::facts();
    for release in ["3.6.14", "3.7.1"] {
        assert_eq!(facts.iter().filter(|facts| facts.etcd == release).count(), 10, "{release}");
    }
    for facts in facts {
        let sample = corpus::samples().into_iter().find(|sample| sample.name == facts.file).expect(&facts.file);
        let inspection = look(&sample.database, at(&sample), &[]).expect(&sample.name);
        let contents = inspection.contents.as_ref().expect("known");
        let status = &facts.status;
        assert_eq!((contents.last_revision, contents.status_hash), (status.revision, status.hash), "{}", sample.name);
        assert_eq!(inspection.bytes, status.total_size, "{}", sample.name);
        assert_eq!(contents.seen_keys, Some(status.total_key), "{}", sample.name);
        assert_eq!(contents.about.storage_version.as_ref(), Some(&status.version), "{}", sample.name);
        let learners = contents.about.members.iter().filter(|member| member.learner).count();
        assert_eq!(learners, usize::from(sample.name.contains("-learner.")), "{}", sample.name);
    }
}

#[test]
fn a_database_that_is_cut_off_is_never_whole() {
    for sample in corpus::samples() {
        for bytes in (0..sample.database.len()).step_by(509) {
            let error = look(&sample.database[..bytes], at(&sample), &[]).expect_err("truncated");
            assert!(matches!(error.fault, Fault::Truncated { .. }), "{error}");
        }
    }
}

#[test]
fn too_little_memory_makes_things_unknown_and_nothing_fails() {
    for sample in corpus::samples() {
        let mut known = [0; 3];
        for memory in (0..600_000).step_by(2500) {
            let options = Options { memory, ..at(&sample) };
            let inspection = look(&sample.database, options, &[4096; 20]).expect(&sample.name);
            let hash = inspection.hash_kv(sample.compact);
            let level = usize::from(inspection.contents.is_ok()) + usize::from(hash.is_ok());
            known[level] += 1;
            assert!(
                hash.as_ref().is_err_and(|why| !matches!(why, Unknown::NotAsked))
                    || hash.is_ok_and(|h| h.is(sample.hash))
            );
        }
        assert!(known[0] > 0 && known[2] > 0, "{}: {known:?}", sample.name);
    }
}

#[test]
fn damage_is_named_with_its_page_and_offset() {
    let sample = corpus::samples().into_iter().find(|s| s.name.starts_with("tombstones")).expect("in the corpus");
    let broken = |change: &dyn Fn(&mut Vec<u8>, usize)| {
        let mut database = sample.database.clone();
        let root = root(&database) as usize;
        change(&mut database, root * 4096);
        look(&database, at(&sample), &[]).expect_err("broken").to_string()
    };
    assert!(broken(&|d, _| d[20] ^= 1).starts_with("page 0 at offset 0: there is no valid meta page: its version"));
    assert!(
        broken(&|d, _| d[4096 + 40] ^= 1)
            .starts_with("page 1 at offset 4096: there is no valid meta page: its checksum")
    );
    assert!(broken(&|d, root| d[root + 8] = 77).contains("no branch or leaf page begins there"));
    assert!(broken(&|d, root| d[root + 20] ^= 1).contains("does not directly follow"));
    assert!(broken(&|d, root| d[root + 12] = 1).contains("pages"));
    assert!(broken(&|d, _| set_root(d, 2, 1 << 20)).contains("a root outside"));
    assert!(broken(&|d, _| set_root(d, 2, 2)).starts_with("page 2 at offset 8192"));
}

#[test]
fn a_page_that_is_too_large_to_be_looked_at_hides_no_fault_elsewhere() {
    // A leaf that overflows needs more than this share of the memory; every other page needs less.
    let sample = corpus::samples().into_iter().find(|s| has_large_leaf(&s.database)).expect("in the corpus");
    let options = Options { memory: 2 * 4 * 4096, ..at(&sample) };
    let whole = look(&sample.database, options, &[]).expect("no fault");
    assert!(whole.contents.is_err(), "{:?}", whole.contents);
    let (mut found, root) = (0, root(&sample.database) as usize * 4096);
    // The list of buckets contains the small ones as a whole, also those after the one with the large page.
    for byte in root..root + 4096 {
        let mut database = sample.database.clone();
        database[byte] ^= 0xff;
        let (all, little) = (look(&database, at(&sample), &[]), look(&database, options, &[]));
        assert_eq!(all.as_ref().err(), little.as_ref().err(), "byte {byte}");
        found += usize::from(all.is_err());
    }
    assert!(found > 100, "{found}");
}

/// What a restore makes of a database, with a raised revision, and then what it makes of that result.
fn bumped(database: &[u8], marked: bool) -> Vec<u8> {
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join("data");
    let members = vec![NewMember { name: "a".into(), peer_urls: vec!["http://127.0.0.1:2380".into()] }];
    let options = RestoreOptions { bump: Some(1000), mark_compacted: marked, ..RestoreOptions::new("a", members) };
    let mut restorer = Restorer::create(&folder, options).expect("a new directory");
    restorer.write(database).expect("a database");
    restorer.finish().expect("restored");
    std::fs::read(folder.join("member/snap/db")).expect("there")
}

#[test]
fn the_row_of_a_jump_is_no_key() {
    for sample in corpus::samples() {
        let contents = |database: &[u8]| look(database, at(&sample), &[]).expect("whole").contents.expect("known");
        let live = contents(&sample.database).live_keys.expect("counted");
        for marked in [true, false] {
            let once = bumped(&sample.database, marked);
            let twice = bumped(&once, marked);
            for (database, rows) in [(once, 1), (twice, 2)] {
                let found = contents(&database);
                assert_eq!(found.live_keys, Some(live), "{} after {rows} jumps", sample.name);
                assert_eq!(found.revision, sample.at + 1000 * rows);
            }
        }
    }
}

/// Whether there is a leaf with more than three overflow pages.
fn has_large_leaf(database: &[u8]) -> bool {
    (2..database.len() / 4096).any(|page| {
        let header = PageHeader::parse(database[page * 4096..].first_chunk().expect("a page"));
        header.id == page as u64 && header.flags == 2 && header.overflow > 3 && header.count > 0
    })
}

/// The root's page by the newer meta page, which is the first one in a snapshot.
fn root(database: &[u8]) -> u64 {
    Meta::parse(database[PAGE_HEADER_BYTES..].first_chunk().expect("a page")).expect("good").root.root
}

/// Another root, with valid checksums.
fn set_root(database: &mut [u8], pages: usize, root: u64) {
    for at in (0..pages).map(|page| page * 4096 + PAGE_HEADER_BYTES) {
        let mut meta = Meta::parse(database[at..].first_chunk().expect("a page")).expect("good");
        meta.root.root = root;
        database[at..at + 64].copy_from_slice(&meta.to_bytes());
    }
}

/// Changes a database as damage or malice could: bytes, whole pages in other places, numbers in headers.
#[derive(Debug, Clone)]
enum Change {
    Byte(Index, u8),
    Number(Index, u32),
    Page(Index, Index),
    Header(Index, [u8; 16]),
    Child(Index, Index),
    Cut(Index),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        (any::<Index>(), prop_oneof![0..70_u32, any::<u32>()]).prop_map(|(at, number)| Change::Number(at, number)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Page(from, to)),
        (any::<Index>(), any::<[u8; 16]>()).prop_map(|(at, header)| Change::Header(at, header)),
        (any::<Index>(), any::<Index>()).prop_map(|(at, to)| Change::Child(at, to)),
        any::<Index>().prop_map(Change::Cut),
    ];
    vec(change, 1..6)
}

fn apply(database: &mut Vec<u8>, change: &Change) {
    let pages = database.len() / 4096;
    if pages < 3 {
        return;
    }
    // The meta pages stay, because otherwise nothing behind them would be read.
    let place = |at: &Index, step: usize| 8192 + at.index((database.len() - 8192) / step - 1) * step;
    match change {
        Change::Byte(at, byte) => {
            let at = place(at, 1);
            database[at] = *byte;
        }
        Change::Number(at, number) => {
            let at = place(at, 4);
            database[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        Change::Page(from, to) => {
            let (from, to) = ((2 + from.index(pages - 2)) * 4096, 2 + to.index(pages - 2));
            database.copy_within(from..from + 4096, to * 4096);
            // Its header has the number of its new place.
            database[to * 4096..to * 4096 + 8].copy_from_slice(&(to as u64).to_le_bytes());
        }
        Change::Header(at, header) => {
            let at = 2 + at.index(pages - 2);
            database[at * 4096..at * 4096 + 16].copy_from_slice(header);
            database[at * 4096..at * 4096 + 8].copy_from_slice(&(at as u64).to_le_bytes());
            database[at * 4096 + 8..at * 4096 + 10].copy_from_slice(&u16::from(header[8] % 2 + 1).to_le_bytes());
        }
        Change::Child(at, to) => {
            let at = place(at, 8);
            database[at..at + 8].copy_from_slice(&(to.index(pages + 2) as u64).to_le_bytes());
        }
        Change::Cut(at) => database.truncate(8192 + at.index(database.len() - 8192)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_changed_database_is_judged_the_same_however_it_is_cut(
        which in any::<Index>(), changes in changes(), pieces in vec(1..9000_usize, 0..60), memory in 0..200_000_u64,
    ) {
        let samples = corpus::samples();
        let sample = &samples[which.index(samples.len())];
        let mut database = sample.database.clone();
        changes.iter().for_each(|change| apply(&mut database, change));
        let whole = look(&database, at(sample), &[]);
        let cut = look(&database, at(sample), &pieces);
        let said = |result: &Result<Inspection, InspectError>| match result {
            Ok(inspection) => Ok((inspection.contents.clone(), inspection.hash_kv(sample.compact))),
            Err(error) => Err(error.clone()),
        };
        prop_assert_eq!(said(&whole), said(&cut));
        // With less memory, less is known, and nothing else changes.
        let little = look(&database, Options { memory, ..at(sample) }, &pieces);
        if let (Ok(whole), Ok(little)) = (&whole, &little)
            && let (Ok(all), Ok(some)) = (&whole.contents, &little.contents)
        {
            prop_assert_eq!(all.status_hash, some.status_hash);
        }
        prop_assert!(whole.is_err() || little.is_ok(), "less memory found a fault: {:?}", little);
    }

    #[test]
    fn any_bytes_are_judged(bytes in vec(any::<u8>(), 0..3000), seed in any::<Index>()) {
        for target in targets::ALL {
            target(&bytes);
        }
        let samples = corpus::samples();
        let sample = &samples[seed.index(samples.len())];
        targets::pages(&[&bytes[..], &sample.database[..4096]].concat());
    }
}
