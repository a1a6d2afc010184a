//! What can be planned, and that everything else is refused with its reason.

use super::*;
use backstay_protocol::{AttemptId, SlotId, SnapshotName};
use proptest::prelude::*;
use uuid::Uuid;

fn manifest(cluster: &str, uuid: u128) -> Manifest {
    use backstay_archive::manifest::{Origin, SealInfo, Trigger};
    Manifest {
        format_version: 1,
        cluster: cluster.parse().expect("a name"),
        cluster_uuid: ClusterUuid(Uuid::from_u128(uuid)),
        machine: None,
        snapshot: SnapshotName::from_unix_seconds(1_000).expect("in range"),
        slot: SlotId(Uuid::from_u128(8)),
        attempt: AttemptId(Uuid::from_u128(9)),
        trigger: Trigger::Manual,
        created_at: Timestamp::from_seconds(1_001),
        origin: Origin { revision: 77, ..Origin::default() },
        seal: SealInfo { encryption: "age".into(), ..SealInfo::default() },
        snapshot_bytes: 1_000,
        snapshot_sha256: "ab".into(),
        sealed_bytes: 300,
        sealed_sha256: "cd".into(),
        agent_version: "0".into(),
        inspection: None,
        replaces: None,
        sequence: None,
        extra: serde_json::Map::new(),
    }
}

fn member(n: u64) -> ListedMember {
    ListedMember { id: n, name: format!("m{n}"), peer_urls: vec![format!("http://h{n}:2380")], learner: false }
}

fn present(n: u64, members: &[ListedMember]) -> (MachineId, Present) {
    let identity = MemberIdentity {
        control: "systemd".into(),
        folder: "/var/lib/etcd".into(),
        free_bytes: 1 << 40,
        member_id: n,
        cluster_id: 5,
        members: members.to_vec(),
        ..MemberIdentity::default()
    };
    (
        MachineId(Uuid::from_u128(u128::from(n) + 100)),
        Present { identity, answers: true, etcd_version: "3.6.14".into(), ..Present::default() },
    )
}

fn target(count: u64) -> Target {
    let members: Vec<ListedMember> = (1..=count).map(member).collect();
    let agents = (1..=count).map(|n| present(n, &members)).collect();
    let uuid = ClusterUuid(Uuid::from_u128(1));
    Target { cluster: "one".parse().expect("a name"), uuid, etcd_cluster_id: None, agents }
}

fn ask(target: &Target, request: &RestoreSpec, manifest: &Manifest) -> Result<Restore, String> {
    plan(target, request, RestoreId(Uuid::from_u128(3)), manifest, Timestamp::from_seconds(1_702_166_400))
}

fn changed(change: impl FnOnce(&mut Target)) -> String {
    let mut target = target(3);
    change(&mut target);
    ask(&target, &RestoreSpec::default(), &manifest("one", 1)).expect_err("refused")
}

fn of(target: &mut Target, n: usize) -> &mut Present {
    target.agents.values_mut().nth(n).expect("three")
}

#[test]
fn every_member_has_its_machine() {
    let restore = ask(&target(3), &RestoreSpec::default(), &manifest("one", 1)).expect("a plan");
    let members: Vec<&str> = restore.machines.values().map(|m| m.member.as_str()).collect();
    assert_eq!(members, ["m1", "m2", "m3"]);
    assert_eq!((restore.bump, restore.aside_suffix.as_str()), (RESTORE_BUMP, ".before-restore-20231210T000000Z"));
    let request = RestoreSpec { bump: Some(0), ..RestoreSpec::default() };
    assert_eq!(ask(&target(1), &request, &manifest("one", 1)).expect("a plan").bump, 0);
}

