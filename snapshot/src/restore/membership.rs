//! The members of the new cluster: names, peer URLs, and the IDs that etcd derives from them.
//!
//! The ID of a member is the first eight bytes of the SHA-1 of its sorted peer URLs followed by the cluster's token.
//! The ID of the cluster is the same of its members' IDs, sorted (`membership.NewMember` and `RaftCluster.genID` in
//! etcd). So every member that is restored computes the same IDs.

use sha1::{Digest, Sha1};

use super::error::RestoreError;
use super::wire::{json_text, json_texts};

/// The raft term in which the new cluster starts. If it were higher than raft's own, etcd 3.5 would stop saving its
/// index and apply writes twice after a restart.
pub(super) const TERM: u64 = 1;

/// A member of the cluster that a restore creates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMember {
    /// The member's `--name`, which is also the left side in `--initial-cluster`.
    pub name: String,
    /// Its peer URLs, at least one: `http://HOST:PORT` or `https://HOST:PORT`, without a path.
    pub peer_urls: Vec<String>,
}

/// A member with its ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: u64,
    pub(super) name: String,
    /// Sorted.
    pub(super) peer_urls: Vec<String>,
}

/// The new cluster. Its members are sorted by ID, as etcd sorts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) members: Vec<Member>,
    pub(super) cluster_id: u64,
    /// ID of the member that this directory is for.
    pub(super) own: u64,
}

impl Membership {
    /// # Errors
    /// A name or URL is missing, malformed or used twice, or no member is called `name`.
    pub(super) fn new(name: &str, members: &[NewMember], token: &str) -> Result<Self, RestoreError> {
        let mut with_ids = members.iter().map(|m| Member::new(m, token)).collect::<Result<Vec<_>, _>>()?;
        let own = with_ids.iter().find(|m| m.name == name).map(|m| m.id);
        let own = own.ok_or_else(|| RestoreError::NotAMember {
            name: name.to_owned(),
            members: members.iter().map(|m| m.name.clone()).collect::<Vec<_>>().join(", "),
        })?;
        with_ids.sort_by_key(|m| m.id);
        refuse_twins(&with_ids)?;
        let mut ids = Sha1::new();
        with_ids.iter().for_each(|m| ids.update(m.id.to_be_bytes()));
        Ok(Self { cluster_id: first_eight(ids), members: with_ids, own })
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        self.members.iter().map(|m| m.id)
    }

    /// The log index after the entries that add the members: where the new cluster starts.
    pub(super) fn index(&self) -> u64 {
        self.members.len() as u64
    }
}

impl Member {
    fn new(member: &NewMember, token: &str) -> Result<Self, RestoreError> {
        let refuse = |reason: &'static str, what: &str| {
            Err(RestoreError::Member { name: member.name.clone(), what: what.to_owned(), reason })
        };
        if member.name.is_empty() {
            return refuse("a member needs a name", "");
        }
        if member.peer_urls.is_empty() {
            return refuse("a member needs a peer URL", "");
        }
        let mut peer_urls = member.peer_urls.clone();
        for url in &peer_urls {
            if let Err(reason) = check_url(url) {
                return refuse(reason, url);
            }
        }
        peer_urls.sort();
        let mut digest = Sha1::new();
        peer_urls.iter().for_each(|url| digest.update(url));
        digest.update(token);
        Ok(Self { id: first_eight(digest), name: member.name.clone(), peer_urls })
    }

    /// The member as stored in etcd's bucket `members` and in the entry of the log.
    pub(super) fn to_json(&self) -> String {
        let urls = json_texts(&self.peer_urls);
        format!("{{\"id\":{},\"peerURLs\":{urls},\"name\":{}}}", self.id, json_text(&self.name))
    }
}

/// Refuses what etcd's own `types.NewURLs` refuses, and characters that it would rewrite, because that changes the
/// ID.
fn check_url(url: &str) -> Result<(), &'static str> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let rest = rest.ok_or("a peer URL must begin with http:// or https://")?;
    let (host, port) = rest.rsplit_once(':').ok_or("a peer URL needs a port")?;
    if port.contains(['/', '?', '#']) {
        return Err("a peer URL cannot have a path");
    }
    // Rust accepts a plus sign here, Go does not.
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || port.parse::<u16>().is_err() {
        return Err("a peer URL needs a port");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let good = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(plain),
    };
    if good { Ok(()) } else { Err("a peer URL needs a host name or an address") }
}

