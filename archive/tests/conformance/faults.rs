//! Faults between the store and S3: each request is decided on when it arrives, and its body is recorded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

/// The kind of a request to S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    Head,
    Get,
    Put,
    Delete,
    List,
    Begin,
    Part,
    Complete,
    Abort,
    ListParts,
    ListUploads,
}

/// One request. `nth` counts those of the same kind, `all` every one, both from 0.
#[derive(Debug, Clone)]
pub struct Call {
    pub op: Op,
    pub nth: usize,
    pub all: usize,
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Pass,
    /// Answered with this status, and not carried out.
    Refuse(u16),
    /// The connection ends before the request is carried out.
    Reset,
    /// The connection ends in the middle of the request's body.
    CutRequest,
    /// Carried out, but the connection ends before the answer.
    LoseAnswer,
    /// Carried out, but the connection ends after this many bytes of the answer's body.
    CutAnswer(usize),
    /// Never answered.
    Hang,
    /// Answered by something that is not S3, or not the S3 with the bucket.
    Say(&'static Words),
}

/// An answer, sent as it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Words {
    pub status: u16,
    pub headers: &'static [(&'static str, &'static str)],
    pub body: &'static str,
}

type FaultPolicy = Box<dyn Fn(&Call) -> Fate + Send + Sync>;

/// The policy for all requests, and what they contained.
#[derive(Default)]
pub struct Faults {
    policy: Mutex<Option<FaultPolicy>>,
    counts: Mutex<BTreeMap<Op, usize>>,
    /// The digest of every body that arrived completely, by the query of the request: part and upload.
    parts: Mutex<BTreeMap<String, Vec<[u8; 32]>>>,
}

impl Faults {
    /// From now on `policy` decides on each request; the counts start again.
    pub fn set_policy(&self, policy: impl Fn(&Call) -> Fate + Send + Sync + 'static) {
        self.counts.lock().expect("unpoisoned").clear();
        *self.policy.lock().expect("unpoisoned") = Some(Box::new(policy));
    }

    /// From now on everything passes; the counts start again.
    pub fn clear(&self) {
        self.set_policy(|_| Fate::Pass);
    }

    /// The requests of this kind since the policy was set.
    pub fn count(&self, op: Op) -> usize {
        self.counts.lock().expect("unpoisoned").get(&op).copied().unwrap_or(0)
    }

    /// The bodies of every try of every part.
    pub fn parts(&self) -> Vec<Vec<[u8; 32]>> {
        self.parts.lock().expect("unpoisoned").values().cloned().collect()
    }

    pub(crate) fn meet(&self, op: Op) -> Fate {
        let mut counts = self.counts.lock().expect("unpoisoned");
        let all = counts.values().sum();
        let nth = counts.entry(op).or_default();
        let call = Call { op, nth: *nth, all };
        *nth += 1;
        self.policy.lock().expect("unpoisoned").as_ref().map_or(Fate::Pass, |policy| policy(&call))
    }

    pub(crate) fn remember(&self, part: &str, body: &[u8]) {
        let digest = Sha256::digest(body).into();
        self.parts.lock().expect("unpoisoned").entry(part.to_owned()).or_default().push(digest);
    }
}

/// Given to the server and kept by the test.
pub type SharedFaults = Arc<Faults>;
