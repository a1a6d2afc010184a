//! Proving a backup at rest: fetched, opened, inspected, and where asked, restored into a scratch folder and served by an
//! etcd of its own, whose answers are compared.
//!
//! Nothing is kept over a restart: the coordinator asks again and again, and an agent that does not know what it is asked
//! for begins.
//!
//! - [`boot`]: an etcd on the scratch folder; - [`judge`]: what was seen and what it served, compared; - [`desk`]: commands
//!   in, state out.

pub mod boot;
pub mod desk;
pub mod judge;
pub mod settings;

pub use desk::Verifications;
pub use settings::VerifySettings;
