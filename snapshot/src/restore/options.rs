//! What a restore is to make.

use super::membership::NewMember;

/// How far the revision jumps unless told otherwise. Whoever watched the old cluster may have seen revisions that
/// the backup lacks: past the jump none of them can come again with other contents.
pub const DEFAULT_BUMP: u64 = 1_000_000_000;

/// What a restore makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The member that the folder is for: one of `members`.
    pub name: String,
    /// All members of the new cluster. Each of them is restored from the same backup with the same options.
    pub members: Vec<NewMember>,
    /// `--initial-cluster-token`: tells this cluster from others with the same URLs.
    pub token: String,
    /// By how much the revision jumps; `None` leaves it, and whoever watched the old cluster sees it go back.
    pub bump: Option<u64>,
    /// Marks everything up to the jump as compacted, so that a watch from before is told so and begins anew
    /// instead of waiting in silence. Nothing without `bump`.
    pub mark_compacted: bool,
    /// Removes alarms. A NOSPACE alarm otherwise comes back under the id of a member that is gone.
    pub remove_alarms: bool,
    /// Turns authentication off and removes its users and roles.
    pub remove_auth: bool,
    /// Writes the database anew and densely; takes the space of both until it is done.
    pub defragment: bool,
}

impl Options {
    /// Everything at its default.
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
