//! What we sign `ssh-keygen` verifies, and what it signs we verify.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use backstay_trust::{BadSignature, MANIFESTS, Signers, SigningKey, Voucher};

fn keygen(folder: &Path, arguments: &[&str], input: Option<&Path>) -> Output {
    let stdin = input.map_or_else(Stdio::null, |path| fs::File::open(path).expect("it was written").into());
    let mut command = Command::new("ssh-keygen");
    command.args(arguments).current_dir(folder).stdin(stdin).output().expect("ssh-keygen is installed (openssh-client)")
}

fn verify(folder: &Path, namespace: &str) -> Output {
    let arguments = ["-Y", "verify", "-f", "signers", "-I", "us", "-n", namespace, "-s", "m.sig"];
    keygen(folder, &arguments, Some(&folder.join("m")))
}

#[test]
fn ssh_keygen_verifies_what_we_sign() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = SigningKey::generate("us");
    let signer = key.signer("us").expect("a good name").only_for(&[MANIFESTS]);
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("it can be written");
    write("signers", &Signers::from_iter([signer]).to_string());
    write("m", "a manifest");
    write("m.sig", &key.sign(MANIFESTS, b"a manifest"));
    let good = verify(folder.path(), MANIFESTS);
    assert!(good.status.success(), "{good:?}");
    assert!(!verify(folder.path(), "file").status.success());
    write("m", "another manifest");
    assert!(!verify(folder.path(), MANIFESTS).status.success());
}

#[test]
fn we_verify_what_ssh_keygen_signs_with_a_key_that_we_can_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let made = keygen(at, &["-q", "-t", "ed25519", "-N", "", "-C", "a comment", "-f", "key"], None);
    assert!(made.status.success(), "{made:?}");
    fs::write(at.join("m"), "a manifest").expect("it can be written");
    let signed = keygen(at, &["-Y", "sign", "-f", "key", "-n", MANIFESTS, "m"], None);
    assert!(signed.status.success(), "{signed:?}");
    let read = |name: &str| fs::read_to_string(at.join(name)).expect("it was written");
    let signers: Signers = format!("# ours\n\nus {}", read("key.pub")).parse().expect("a list");
    let check = |bytes: &[u8]| signers.check(MANIFESTS, bytes, Some(&read("m.sig")));
    assert!(matches!(check(b"a manifest"), Voucher::Signed(by) if by.name() == "us"));
    assert_eq!(check(b"A manifest"), Voucher::Bad(BadSignature::Mismatch("us".into())));

    let key = SigningKey::from_openssh(&read("key")).expect("ssh-keygen made it");
    assert_eq!(Signers::from_iter([key.signer("us").expect("a name")]), signers);
    let again = key.sign(MANIFESTS, b"a manifest");
    assert_eq!(again, read("m.sig"), "Ed25519 signs the same bytes the same way");
}

#[test]
fn keys_of_other_kinds_or_with_a_passphrase_are_refused_and_say_why() {
    let folder = tempfile::tempdir().expect("a folder");
    for (arguments, why) in [
        (["-t", "ecdsa", "-N", "", "-f", "ecdsa"], "only Ed25519"),
        (["-t", "ed25519", "-N", "a passphrase", "-f", "locked"], "ssh-keygen -p"),
    ] {
        assert!(keygen(folder.path(), &[&["-q"], &arguments[..]].concat(), None).status.success());
        let text = fs::read_to_string(folder.path().join(arguments[5])).expect("it was written");
        let error = SigningKey::from_openssh(&text).expect_err("it is refused").to_string();
        assert!(error.contains(why), "{error}");
    }
    assert!(SigningKey::from_openssh("AGE-SECRET-KEY-1").is_err());
}
