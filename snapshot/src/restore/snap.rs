//! The `.snap` file of a restored member: raft's snapshot at the new cluster's first index. Its data is etcd's old v2
//! store, which contains nothing but the members. Byte for byte what `etcdctl snapshot restore` writes.
//!
//! A member starts without this file, too. But a member that is added later then learns nothing and stays nearly
//! empty, without an error. So the file is always written.

use std::fmt::Write as _;

use super::membership::{Member, Membership, TERM};
use super::wal::conf_state;
use super::wire::{Message, json_text, json_texts};

/// How many events the v2 store has room for.
const EVENTS: usize = 1000;

/// The expiry of a node of the v2 store that never expires.
const NEVER: &str = "\"ExpireTime\":\"0001-01-01T00:00:00Z\"";

/// The file's name: term and index.
pub(super) fn file(membership: &Membership) -> String {
    format!("{:016x}-{:016x}.snap", TERM, membership.index())
}

/// The whole file: a CRC-32C and the snapshot that it covers.
pub(super) fn encode(membership: &Membership) -> Vec<u8> {
    let metadata = Message::default().bytes(1, &conf_state(membership)).number(2, membership.index());
    let snapshot = Message::default().bytes(1, store(membership).as_bytes());
    let snapshot = snapshot.bytes(2, &metadata.number(3, TERM).done()).done();
    Message::default().number(1, crc32c::crc32c(&snapshot).into()).bytes(2, &snapshot).done()
}

/// The v2 store in JSON, after the members were added one by one.
fn store(membership: &Membership) -> String {
    let count = membership.members.len();
    let mut children: Vec<String> = Vec::with_capacity(count);
    let mut events: Vec<String> = Vec::with_capacity(EVENTS);
    // Go sorts the keys of a map as text; the events are in the order of the IDs.
    let mut by_name: Vec<(String, &Member, usize)> =
        membership.members.iter().zip(1..).map(|(m, index)| (format!("{:x}", m.id), m, index)).collect();
    events.extend(by_name.iter().map(|(id, member, index)| event(id, member, *index)));
    by_name.sort_by(|a, b| a.0.cmp(&b.0));
    children.extend(by_name.iter().map(|(id, member, index)| child(id, member, *index)));
    events.resize(events.len().max(EVENTS), "null".to_owned());

    let members = node("/0/members", 1, "", Some(&children));
    let root = [
        format!("\"0\":{}", node("/0", 0, "", Some(&[format!("\"members\":{members}")]))),
        format!("\"1\":{}", node("/1", 0, "", Some(&[]))),
    ];
    let mut json = format!("{{\"Root\":{},", node("/", 0, "", Some(&root)));
    let parts = [
        format!("\"WatcherHub\":{{\"EventHistory\":{{\"Queue\":{{\"Events\":[{}],", events.join(",")),
        format!("\"Size\":{count},\"Front\":0,\"Back\":{count},\"Capacity\":{EVENTS}}},"),
        format!("\"StartIndex\":1,\"LastIndex\":{count}}}}},\"CurrentIndex\":{count},\"Stats\":{}", stats(count)),
        ",\"CurrentVersion\":2}".to_owned(),
    ];
    parts.iter().for_each(|part| json.push_str(part));
    json
}

/// A node. Without children it is a value.
fn node(path: &str, index: usize, value: &str, children: Option<&[String]>) -> String {
    let children = children.map_or("null".to_owned(), |children| format!("{{{}}}", children.join(",")));
    format!(
        "{{\"Path\":{},\"CreatedIndex\":{index},\"ModifiedIndex\":{index},{NEVER},\"Value\":{},\"Children\":{children}}}",
        json_text(path),
        json_text(value),
    )
}

fn child(id: &str, member: &Member, index: usize) -> String {
    let path = format!("/0/members/{id}");
    let value = node(&format!("{path}/raftAttributes"), index, &attributes(member), None);
    format!("{}:{}", json_text(id), node(&path, index, "", Some(&[format!("\"raftAttributes\":{value}")])))
}

fn event(id: &str, member: &Member, index: usize) -> String {
    let key = json_text(&format!("/0/members/{id}/raftAttributes"));
    let value = json_text(&attributes(member));
    format!(
        "{{\"action\":\"create\",\"node\":{{\"key\":{key},\"value\":{value},\"modifiedIndex\":{index},\"createdIndex\":{index}}}}}"
    )
}

/// What raft stores about a member.
fn attributes(member: &Member) -> String {
    format!("{{\"peerURLs\":{}}}", json_texts(&member.peer_urls))
}

/// The counters of the v2 store: nothing happened but the creations.
fn stats(created: usize) -> String {
    const NAMES: [&str; 15] = [
        "getsSuccess",
        "getsFail",
        "setsSuccess",
        "setsFail",
        "deleteSuccess",
        "deleteFail",
        "updateSuccess",
        "updateFail",
        "createSuccess",
        "createFail",
        "compareAndSwapSuccess",
        "compareAndSwapFail",
        "compareAndDeleteSuccess",
        "compareAndDeleteFail",
        "expireCount",
    ];
    let mut json = "{".to_owned();
    for name in NAMES {
        let count = if name == "createSuccess" { created } else { 0 };
        // Writing to a String cannot fail.
        let _ = write!(json, "\"{name}\":{count},");
    }
    json.push_str("\"watchers\":0}");
    json
}

#[cfg(test)]
mod tests {
    use super::super::membership::tests::three;
    use super::*;

    /// What `etcdctl snapshot restore` of 3.4.23 and `etcdutl` of 3.5.1 wrote; both are the same.
    const GOLDEN: &[u8] = include_bytes!("../../tests/golden/restore/0000000000000001-0000000000000003.snap");

    #[test]
    fn the_file_is_that_of_etcdctl() {
        let membership = Membership::new("a", &three(), "tok").expect("good");
        assert_eq!(file(&membership), "0000000000000001-0000000000000003.snap");
        assert_eq!(String::from_utf8_lossy(&encode(&membership)), String::from_utf8_lossy(GOLDEN));
        assert_eq!(encode(&membership), GOLDEN);
    }
}
