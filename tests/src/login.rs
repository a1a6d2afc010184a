//! A user of NATS with its password.

use uuid::Uuid;

/// A user of NATS with its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: String,
}

impl Login {
    /// A user with a password that is made for this run.
    pub fn new(user: &str) -> Self {
        // nats-server reads a variable's value as it would read it in its file: a letter first keeps it a text.
        Self { user: user.to_owned(), password: format!("p{}", Uuid::new_v4().simple()) }
    }

    /// The settings of a daemon or of `backstayctl`, as variables.
    pub fn variables(&self) -> [(String, String); 2] {
        [("BACKSTAY_NATS__USER".into(), self.user.clone()), ("BACKSTAY_NATS__PASSWORD".into(), self.password.clone())]
    }
}
