//! Lists of signers, and signatures that do not count.

use backstay_trust::{BadSignature, MANIFESTS, SignerError, Signers, SigningKey, Voucher};
use proptest::prelude::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

fn error(line: &str) -> SignerError {
    line.parse::<Signers>().expect_err("it is refused").error
}

#[test]
fn what_narrows_or_widens_trust_is_refused_where_it_is_not_supported() {
    for options in
        ["cert-authority", "valid-before=\"20300101\"", "namespaces=\"*\"", "namespaces=file", "namespaces=\"\""]
    {
        assert_eq!(error(&format!("us {options} {KEY}")), SignerError::Option(options.into()));
    }
    for name in ["*@example.org", "a,b", "!a"] {
        assert_eq!(error(&format!("{name} {KEY}")), SignerError::Name(name.into()));
    }
    assert_eq!(error("us"), SignerError::Incomplete);
    assert_eq!(error("us ssh-ed25519"), SignerError::Key(error_of("ssh-ed25519")));
    let second = format!("us {KEY}\n# a comment\n\n  them nonsense=\"a b\" {KEY}\n").parse::<Signers>();
    assert_eq!(second.expect_err("it is refused").line, 4);
}

#[test]
fn a_pub_file_is_a_list_of_one_and_a_file_of_another_kind_names_signers_in_comments() {
    let one: Signers = format!("{KEY} root@host\n").parse().expect("a .pub file");
    assert_eq!(one.iter().map(|signer| signer.name()).collect::<Vec<_>>(), ["root@host"]);
    let one: Signers = KEY.parse().expect("a .pub file without a comment");
    assert_eq!(one.iter().map(|signer| signer.name()).collect::<Vec<_>>(), ["unnamed"]);

    let signer = one.iter().next().expect("one");
    let text = format!("# created: today\n{}\n# public key: age1x\nAGE-SECRET-KEY-1X\n", signer.in_comment());
    assert_eq!(Signers::in_comments(&text).expect("comments"), one);
    assert_eq!(Signers::in_comments("# no signer\nAGE-SECRET-KEY-1X\n").expect("none"), Signers::default());
    assert_eq!(Signers::in_comments(&format!("\n# signer: a b {KEY}")).expect_err("an option").line, 2);
    for slip in ["#signer us", "# Signer: us", "# signers: us", "## SIGNER:us", "# key: "] {
        let error = Signers::in_comments(&format!("{slip} {KEY}")).expect_err(slip).error;
        assert_eq!(error, SignerError::Comment, "{slip}");
    }
    assert_eq!(Signers::in_comments(&format!("#  signer: us {KEY}")).expect("blanks").iter().count(), 1);
    assert_eq!(one.clone().and(one.clone()), one);
}

fn error_of(key: &str) -> String {
    match error(&format!("x {key}")) {
        SignerError::Key(text) => text,
        other => panic!("{other}"),
    }
}

#[test]
fn a_signature_counts_for_its_own_namespace_its_own_bytes_and_a_trusted_key_alone() {
    let (ours, theirs) = (SigningKey::generate("ours"), SigningKey::generate("theirs"));
    let us = ours.signer("us").expect("a name");
    let signers = Signers::from_iter([us.clone()]);
    let bad = |signers: &Signers, bytes: &[u8], signature: &str| match signers.check(MANIFESTS, bytes, Some(signature))
    {
        Voucher::Bad(why) => why,
        other => panic!("{other:?}"),
    };
    let signature = ours.sign(MANIFESTS, b"m");
    assert_eq!(signers.check(MANIFESTS, b"m", Some(&signature)), Voucher::Signed(us.clone()));
    assert_eq!(signers.check(MANIFESTS, b"m", None), Voucher::Unsigned);
    assert_eq!(bad(&signers, b"n", &signature), BadSignature::Mismatch("us".into()));
    assert_eq!(bad(&signers, b"m", &ours.sign("backstay-key", b"m")), BadSignature::Namespace("backstay-key".into()));
    let stranger = theirs.signer("x").expect("a name").fingerprint();
    assert_eq!(bad(&signers, b"m", &theirs.sign(MANIFESTS, b"m")), BadSignature::UnknownKey(stranger));
    let elsewhere = Signers::from_iter([us.only_for(&["backstay-key"])]);
    assert_eq!(bad(&elsewhere, b"m", &signature), BadSignature::NotForThis("us".into()));
    assert!(matches!(bad(&Signers::default(), b"m", &signature), BadSignature::UnknownKey(_)));
    assert!(matches!(bad(&signers, b"m", ""), BadSignature::Format(_)));
    assert!(matches!(bad(&signers, b"m", &signature[..100]), BadSignature::Format(_)));
}

#[test]
fn the_private_half_is_in_no_debug_text() {
    let key = SigningKey::generate("ours");
    let (text, debug) = (key.to_openssh(), format!("{key:?}"));
    assert!(text.lines().skip(1).all(|line| !debug.contains(line)), "{debug}");
    assert!(debug.contains(&key.signer("us").expect("a name").fingerprint()), "{debug}");
}

proptest! {
    #[test]
    fn a_list_is_read_as_it_was_written(names in prop::collection::vec("[a-z0-9@.:_-]{1,20}", 0..5), narrow in any::<bool>()) {
        let signers: Signers = names.iter().map(|name| {
            let signer = SigningKey::generate("").signer(name).expect("a good name");
            if narrow { signer.only_for(&[MANIFESTS, "backstay-key"]) } else { signer }
        }).collect();
        prop_assert_eq!(signers.to_string().parse::<Signers>().expect("our own text"), signers);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}", bytes in any::<Vec<u8>>()) {
        let _ = text.parse::<Signers>();
        let _ = SigningKey::from_openssh(&text);
        let signers: Signers = format!("us {KEY}").parse().expect("a list");
        prop_assert!(matches!(signers.check(MANIFESTS, &bytes, Some(&text)), Voucher::Bad(_)));
    }

    #[test]
    fn a_changed_signature_never_counts(at in 0_usize..200, bit in 0_u8..8) {
        let key = SigningKey::generate("us");
        let signers = Signers::from_iter([key.signer("us").expect("a name")]);
        let good = key.sign(MANIFESTS, b"m");
        let mut bytes = good.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        // White space, and bits that base64 ignores at its end, say nothing.
        if let Ok(changed) = String::from_utf8(bytes)
            && let Voucher::Signed(by) = signers.check(MANIFESTS, b"m", Some(&changed))
        {
            prop_assert_eq!(by.name(), "us");
            prop_assert!(matches!(signers.check(MANIFESTS, b"n", Some(&changed)), Voucher::Bad(_)));
        }
    }
}
