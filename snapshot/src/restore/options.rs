//! What a restore creates.

use super::membership::NewMember;

/// How far the revision is raised by default. Clients of the old cluster may have seen revisions that the backup does
/// not contain. Above the raised revision, no revision that they saw can come again with other data.
pub const DEFAULT_BUMP: u64 = 1_000_000_000;

/// What a restore creates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Name of the member that the directory is for: one of `members`.
    pub name: String,
    /// All members of the new cluster. Each is restored from the same backup with the same members, token and bump.
    pub members: Vec<NewMember>,
    /// The cluster token (`--initial-cluster-token`), from which the IDs are derived. It distinguishes this cluster
    /// from others with the same URLs.
    pub token: String,
    /// By how much the revision is raised (`--bump-revision`). `None` or 0 keeps it, and clients of the old cluster
    /// see it go back.
    pub bump: Option<u64>,
    /// Marks every revision up to the raised one as compacted (`--mark-compacted`). A watch from before then gets an
    /// error and starts again, instead of waiting in silence. No effect without `bump`.
    pub mark_compacted: bool,
    /// Removes alarms. Otherwise a NOSPACE alarm comes back under the ID of a member that no longer exists.
    pub remove_alarms: bool,
    /// Turns authentication off, and removes users and roles.
    pub remove_auth: bool,
    /// Rewrites the database without its free pages. Needs disk space for both until it is done.
    pub defragment: bool,
}

impl Options {
    /// Options with the default values: token `etcd-cluster`, bump [`DEFAULT_BUMP`], marked as compacted; nothing is
    /// removed or rewritten.
    pub fn new(name: &str, members: Vec<NewMember>) -> Self {
        Self {
            name: name.to_owned(),
            members,
            token: "etcd-cluster".to_owned(),
            bump: Some(DEFAULT_BUMP),
            mark_compacted: true,
            remove_alarms: false,
            remove_auth: false,
            defragment: false,
        }
    }
}
