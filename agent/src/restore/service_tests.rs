//! The service with real folders and commands in place of etcd, and without NATS.

use std::fs;
use std::path::Path;

use backstay_archive::seal::Identity;
use backstay_daemon::SystemClock;
use backstay_protocol::MachineId;
use backstay_protocol::bus::{EtcdAfter, RestoreStep};
use uuid::Uuid;

use super::*;
use crate::attempt::{Member, service};
use crate::etcd::EtcdSettings;
use crate::outbox::Outbox;
use crate::proof::settings::InspectionSettings;
use crate::restore::settings::ControlKind;

/// No test goes on for longer.
const STEPS: usize = 30;

fn id() -> RestoreId {
    RestoreId(Uuid::from_u128(1))
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// A service below `folder`; etcd is stopped and started by these commands, and does not answer.
fn service(folder: &Path, stop: &str, start: &str) -> Restores {
    let state = Arc::new(StateDir::open(folder.join("state")).expect("fresh"));
    let address = Address { cluster: "one".parse().expect("a name"), machine: MachineId(Uuid::from_u128(1)) };
    let settings = EtcdSettings { endpoints: vec!["http://127.0.0.1:1".into()], ..EtcdSettings::default() };
    let etcd = Etcd::new(settings).expect("usable");
    let identity = Arc::new(Identity::generate());
    let attempts = Arc::new(Attempts::new(service::AttemptDependencies {
        address: address.clone(),
        member: Member { etcd: etcd.clone(), inspection: InspectionSettings::off() },
        identity: Arc::clone(&identity),
        state: Arc::clone(&state),
        outbox: Arc::new(Outbox::open(state.file("outbox")).expect("fresh")),
        clock: Arc::new(SystemClock),
        s3_ca: None,
    }));
    let settings = RestoreSettings {
        control: Some(ControlKind::Commands),
        data_dir: Some(folder.join("etcd")),
        stop: words(stop),
        start: words(start),
        ..RestoreSettings::default()
    };
    let deps = RestoreDependencies { address, settings, etcd, identity, state, attempts, s3_ca: None };
    // One look at the old etcd is enough here.
    let mut service = Restores::open(deps).expect("readable");
    service.watcher.settle = Duration::ZERO;
    service
}

/// A journal of a restore that is at `step`, on disk.
fn journal(folder: &Path, goal: Goal, step: JournalStep) -> Journal {
    let folders = Folders::of(&folder.join("etcd"), id(), ".old").expect("there");
    let mut journal = Journal::new(id(), folders, true);
    (journal.goal, journal.step, journal.touched) = (goal, step, goal != Goal::Prepare);
    fs::create_dir_all(folder.join("state")).expect("writable");
    journal.save(&folder.join("state").join(JOURNAL)).expect("writable");
    journal
}

async fn act_to_the_end(service: &Restores) -> RestoreState {
    for _ in 0..STEPS {
        service.act(&CancellationToken::new()).await;
        if service.book().journal.as_ref().is_some_and(Journal::has_ended) {
            break;
        }
    }
    service.state().expect("there is one")
}

#[tokio::test]
async fn an_old_etcd_that_does_not_start_does_not_keep_its_machine_from_being_put_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = journal(folder.path(), Goal::PutBack, JournalStep::Returning);
    fs::create_dir_all(journal.folders.aside.join("member/snap")).expect("writable");
    fs::create_dir_all(&journal.folders.fresh).expect("writable");
    let service = service(folder.path(), "true", "ls /no-quorum-yet");
    let state = act_to_the_end(&service).await;
    assert_eq!(state.step(), RestoreStep::Returned);
    for part in ["the old data is back", "etcd does not start", "/no-quorum-yet"] {
        assert!(state.error.contains(part), "no {part:?} in {:?}", state.error);
    }
    assert_eq!(state.etcd(), EtcdAfter::Down);
    assert!(state.etcd_text.contains("/no-quorum-yet"), "{}", state.etcd_text);
    let seen = journal.folders.see();
    assert!(seen.live && !seen.aside && !seen.root, "{seen:?}");
}

