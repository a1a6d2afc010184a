//! S3 configurations that are refused: the reason is S3's own, nothing is stored, and what was in force stays so.

use anyhow::{Context, Result, ensure};
use backstay_tests::{Stand, free_port};

use crate::refusals::reason;
use crate::terminal::Terminal;
use crate::world::{CLUSTER, back_up, configured, only_whole_backups, overall, resources, stand, start};

const KIND: &str = "EtcdBackupS3Configs";
const ADDRESS: &str = "default/etcd-backup-s3-conf";

/// Changes to the page's configuration, and what the reason begins with and goes on to say.
fn wrong<'a>(stand: &Stand, nobody: &'a str) -> Vec<(String, &'static str, &'a str)> {
    let good = stand.s3_config();
    let line = |key: &str, value: &str| -> String {
        let changed = |line: &str| match line.trim_start().starts_with(&format!("{key}:")) {
            true => format!("  {key}: {value}\n"),
            false => format!("{line}\n"),
        };
        good.lines().map(changed).collect()
    };
    let without = |key: &str| -> String {
        good.lines().filter(|l| !l.trim_start().starts_with(&format!("{key}:"))).map(|l| format!("{l}\n")).collect()
    };
    vec![
        (line("bucket", "nosuchbucket"), "failed to list objects in bucket \"nosuchbucket\": ", "NoSuchBucket"),
        (
            line("secretaccesskey", "wrong-secret"),
            "failed to list objects in bucket \"mybucket\": ",
            "SignatureDoesNotMatch",
        ),
        (line("accesskeyid", "wrong-id"), "failed to list objects in bucket \"mybucket\": ", "InvalidAccessKeyId"),
        (line("endpoint", nobody), "failed to list objects in bucket \"mybucket\": ", "refused"),
        (line("endpoint", nobody), "failed to list objects in bucket \"mybucket\": ", nobody),
        (line("endpoint", "127.0.0.1:9000"), "endpoint \"127.0.0.1:9000\" must begin with http:// or https://", ""),
        (line("secretaccesskey", "\"\""), "access key and secret key must be specified together", ""),
        (without("accesskeyid"), "access key and secret key must be specified together", ""),
        (line("bucket", "\"\""), "bucket must be specified", ""),
        (without("bucket"), "bucket must be specified", ""),
    ]
}

#[tokio::test]
async fn refused_before_anything_is_configured_nothing_is_stored() -> Result<()> {
    let stand = start(stand().cluster(CLUSTER, 1)).await?;
    let terminal = Terminal::new(&stand)?;
    let nobody = free_port()?;
    let nowhere = format!("http://{}", nobody.address());
    let wrong = wrong(&stand, &nowhere);
    for (number, (yaml, begins, says)) in (1..).zip(&wrong) {
        let reason = reason(&terminal, KIND, ADDRESS, yaml).await?;
        ensure!(reason.starts_with(begins) && reason.contains(says), "{begins}… {says}: {reason}");
        ensure!(!reason.contains("wrong-secret"), "the secret is quoted: {reason}");
        let status = overall(&stand).await?;
        assert_eq!(status["configurationattempt"], number, "{status}");
        assert_eq!(status["configurationerror"], "not initialized");
    }
    misspelt_is_refused(&stand, &terminal).await?;
    ensure!(resources(&stand, &["etcdbackups3config"]).await?.is_empty(), "a refused configuration was stored");
    ensure!(stand.s3.objects().await?.is_empty(), "a refused configuration left something in the bucket");

    stand.configure_s3().await?;
    let status = overall(&stand).await?;
    assert_eq!(status["configurationattempt"], wrong.len() + 1);
    assert_eq!(status["configurationerror"], "");
    Ok(())
}

