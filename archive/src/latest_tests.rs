//! Nothing is guessed: every contradiction is found, and nothing else is reported as one.

use super::*;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp { seconds: 1_800_000_000, nanos: 0 };

fn backup(seconds: i64, cluster: u64, revision: i64) -> Candidate {
    Candidate {
        snapshot: SnapshotName::from_unix_seconds(seconds).expect("in range"),
        etcd_cluster_id: format!("{cluster:016x}"),
        revision,
        modified: Some(Timestamp::from_seconds(seconds + 5)),
        replaces: None,
    }
}

fn after(old: &Candidate, new: Candidate) -> Candidate {
    let Candidate { snapshot, etcd_cluster_id, revision, .. } = old.clone();
    Candidate { replaces: Some(Replaced { etcd_cluster_id, revision, snapshot }), ..new }
}

fn chosen(candidates: &[Candidate]) -> Result<Option<i64>, Ambiguous> {
    choose(candidates, NOW).map(|found| found.map(|found| found.snapshot.unix_seconds())).map_err(|why| *why)
}

#[test]
fn the_newest_name_is_the_latest_where_nothing_contradicts_it() {
    let t = NOW.seconds;
    assert_eq!(chosen(&[]), Ok(None));
    assert_eq!(chosen(&[backup(t - 60, 1, 5), backup(t, 1, 9), backup(t - 30, 1, 9)]), Ok(Some(t)));
    assert_eq!(chosen(&[backup(t + 60, 1, 5)]), Ok(Some(t + 60)), "clocks differ by a little");
    // A restore raises the revision, or goes back without raising it, and creates a new cluster ID.
    assert_eq!(chosen(&[backup(t - 60, 1, 500), backup(t, 2, 9)]), Ok(Some(t)));
    assert_eq!(chosen(&[backup(t - 60, 1, 5), backup(t, 2, 1_000_000_009)]), Ok(Some(t)));
}

#[test]
fn a_name_from_the_future_is_no_answer() {
    let t = NOW.seconds;
    for ahead in [61, 86_400, 20 * 365 * 86_400] {
        let error = chosen(&[backup(t - 60, 1, 9), backup(t + ahead, 1, 5), backup(t - 90, 1, 8)]).expect_err("ahead");
        assert!(matches!(error.why, Contradiction::Ahead { .. }), "{error:?}");
        let shown: Vec<i64> = error.candidates.iter().map(|c| c.snapshot.unix_seconds()).collect();
        assert_eq!((shown, error.others), (vec![t + ahead, t - 60, t - 90], 0));
    }
}

#[test]
fn a_higher_revision_of_the_same_cluster_is_no_answer_wherever_it_stands() {
    let t = NOW.seconds;
    let mut many: Vec<Candidate> = (0..2_500).map(|n| backup(t - n, 1, 10_000 - n)).collect();
    many[1_234].revision = 10_001;
    let error = chosen(&many).expect_err("one is further");
    assert_eq!(error.why, Contradiction::Revision { newest: many[0].snapshot, revision: 10_000, higher: 10_001 });
    assert_eq!(error.candidates, [many[0].clone(), many[1_234].clone()]);
    assert_eq!(error.others, 2_498);
    many[1_234].etcd_cluster_id = "another".into();
    assert_eq!(chosen(&many), Ok(Some(t)));
}

#[test]
fn what_another_takes_the_place_of_contradicts_nothing() {
    let t = NOW.seconds;
    let (older, old) = (backup(t - 90, 1, 990), backup(t - 60, 1, 1_000));
    // Created anew under the same ID.
    let first = after(&old, backup(t - 30, 1, 5));
    let all = [older.clone(), old.clone(), first.clone(), backup(t, 1, 6)];
    assert_eq!(chosen(&all), Ok(Some(t)));
    assert_eq!(chosen(&all[..3]), Ok(Some(t - 30)));
    // A later backup counts, and so do those of the same etcd that do not state what they replace.
    assert!(chosen(&[old.clone(), first.clone(), backup(t - 10, 1, 8), backup(t, 1, 6)]).is_err());
    assert!(chosen(&[old.clone(), backup(t - 30, 1, 5)]).is_err());
    assert!(chosen(&[backup(t - 60, 2, 9), after(&old, backup(t - 30, 2, 5))]).is_err(), "of another etcd");
    // The replaced backup had a name from the future.
    let ahead = backup(t + 86_400, 1, 1_000);
    assert_eq!(chosen(&[older, ahead.clone(), after(&ahead, backup(t - 30, 1, 5)), backup(t, 1, 6)]), Ok(Some(t)));
    // An old etcd that came back.
    let other = after(&old, backup(t - 30, 2, 5));
    let back = after(&other, backup(t, 1, 1_000));
    assert_eq!(chosen(&[old, other, back]), Ok(Some(t)));
}

