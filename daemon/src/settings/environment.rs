//! The environment as a layer of settings: which variables are settings, which belong to others, and which are probably
//! misspelt.

use std::fmt;

use backstay_protocol::validate::nearest;
use serde::de::DeserializeOwned;

use super::keys;
use super::overrides::Override;
use crate::logs::{LEVEL_VARIABLE, LogFormat};

/// How the name of every variable of Backstay begins.
pub const PREFIX: &str = "BACKSTAY_";

/// Separates the levels of a key.
const LEVELS: &str = "__";

/// Variables that begin like settings but are not: the one of the command line, and those of tests.
const NOT_SETTINGS: [&str; 2] = ["BACKSTAY_NATS_URL", "BACKSTAY_TEST_"];

/// The name of the variable of a key, which is given level by level.
pub fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The settings of `T` that are in `variables`, ordered by key.
pub fn from_environment<T: DeserializeOwned>(variables: impl IntoIterator<Item = (String, String)>) -> Vec<Override> {
    let known = keys::of::<T>();
    let setting = |(name, value): (String, String)| match kind(&name, &value, &known) {
        Kind::Setting(path) => Some(Override { path, value }),
        Kind::Foreign | Kind::Unknown => None,
    };
    let mut found: Vec<Override> = variables.into_iter().filter_map(setting).collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// A variable that looks like a setting but is not. Displayed, it is a warning for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unknown {
    /// The name of the variable.
    pub name: String,
    /// The variable that was probably meant; `None` if none is similar.
    pub nearest: Option<String>,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ignoring the variable {}, which is not a setting", self.name)?;
        self.nearest.iter().try_for_each(|nearest| write!(f, ": did you mean {nearest}?"))
    }
}

/// The `variables` that look like settings of `T` but are not.
pub fn unknown<T: DeserializeOwned>(variables: impl IntoIterator<Item = (String, String)>) -> Vec<Unknown> {
    let known = keys::of::<T>();
    let names: Vec<String> = known.iter().map(|key| variable(key)).collect();
    let is_unknown = |(name, value): &(String, String)| kind(name, value, &known) == Kind::Unknown;
    let told = |(name, _): (String, String)| {
        // What all of them begin with makes none of them alike.
        let nearest = nearest(&name[PREFIX.len()..], names.iter().map(|name| &name[PREFIX.len()..]));
        Unknown { name, nearest: nearest.map(|nearest| format!("{PREFIX}{nearest}")) }
    };
    let mut found: Vec<Unknown> = variables.into_iter().filter(is_unknown).map(told).collect();
    found.sort();
    found
}

/// The variable of a key.
pub fn variable(key: &[&str]) -> String {
    format!("{PREFIX}{}", key.join(LEVELS).to_ascii_uppercase())
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Setting(Vec<String>),
    /// Not Backstay's, or not a setting.
    Foreign,
    Unknown,
}

fn kind(name: &str, value: &str, known: &[keys::Key]) -> Kind {
    let Some(key) = name.strip_prefix(PREFIX) else { return Kind::Foreign };
    if NOT_SETTINGS.iter().any(|n| name == *n || n.ends_with('_') && name.starts_with(n)) {
        return Kind::Foreign;
    }
    // It says how logs look, or what is logged; only the first is a setting.
    if name == LEVEL_VARIABLE && LogFormat::named(value).is_none() {
        return Kind::Foreign;
    }
    let path: Vec<String> = key.to_ascii_lowercase().split(LEVELS).map(str::to_owned).collect();
    // A setting that is known is one whatever it looks like.
    if known.contains(&path.iter().map(String::as_str).collect()) {
        return Kind::Setting(path);
    }
    if is_of_a_service(name, value) { Kind::Foreign } else { Kind::Unknown }
}