#[test]
fn what_speaks_against_it_is_said() {
    for (part, text) in [
        ("no agent is connected for member m2", changed(|t| t.agents.retain(|_, a| a.identity.member_id != 2))),
        (
            "[restore]",
            changed(|t| (of(t, 0).identity.control, of(t, 0).identity.error) = (String::new(), "set [restore]".into())),
        ),
        ("cannot restore", changed(|t| of(t, 0).identity.control.clear())),
        ("machine m1: it is still finishing restore 7", changed(|t| of(t, 0).unfinished = "7".into())),
        ("are free", changed(|t| of(t, 2).identity.free_bytes = 10)),
        (
            "both report",
            changed(|t| {
                let mut twin = present(9, &[]);
                twin.1.identity.member_id = 1;
                t.agents.insert(twin.0, twin.1);
            }),
        ),
        ("different lists", changed(|t| of(t, 1).identity.members[0].name = "x".into())),
        ("knows the members", changed(|t| t.agents.values_mut().for_each(|a| a.identity.members.clear()))),
        ("is a learner", changed(|t| t.agents.values_mut().for_each(|a| a.identity.members[2].learner = true))),
        ("never started", changed(|t| t.agents.values_mut().for_each(|a| a.identity.members[2].name.clear()))),
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let both = changed(|t| {
        of(t, 0).identity.free_bytes = 1;
        of(t, 2).identity.control.clear();
    });
    assert!(both.contains("machine m1: ") && both.contains("machine m3: "), "{both}");
}

#[test]
fn a_list_that_a_dead_etcd_left_counts_only_where_no_other_is_known() {
    let mut target = target(3);
    of(&mut target, 0).answers = false;
    of(&mut target, 0).identity.members = vec![member(1), member(7)];
    assert!(ask(&target, &RestoreSpec::default(), &manifest("one", 1)).is_ok(), "the others know better");
    for n in 0..3 {
        of(&mut target, n).answers = false;
    }
    let error = ask(&target, &RestoreSpec::default(), &manifest("one", 1)).expect_err("nobody knows now");
    assert!(error.contains("different lists"), "{error}");
    let (one, other) = (Uuid::from_u128(101), Uuid::from_u128(103));
    assert!(error.contains(&format!("{one} has [m1 ")) && error.contains(&format!("and {other} has [m1 ")), "{error}");
}

/// A backup of this etcd's, whose database is marked so; empty: nobody looked.
fn taken_from(etcd: &str, mark: &str) -> Manifest {
    use backstay_archive::manifest::{Contents, Inspection};
    let mut manifest = manifest("one", 1);
    manifest.origin.etcd_version = etcd.into();
    if !mark.is_empty() {
        let contents = serde_json::json!({
            "page_bytes": 4096, "bytes_in_use": 1, "entries": 1, "revision": 77, "status_hash": "00000000",
            "storage_version": mark,
        });
        let contents: Contents = serde_json::from_value(contents).expect("fields");
        manifest.inspection = Some(Inspection { contents: Some(contents), ..Inspection::default() });
    }
    manifest
}

#[test]
fn both_versions_are_known_and_what_cannot_start_is_refused() {
    let ask = |target: &Target, etcd, mark| super::tests::ask(target, &RestoreSpec::default(), &taken_from(etcd, mark));
    let error = ask(&target(3), "3.7.1", "3.7.0").expect_err("refused");
    for part in
        ["3 machines (m1, m2, m3): its etcd is 3.6.14", "etcd 3.7.1", "marked 3.7.0", "update etcd there to 3.7"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    // One of three was updated already: the others are named.
    let mut mixed = target(3);
    of(&mut mixed, 0).etcd_version = "3.7.1".into();
    let error = ask(&mixed, "3.7.1", "3.7.0").expect_err("refused");
    assert!(error.contains("2 machines (m2, m3): ") && !error.contains("m1"), "{error}");
    for (etcd, mark, note) in [
        ("3.6.14", "3.6.0", ""),
        ("3.5.30", "", ""),
        ("3.7.1", "3.6.0", "older than etcd 3.7.1"),
        ("3.7.1", "", "each machine checks before anything is stopped"),
        ("", "", ""),
    ] {
        let restore = ask(&target(1), etcd, mark).expect("a plan");
        assert_eq!((restore.source.etcd_version.as_str(), restore.source.storage_version.as_str()), (etcd, mark));
        assert_eq!(restore.machines.values().next().expect("one").etcd_version, "3.6.14");
        let notes = version_notes(&restore).join("; ");
        assert!(notes.contains(note) && notes.is_empty() == note.is_empty(), "{etcd} {mark}: {notes}");
    }
    // What a dead etcd was may not be what starts there: it is told, and does not stand in the way.
    let mut dead = target(3);
    dead.agents.values_mut().for_each(|agent| agent.answers = false);
    let notes = version_notes(&ask(&dead, "3.7.1", "3.7.0").expect("a plan")).join("; ");
    assert!(notes.contains("3 machines (m1, m2, m3): etcd 3.6.14, last seen there, cannot start"), "{notes}");
}

#[test]
fn the_folders_set_aside_are_named_as_the_plan_says() {
    let now = 1_702_166_400;
    let at = |started: Option<i64>| {
        let request = RestoreSpec { started: started.map(Timestamp::from_seconds), ..RestoreSpec::default() };
        ask(&target(1), &request, &manifest("one", 1)).map(|restore| restore.aside_suffix)
    };
    assert_eq!(at(None), Ok(".before-restore-20231210T000000Z".into()));
    assert_eq!(at(Some(now - 3_600)), Ok(".before-restore-20231209T230000Z".into()));
    assert_eq!(at(Some(now + 60)), Ok(".before-restore-20231210T000100Z".into()));
    for other in [now - 90_000, now + 3_600] {
        assert!(at(Some(other)).is_err_and(|error| error.contains("request a new plan")), "{other}");
    }
}

#[test]
fn what_is_told_of_an_earlier_restore_is_no_plan() {
    let at = |seconds| Some(Timestamp::from_seconds(seconds));
    let request = |started, ended, phase| RestoreSpec { started, ended, phase, ..RestoreSpec::default() };
    let plan = request(at(5), None, RestorePhase::Waiting);
    assert_eq!((planned_at(&plan, None), planned_at(&plan, at(4))), (at(5), at(5)));
    assert_eq!(planned_at(&plan, at(5)), None, "the latest one's");
    assert_eq!(planned_at(&request(at(5), at(9), RestorePhase::Waiting), at(4)), None, "an older one's, from a file");
    assert_eq!(planned_at(&request(at(5), None, RestorePhase::Switching), None), None);
    assert_eq!(planned_at(&RestoreSpec::default(), None), None);
}

/// Agents of one name, each with the cluster id of its etcd; whoever is not used, and whether a plan can be made.
fn unrelated(known: Option<u64>, ids: &[u64]) -> Result<usize, String> {
    let mut target = target(ids.len() as u64);
    target.etcd_cluster_id = known;
    target.agents.values_mut().zip(ids).for_each(|(agent, id)| agent.identity.cluster_id = *id);
    target.part_unrelated().map(|unrelated| unrelated.len())
}

#[test]
fn an_agent_of_another_etcd_cluster_is_not_part_of_the_plan() {
    assert_eq!(unrelated(Some(5), &[5, 5, 5]), Ok(0));
    assert_eq!(unrelated(Some(5), &[5, 6, 6]), Ok(2), "the known one is meant while anybody has it");
    assert_eq!(unrelated(Some(9), &[5, 5, 6]), Ok(1));
    assert_eq!(unrelated(None, &[0, 0, 0]), Ok(0));
    assert!(unrelated(None, &[5, 6]).is_err_and(|text| text.contains("different clusters")));
    let mut target = target(3);
    target.etcd_cluster_id = Some(5);
    target.agents.values_mut().for_each(|agent| agent.answers = false);
    let mut lost = present(9, &[member(9)]);
    lost.1.identity.cluster_id = 6;
    target.agents.insert(lost.0, lost.1);
    let parted = target.part_unrelated().expect("one is known");
    assert!(
        parted[0].to_string().contains("belongs to cluster 0000000000000006, not to 0000000000000005"),
        "{parted:?}"
    );
    let restore = ask(&target, &RestoreSpec::default(), &manifest("one", 1)).expect("a plan");
    assert_eq!(restore.machines.len(), 3, "whoever answers is not preferred where it is an unrelated member");
}

proptest! {
    #[test]
    fn another_cluster_s_data_comes_only_by_its_name(said in "(one|other|third|)", uuid in 1_u128..3) {
        let request = RestoreSpec { dataofanothercluster: said.clone(), ..RestoreSpec::default() };
        let of = if uuid == 1 { "one" } else { "other" };
        let planned = ask(&target(1), &request, &manifest(of, uuid)).is_ok();
        prop_assert_eq!(planned, if uuid == 1 { said.is_empty() } else { said == "other" });
    }
}
