//! What the database says about the cluster: compact revisions, members, versions. etcd's cluster ID is not in the
//! database; only the write-ahead log contains it.

use serde::Deserialize;

use super::fault::BucketFault;
use super::value::Revision;

/// Keys of the bucket `meta` (etcd's `server/storage/schema`).
const CONSISTENT_INDEX: &[u8] = b"consistent_index";
const TERM: &[u8] = b"term";
const FINISHED: &[u8] = b"finishedCompactRev";
const SCHEDULED: &[u8] = b"scheduledCompactRev";
const CONF_STATE: &[u8] = b"confState";
const STORAGE_VERSION: &[u8] = b"storageVersion";
/// A key of the bucket `auth`.
const AUTH_ENABLED: &[u8] = b"authEnabled";
/// Keys of the bucket `cluster`.
const CLUSTER_VERSION: &[u8] = b"clusterVersion";

/// Most digits of a member ID in hexadecimal.
const ID_BYTES_MAX: usize = 16;

/// A member as listed in the bucket `members`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// etcd's member ID.
    pub id: u64,
    /// `--name` of the member; empty until it has started for the first time.
    pub name: String,
    /// The URLs that other members use. Not sorted.
    pub peer_urls: Vec<String>,
    /// The URLs that it advertises to clients; empty until it has started for the first time.
    pub client_urls: Vec<String>,
    /// The database lists it as a learner, which does not vote. etcd 3.5.1 to 3.5.19 does not record that a learner
    /// was promoted.
    pub learner: bool,
}

/// The contents of the small buckets `meta`, `members`, `cluster` and `auth`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// The revision up to which a compaction was requested (`scheduledCompactRev`); `None` if never.
    pub scheduled_compact: Option<i64>,
    /// The revision up to which a compaction was completed (`finishedCompactRev`); `None` if never.
    pub finished_compact: Option<i64>,
    /// The raft index of the last applied entry (`consistent_index`); `None` if it is not recorded.
    pub consistent_index: Option<u64>,
    /// The raft term of that entry; `None` before etcd 3.5.
    pub term: Option<u64>,
    /// In the order of their IDs as hexadecimal text.
    pub members: Vec<Member>,
    /// The version of the cluster, such as `3.4.0`; `None` if it is not recorded yet.
    pub cluster_version: Option<String>,
    /// The version that the database is marked with, such as `3.6.0`; `None` before etcd 3.6.
    pub storage_version: Option<String>,
    /// Whether authentication is enabled: every request must then come from a user.
    pub auth_enabled: bool,
}

/// Whether an entry of a leaf may be one of those that are read here.
pub fn is_about(key: &[u8], value: &[u8]) -> bool {
    let known =
        [CONSISTENT_INDEX, TERM, FINISHED, SCHEDULED, CONF_STATE, STORAGE_VERSION, AUTH_ENABLED, CLUSTER_VERSION];
    known.contains(&key) || (value.first() == Some(&b'{') && id(key).is_some())
}

fn id(key: &[u8]) -> Option<u64> {
    let digits = key.len() <= ID_BYTES_MAX && key.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(key).ok().filter(|_| digits)?;
    u64::from_str_radix(text, 16).ok()
}

impl About {
    /// Takes an entry of the bucket `bucket`; entries that are of no interest are ignored.
    ///
    /// # Errors
    /// The value is not what etcd writes there, and etcd would not start from it.
    pub fn entry(&mut self, bucket: &[u8], key: &[u8], value: &[u8]) -> Result<(), BucketFault> {
        match bucket {
            b"meta" => self.meta(key, value),
            b"members" => {
                self.members.push(member(key, value).ok_or(BucketFault::Value("a member"))?);
                Ok(())
            }
            b"auth" if key == AUTH_ENABLED => {
                self.auth_enabled = value == [1];
                Ok(())
            }
            b"cluster" if key == CLUSTER_VERSION => {
                self.cluster_version = Some(text(value).ok_or(BucketFault::Value("clusterVersion"))?);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn meta(&mut self, key: &[u8], value: &[u8]) -> Result<(), BucketFault> {
        let wrong = |name| BucketFault::Value(name);
        if key == CONSISTENT_INDEX {
            self.consistent_index = Some(number(value).ok_or(wrong("consistent_index"))?);
        } else if key == TERM {
            self.term = Some(number(value).ok_or(wrong("term"))?);
        } else if key == FINISHED {
            self.finished_compact = Some(revision(value).ok_or(wrong("finishedCompactRev"))?);
        } else if key == SCHEDULED {
            self.scheduled_compact = Some(revision(value).ok_or(wrong("scheduledCompactRev"))?);
        } else if key == STORAGE_VERSION {
            self.storage_version = Some(text(value).ok_or(wrong("storageVersion"))?);
        } else if key == CONF_STATE {
            serde_json::from_slice::<serde::de::IgnoredAny>(value).map_err(|_| wrong("confState"))?;
        }
        Ok(())
    }

    /// The revision up to which old revisions may be missing.
    pub fn compacted(&self) -> Option<i64> {
        self.scheduled_compact.max(self.finished_compact)
    }
}

fn number(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

fn revision(value: &[u8]) -> Option<i64> {
    let revision = Revision::parse(value).filter(|revision| !revision.tombstone)?;
    i64::try_from(revision.main).ok()
}

fn text(value: &[u8]) -> Option<String> {
    String::from_utf8(value.to_vec()).ok()
}

/// `membership.Member` as etcd encodes it in JSON.
#[derive(Deserialize)]
struct Stored {
    id: u64,
    #[serde(default, rename = "peerURLs")]
    peer_urls: Option<Vec<String>>,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "clientURLs")]
    client_urls: Option<Vec<String>>,
    #[serde(default, rename = "isLearner")]
    learner: bool,
}

fn member(key: &[u8], value: &[u8]) -> Option<Member> {
    let stored: Stored = serde_json::from_slice(value).ok()?;
    (id(key)? == stored.id).then(|| Member {
        id: stored.id,
        name: stored.name,
        peer_urls: stored.peer_urls.unwrap_or_default(),
        client_urls: stored.client_urls.unwrap_or_default(),
        learner: stored.learner,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_member_is_read_as_etcd_wrote_it() {
        let json =
            br#"{"id":10276657743932975437,"peerURLs":["http://h:2380"],"name":"a","clientURLs":["http://h:2379"]}"#;
        let mut about = About::default();
        about.entry(b"members", b"8e9e05c52164694d", json).expect("good");
        let member = &about.members[0];
        assert_eq!((member.name.as_str(), member.learner, member.id), ("a", false, 0x8e9e_05c5_2164_694d));
        assert!(about.entry(b"members", b"8e9e05c52164694e", json).is_err(), "another id than its key");
        assert!(about.entry(b"meta", SCHEDULED, b"short").is_err());
        assert!(about.entry(b"meta", b"something else", b"short").is_ok());
        assert_eq!(about.entry(b"auth", AUTH_ENABLED, &[1]).map(|()| about.auth_enabled), Ok(true));
        assert_eq!(about.entry(b"auth", AUTH_ENABLED, &[0]).map(|()| about.auth_enabled), Ok(false));
        assert!(is_about(b"8e9e05c52164694d", json) && !is_about(b"not hex", json));
    }

    proptest! {
        #[test]
        fn any_entry_is_taken_or_refused(bucket in "meta|members|cluster|x", key in "consistent_index|term|confState|[0-9a-f]{1,17}", value: Vec<u8>) {
            let _ = About::default().entry(bucket.as_bytes(), key.as_bytes(), &value);
        }
    }
}