#[test]
fn the_error_says_what_to_type() {
    let t = NOW.seconds;
    let mut planted = backup(t - 60, 0xcdf8, 9);
    (planted.etcd_cluster_id, planted.modified) = ("\u{1b}[2Jcdf818194e3a8c32 and more".into(), None);
    let error = chosen(&[planted, backup(t + 86_400, 0xcdf8, 5)]).expect_err("ahead");
    assert_eq!(
        error.to_string(),
        "cannot determine which backup is the latest: FFFFFFFF94B4DC80.snapshot is named for 2027-01-16T08:00:00Z, which is 24h0m0s in the future (it is now 2027-01-15T08:00:00Z): either this machine's clock is wrong, or the clock that named the backup was. Choose one by its name:\n  \
         --snapshot FFFFFFFF94B4DC80.snapshot   2027-01-16T08:00:00Z   revision 5   etcd cluster 000000000000cdf8   \
         stored 2027-01-16T08:00:05Z\n  \
         --snapshot FFFFFFFF94B62E3C.snapshot   2027-01-15T07:59:00Z   revision 9   etcd cluster 2cdf818194e3a8c3   \
         stored at an unknown time"
    );
}

#[test]
fn who_made_them_knows_which_one_is_the_latest() {
    let t = NOW.seconds;
    let own = backup(t - 60, 1, 50);
    let scope = Scope { own: [t - 60, t + 86_400, t - 3_600].map(|s| backup(s, 1, 0).snapshot).to_vec(), until: None };
    let rivals = |others: &[Candidate]| rivals(&own, &scope, others.to_vec());
    // One of its own with an earlier, wrong name; one that it no longer knows; one that is older in every respect.
    assert_eq!(rivals(&[backup(t + 86_400, 1, 40), backup(t + 90_000, 1, 30), backup(t - 90, 1, 60)]), []);
    // Of someone else: at a higher revision, or of another etcd cluster.
    let further = [backup(t, 1, 51), backup(t + 5, 2, 1)];
    assert_eq!(rivals(&further), further);
}

fn any_backups() -> impl Strategy<Value = Vec<Candidate>> {
    let seconds = prop_oneof![-200_000_i64..200, -200_000_i64..200_000];
    let one =
        (seconds, 1_u64..4, 1_i64..60).prop_map(|(at, cluster, revision)| backup(NOW.seconds + at, cluster, revision));
    prop::collection::vec(one, 0..25)
}

proptest! {
    #[test]
    fn what_is_chosen_is_contradicted_by_nothing_and_the_order_does_not_matter(mut backups in any_backups(), turn in any::<prop::sample::Index>()) {
        backups.sort_by_key(|backup| backup.snapshot.unix_seconds());
        backups.dedup_by_key(|backup| backup.snapshot);
        let newest = backups.last().cloned();
        let found = chosen(&backups);
        if !backups.is_empty() {
            let turn = turn.index(backups.len());
            backups.rotate_left(turn);
        }
        prop_assert_eq!(&chosen(&backups), &found);
        let Some(newest) = newest else { return Ok(()) };
        let ahead = newest.snapshot.unix_seconds() > NOW.seconds + 60;
        let further = backups.iter().any(|b| b.etcd_cluster_id == newest.etcd_cluster_id && b.revision > newest.revision);
        match found {
            Ok(found) => prop_assert!(!ahead && !further && found == Some(newest.snapshot.unix_seconds())),
            Err(error) => {
                prop_assert!(ahead || further);
                prop_assert!(error.candidates.len() <= SHOWN_MAX && error.candidates.contains(&newest));
                prop_assert_eq!(error.candidates.len() + error.others, backups.len());
                let named = backups.iter().filter(|b| b.snapshot.unix_seconds() <= NOW.seconds + 60);
                let sound = named.max_by_key(|b| b.snapshot.unix_seconds());
                prop_assert!(sound.is_none_or(|sound| error.candidates.contains(sound)));
                prop_assert!(error.candidates.is_sorted_by_key(|c| std::cmp::Reverse(c.snapshot.unix_seconds())));
            }
        }
    }
}
