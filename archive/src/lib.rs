//! Bytes at rest: where backups are kept (stores), how they are sealed, and what describes them.
//!
//! - [`store`]: one trait, two stores (a folder, a bucket), one conformance suite;
//! - [`seal`]: zstd and age, for streams and for small secrets;
//! - [`manifest`]: what a backup is;
//! - [`writer`]: one backup from a source to a store, visible only once it is proven;
//! - [`reader`]: the way back;
//! - `restore` (a feature): the way back into a data folder of etcd's;
//! - [`catalog`]: what a store holds, and what unfinished attempts left in it;
//! - [`keys`]: those that were copied into a series;
//! - [`latest`]: which backup of a cluster is the latest, where that can be told;
//! - `merge` (of the same feature): several series become one;
//! - [`names`]: which UUID a cluster's name stands for;
//! - [`series`]: the newest backup of a cluster, and whether an etcd is the one that it is of;
//! - [`blocking`]: work that blocks, where it delays nobody.
//!
//! Nothing here knows etcd or NATS.

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
