//! Settings that contradict themselves, URLs, and what is never printed.

use super::*;

#[test]
fn a_shown_url_has_no_password() {
    let shown = |url: &str| NatsSettings { url: url.into(), ..NatsSettings::default() }.shown_url();
    assert_eq!(shown("nats://u:p@ss@h:4222, h2:1"), "nats://h:4222,h2:1");
    assert_eq!(shown("u:p@h:4222"), "h:4222");
    let settings =
        NatsSettings { url: "nats://u:hunter2@h".into(), password: "hunter2".into(), ..NatsSettings::default() };
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn what_the_server_says_each_time_is_told_once() {
    let mut log = ConnectionLog::new("nats://h".into());
    let denied = |subject: &str| {
        let text = format!("Permissions Violation for Publish to \"{subject}\"");
        Event::ServerError(ServerError::Other(text))
    };
    for n in 0..10 {
        log.note(&denied(&format!("_R_.abc.{n}")));
        log.note(&Event::ClientError(ClientError::Other("IO error".into())));
    }
    assert!(log.other.note(UNANSWERED).is_none() && log.away.note("IO error").is_none(), "both were told");
    assert!(log.other.note("something else").is_some());
}

async fn refused(change: impl FnOnce(&mut NatsSettings)) -> String {
    // Port 1 on the loopback: nothing listens there, and nothing is to get that far.
    let mut settings = NatsSettings { url: "nats://127.0.0.1:1".into(), ..NatsSettings::default() };
    change(&mut settings);
    let connected = connect(&settings, "test", Patience::Command).await;
    connected.err().map(|e| e.to_string()).expect("refused")
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_refused() {
    let two = refused(|s| (s.user, s.nkey) = ("u".into(), Some("/nowhere".into()))).await;
    assert!(two.contains("only one of them"), "{two}");
    assert!(refused(|s| s.cert = Some("c".into())).await.contains("cert and key"));
    assert!(refused(|s| s.nkey = Some("/nowhere".into())).await.contains("/nowhere"));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let wrong = |change: fn(&mut NatsSettings)| {
        let mut settings = NatsSettings::default();
        change(&mut settings);
        settings.check(|key| format!("x.toml: {key}: ")).expect_err("wrong").to_string()
    };
    assert_eq!(wrong(|s| s.key = Some("k".into())), "x.toml: nats.key: [nats] cert and key must be given together");
    let alone = wrong(|s| s.password_file = Some("p".into()));
    assert_eq!(alone, "x.toml: nats.password_file: [nats] a password can only be used with a user");
    let both = wrong(|s| (s.password, s.password_file) = ("p".into(), Some("p".into())));
    assert!(both.starts_with("x.toml: nats.password_file: [nats] password and password_file"), "{both}");
    let two = wrong(|s| (s.credentials, s.nkey) = (Some("c".into()), Some("n".into())));
    assert!(two.starts_with("x.toml: nats.nkey: [nats] user, credentials and nkey"), "{two}");
    let url = wrong(|s| (s.url, s.user) = ("nats://me:hunter2@h".into(), "u".into()));
    assert_eq!(url, "x.toml: nats.user: [nats] the URL contains a login, and user is another: use only one of them");
    let two = wrong(|s| s.url = "nats://me:hunter2@h,nats://you:hunter2@i".into());
    assert!(two.starts_with("x.toml: nats.url: ") && !two.contains("hunter2"), "{two}");
    let url = wrong(|s| s.url = "nats://h:1, http://me:hunter2@h".into());
    assert!(url.starts_with("x.toml: nats.url: ") && !url.contains("hunter2"), "{url}");
}

#[tokio::test]
async fn files_of_tls_are_looked_at_before_anybody_connects() {
    let folder = tempfile::tempdir().expect("a folder");
    let empty = folder.path().join("empty.crt");
    std::fs::write(&empty, "").expect("writable");
    let text = refused(|s| s.ca = Some("/nowhere/ca.crt".into())).await;
    assert!(text.starts_with("cannot use the NATS CA /nowhere/ca.crt: No such file"), "{text}");
    let text = refused(|s| (s.cert, s.key) = (Some(empty.clone()), Some(empty.clone()))).await;
    assert!(text.contains("client certificate") && text.contains("no certificate in PEM"), "{text}");
}

#[tokio::test]
async fn a_file_that_holds_no_seed_is_not_quoted() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("seed");
    std::fs::write(&file, "hunter2\n").expect("writable");
    let text = refused(|s| s.nkey = Some(file.clone())).await;
    assert!(text.contains("seed of a user") && !text.contains("hunter2"), "{text}");
    std::fs::write(&file, "SUhunter2\n").expect("writable");
    let text = refused(|s| s.nkey = Some(file.clone())).await;
    assert!(!text.contains("hunter2"), "{text}");
    std::fs::write(&file, "# mine\n  SUAB \nUAB\n").expect("writable");
    assert_eq!(seed(&file).expect("there"), "SUAB");
}
