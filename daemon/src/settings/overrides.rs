//! A setting that lies over the file's.

/// One setting from the environment or a flag: the path of its key, and its value as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    pub path: Vec<String>,
    pub value: String,
}

impl Override {
    /// `key` with dots between levels, e.g. `nats.url`.
    pub fn new(key: &str, value: impl Into<String>) -> Self {
        Self { path: key.split('.').map(str::to_owned).collect(), value: value.into() }
    }
}
