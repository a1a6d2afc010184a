//! Settings in layers: a TOML file, then the environment, then flags. An unknown key in the file is an error; an unknown
//! variable is not, since it may belong to another program.
//!
//! A variable is `BACKSTAY_` and the key in capitals, with `__` between levels: `BACKSTAY_NATS__URL` is `url` in `[nats]`.
//! Its value is read as TOML if the key holds a number, a list or a boolean, and as plain text otherwise. The result of all
//! layers can be printed ([`print()`]), without secrets.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use crate::secrecy::HIDDEN;

mod environment;
pub mod keys;
mod overrides;

pub use environment::{PREFIX, Unknown, from_environment, is_of_a_service, unknown, variable, variables};
pub use overrides::Override;

/// Why settings were not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file is not TOML, or has an unknown key or a value of the wrong type.
    #[error("{path}: {cause}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, the key and the reason; never a value, which may be a secret.
        cause: String,
    },
    /// The value of one variable or flag does not fit.
    #[error("the setting {key}, from the environment or a flag: {cause}")]
    Override {
        /// The key, with dots between levels.
        key: String,
        /// Why; without the value.
        cause: String,
    },
    /// Each layer fits alone, but not together with the others.
    #[error("the settings contradict each other: {0}")]
    Layers(String),
    /// A value that can be read, but makes no sense.
    #[error("{place}{text}")]
    Nonsense {
        /// Where it is: what [`place`] returns.
        place: String,
        /// What is wrong.
        text: String,
    },
    /// They cannot be written as TOML.
    #[error("the settings cannot be shown: {0}")]
    Show(String),
    /// The file with a secret cannot be read.
    #[error("cannot read {what} from {path}: {cause}")]
    Secret {
        /// Which secret.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
}

/// Reads `file`, applies `overrides` in their order, and reads the result as `T`. Without a file, only the overrides count.
///
/// # Errors
/// [`SettingsError::Read`] if the file cannot be read; otherwise as [`parse`].
pub fn load<T: DeserializeOwned>(file: Option<&Path>, overrides: &[Override]) -> Result<T, SettingsError> {
    let text = match file {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|cause| SettingsError::Read { path: path.into(), cause })?
        }
        None => String::new(),
    };
    parse(file.unwrap_or(Path::new("(no file)")), &text, overrides)
}

/// The same from text that was read already; `path` is for errors.
///
/// # Errors
/// [`SettingsError::Parse`], [`SettingsError::Override`] or [`SettingsError::Layers`].
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str, overrides: &[Override]) -> Result<T, SettingsError> {
    let at = |cause: toml::de::Error| SettingsError::Parse { path: path.into(), cause: one_line(&cause, text) };
    if overrides.is_empty() {
        return toml::from_str(text).map_err(at);
    }
    let base: Table = toml::from_str(text).map_err(at)?;
    // A value may be meant as a number or as text (a password of digits): what fits by itself counts.
    let fits = |item, typed| layered::<T>(&base, std::slice::from_ref(item), |_| typed).is_ok();
    let typed: Vec<bool> = overrides.iter().map(|item| fits(item, true) || !fits(item, false)).collect();
    let first = match layered(&base, overrides, |i| typed[i]) {
        Ok(settings) => return Ok(settings),
        Err(first) => first,
    };
    // What is wrong in the file is said with its line, what is wrong in a layer above it with its name.
    toml::from_str::<T>(text).map_err(at)?;
    Err(culprit::<T>(&base, overrides).unwrap_or(first))
}

/// The override that does not even fit alone.
fn culprit<T: DeserializeOwned>(base: &Table, overrides: &[Override]) -> Option<SettingsError> {
    overrides.iter().find_map(|item| {
        let one = std::slice::from_ref(item);
        let error = layered::<T>(base, one, |_| true).err()?;
        let cause = layered::<T>(base, one, |_| false).is_err().then(|| match error {
            SettingsError::Layers(cause) => cause,
            other => other.to_string(),
        })?;
        Some(SettingsError::Override { key: item.path.join("."), cause })
    })
}

