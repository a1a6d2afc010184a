//! Backups of `once` in a folder that the attacker can write: planted, copied, exchanged, and stripped of signatures. What
//! is asked for is what README says: `once --sign-key`, `restore --signer`.

use anyhow::{Context, Result, ensure};
use backstay_tests::terminal::Terminal;
use backstay_tests::{Etcd, EtcdOptions, Stand};

const CLUSTER: &str = "prod";

/// What the operator has: a signing key, a recovery key whose file names the signer, and two signed backups.
struct Operator {
    _stand: Stand,
    terminal: Terminal,
    etcd: String,
}

impl Operator {
    async fn with_two_backups() -> Result<Self> {
        let stand = Stand::builder().cluster(CLUSTER, 1).idle().start().await?;
        let terminal = Terminal::new(&stand)?;
        let etcd = stand.cluster(CLUSTER).etcd.members[0].client_url.clone();
        let operator = Self { _stand: stand, terminal, etcd };
        operator.terminal.silent("mkdir store").await?;
        operator.terminal.silent("age-keygen -o bare.key 2> age.log").await?;
        operator.terminal.silent("ssh-keygen -q -t ed25519 -N '' -C operator -f sign.key").await?;
        operator
            .terminal
            .silent("{ echo \"# signer: operator $(cat sign.key.pub)\"; cat bare.key; } > own.key")
            .await?;
        for _ in 0..2 {
            operator.back_up("--sign-key sign.key").await?;
        }
        Ok(operator)
    }

    /// Takes a backup, and returns its UUID's folder and its name without the suffix.
    async fn back_up(&self, flags: &str) -> Result<(String, String)> {
        self.back_up_to("store", &self.etcd, flags).await
    }

    async fn back_up_to(&self, store: &str, etcd: &str, flags: &str) -> Result<(String, String)> {
        let line = format!(
            "backstay-agent once --cluster {CLUSTER} --etcd {etcd} --store file://$PWD/{store} --recipient $(age-keygen -y \
             bare.key) {flags}"
        );
        let printed = self.succeeds(&line).await?;
        let url = printed.lines().find_map(|line| line.strip_prefix("stored ")).context("it says where")?;
        let mut parts = url.trim().trim_end_matches(".snapshot").rsplit('/');
        let (name, folder) = (parts.next().context("a name")?, parts.next().context("a folder")?);
        Ok((folder.to_owned(), name.to_owned()))
    }

    fn restore(which: &str, flags: &str) -> String {
        format!("rm -rf out; backstayctl restore --store file://$PWD/store {which} --data-dir out {flags}")
    }

    /// It must say these, and restore nothing.
    async fn refuses(&self, which: &str, flags: &str, parts: &[&str]) -> Result<()> {
        let error = self.terminal.refused(&Self::restore(which, flags)).await?;
        for part in parts {
            ensure!(error.contains(part), "no {part:?}: {error}");
        }
        self.terminal.silent("test ! -e out").await
    }

    async fn restores(&self, which: &str, flags: &str) -> Result<String> {
        self.succeeds(&Self::restore(which, flags)).await
    }

    /// Progress and notes on stderr are fine.
    async fn succeeds(&self, line: &str) -> Result<String> {
        let ended = self.terminal.run(line).await?;
        ensure!(ended.status.success(), "`{line}` ended with {}\n{}", ended.status, ended.stderr);
        Ok(ended.stdout)
    }
}

const SIGNED: &str = "--identity own.key";

#[tokio::test]
async fn ssh_keygen_verifies_what_once_signed() -> Result<()> {
    let operator = Operator::with_two_backups().await?;
    let verified = "echo \"operator $(cat sign.key.pub)\" > signers; for m in store/*-*/*.manifest.json; do ssh-keygen -Y \
                    verify -f signers -I operator -n backstay-manifest -s $m.sig < $m; done";
    let printed = operator.terminal.prints(verified).await?;
    ensure!(printed.matches("Good \"backstay-manifest\" signature for operator").count() == 2, "{printed}");
    let restored = operator.restores("--snapshot latest", SIGNED).await?;
    ensure!(restored.contains("signed     by operator (SHA256:"), "{restored}");
    let listed = operator.terminal.prints("backstayctl list --store file://$PWD/store --signer sign.key.pub").await?;
    ensure!(listed.matches("by operator").count() == 2, "{listed}");
    let listed = operator.terminal.prints("backstayctl list --store file://$PWD/store -o json").await?;
    ensure!(listed.contains("\"number\": 1") && listed.contains("\"number\": 2"), "{listed}");
    // Without anybody to trust the work goes on, and says so.
    let restored = operator.restores("--snapshot latest", "--identity bare.key").await?;
    ensure!(restored.contains("nobody vouches for who made it"), "{restored}");
    Ok(())
}

