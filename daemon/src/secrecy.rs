//! Keeps the secrets of this process: in its memory, which contains passwords, keys and tokens, and in what it prints.

use std::borrow::Cow;
use std::io;
use std::ops::Range;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// What is shown in place of a secret.
pub const HIDDEN: &str = "<hidden>";

/// A crash writes no core file, and no other process of the same user can read this one's memory.
///
/// What protects is that the process is not dumpable. The limit is in addition, for people who look at `/proc/PID/limits`
/// and for systems whose kernel pipes cores to a program.
///
/// # Errors
/// The kernel refuses one of them.
pub fn no_core_file() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// How every secret key of age begins.
const AGE: &str = "AGE-SECRET-KEY-";
/// Characters of an age key that tell a key from a text about keys.
const AGE_MIN: usize = 8;
/// Characters of an nkey's seed; it begins with S.
const SEED: usize = 58;
/// Characters of a secret access key of AWS.
const AWS: usize = 40;
/// So often a random key of AWS at least changes between capitals, small letters and digits. Paths do so less often.
const AWS_CHANGES_MIN: usize = 10;

/// The text of a private key in PEM, as OpenSSH and OpenSSL write it, and a line from the middle of one of OpenSSH.
const PEM_BEGINS: &str = "-----BEGIN ";
const PEM_IS_PRIVATE: &str = "PRIVATE KEY";
const PEM_END: &str = "-----END ";
const OPENSSH: &str = "b3BlbnNzaC1rZXktdjE";

/// The text without what looks like a secret key of age, an nkey's seed, a secret access key of AWS, or a private key of
/// OpenSSH or TLS. Somebody may have given it in place of a file's name, and errors quote what was given.
pub fn without_secrets(text: &str) -> Cow<'_, str> {
    if let Some(Range { start, end }) = private_key(text) {
        return Cow::Owned(format!("{}{HIDDEN}{}", without_secrets(&text[..start]), without_secrets(&text[end..])));
    }
    let secrets: Vec<Range<usize>> =
        words(text).filter_map(|(at, word)| secret_in(word).map(|s| at + s.start..at + s.end)).collect();
    if secrets.is_empty() {
        return Cow::Borrowed(text);
    }
    let (mut shown, mut from) = (String::with_capacity(text.len()), 0);
    for secret in secrets {
        shown.push_str(&text[from..secret.start]);
        shown.push_str(HIDDEN);
        from = secret.end;
    }
    shown.push_str(&text[from..]);
    Cow::Owned(shown)
}

/// From the first private key in PEM to the end of the last, or of the text.
fn private_key(text: &str) -> Option<Range<usize>> {
    let start = text.match_indices(PEM_BEGINS).map(|(at, _)| at).find(|at| {
        let line = text[at + PEM_BEGINS.len()..].split("-----").next().unwrap_or_default();
        line.contains(PEM_IS_PRIVATE)
    })?;
    let end = text.rfind(PEM_END).filter(|end| *end > start).and_then(|end| {
        let dashes = text[end + PEM_END.len()..].find("-----")?;
        Some(end + PEM_END.len() + dashes + "-----".len())
    });
    Some(start..end.unwrap_or(text.len()))
}

/// The words of a text, and where each begins. What may stand in a path or in a key belongs to a word.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && !"+/_-.".contains(c)).map(move |piece| {
        let begin = at;
        at += piece.len();
        (begin, piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric() && !"+/_-".contains(c)))
    })
}

fn secret_in(word: &str) -> Option<Range<usize>> {
    if word.len() < AGE.len() + AGE_MIN {
        return None;
    }
    let openssh = word.starts_with(OPENSSH).then_some(0..word.len());
    age_key(word).or_else(|| seed(word)).or_else(|| aws_key(word)).or(openssh)
}

fn age_key(word: &str) -> Option<Range<usize>> {
    let start = word.to_ascii_uppercase().find(AGE)?;
    let key = &word[start..];
    let length = key.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(key.len());
    (length >= AGE.len() + AGE_MIN).then_some(start..start + length)
}

