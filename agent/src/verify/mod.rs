//! Verifying a stored backup: download, decrypt, inspect and, if requested, restore it into a temporary folder, start
//! an etcd on that and compare its answers.
//!
//! Nothing is kept over a restart: the coordinator repeats its command, and an agent that does not know the verification
//! begins it.
//!
//! - [`boot`]: an etcd on the temporary folder;
//! - [`verdict`]: compares what was inspected with what that etcd served;
//! - [`service`]: commands in, state out.

pub mod boot;
pub mod service;
pub mod settings;
pub mod verdict;

pub use service::Verifications;
pub use settings::VerifySettings;