#[tokio::test]
async fn a_planted_backup_is_not_restored() -> Result<()> {
    let operator = Operator::with_two_backups().await?;
    // A database of the thief's own, sealed to the recipients that every manifest prints, under the cluster's UUID.
    let theirs = Etcd::start_with(EtcdOptions { members: 1, ..EtcdOptions::default() }).await?;
    let url = theirs.members[0].client_url.clone();
    let folder = operator.terminal.prints("basename store/*-*").await?;
    let (uuid, planted) =
        operator.back_up_to("store", &url, &format!("--cluster-uuid {} --new-cluster-id", folder.trim())).await?;
    let newest =
        ["cannot be used: nobody signed it", "The newest one that can be used:", "--snapshot ", "--allow-unsigned"];
    operator.refuses("--snapshot latest", SIGNED, &newest).await?;
    operator.refuses("--snapshot latest", "--identity bare.key --signer sign.key.pub", &newest).await?;
    let named = format!("--snapshot {planted}.snapshot");
    operator.refuses(&named, SIGNED, &["nobody signed it", "--allow-unsigned"]).await?;
    operator.restores(&named, &format!("{SIGNED} --allow-unsigned")).await?;

    // The same with a signature by the thief's own key, and with one of a genuine backup.
    let manifest = format!("store/{uuid}/{planted}.manifest.json");
    operator.terminal.silent("ssh-keygen -q -t ed25519 -N '' -f thief.key").await?;
    operator.terminal.run(&format!("ssh-keygen -Y sign -f thief.key -n backstay-manifest {manifest}")).await?;
    operator.refuses("--snapshot latest", SIGNED, &["a key that is not trusted here"]).await?;
    operator
        .terminal
        .silent(&format!(
            "cp $(ls store/{uuid}/*.sig | tail -1) {manifest}.sig.new && mv {manifest}.sig.new {manifest}.sig"
        ))
        .await?;
    operator.refuses("--snapshot latest", SIGNED, &["the content was changed after it was signed"]).await?;
    let listed = operator.terminal.prints("backstayctl list --store file://$PWD/store --signer sign.key.pub").await?;
    ensure!(listed.contains("BAD") && listed.matches("by operator").count() == 2, "{listed}");
    Ok(())
}

#[tokio::test]
async fn a_backup_that_is_not_encrypted_is_not_restored_with_a_key() -> Result<()> {
    let operator = Operator::with_two_backups().await?;
    let line = format!("backstay-agent once --cluster {CLUSTER} --etcd {} --store file://$PWD/store", operator.etcd);
    // Nobody does so by mistake.
    let error = operator.terminal.run(&line).await?.stderr;
    ensure!(error.contains("are encrypted, but neither --recipient"), "{error}");
    let line = format!("{line} --allow-unencrypted");
    operator.succeeds(&line).await?;
    let refused = ["is not encrypted, but a key was given", "--allow-unencrypted"];
    operator.refuses("--snapshot latest", "--identity bare.key", &refused).await?;
    operator.restores("--snapshot latest", "--identity bare.key --allow-unencrypted").await?;
    Ok(())
}