fn seed(word: &str) -> Option<Range<usize>> {
    let is_seed = |part: &str| {
        part.len() == SEED && part.starts_with('S') && part.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'2'..=b'7'))
    };
    let part = word.split(|c: char| !c.is_ascii_alphanumeric()).find(|part| is_seed(part))?;
    let start = word.find(part)?;
    Some(start..start + SEED)
}

fn aws_key(word: &str) -> Option<Range<usize>> {
    let start = if word.len() > AWS { word.len() - word.trim_start_matches('/').len() } else { 0 };
    let key = &word[start..];
    let class = |c: char| (c.is_ascii_uppercase(), c.is_ascii_lowercase(), c.is_ascii_digit());
    let classes: Vec<_> = key.chars().filter(char::is_ascii_alphanumeric).map(class).collect();
    let has_all =
        [(true, false, false), (false, true, false), (false, false, true)].iter().all(|c| classes.contains(c));
    let changes = classes.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let is_key = key.len() == AWS
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/'))
        && has_all
        && changes >= AWS_CHANGES_MIN;
    is_key.then_some(start..start + AWS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "AGE-SECRET-KEY-1QQPQ8K4N2JRZ3L9DYU0T5XW7VECSA6MHFG2PQ8K4N2JRZ3L9DYU0TABCDEF";
    const SEED_OF_USER: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    const AWS_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    #[test]
    fn a_secret_is_hidden_wherever_it_stands() {
        let lower = KEY.to_ascii_lowercase();
        for secret in [KEY, &lower, SEED_OF_USER, AWS_KEY] {
            for (before, after) in
                [("", ""), ("failed to read ", ": No such file"), ("\"", "\""), ("--key=", "."), ("/", "\n")]
            {
                let shown = without_secrets(&format!("{before}{secret}{after}")).into_owned();
                assert_eq!(shown, format!("{before}{HIDDEN}{after}"));
            }
        }
        let both = format!("{KEY} and {SEED_OF_USER}");
        assert_eq!(without_secrets(&both), "<hidden> and <hidden>");
        assert_eq!(without_secrets(&format!("/home/a/{KEY}: no")), "/home/a/<hidden>: no");
    }

    #[test]
    fn a_private_key_is_hidden_from_its_first_line_to_its_last() {
        let begin = "-----BEGIN OPENSSH PRIVATE KEY-----";
        let key = format!("{begin}\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU\nAAAEbm9uZQ\n-----END OPENSSH PRIVATE KEY-----");
        assert_eq!(without_secrets(&format!("--sign-key {key}: no such file")), "--sign-key <hidden>: no such file");
        assert_eq!(without_secrets(&key[..60]), "<hidden>", "cut off");
        assert_eq!(without_secrets(&format!("{key} and {SEED_OF_USER}")), "<hidden> and <hidden>");
        assert_eq!(without_secrets("b3BlbnNzaC1rZXktdjEAAAAABG5vbmU"), "<hidden>");
        let certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----";
        assert_eq!(without_secrets(certificate), certificate);
    }

    #[test]
    fn names_digests_and_texts_about_keys_are_shown() {
        for text in [
            "the key does not begin with AGE-SECRET-KEY-1",
            "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kudvzj9yqqyzzzz",
            "9a98e6760c4468ba7d3a5a4c9a0d4c399b3c3a2f1d9c2f10e3b0c44298fc1c14",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "/Users/Alice/Backups2026/prod/daily/etcd1",
            "/srv/Backups/prod/FFFFFFFF9A98E676.snapshot",
            "7d3a5a4c-9a0d-4c39-9b3c-3a2f1d9c2f10",
            "AKIAIOSFODNN7EXAMPLE",
        ] {
            assert_eq!(without_secrets(text), text);
        }
    }

    proptest! {
        #[test]
        fn a_key_among_any_words_is_never_shown(before in "\\PC{0,20}", after in "\\PC{0,20}") {
            let shown = without_secrets(&format!("{before} {SEED_OF_USER} {after}")).into_owned();
            prop_assert!(!shown.contains(SEED_OF_USER));
        }
    }
}
