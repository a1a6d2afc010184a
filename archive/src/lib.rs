//! Stored backups: where they are kept (stores), how they are encrypted, and what describes them.
//!
//! - [`store`]: one trait and two stores, a folder and a bucket, with one conformance suite;
//! - [`seal`]: compression with zstd and encryption with age, for streams and for small secrets;
//! - [`manifest`]: what describes a backup;
//! - [`writer`]: makes one backup from a source in a store; it becomes visible only once it is verified;
//! - [`reader`]: reads a backup back and verifies it;
//! - `restore` (with the feature `restore`): restores a backup to an etcd data directory;
//! - [`catalog`]: what a store contains, and what unfinished attempts left in it;
//! - [`keys`]: the keys that were copied into a series;
//! - [`latest`]: which backup of a cluster is the latest, if that is certain;
//! - `merge` (with the same feature): merges several series into one;
//! - [`names`]: which UUID belongs to a cluster's name;
//! - [`series`]: the newest backup of a cluster, and whether an etcd is the one that was backed up;
//! - [`blocking`]: runs blocking work on threads where it delays nothing else.
//!
//! Nothing here connects to etcd or NATS.

#![warn(missing_docs, clippy::missing_errors_doc)]
#![deny(clippy::disallowed_macros)]

pub mod blocking;
pub mod catalog;
pub mod keys;
pub mod latest;
pub mod manifest;
#[cfg(feature = "restore")]
pub mod merge;
pub mod names;
pub mod reader;
#[cfg(feature = "restore")]
pub mod restore;
pub mod seal;
pub mod series;
pub mod store;
pub mod writer;

pub use backstay_snapshot::release;
pub use manifest::Manifest;
pub use store::{Key, Store, StoreError};