/// Where `key` (with dots between levels) is in a file: `PATH: line 3: `, or empty if another layer set it. For values that
/// can be read but make no sense.
pub fn place(file: Option<&Path>, overrides: &[Override], key: &str) -> String {
    let overridden = overrides.iter().any(|item| item.path.join(".") == key);
    let Some(file) = file.filter(|_| !overridden) else { return String::new() };
    let text = std::fs::read_to_string(file).unwrap_or_default();
    line_of(&text, key)
        .map_or_else(|| format!("{}: ", file.display()), |line| format!("{}: line {line}: ", file.display()))
}

fn line_of(text: &str, key: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let (mut table, mut levels) = (document.get_ref(), key.split('.').peekable());
    loop {
        let level = levels.next()?;
        let (name, value) = table.iter().find(|(name, _)| name.get_ref() == level)?;
        if levels.peek().is_none() {
            return Some(text[..name.span().start].matches('\n').count() + 1);
        }
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => return None,
        }
    }
}

/// Settings as TOML that can be read again; secrets are [`HIDDEN`].
///
/// # Errors
/// [`SettingsError::Show`].
pub fn print<T: Serialize>(settings: &T) -> Result<String, SettingsError> {
    toml::to_string(settings).map_err(|e| SettingsError::Show(e.to_string()))
}

/// For `serialize_with`: shows whether a secret is set, but not the secret.
pub mod hidden {
    use serde::Serializer;

    /// [`HIDDEN`](super::HIDDEN), or an empty text.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(secret: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if secret.is_empty() { "" } else { super::HIDDEN })
    }
}

/// For `serialize_with`: shows a URL, or several with commas between them, without users and passwords.
pub mod urls {
    use serde::Serializer;

    /// `nats://<hidden>@host`.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(urls: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::without_users(urls))
    }
}

/// `nats://user:password@host` as `nats://<hidden>@host`.
fn without_users(urls: &str) -> String {
    let shown = |url: &str| {
        let begin = url.find("://").map_or(0, |at| at + "://".len());
        match url.rfind('@').filter(|at| *at >= begin) {
            Some(at) => format!("{}{HIDDEN}{}", &url[..begin], &url[at..]),
            None => url.to_owned(),
        }
    };
    urls.split(',').map(|url| shown(url.trim())).collect::<Vec<_>>().join(",")
}

fn layered<T: DeserializeOwned>(
    base: &Table,
    overrides: &[Override],
    typed: impl Fn(usize) -> bool,
) -> Result<T, SettingsError> {
    let mut table = base.clone();
    for (i, item) in overrides.iter().enumerate() {
        set(&mut table, &item.path, value(&item.value, typed(i))).map_err(|key| {
            SettingsError::Layers(format!("{key} is a value in the file, but a table in {}", item.path.join(".")))
        })?;
    }
    T::deserialize(table).map_err(|e| SettingsError::Layers(without_values(&e.to_string().trim().replace('\n', " "))))
}

fn value(text: &str, typed: bool) -> Value {
    let parsed = if typed { toml::from_str::<Table>(&format!("v = {text}")).ok() } else { None };
    parsed.and_then(|mut t| t.remove("v")).unwrap_or_else(|| Value::String(text.to_owned()))
}

/// The text that a variable stands for where a setting is text: one in TOML's quotes is what stands between them.
pub fn text(value: &str) -> String {
    match self::value(value, true) {
        Value::String(text) => text,
        _ => value.to_owned(),
    }
}

fn set(table: &mut Table, path: &[String], value: Value) -> Result<(), String> {
    match path {
        [] => Ok(()),
        [key] => {
            table.insert(key.clone(), value);
            Ok(())
        }
        [key, rest @ ..] => {
            let inner = table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
            set(inner.as_table_mut().ok_or_else(|| key.clone())?, rest, value)
        }
    }
}

/// `line 3: backup.stall: invalid type …`, without the parser's excerpt of the line, which might show a secret.
fn one_line(error: &toml::de::Error, text: &str) -> String {
    let message = without_values(&error.message().trim().replace('\n', " "));
    let Some(span) = error.span() else { return message };
    let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
    match key_at(text, span.start).filter(|_| !message.starts_with("unknown field")) {
        Some(key) => format!("line {line}: {key}: {message}"),
        None => format!("line {line}: {message}"),
    }
}