#[tokio::test]
async fn an_old_backup_under_a_new_name_is_not_restored() -> Result<()> {
    let operator = Operator::with_two_backups().await?;
    // FFFFFFFF9A99FBF6 stands for 2023: a name that is later than all.
    let copied = "cd store/*-*; old=$(ls *.snapshot | tail -1); old=${old%.snapshot}; for end in snapshot manifest.json \
                  manifest.json.sig; do cp $old.$end FFFFFFFF00000000.$end; done; ls *.snapshot";
    let listed = operator.terminal.prints(copied).await?;
    ensure!(listed.starts_with("FFFFFFFF00000000.snapshot"), "{listed}");
    for flags in [SIGNED, "--identity bare.key"] {
        operator.refuses("--snapshot latest", flags, &["describes another backup"]).await?;
        operator.refuses("--snapshot FFFFFFFF00000000.snapshot", flags, &["describes another backup"]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_manifest_that_was_changed_and_one_without_its_signature_are_not_used() -> Result<()> {
    let operator = Operator::with_two_backups().await?;
    let newest = operator.terminal.prints("ls store/*-*/*.manifest.json | head -1").await?;
    let newest = newest.trim();
    operator.terminal.silent(&format!("sed -i 's/\"trigger\": \"once\"/\"trigger\": \"manual\"/' {newest}")).await?;
    operator.refuses("--snapshot latest", SIGNED, &["the content was changed after it was signed"]).await?;
    operator.terminal.silent(&format!("rm {newest}.sig")).await?;
    operator.refuses("--snapshot latest", SIGNED, &["nobody signed it", "The newest one that can be used:"]).await
}

#[tokio::test]
async fn a_planted_folder_does_not_become_the_cluster() -> Result<()> {
    let operator = Operator::with_two_backups().await?;
    // The thief's own series under the same name, later, and the name's object points to it.
    operator.terminal.silent("mkdir theirs").await?;
    let (uuid, _) = operator.back_up_to("theirs", &operator.etcd, "").await?;
    operator.terminal.silent("cp -r theirs/*-* store/ && rm store/names/* && cp theirs/names/* store/names/").await?;
    let restored = operator.restores(&format!("--cluster {CLUSTER} --snapshot latest"), SIGNED).await?;
    ensure!(!restored.contains(&uuid) && restored.contains("signed     by operator"), "{restored}");
    // The next backup goes on with the operator's own series.
    let (own, _) = operator.back_up("--sign-key sign.key").await?;
    ensure!(own != uuid, "it went into the thief's folder");
    let listed = operator.terminal.prints("backstayctl list --store file://$PWD/store -o json").await?;
    ensure!(listed.contains("\"number\": 3"), "{listed}");
    Ok(())
}

#[tokio::test]
async fn a_key_file_that_cannot_be_used_is_named() -> Result<()> {
    let operator = Operator::with_two_backups().await?;
    operator
        .terminal
        .silent("ssh-keygen -q -t ed25519 -N secret -f locked.key; ssh-keygen -q -t ecdsa -N '' -f other.key")
        .await?;
    let once = format!("backstay-agent once --cluster {CLUSTER} --etcd {} --store file://$PWD/store", operator.etcd);
    for (key, part) in [
        ("locked.key", "protected by a passphrase"),
        ("other.key", "only Ed25519 keys are supported"),
        ("sign.key.pub", "not an OpenSSH private key"),
        ("/no/such", "No such file"),
    ] {
        let ended = operator.terminal.run(&format!("{once} --sign-key {key}")).await?;
        let is_told = ended.stderr.contains(&format!("--sign-key {key}: ")) && ended.stderr.contains(part);
        ensure!(!ended.status.success() && is_told, "{key}: {}", ended.stderr);
    }
    operator.terminal.silent("touch nobody").await?;
    let none = "--identity bare.key --signer nobody";
    operator.refuses("--snapshot latest", none, &["the signers in nobody cannot be used: it has no public key"]).await
}

#[tokio::test]
async fn a_key_that_is_replaced_hides_no_later_backup() -> Result<()> {
    let operator = Operator::with_two_backups().await?;
    operator.terminal.silent("ssh-keygen -q -t ed25519 -N '' -C next -f next.key").await?;
    let (uuid, name) = operator.back_up("--sign-key next.key --signer sign.key.pub").await?;
    let both = format!("{SIGNED} --signer next.key.pub");
    let restored = operator.restores("--snapshot latest", &both).await?;
    ensure!(restored.contains(&name) && restored.contains("signed     by next"), "{restored}");
    let manifest = operator.terminal.prints(&format!("cat store/{uuid}/{name}.manifest.json")).await?;
    ensure!(manifest.contains("\"number\": 3"), "it goes on where the old key ended: {manifest}");
    // Without being told of the old key the new one begins anew, and its backup is the latest all the same.
    operator.terminal.silent("ssh-keygen -q -t ed25519 -N '' -C third -f third.key").await?;
    let (_, name) = operator.back_up("--sign-key third.key").await?;
    let restored = operator.restores("--snapshot latest", &format!("{both} --signer third.key.pub")).await?;
    ensure!(restored.contains(&name) && restored.contains("signed     by third"), "{restored}");
    Ok(())
}

#[tokio::test]
async fn a_pipe_in_an_object_s_place_keeps_nobody_waiting() -> Result<()> {
    let operator = Operator::with_two_backups().await?;
    let newest = operator.terminal.prints("ls store/*-*/*.manifest.json.sig | head -1").await?;
    operator.terminal.silent(&format!("rm {0} && mkfifo {0}", newest.trim())).await?;
    operator.refuses("--snapshot latest", SIGNED, &["cannot be used", "The newest one that can be used:"]).await?;
    operator.terminal.silent("rm store/names/*.json && mkfifo store/names/prod.json").await?;
    operator.back_up("--sign-key sign.key").await?;
    Ok(())
}
