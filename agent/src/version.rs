//! The version of this agent.

/// The version in manifests and beats.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