/// The key, with dots between levels, of the value at this position of a text that is TOML.
fn key_at(text: &str, at: usize) -> Option<String> {
    fn inside(table: &DeTable<'_>, at: usize, path: &str) -> Option<String> {
        let (key, value) = table.iter().find(|(key, value)| {
            // The span of a table that has a heading is that heading.
            value.span().contains(&at) || key.span().contains(&at) || has(value.get_ref(), at)
        })?;
        let path = if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
        match value.get_ref() {
            DeValue::Table(inner) => inside(inner, at, &path).or(Some(path)),
            _ => Some(path),
        }
    }
    fn has(value: &DeValue<'_>, at: usize) -> bool {
        let DeValue::Table(table) = value else { return false };
        table
            .iter()
            .any(|(key, value)| value.span().contains(&at) || key.span().contains(&at) || has(value.get_ref(), at))
    }
    inside(DeTable::parse(text).ok()?.get_ref(), at, "")
}

/// Removes the value that the parser quotes, as in "invalid type: integer `123456`": it may be a password.
fn without_values(message: &str) -> String {
    let Some(start) = ["invalid type: ", "invalid value: "].iter().find_map(|p| message.find(p)) else {
        return message.to_owned();
    };
    let (head, tail) = message.split_at(start);
    let cut = |open: char| Some((tail.find(open)?, tail.rfind(", expected")?)).filter(|(from, to)| from < to);
    match cut('`').or_else(|| cut('"')) {
        Some((from, to)) => format!("{head}{}{}", tail[..from].trim_end(), &tail[to..]),
        None => message.to_owned(),
    }
}

/// A secret that is either in the settings or in a file of its own; a line end at its end is not part of it. `what`
/// names it in errors. `None` if there is neither.
///
/// # Errors
/// [`SettingsError::Secret`] if the file cannot be read.
pub fn secret(what: &'static str, inline: &str, file: Option<&Path>) -> Result<Option<String>, SettingsError> {
    match file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|cause| SettingsError::Secret {
                what,
                path: path.into(),
                cause,
            })?;
            Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
        }
        None if inline.is_empty() => Ok(None),
        None => Ok(Some(inline.to_owned())),
    }
}

/// For `serde(with)`: a duration as a Go duration in quotes, such as `"90s"` or `"1h30m"`.
pub mod duration {
    use serde::de::Visitor;
    use serde::{Deserializer, Serializer};
    use std::time::Duration;

