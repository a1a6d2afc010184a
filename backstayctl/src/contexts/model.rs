//! The content of the file of named connections. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use backstay_daemon::nats::{NatsSettings, login};
use backstay_daemon::settings::{SettingsError, keys};
use backstay_protocol::validate::nearest;
use serde::{Deserialize, Serialize};

/// The keys of `[nats]` that are set, as text.
pub type Nats = BTreeMap<String, String>;

/// The keys of `[nats]` whose values are paths of files.
pub const PATHS: [&str; 6] = ["password_file", "credentials", "nkey", "ca", "cert", "key"];

/// The longest name, in bytes.
const NAME_MAX: usize = 100;

/// The file of named connections.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Contexts {
    /// The one that is used unless another one is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub contexts: BTreeMap<String, Context>,
}

/// A named connection.
#[derive(Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Context {
    pub nats: Nats,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("keys", &self.nats.keys()).finish_non_exhaustive()
    }
}

impl Contexts {
    /// The context of this name.
    ///
    /// # Errors
    /// There is none: in words, with those that there are.
    pub fn get(&self, name: &str) -> Result<&Context, String> {
        self.contexts.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            match (nearest(name, names.iter().copied()), names.is_empty()) {
                (Some(nearest), _) => format!("context {name:?} does not exist: did you mean {nearest:?}?"),
                (None, true) => format!("context {name:?} does not exist; no contexts are defined"),
                (None, false) => format!("context {name:?} does not exist; defined contexts: {}", names.join(", ")),
            }
        })
    }

    /// Whether it contains a secret, and not just the path of one.
    pub fn holds_secrets(&self) -> bool {
        self.contexts.values().any(Context::holds_secrets)
    }

    /// What is wrong in it, for whoever wrote the file by hand.
    pub fn fault(&self) -> Option<String> {
        let known: Vec<&str> = keys::of::<NatsSettings>().into_iter().filter_map(|key| key.first().copied()).collect();
        self.contexts.iter().find_map(|(name, context)| {
            let key = context.nats.keys().find(|key| !known.contains(&key.as_str()))?;
            let meant = nearest(key, known.iter().copied());
            let meant = meant.map(|meant| format!(": did you mean {meant:?}?")).unwrap_or_default();
            Some(format!("context {name:?}: unknown key {key:?} in nats{meant}"))
        })
    }
}

impl Context {
    fn holds_secrets(&self) -> bool {
        self.nats.contains_key("password") || self.nats.get("url").is_some_and(|url| login::is_in(url))
    }

    /// The URL of NATS, without user and password.
    pub fn shown_url(&self) -> String {
        self.nats.get("url").map(|url| login::without(url)).unwrap_or_default()
    }

    /// How it authenticates: the user, or a file. Never a secret.
    pub fn shown_login(&self) -> String {
        let said = |key: &str, word: &str| self.nats.get(key).map(|value| format!("{word} {value}"));
        let url = self.nats.get("url").filter(|url| login::is_in(url));
        said("user", "user")
            .or_else(|| said("credentials", "credentials"))
            .or_else(|| said("nkey", "nkey"))
            .or_else(|| url.map(|_| "in the URL".to_owned()))
            .unwrap_or_default()
    }

    /// Its settings.
    ///
    /// # Errors
    /// Its keys contradict each other.
    pub fn check(&self) -> Result<(), SettingsError> {
        settings(&self.nats).check(|_| String::new())
    }
}

/// The settings that keys stand for. Each value is taken as it is: quotes in a password belong to it.
pub fn settings(nats: &Nats) -> NatsSettings {
    let text = |key: &str| nats.get(key).cloned().unwrap_or_default();
    let path = |key: &str| nats.get(key).map(PathBuf::from);
    NatsSettings {
        url: nats.get("url").cloned().unwrap_or_else(|| NatsSettings::default().url),
        user: text("user"),
        password: text("password"),
        password_file: path("password_file"),
        credentials: path("credentials"),
        nkey: path("nkey"),
        ca: path("ca"),
        cert: path("cert"),
        key: path("key"),
    }
}

/// Checks the name of a context: it must be one word for a shell, and readable.
///
/// # Errors
/// In words, for whoever typed it.
pub fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-@:/".contains(c);
    match !text.is_empty() && text.len() <= NAME_MAX && !text.starts_with('-') && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "a context name must have 1 to {NAME_MAX} characters (letters, digits and . _ - @ : /) and must not begin with -"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn context(nats: &[(&str, &str)]) -> Context {
        Context { nats: nats.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect() }
    }

    #[test]
    fn a_context_is_shown_without_its_secrets() {
        let in_url = context(&[("url", "nats://ops:hunter2@h:4222")]);
        assert_eq!((in_url.shown_url().as_str(), in_url.shown_login().as_str()), ("nats://h:4222", "in the URL"));
        let by_user = context(&[("url", "nats://h"), ("user", "ops"), ("password", "hunter2")]);
        assert_eq!(by_user.shown_login(), "user ops");
        let contexts = Contexts { current: None, contexts: [("a".to_owned(), by_user.clone())].into() };
        assert!(contexts.holds_secrets() && !format!("{contexts:?} {by_user:?} {in_url:?}").contains("hunter2"));
        let by_file = context(&[("user", "ops"), ("password_file", "/p")]);
        assert!(!Contexts { current: None, contexts: [("a".to_owned(), by_file)].into() }.holds_secrets());
    }

    #[test]
    fn what_is_missing_or_misspelt_is_told_with_what_was_meant() {
        let contexts = |names: &[&str]| Contexts {
            current: None,
            contexts: names.iter().map(|name| ((*name).to_owned(), Context::default())).collect(),
        };
        let missing = |names: &[&str], name: &str| contexts(names).get(name).expect_err("missing");
        assert_eq!(
            missing(&["production"], "prodction"),
            r#"context "prodction" does not exist: did you mean "production"?"#
        );
        assert_eq!(missing(&["a", "b"], "x"), r#"context "x" does not exist; defined contexts: a, b"#);
        assert_eq!(missing(&[], "x"), r#"context "x" does not exist; no contexts are defined"#);
        let misspelt = Contexts { current: None, contexts: [("a".to_owned(), context(&[("usr", "x")]))].into() };
        let fault = misspelt.fault().expect("a fault");
        assert_eq!(fault, r#"context "a": unknown key "usr" in nats: did you mean "user"?"#);
    }

    #[test]
    fn names_are_words() {
        for good in ["prod", "ops@prod", "eu-west-1/prod.a:1"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for bad in ["", "a b", "-x", "a\u{1b}[2J", "ü", &"x".repeat(101)] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }
}