#[tokio::test]
async fn an_old_etcd_that_only_seems_to_start_is_said_to_be_down_with_its_last_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = journal(folder.path(), Goal::PutBack, JournalStep::Returning);
    fs::create_dir_all(journal.folders.aside.join("member/snap")).expect("writable");
    fs::create_dir_all(&journal.folders.fresh).expect("writable");
    let start = folder.path().join("start");
    fs::write(&start, "echo 'panic: tocommit is out of range' >&2\n").expect("writable");
    let service = service(folder.path(), "true", &format!("sh {}", start.display()));
    let state = act_to_the_end(&service).await;
    assert_eq!((state.step(), state.etcd()), (RestoreStep::Returned, EtcdAfter::Down));
    assert!(state.etcd_text.contains("its last lines: panic: tocommit is out of range"), "{}", state.etcd_text);
    assert!(state.error.contains("the old data is back, but etcd is not running: "), "{}", state.error);
}

#[tokio::test]
async fn an_old_etcd_that_has_its_database_open_runs_though_it_does_not_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = journal(folder.path(), Goal::PutBack, JournalStep::Returning);
    let database = journal.folders.aside.join("member/snap/db");
    fs::create_dir_all(database.parent().expect("below")).expect("writable");
    let holder = fs::File::create(&database).expect("writable");
    let service = service(folder.path(), "true", "true");
    let mut state = service.state().expect("there is one");
    for _ in 0..STEPS {
        // What starts it is what opens it.
        if service.book().hands.started {
            let _ = holder.try_lock();
        }
        service.act(&CancellationToken::new()).await;
        state = service.state().expect("there is one");
    }
    assert_eq!((state.step(), state.etcd(), state.error.as_str()), (RestoreStep::Returned, EtcdAfter::Runs, ""));
}

#[tokio::test]
async fn an_etcd_that_fails_to_start_on_the_new_folder_is_quoted() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = journal(folder.path(), Goal::Switch, JournalStep::Starting);
    fs::create_dir_all(&journal.folders.live).expect("writable");
    let start = folder.path().join("start");
    fs::write(&start, "echo 'flag provided but not defined: -bogus' >&2\nexit 2\n").expect("writable");
    let service = service(folder.path(), "true", &format!("sh {}", start.display()));
    assert!(matches!(service.act(&CancellationToken::new()).await, Pause::UntilChanged));
    let error = service.state().expect("there is one").error;
    assert!(error.contains("exit status: 2") && error.contains("-bogus"), "{error}");
}

#[tokio::test]
async fn what_was_never_touched_is_said_to_be_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut journal = journal(folder.path(), Goal::Prepare, JournalStep::Ready);
    fs::create_dir_all(&journal.folders.live).expect("writable");
    fs::create_dir_all(&journal.folders.fresh).expect("writable");
    assert_eq!(journal.take(Goal::PutBack), Ok(true));
    journal.save(&folder.path().join("state").join(JOURNAL)).expect("writable");
    let state = act_to_the_end(&service(folder.path(), "false", "false")).await;
    assert_eq!((state.etcd(), state.left), (EtcdAfter::Untouched, Vec::new()));
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_stops_no_preparing_and_what_fills_the_disk_makes_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = journal(folder.path(), Goal::Prepare, JournalStep::Ready);
    fs::create_dir_all(&journal.folders.fresh).expect("writable");
    let service = service(folder.path(), "true", "true");
    // A folder in the journal's place is a disk that takes nothing, for whoever renames over it.
    let path = folder.path().join("state").join(JOURNAL);
    fs::remove_file(&path).expect("there");
    fs::create_dir_all(path.join("in the way")).expect("writable");
    let refused = service.go_on(Goal::Switch, RestoreCommand::default()).await.expect_err("not on disk");
    assert!(refused.text.contains("cannot be written"), "{}", refused.text);
    assert!(!service.book().cancel.is_cancelled() && journal.folders.see().root, "it goes on as before");
    let refused = service.go_on(Goal::PutBack, RestoreCommand::default()).await.expect_err("not on disk");
    assert!(refused.text.contains("cannot be written"), "{}", refused.text);
    assert!(!journal.folders.see().root, "what was prepared is still there");
    assert!(matches!(service.act(&CancellationToken::new()).await, Pause::UntilChanged), "it does not spin");
    fs::remove_dir_all(&path).expect("ours");
    service.go_on(Goal::PutBack, RestoreCommand::default()).await.expect("there is room");
    assert_eq!(act_to_the_end(&service).await.step(), RestoreStep::Returned);
}

