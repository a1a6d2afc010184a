//! Every subject on the bus, built and parsed in one place.

use std::fmt;
use std::str::FromStr;

use crate::names::{ClusterName, MachineId};

/// The first tokens of every subject; the number rises when the meaning of subjects changes.
pub const ROOT: &str = "backstay.v1";

/// A subject that Backstay uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// Request/reply from people and programs: a verb, then a type's plural in lower case.
    Api { verb: Verb, plural: String },
    /// Request/reply to one agent.
    Agent { cluster: ClusterName, machine: MachineId, command: Command },
    /// What became of an attempt; kept by JetStream.
    Report { cluster: ClusterName, machine: MachineId },
    /// "I am here"; may be lost.
    Beat { cluster: ClusterName, machine: MachineId },
    /// How far an attempt is; may be lost.
    Progress { cluster: ClusterName, machine: MachineId },
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($variant),* }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl FromStr for $name {
            type Err = SubjectError;

            fn from_str(s: &str) -> Result<Self, SubjectError> {
                match s {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(SubjectError(s.to_owned())),
                }
            }
        }
    };
}

words!(
    /// What a program may ask of the coordinator.
    Verb { Get = "get", Apply = "apply", Delete = "delete" }
);
words!(
    /// What a coordinator may ask of an agent.
    Command { Start = "start", Cancel = "cancel", Restore = "restore", Verify = "verify" }
);

/// A text that is no subject of Backstay's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a subject of {ROOT}")]
pub struct SubjectError(String);

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api { verb, plural } => write!(f, "{ROOT}.api.{}.{plural}", verb.as_str()),
            Self::Agent { cluster, machine, command } => {
                write!(f, "{ROOT}.agent.{cluster}.{machine}.{}", command.as_str())
            }
            Self::Report { cluster, machine } => write!(f, "{ROOT}.report.{cluster}.{machine}"),
            Self::Beat { cluster, machine } => write!(f, "{ROOT}.beat.{cluster}.{machine}"),
            Self::Progress { cluster, machine } => write!(f, "{ROOT}.progress.{cluster}.{machine}"),
        }
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(s: &str) -> Result<Self, SubjectError> {
        let error = || SubjectError(s.chars().take(200).collect());
        let rest = s.strip_prefix(ROOT).and_then(|r| r.strip_prefix('.')).ok_or_else(error)?;
        let tokens: Vec<&str> = rest.split('.').collect();
        let cluster = |t: &str| t.parse().map_err(|_| error());
        let machine = |t: &str| t.parse().map_err(|_| error());
        match tokens[..] {
            ["api", verb, plural] if is_plural(plural) => {
                Ok(Self::Api { verb: verb.parse().map_err(|_| error())?, plural: plural.to_owned() })
            }
            ["agent", c, m, command] => Ok(Self::Agent {
                cluster: cluster(c)?,
                machine: machine(m)?,
                command: command.parse().map_err(|_| error())?,
            }),
            ["report", c, m] => Ok(Self::Report { cluster: cluster(c)?, machine: machine(m)? }),
            ["beat", c, m] => Ok(Self::Beat { cluster: cluster(c)?, machine: machine(m)? }),
            ["progress", c, m] => Ok(Self::Progress { cluster: cluster(c)?, machine: machine(m)? }),
            _ => Err(error()),
        }
    }
}

