//! Every NATS subject that Backstay uses, built and parsed in one place.
//!
//! ```
//! use backstay_protocol::subject::{Command, Subject};
//!
//! let text = "backstay.v1.agent.talos-default.27c16241-96bf-4f17-9579-ea3a6c4a3ca8.start";
//! let subject: Subject = text.parse()?;
//! assert!(matches!(&subject, Subject::Agent { command: Command::Start, .. }));
//! assert_eq!(subject.to_string(), text);
//! # Ok::<(), backstay_protocol::subject::SubjectError>(())
//! ```

use std::fmt;
use std::str::FromStr;

use crate::names::{ClusterName, MachineId};

/// The first tokens of every subject. The number rises when the meaning of subjects changes.
pub const ROOT: &str = "backstay.v1";

/// A subject that Backstay uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A request of a person or a program to the coordinator, with a reply.
    Api {
        /// What to do.
        verb: Verb,
        /// The plural of a type in lower case (see [`TypeDefinition::plural`](crate::types::TypeDefinition::plural)).
        plural: String,
    },
    /// A command of the coordinator to one agent, with a reply.
    Agent {
        /// The agent's cluster.
        cluster: ClusterName,
        /// The agent's machine.
        machine: MachineId,
        /// What to do.
        command: Command,
    },
    /// What became of an attempt; JetStream keeps it until the coordinator has recorded it.
    Report {
        /// The agent's cluster.
        cluster: ClusterName,
        /// The agent's machine.
        machine: MachineId,
    },
    /// "I am here"; may be lost.
    Beat {
        /// The agent's cluster.
        cluster: ClusterName,
        /// The agent's machine.
        machine: MachineId,
    },
    /// How far an attempt is; may be lost.
    Progress {
        /// The agent's cluster.
        cluster: ClusterName,
        /// The agent's machine.
        machine: MachineId,
    },
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$about])* $variant),* }

        impl $name {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The token in a subject.
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
    Verb {
        /// Read one resource, or all of a type: [`GetRequest`](crate::api::GetRequest).
        Get = "get",
        /// Create or change a resource: [`ApplyRequest`](crate::api::ApplyRequest).
        Apply = "apply",
        /// Remove a resource: [`DeleteRequest`](crate::api::DeleteRequest).
        Delete = "delete",
    }
);
words!(
    /// What a coordinator may ask of an agent.
    Command {
        /// Begin an attempt: [`StartBackup`](crate::bus::StartBackup).
        Start = "start",
        /// Stop an attempt: [`CancelBackup`](crate::bus::CancelBackup).
        Cancel = "cancel",
        /// Do this machine's part of a restore: [`RestoreCommand`](crate::bus::RestoreCommand).
        Restore = "restore",
        /// Verify a stored backup: [`VerifyCommand`](crate::bus::VerifyCommand).
        Verify = "verify",
    }
);

/// A text that is not one of Backstay's subjects. Holds its first 200 characters.
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

/// The wildcard subject of the beats of all agents.
pub fn all_beats() -> String {
    format!("{ROOT}.beat.*.*")
}

/// The wildcard subject of the progress messages of all agents.
pub fn all_progress() -> String {
    format!("{ROOT}.progress.*.*")
}

/// The wildcard subject of the reports of all agents: what the stream `BACKSTAY_REPORTS` keeps.
pub fn all_reports() -> String {
    format!("{ROOT}.report.*.*")
}

/// The wildcard subject of all commands to one agent.
pub fn agent_commands(cluster: &ClusterName, machine: MachineId) -> String {
    format!("{ROOT}.agent.{cluster}.{machine}.*")
}

/// The wildcard subject of everything that looks like a request, whatever its verb and type. The coordinator listens to
/// it to answer requests whose verb does not exist.
pub const API_REQUESTS: &str = "backstay.v1.api.*.*";

/// The verb in the subject of a request. The rest of the subject is not checked.
///
/// # Errors
/// There is no such verb.
///
/// # Examples
/// ```
/// use backstay_protocol::subject::{Verb, verb_of_api};
///
/// assert_eq!(verb_of_api("backstay.v1.api.get.clusters"), Ok(Verb::Get));
/// assert!(verb_of_api("backstay.v1.api.got.clusters").is_err());
/// ```
pub fn verb_of_api(subject: &str) -> Result<Verb, UnknownVerb> {
    let verb = subject.strip_prefix(ROOT).and_then(|rest| rest.strip_prefix(".api.")).unwrap_or(subject);
    let verb = verb.split('.').next().unwrap_or_default();
    verb.parse().map_err(|_| UnknownVerb(verb.chars().take(80).collect()))
}

/// A verb that does not exist. Holds its first 80 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVerb(String);

impl std::error::Error for UnknownVerb {}

impl fmt::Display for UnknownVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: Vec<&str> = Verb::ALL.iter().map(|verb| verb.as_str()).collect();
        write!(f, "there is no verb {:?}; there are: {}", self.0, known.join(", "))
    }
}

/// The wildcard subject of all requests with this verb, whatever the type.
pub fn api_requests(verb: Verb) -> String {
    format!("{ROOT}.api.{}.*", verb.as_str())
}

/// The coordinator receives answers on subjects below this one. No other client needs to read them, so NATS permissions can
/// forbid it.
pub const COORDINATOR_INBOX: &str = "_INBOX.backstay.coordinator";

/// One agent receives answers on subjects below this one.
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
