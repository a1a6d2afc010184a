//! One machine's part in the restore of its cluster.
//!
//! The coordinator says where a restore is to go, again and again, and this side goes there by itself:
//!
//! ```text
//!            PREPARE                 SWITCH                                       KEEP
//! (nothing) ─────────► Preparing ► Ready ─────► Stopping ► Moving ► Starting ► Switched ─────► Kept
//!                          │         │              │         │         │          │
//!                          └─────────┴── PUT BACK ──┴─────────┴─────────┴──────────┴► Returning ► Returned
//! ```
//!
//! Each step is in the [`journal`] on disk before it is taken, and each can be taken twice: what was moved is seen from
//! which of three folders are there (live, fresh, aside), never from memory. So a process that dies anywhere is followed
//! by one that goes on. A goal that was taken is never taken back to an earlier one, and after PUT BACK there is no other:
//! whatever comes late or twice, a machine ends with the new folder or with the old one.
//!
//! - [`journal`]: what is on disk, and the next action: a pure function of journal and folders;
//! - [`folders`]: where the three folders are, and moving them;
//! - [`control`]: stopping and starting etcd; [`observation`]: how it is then, and what it said last;
//! - [`life`]: whether that etcd still lives; [`words`]: its last words; both pure;
//! - [`prepare`]: from the store to a folder that etcd starts from;
//! - [`check`]: what etcd says of itself afterwards;
//! - [`member_identity`]: which member this machine has; [`keeper`]: keeps what etcd says of that;
//! - [`service`]: commands in, state out, and the task that acts.

pub mod check;
pub mod control;
pub mod folders;
pub mod journal;
pub mod keeper;
pub mod life;
pub mod member_identity;
pub mod observation;
pub mod prepare;
pub mod service;
pub mod settings;
pub mod words;

pub use service::Restores;
pub use settings::RestoreSettings;