fn is_plural(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// Every beat of every agent.
pub fn all_beats() -> String {
    format!("{ROOT}.beat.*.*")
}

/// Every progress message of every agent.
pub fn all_progress() -> String {
    format!("{ROOT}.progress.*.*")
}

/// Every report of every agent: what the stream of reports keeps.
pub fn all_reports() -> String {
    format!("{ROOT}.report.*.*")
}

/// Every command to one agent.
pub fn agent_commands(cluster: &ClusterName, machine: MachineId) -> String {
    format!("{ROOT}.agent.{cluster}.{machine}.*")
}

/// Every request that looks like one, whatever its verb and type: for those that no verb takes.
pub const API_REQUESTS: &str = "backstay.v1.api.*.*";

/// The verb of a request; what its type is called does not matter here.
///
/// # Errors
/// Where there is no such verb.
pub fn verb_of_api(subject: &str) -> Result<Verb, UnknownVerb> {
    let verb = subject.strip_prefix(ROOT).and_then(|rest| rest.strip_prefix(".api.")).unwrap_or(subject);
    let verb = verb.split('.').next().unwrap_or_default();
    verb.parse().map_err(|_| UnknownVerb(verb.chars().take(80).collect()))
}

/// A verb that no request has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVerb(String);

impl std::error::Error for UnknownVerb {}

impl fmt::Display for UnknownVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: Vec<&str> = Verb::ALL.iter().map(|verb| verb.as_str()).collect();
        write!(f, "there is no verb {:?}; there are: {}", self.0, known.join(", "))
    }
}

/// Every request of one verb, whatever the type.
pub fn api_requests(verb: Verb) -> String {
    format!("{ROOT}.api.{}.*", verb.as_str())
}

/// Below this the coordinator hears answers. Nobody else needs to, so permissions can see to it that nobody does.
pub const COORDINATOR_INBOX: &str = "_INBOX.backstay.coordinator";

/// Below this one agent hears answers.
pub fn agent_inbox(cluster: &ClusterName, machine: MachineId) -> String {
    format!("_INBOX.backstay.agent.{cluster}.{machine}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn subjects() -> impl Strategy<Value = Subject> {
        let cluster =
            "[A-Za-z0-9][A-Za-z0-9_-]{0,20}".prop_map(|s| s.parse::<ClusterName>().expect("valid by construction"));
        let machine =
            any::<[u8; 16]>().prop_filter("nil", |r| r != &[0; 16]).prop_map(|r| MachineId(Uuid::from_bytes(r)));
        (cluster, machine, 0..8usize, "[a-z]{1,20}").prop_map(|(cluster, machine, kind, plural)| match kind {
            0 => Subject::Api { verb: Verb::Get, plural },
            1 => Subject::Api { verb: Verb::Apply, plural },
            2 => Subject::Agent { cluster, machine, command: Command::Start },
            3 => Subject::Agent { cluster, machine, command: Command::Cancel },
            4 => Subject::Agent { cluster, machine, command: Command::Restore },
            5 => Subject::Report { cluster, machine },
            6 => Subject::Beat { cluster, machine },
            _ => Subject::Progress { cluster, machine },
        })
    }

    #[test]
    fn a_request_for_no_verb_is_told_which_there_are() {
        assert!(API_REQUESTS.starts_with(ROOT) && api_requests(Verb::Get).starts_with(ROOT));
        assert_eq!(verb_of_api("backstay.v1.api.get.Any_Thing"), Ok(Verb::Get));
        let error = verb_of_api("backstay.v1.api.got.clusters").expect_err("no verb").to_string();
        assert!(error.starts_with("there is no verb \"got\"; there are: get, apply, delete"), "{error}");
    }

    proptest! {
        #[test]
        fn subjects_round_trip(subject in subjects()) {
            prop_assert_eq!(subject.to_string().parse::<Subject>()?, subject);
        }

        #[test]
        fn any_text_is_a_subject_or_an_error(text in "(backstay\\.v1\\.)?[a-z.*>]{0,60}") {
            if let Ok(subject) = text.parse::<Subject>() { prop_assert_eq!(subject.to_string(), text); }
        }
    }

    #[test]
    fn the_documented_example() {
        let subject = Subject::Api { verb: Verb::Get, plural: "etcdbackupoverallstatuses".into() };
        assert_eq!(subject.to_string(), "backstay.v1.api.get.etcdbackupoverallstatuses");
    }
}