/// Whether Kubernetes sets this variable in the pods of a namespace that has a Service named `backstay` or `backstay-…`:
/// its address, in the form of Kubernetes or of Docker links.
pub fn is_of_a_service(name: &str, value: &str) -> bool {
    if name != name.to_ascii_uppercase() {
        return false;
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_url = value.contains("://");
    if name.ends_with("_SERVICE_HOST") || name.ends_with("_PORT") && is_url {
        return true;
    }
    if let Some((_, port)) = name.rsplit_once("_SERVICE_PORT") {
        return (port.is_empty() || port.starts_with('_')) && is_number(value);
    }
    // BACKSTAY_PORT_9479_TCP, and with _PROTO, _PORT or _ADDR behind it.
    let Some((_, port)) = name.rsplit_once("_PORT_") else { return false };
    let mut parts = port.split('_');
    let (number, protocol, what) = (parts.next(), parts.next(), parts.next());
    let is_port = number.is_some_and(is_number) && matches!(protocol, Some("TCP" | "UDP" | "SCTP"));
    is_port && parts.next().is_none() && matches!(what, None | Some("PROTO" | "PORT" | "ADDR"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::NatsSettings;
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Sample {
        name: String,
        port: u16,
        nats: NatsSettings,
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    fn told(name: &str, value: &str) -> Vec<String> {
        unknown::<Sample>([pair(name, value)]).iter().map(ToString::to_string).collect()
    }

    /// What a pod finds beside a Service `name` with the ports `metrics` (9479, TCP) and 53 (UDP).
    fn service(name: &str) -> Vec<(String, String)> {
        let base = name.to_ascii_uppercase().replace('-', "_");
        [
            ("SERVICE_HOST", "10.0.0.7"),
            ("SERVICE_PORT", "9479"),
            ("SERVICE_PORT_METRICS", "9479"),
            ("SERVICE_PORT_DNS_UDP", "53"),
            ("PORT", "tcp://10.0.0.7:9479"),
            ("PORT_9479_TCP", "tcp://10.0.0.7:9479"),
            ("PORT_9479_TCP_PROTO", "tcp"),
            ("PORT_9479_TCP_PORT", "9479"),
            ("PORT_9479_TCP_ADDR", "10.0.0.7"),
            ("PORT_53_UDP", "udp://10.0.0.7:53"),
            ("PORT_53_UDP_PROTO", "udp"),
            ("PORT_53_SCTP_ADDR", "fd00::7"),
        ]
        .map(|(end, value)| pair(&format!("{base}_{end}"), value))
        .to_vec()
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct NoPort {
        name: String,
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_is_passed_over_silently() {
        for name in ["backstay", "backstay-coordinator", "backstay-nats", "backstay--nats", "backstay-port-metrics"] {
            assert_eq!(unknown::<NoPort>(service(name)), [], "{name}");
            assert_eq!(from_environment::<NoPort>(service(name)), [], "{name}");
        }
    }

    #[test]
    fn a_setting_that_is_known_is_never_taken_for_a_service_s() {
        let found = from_environment::<Sample>([pair("BACKSTAY_PORT", "tcp://10.0.0.7:9479")]);
        assert_eq!(found, [Override::new("port", "tcp://10.0.0.7:9479")]);
    }

    #[test]
    fn what_is_misspelt_is_told_with_what_was_meant() {
        for (name, meant) in [
            ("BACKSTAY_NAEM", Some("BACKSTAY_NAME")),
            ("BACKSTAY_NATS_USER", Some("BACKSTAY_NATS__USER")),
            ("BACKSTAY_NATS__USR", Some("BACKSTAY_NATS__USER")),
            ("BACKSTAY_NAME__X", Some("BACKSTAY_NAME")),
            ("BACKSTAY_", None),
        ] {
            let text = told(name, "x").join("");
            assert!(text.starts_with(&format!("ignoring the variable {name}, which is not a setting")), "{text}");
            match meant {
                Some(meant) => assert!(text.ends_with(&format!(": did you mean {meant}?")), "{text}"),
                None => assert!(!text.contains("did you mean"), "{text}"),
            }
        }
    }

    #[test]
    fn what_only_looks_like_a_service_s_is_told_too() {
        for (name, value) in [
            ("BACKSTAY_HTTP_PORT", "9479"),
            ("BACKSTAY_HTTP_SERVICE_PORT", "nine"),
            ("BACKSTAY_PORT_X_TCP", "tcp://h:1"),
            ("BACKSTAY_PORT_1_TCP_NAME", "x"),
            ("BACKSTAY_PORT_1_TCP_PORT_X", "x"),
            ("BACKSTAY_service_host", "x"),
        ] {
            assert_eq!(told(name, value).len(), 1, "{name}");
        }
        for (name, value) in [
            ("BACKSTAY_TEST_KEEP", "1"),
            ("BACKSTAY_NATS_URL", "nats://h:1"),
            ("BACKSTAY_LOG", "debug"),
            ("BACKSTAY_NAME", "x"),
            ("HOME", "/"),
        ] {
            assert_eq!(told(name, value), [""; 0], "{name}");
        }
    }
}
