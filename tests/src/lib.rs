//! The stand: real parts for tests, each with its own ports of 127.0.0.1 and its own temporary folder,
//! gone when dropped.
//!
//! - [`Etcd`], [`Nats`], [`S3`]: one part each;
//! - [`Stand`]: a whole system of parts and of the workspace's own daemons;
//! - [`Users`]: the permissions that `deploy/nats` has, with passwords for one run;
//! - [`releases`]: which etcd and nats-server that is;
//! - [`loader`]: data like that of Kubernetes, from a seed;
//! - [`FakeClock`]: a wall clock that a test sets;
//! - [`Proxy`]: a wire that can be cut, stopped or slowed down;
//! - [`eventually`]: the one place that polls and sleeps.
//!
//! Set `BACKSTAY_TEST_KEEP=1` to keep the folders, and `BACKSTAY_TEST_S3_ENDPOINT` (with `_BUCKET`, `_REGION`,
//! `_ACCESS_KEY_ID`, `_SECRET_ACCESS_KEY`) to use another S3 endpoint than the stand's own. `BACKSTAY_TEST_ETCD` chooses
//! one of the releases of [`releases`], `BACKSTAY_TEST_ETCD_DIR` adds one.

pub mod clock;
pub mod daemon;
pub mod etcd;
pub mod folder;
pub mod http;
pub mod interrupt;
pub mod loader;
pub mod login;
pub mod nats;
pub mod permissions;
pub mod port;
pub mod process;
pub mod proxy;
pub mod pypi;
pub mod releases;
pub mod s3;
pub mod stand;
pub mod supervisor;
pub mod terminal;
mod wait;

pub use clock::FakeClock;
pub use daemon::Daemon;
pub use etcd::{Etcd, EtcdMember, EtcdOptions, LoneEtcd};
pub use folder::Folder;
pub use login::Login;
pub use nats::{Nats, NatsOptions};
pub use permissions::Users;
pub use port::{Port, free_port, on_free_ports};
pub use process::Process;
pub use proxy::{Proxy, Wire};
pub use s3::{Fault, Op, S3, S3Options};
pub use stand::{Output, Stand, StandBuilder};
pub use supervisor::{Sabotage, Supervisor};
pub use wait::eventually;