#[tokio::test]
async fn what_etcd_has_run_on_is_kept_and_what_it_has_not_is_removed() {
    for ran in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut journal =
            journal(folder.path(), Goal::Switch, if ran { JournalStep::Switched } else { JournalStep::Moving });
        assert_eq!(journal.take(Goal::PutBack), Ok(true));
        journal.save(&folder.path().join("state").join(JOURNAL)).expect("writable");
        fs::create_dir_all(&journal.folders.aside).expect("writable");
        fs::create_dir_all(&journal.folders.root).expect("writable");
        fs::create_dir_all(&journal.folders.live).expect("writable");
        fs::write(journal.folders.live.join("acknowledged"), "a write").expect("writable");
        let service = service(folder.path(), "true", "true");
        let state = act_to_the_end(&service).await;
        assert_eq!(state.step(), RestoreStep::Returned);
        let put_back = folder.path().join("etcd.old.restored-and-put-back");
        assert_eq!(fs::read_to_string(put_back.join("acknowledged")).ok(), ran.then(|| "a write".to_owned()));
        assert_eq!(state.left, ran.then(|| put_back.display().to_string()).into_iter().collect::<Vec<_>>());
        // An agent that was started anew says the same.
        drop(service);
        let again = self::service(folder.path(), "true", "true");
        again.act(&CancellationToken::new()).await;
        assert_eq!(again.state().expect("there is one").left, state.left);
        let seen = journal.folders.see();
        assert!(seen.live && !seen.aside && !seen.root && !seen.rest, "{seen:?}");
    }
}

#[tokio::test]
async fn what_a_restore_leaves_is_told_without_what_it_removes_and_without_what_people_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = journal(folder.path(), Goal::Switch, JournalStep::Starting);
    for folder in [&journal.folders.live, &journal.folders.aside, &journal.folders.root] {
        fs::create_dir_all(folder).expect("writable");
    }
    let service = service(folder.path(), "true", "true");
    service.act(&CancellationToken::new()).await;
    assert_eq!(service.state().expect("there is one").step(), RestoreStep::Switched);
    service.go_on(Goal::Keep, RestoreCommand::default()).await.expect("it has switched");
    // The first answer that says that it has ended.
    let state = service.state().expect("there is one");
    let aside = vec![journal.folders.aside.display().to_string()];
    assert_eq!((state.step(), &state.left), (RestoreStep::Kept, &aside));
    for _ in 0..2 {
        service.act(&CancellationToken::new()).await;
    }
    assert!(!journal.folders.root.exists());
    assert_eq!(service.state().expect("there is one").left, aside);
    fs::remove_dir_all(&journal.folders.aside).expect("ours");
    assert!(matches!(service.act(&CancellationToken::new()).await, Pause::UntilChanged), "it looks no more");
    assert_eq!(service.state().expect("there is one").left, [] as [String; 0]);
}

#[tokio::test]
async fn a_name_that_is_taken_does_not_stop_putting_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = journal(folder.path(), Goal::PutBack, JournalStep::Returning);
    let taken = folder.path().join("etcd.old.unexpected");
    for folder in [&journal.folders.aside, &journal.folders.live, &journal.folders.fresh, &taken] {
        fs::create_dir_all(folder).expect("writable");
    }
    let service = service(folder.path(), "true", "true");
    assert_eq!(act_to_the_end(&service).await.step(), RestoreStep::Returned);
    assert!(taken.exists() && folder.path().join("etcd.old.unexpected.2").exists());
}

#[test]
fn the_new_cluster_is_unsettled_until_it_stays_or_is_gone() {
    use JournalStep::*;
    let after = [(Moving, true), (Switched, true), (Returning, true), (Returned, false), (Kept, false)];
    for (step, unsettled) in after {
        let folder = tempfile::tempdir().expect("a folder");
        let mut journal = journal(folder.path(), Goal::Switch, step);
        journal.new_cluster_id = 7;
        journal.save(&folder.path().join("state").join(JOURNAL)).expect("writable");
        let service = service(folder.path(), "true", "true");
        assert_eq!(service.unsettled_cluster(), unsettled.then_some(7), "{step:?}");
    }
}
