//! The version of this agent.

/// As manifests and beats carry it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
