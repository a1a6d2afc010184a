//! Proving a backup at rest: fetched, opened, inspected, and where asked, restored into a scratch folder and served by an
//! etcd of its own, whose answers are compared.
//!
//! Nothing is kept over a restart: the coordinator asks again and again, and an agent that does not know what it is asked
//! for begins.
//!
//! - [`boot`]: an etcd on the scratch folder; - [`verdict`]: what was seen and what it served, compared; - [`service`]: commands
//!   in, state out.

pub mod boot;
pub mod service;
pub mod settings;
pub mod verdict;

pub use service::Verifications;
pub use settings::VerifySettings;
