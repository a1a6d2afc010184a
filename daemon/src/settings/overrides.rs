//! A setting that takes precedence over the file's.

/// One setting from the environment or a flag: the path of its key, and its value as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The levels of its key, such as `nats` and `url`.
    pub path: Vec<String>,
    /// As it was given.
    pub value: String,
}

impl Override {
    /// `key` has dots between its levels, e.g. `nats.url`.
    pub fn new(key: &str, value: impl Into<String>) -> Self {
        Self { path: key.split('.').map(str::to_owned).collect(), value: value.into() }
    }
}