fn refuse_twins(members: &[Member]) -> Result<(), RestoreError> {
    for (index, member) in members.iter().enumerate() {
        let twin = |other: &&Member| {
            other.id == member.id
                || other.name == member.name
                || other.peer_urls.iter().any(|url| member.peer_urls.contains(url))
        };
        if let Some(other) = members[index + 1..].iter().find(twin) {
            return Err(RestoreError::Twins { first: member.name.clone(), second: other.name.clone() });
        }
    }
    Ok(())
}

fn first_eight(digest: Sha1) -> u64 {
    let digest: [u8; 20] = digest.finalize().into();
    digest.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::restore) fn member(name: &str, urls: &[&str]) -> NewMember {
        NewMember { name: name.into(), peer_urls: urls.iter().map(|u| (*u).to_owned()).collect() }
    }

    /// The members that `etcdctl snapshot restore` was given for the files in `golden`.
    pub(in crate::restore) fn three() -> Vec<NewMember> {
        ["a", "b", "c"].iter().zip(1111..).map(|(n, port)| member(n, &[&format!("http://127.0.0.1:{port}")])).collect()
    }

    #[test]
    fn ids_are_those_of_etcdctl() {
        let membership = Membership::new("a", &three(), "tok").expect("good");
        let ids: Vec<String> = membership.ids().map(|id| format!("{id:x}")).collect();
        assert_eq!(ids, ["33b26550643022e", "7db29806059de6fa", "bff4e84ea9dfc65f"]);
        assert_eq!(membership.cluster_id, 0xa29b_b119_24ab_c669);
        assert_eq!(membership.own, 0x7db2_9806_059d_e6fa);
        let json = r#"{"id":232821952358842926,"peerURLs":["http://127.0.0.1:1112"],"name":"b"}"#;
        assert_eq!(membership.members[0].to_json(), json);
    }

    #[test]
    fn the_order_of_urls_and_of_members_does_not_matter() {
        let one = [member("a", &["http://h:1", "http://g:2"]), member("b", &["http://h:3"])];
        let other = [member("b", &["http://h:3"]), member("a", &["http://g:2", "http://h:1"])];
        let new = |members: &[NewMember]| Membership::new("a", members, "t").expect("good");
        assert_eq!(new(&one), new(&other));
    }

    #[test]
    fn what_etcd_would_refuse_or_rewrite_is_an_error() {
        let error = |members: &[NewMember]| Membership::new("a", members, "t").expect_err("bad").to_string();
        let cases = [
            ("127.0.0.1:2380", "must begin with http"),
            ("http://127.0.0.1", "needs a port"),
            ("http://127.0.0.1:2380/", "cannot have a path"),
            ("http://127.0.0.1:x", "needs a port"),
            ("http://127.0.0.1:+2380", "needs a port"),
            ("http://127.0.0.1:", "needs a port"),
            ("http://:2380", "needs a host"),
            ("http://[::1:2380", "needs a host"),
            ("http://a b:2380", "needs a host"),
            ("unix://sock:1", "must begin with http"),
        ];
        for (url, reason) in cases {
            let text = error(&[member("a", &[url])]);
            assert!(text.contains(reason) && text.contains(url), "{url}: {text}");
        }
        assert!(Membership::new("a", &[member("a", &["http://[::1]:2380"])], "t").is_ok());
        assert!(error(&[member("a", &[])]).contains("needs a peer URL"));
        assert!(error(&[member("", &["http://a:1"])]).contains("needs a name"));
        assert!(error(&[member("b", &["http://a:1"])]).contains("not one of"));
        assert!(error(&[]).contains("not one of"));
        assert!(error(&[member("a", &["http://a:1"]), member("a", &["http://a:2"])]).contains("both"));
        assert!(error(&[member("a", &["http://a:1"]), member("b", &["http://a:1"])]).contains("both"));
    }
}
