//! Tests of key texts and small secrets.

use proptest::prelude::*;

use super::*;

#[test]
fn a_key_file_reads_back_and_looks_like_age_keygen_s() {
    let identity = Identity::generate();
    let file = identity_file(&identity, "created: 2026-11-22T10:00:00Z");
    let lines: Vec<_> = file.lines().collect();
    assert_eq!(lines[0], "# created: 2026-11-22T10:00:00Z");
    assert_eq!(lines[1], format!("# public key: {}", identity.to_public()));
    assert!(lines[2].starts_with("AGE-SECRET-KEY-1"), "the third line is the key");
    assert_eq!(lines.len(), 3);
    let read = parse_identity(&file).expect("our own file");
    assert_eq!(read.to_public().to_string(), identity.to_public().to_string());
    assert!(identity_file(&identity, "").starts_with("# public key: age1"));
}

#[test]
fn errors_never_quote_a_secret() {
    let identity = Identity::generate();
    let file = identity_file(&identity, "");
    let secret = file.lines().last().expect("the key").to_owned();
    let broken = format!("{}QQQQ", &secret[..secret.len() - 4]);
    let cases = [
        broken.clone(),
        secret.to_lowercase(),
        format!("{secret}\n{secret}"),
        format!("x{secret}"),
        secret[..40].to_owned(),
    ];
    for given in cases {
        let error = parse_identity(&given).err().expect("no key");
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(!text.to_uppercase().contains(&secret[16..36]), "{text}");
        }
    }
    for given in [secret.clone(), broken, secret.to_lowercase(), format!("key={secret}")] {
        let error = parse_recipient(&given).expect_err("no recipient");
        assert!(!format!("{error} {error:?}").to_uppercase().contains(&secret[16..36]));
    }
}

#[test]
fn recipients_are_read_and_errors_say_what_was_given() {
    let public = Identity::generate().to_public().to_string();
    assert_eq!(parse_recipient(&format!(" {public}\n")).expect("good").to_string(), public);
    let error = parse_recipient("age1nonsense").expect_err("bad").to_string();
    assert!(error.contains("age1nonsense"), "{error}");
    assert!(matches!(parse_identity("# only a comment\n"), Err(SealError::Identity(_))));
}

#[test]
fn only_recipients_open_and_sizes_are_bounded() {
    let (ours, other) = (Identity::generate(), Identity::generate());
    let both = [ours.to_public(), other.to_public()];
    let sealed = seal_bytes(&both, b"secret").expect("seals");
    assert_eq!(&**open_bytes(&ours, &sealed).expect("opens"), b"secret");
    assert_eq!(&**open_bytes(&other, &sealed).expect("opens"), b"secret");
    assert!(matches!(open_bytes(&Identity::generate(), &sealed), Err(SealError::Decrypt(_))));
    assert!(matches!(seal_bytes(&[], b"secret"), Err(SealError::NoRecipients)));
    let fits = seal_bytes(&both, &vec![7; SECRET_MAX]).expect("seals");
    assert_eq!(open_bytes(&ours, &fits).expect("just fits").len(), SECRET_MAX);
    let large = seal_bytes(&both, &vec![7; SECRET_MAX + 1]).expect("seals");
    assert!(matches!(open_bytes(&ours, &large), Err(SealError::TooLarge)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_flipped_bit_never_opens(plain in prop::collection::vec(any::<u8>(), 0..2000), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let identity = Identity::generate();
        let mut sealed = seal_bytes(&[identity.to_public()], &plain)?;
        prop_assert_eq!(&**open_bytes(&identity, &sealed)?, &plain[..]);
        let at = at.index(sealed.len());
        sealed[at] ^= 1 << bit;
        prop_assert!(open_bytes(&identity, &sealed).is_err());
    }

    #[test]
    fn any_text_is_a_key_or_an_error(text in ".{0,200}") {
        let _ = parse_identity(&text);
        let _ = parse_recipient(&text);
    }
}