    /// As Go writes it.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&backstay_protocol::duration::format(*duration))
    }

    struct Text;

    impl Visitor<'_> for Text {
        type Value = Duration;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a duration in quotes, such as \"90s\" or \"1h30m\"")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
            backstay_protocol::duration::parse(text).map_err(E::custom)
        }
    }

    /// As [`parse`](backstay_protocol::duration::parse) reads it.
    ///
    /// # Errors
    /// The value is not a text, or not a Go duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::time::Duration;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        name: String,
        count: u32,
        list: Vec<String>,
        inner: Inner,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        url: String,
        #[serde(deserialize_with = "duration::deserialize")]
        wait: Duration,
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<Override> {
        from_environment::<Sample>(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    fn read(text: &str, overrides: &[Override]) -> Result<Sample, String> {
        parse(Path::new("x.toml"), text, overrides).map_err(|e| e.to_string())
    }

    #[test]
    fn the_environment_beats_the_file_and_flags_beat_both() {
        let mut overrides = variables(&[
            ("BACKSTAY_NAME", "env"),
            ("BACKSTAY_INNER__URL", "nats://h:1"),
            ("BACKSTAY_TEST_KEEP", "x"),
            ("BACKSTAY_NATS_URL", "y"),
            ("BACKSTAY_LOG", "debug"),
            ("HOME", "/"),
        ]);
        overrides.push(Override::new("count", "7"));
        let sample = read("name = 'file'\ncount = 1\nlist = ['a']\n[inner]\nwait = '90s'", &overrides).expect("fits");
        assert_eq!((sample.name.as_str(), sample.count, sample.inner.url.as_str()), ("env", 7, "nats://h:1"));
        assert_eq!((sample.list, sample.inner.wait), (vec!["a".to_owned()], Duration::from_secs(90)));
    }

    #[test]
    fn a_text_that_looks_like_a_number_stays_a_text() {
        assert_eq!(read("", &variables(&[("BACKSTAY_NAME", "42")])).expect("text").name, "42");
        assert_eq!(read("", &variables(&[("BACKSTAY_LIST", "['x', 'y']")])).expect("list").list, ["x", "y"]);
    }

    #[test]
    fn a_text_of_digits_loads_beside_a_number_and_is_never_quoted() {
        let all = [
            ("BACKSTAY_NAME", "123456"),
            ("BACKSTAY_COUNT", "4"),
            ("BACKSTAY_INNER__URL", "true"),
            ("BACKSTAY_LIST", "['x']"),
        ];
        let sample = read("", &variables(&all)).expect("fits");
        assert_eq!((sample.name.as_str(), sample.count, sample.inner.url.as_str()), ("123456", 4, "true"));
        let error = read("name = 123456", &[]).expect_err("a number");
        assert!(error.contains("invalid type: integer, expected a string") && !error.contains("123456"), "{error}");
        let error = read("count = 'hunter2'", &[]).expect_err("a text");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn unknown_keys_are_errors_with_their_line() {
        let error = read("name = 'a'\ncuont = 3", &[]).expect_err("misspelt");
        assert!(error.starts_with("x.toml: line 2: unknown field `cuont`"), "{error}");
        let error = read("", &[Override::new("cuont", "3"), Override::new("name", "b")]).expect_err("misspelt");
        assert!(error.starts_with("the setting cuont, from the environment or a flag: unknown field"), "{error}");
        let variable = variables(&[("BACKSTAY_CUONT", "3"), ("BACKSTAY_NAME", "b")]);
        assert_eq!(variable, [Override::new("name", "b")], "it may be anybody's");
        let error = read("name = 'a'\n\ncuont = 3", &variables(&[("BACKSTAY_NAME", "b")])).expect_err("misspelt");
        assert!(error.starts_with("x.toml: line 3: unknown field `cuont`"), "{error}");
        let error = read("", &variables(&[("BACKSTAY_COUNT", "hunter2")])).expect_err("no number");
        assert!(error.contains("the setting count") && !error.contains("hunter2"), "{error}");
        assert!(read("name = 'a'", &[Override::new("name.x", "3")]).expect_err("a table").contains("name"));
    }

    #[test]
    fn a_value_of_another_type_is_named_by_its_key() {
        for (text, says) in [
            ("name = 5", "x.toml: line 1: name: invalid type: integer, expected a string"),
            ("count = 'hunter2'", "x.toml: line 1: count: invalid type: string, expected u32"),
            (
                "[inner]\n# five\nwait = 5",
                "x.toml: line 3: inner.wait: invalid type: integer, expected a duration in quotes",
            ),
            ("inner.wait = true", "x.toml: line 1: inner.wait: invalid type: boolean, expected a duration in quotes"),
            ("inner = { url = 'u', wait = '5' }", "x.toml: line 1: inner.wait: invalid duration"),
            ("count = 1\nlist = [\n 'a',\n 7]", "x.toml: line 4: list: invalid type: integer"),
            ("name = 'a'\n[inner]\nurl = ['u']", "x.toml: line 3: inner.url: invalid type: sequence"),
            ("inner = 'x'", "x.toml: line 1: inner: invalid type: string"),
            ("count = -1", "x.toml: line 1: count: invalid value: integer"),
        ] {
            let error = read(text, &[]).expect_err(text);
            assert!(error.starts_with(says) && !error.contains("hunter2"), "{error}");
            let other = if text.contains("inner") { "BACKSTAY_NAME" } else { "BACKSTAY_INNER__URL" };
            let beside = read(text, &variables(&[(other, "u")])).expect_err("as wrong beside a variable");
            assert_eq!(beside, error);
        }
    }

    #[test]
    fn a_key_is_found_wherever_it_stands() {
        let text = "a = 1\n# b\n[t]\nb = 2\n\n[t.u]\n'c' = [\n 3 ]\nd.e = 4\n";
        for (key, line) in [("a", Some(1)), ("t.b", Some(4)), ("t.u.c", Some(7)), ("t.u.d.e", Some(9)), ("b", None)] {
            assert_eq!(line_of(text, key), line, "{key}");
        }
        assert_eq!(place(None, &[], "a"), "");
        assert_eq!(place(Some(Path::new("x")), &[Override::new("a", "1")], "a"), "");
    }

    #[test]
    fn what_is_secret_is_not_printed() {
        assert_eq!(without_users("nats://u:p@ss@h:4222, h2:1"), "nats://<hidden>@h:4222,h2:1");
        assert_eq!(without_users("token@h:4222"), "<hidden>@h:4222");
    }
}