/// What is not even a configuration is refused before it is tried.
async fn misspelt_is_refused(stand: &Stand, terminal: &Terminal) -> Result<()> {
    let before = overall(stand).await?["configurationattempt"].clone();
    let yaml = stand.s3_config().replace("accesskeyid:", "accessKeyID:");
    let reason = reason(terminal, KIND, ADDRESS, &yaml).await?;
    ensure!(reason.contains("accessKeyID") && reason.contains("did you mean \"accesskeyid\"?"), "{reason}");
    assert_eq!(overall(stand).await?["configurationattempt"], before);
    Ok(())
}

#[tokio::test]
async fn refused_later_what_is_in_force_stays_in_force() -> Result<()> {
    let stand = configured().await?;
    let terminal = Terminal::new(&stand)?;
    let show = "backstayctl get etcdbackups3config -o yaml";
    let before = terminal.prints(show).await?;
    let nobody = free_port()?;
    let nowhere = format!("http://{}", nobody.address());
    let wrong = wrong(&stand, &nowhere);
    for (yaml, begins, _) in &wrong {
        let reason = reason(&terminal, KIND, ADDRESS, yaml).await?;
        ensure!(reason.starts_with(begins), "{begins}: {reason}");
    }
    let status = overall(&stand).await?;
    assert_eq!(status["configurationattempt"], wrong.len() + 1, "the good one counts too");
    assert_eq!(status["configurationerror"], "");
    assert_eq!(terminal.prints(show).await?, before, "a refusal changed the configuration");
    back_up(&stand, CLUSTER).await?;
    assert_eq!(only_whole_backups(&stand).await?, 1);
    Ok(())
}

#[tokio::test]
async fn secrets_are_hidden_and_hidden_applied_back_keeps_them() -> Result<()> {
    let stand = configured().await?;
    let terminal = Terminal::new(&stand)?;
    let table = terminal.prints("backstayctl get etcdbackups3config").await?;
    let (endpoint, width) = (stand.s3.endpoint(), stand.s3.endpoint().len());
    assert_eq!(
        table,
        format!(
            "NAMESPACE   TYPE                 ID                    VERSION   BUCKET     REGION      {:width$}   ACCESS KEY ID\n\
             default     EtcdBackupS3Config   etcd-backup-s3-conf   1         mybucket   us-east-1   {endpoint}   access\n",
            "ENDPOINT",
        )
    );
    let command = "backstayctl get etcdbackups3config etcd-backup-s3-conf -o yaml > stored.yaml";
    terminal.silent(command).await?;
    let stored = std::fs::read_to_string(terminal.folder().join("stored.yaml")).context("it was written")?;
    ensure!(stored.contains("secretaccesskey: <hidden>") && stored.contains("sessiontoken: \"\""), "{stored}");
    ensure!(!stored.contains(stand.s3.secret_access_key()), "the secret is shown:\n{stored}");

    terminal.silent("backstayctl apply -f stored.yaml").await?;
    let again = terminal.prints("backstayctl get etcdbackups3config etcd-backup-s3-conf -o yaml").await?;
    assert_eq!(stored, again, "nothing changed");
    terminal.silent("sed 's/region: us-east-1/region: \"\"/' stored.yaml > changed.yaml").await?;
    terminal.silent("backstayctl apply -f changed.yaml").await?;
    back_up(&stand, CLUSTER).await?;
    Ok(())
}

#[tokio::test]
async fn a_prefix_keeps_everything_below_it() -> Result<()> {
    let stand =
        start(stand().cluster(CLUSTER, 1).coordinator_variable("BACKSTAY_STORAGE__PREFIX", "some/where")).await?;
    stand.configure_s3().await?;
    let backups = back_up(&stand, CLUSTER).await?;
    let keys: Vec<String> = stand.s3.objects().await?.into_keys().collect();
    assert!(keys.iter().all(|key| key.starts_with("some/where/")), "{keys:?}");
    let object = format!("some/where/{}", backups[0].key());
    assert!(keys.contains(&object), "{object} is not in {keys:?}");
    Ok(())
}
