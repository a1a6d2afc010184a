//! Flipped bits: each is caught, or lies where nobody reads.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use backstay_snapshot::inspect::{Contents, HashKv, Inspector, Options};
use backstay_tests::Etcd;
use etcd_client::{CompactionOptions, DeleteOptions};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::coverage::{self, Use};
use crate::look::{Snapshot, revision};

/// How many random places are tried.
const PLACES: usize = 100_000;

/// What became of a flipped bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Structure,
    /// It ends before the revision at which the cluster was: the root of another, older tree. The agent refuses it.
    Older,
    Hash,
    /// What inspection says of the database is another: its own status hash, for one. Nobody compares it with a member.
    Differs,
    Unnoticed,
}

/// A database, and what is said of it while it is whole.
struct Whole {
    database: Vec<u8>,
    at: i64,
    compact: i64,
    hash: HashKv,
    contents: Contents,
}

impl Whole {
    async fn of(etcd: &Etcd) -> Result<Self> {
        let mut client = etcd.client().await?;
        let at = revision(&mut client).await?;
        let snapshot = Snapshot::of(&mut client).await?;
        let inspection = snapshot.looked_at(Some(at))?;
        let answer = client.hash_kv(at).await?;
        let hash = inspection.hash_kv(answer.compact_version())?;
        ensure!(hash.is(answer.hash()), "{answer:?} {inspection:?}");
        let contents = crate::look::contents(&inspection)?.clone();
        let database = snapshot.database().to_vec();
        Ok(Self { database, at, compact: answer.compact_version(), hash, contents })
    }

    /// `copy` is the database, and is it again afterwards.
    fn fate(&self, copy: &mut [u8], byte: usize, bit: u8) -> Result<Fate> {
        copy[byte] ^= 1 << bit;
        let mut inspector = Inspector::new(Options { hash_at: Some(self.at), ..Options::default() });
        let inspection = inspector.update(copy).and_then(|()| inspector.finish());
        copy[byte] ^= 1 << bit;
        let Ok(inspection) = inspection else { return Ok(Fate::Structure) };
        let contents = crate::look::contents(&inspection)?;
        if contents.revision < self.at {
            return Ok(Fate::Older);
        }
        // A compact revision that was changed leaves HashKV unsaid, which is no answer.
        Ok(match inspection.hash_kv(self.compact) {
            Ok(hash) if hash != self.hash => Fate::Hash,
            _ if *contents != self.contents => Fate::Differs,
            _ => Fate::Unnoticed,
        })
    }

    fn judge(&self, byte: usize, uses: &[Use], fate: Fate) -> Result<()> {
        let fine = match uses[byte] {
            Use::Free | Use::Slack => true,
            Use::Structure | Use::Hashed => matches!(fate, Fate::Structure | Fate::Older | Fate::Hash),
            // Nobody vouches for them beyond their place and their order.
            Use::Old | Use::OtherKey | Use::OtherValue => fate != Fate::Unnoticed,
        };
        ensure!(fine, "a bit of byte {byte} ({:?}) flipped: {fate:?}", uses[byte]);
        Ok(())
    }
}

#[tokio::test]
async fn at_every_byte_of_a_small_database() -> Result<()> {
    let etcd = Etcd::start(1).await?;
    let mut client = etcd.client().await?;
    etcd.put_many("a/", 60, 30).await?;
    etcd.put_many("large/", 3, 5000).await?;
    client.delete("a/0000002", Some(DeleteOptions::new().with_prefix())).await?;
    client.lease_grant(3600, None).await?;
    client.role_add("a-role").await?;
    let now = revision(&mut client).await?;
    client.compact(now - 2, Some(CompactionOptions::new().with_physical())).await?;
    client.put("after", "it", None).await?;
    let whole = Whole::of(&etcd).await?;
    let uses = coverage::map(&whole.database, whole.compact);
    let (mut copy, mut fates) = (whole.database.clone(), BTreeMap::new());
    for (byte, what) in uses.iter().enumerate() {
        // Which page a number points to hangs on the bit: there every one is tried.
        let one = (byte % 8) as u8;
        let bits = if *what == Use::Structure { 0..8 } else { one..one + 1 };
        for bit in bits {
            let fate = whole.fate(&mut copy, byte, bit)?;
            whole.judge(byte, &uses, fate)?;
            *fates.entry((format!("{what:?}"), fate)).or_insert(0) += 1;
        }
    }
    println!("{} bytes: {fates:#?}", whole.database.len());
    Ok(())
}

#[tokio::test]
async fn at_random_places_of_a_larger_one() -> Result<()> {
    let etcd = Etcd::start(1).await?;
    etcd.put_many("a/", 1200, 300).await?;
    etcd.put_many("b/", 60, 9000).await?;
    let mut client = etcd.client().await?;
    client.delete("a/00001", Some(DeleteOptions::new().with_prefix())).await?;
    let whole = Whole::of(&etcd).await?;
    let uses = coverage::map(&whole.database, whole.compact);
    let workers = std::thread::available_parallelism()?.get();
    let work = |seed: usize| {
        let (mut copy, mut fates) = (whole.database.clone(), BTreeMap::new());
        let mut random = ChaCha8Rng::seed_from_u64(seed as u64);
        for _ in 0..PLACES.div_ceil(workers) {
            let (byte, bit) = (random.random_range(0..copy.len()), random.random_range(0..8));
            let fate = whole.fate(&mut copy, byte, bit)?;
            whole.judge(byte, &uses, fate)?;
            *fates.entry((format!("{:?}", uses[byte]), fate)).or_insert(0) += 1;
        }
        anyhow::Ok(fates)
    };
    let all = std::thread::scope(|scope| {
        let work = &work;
        let started: Vec<_> = (0..workers).map(|seed| scope.spawn(move || work(seed))).collect();
        started.into_iter().map(|worker| worker.join().expect("it does not panic")).collect::<Result<Vec<_>>>()
    })?;
    println!("{} bytes: {all:#?}", whole.database.len());
    Ok(())
}
