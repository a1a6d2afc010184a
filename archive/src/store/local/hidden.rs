//! The names of the hidden files beside an object; written and parsed only here.
//!
//! `.NAME.ATTEMPT.ID.partial` grows during an upload and becomes the object by a link. `.NAME.ID.new` is a small
//! object that is being created. `.NAME.INODE.owner` says which attempt uploaded the file with this inode. The owner
//! is written before the link, so it is known from the moment at which the object exists. A file that lost the race
//! for the name has another inode.

use std::fmt;

use backstay_protocol::AttemptId;
use uuid::Uuid;

/// What a hidden file is for. `name` is that of the object in the same folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hidden {
    /// The bytes of an upload. `id` distinguishes several uploads of one attempt.
    Partial { name: String, attempt: AttemptId, id: u32 },
    /// The bytes of a small object that is being created.
    New { name: String, id: u32 },
    /// The attempt that uploaded the file with this inode.
    Owner { name: String, inode: u64 },
}

impl Hidden {
    pub(super) fn partial(name: &str, attempt: AttemptId) -> Self {
        Self::Partial { name: name.to_owned(), attempt, id: fresh_id() }
    }

    pub(super) fn new(name: &str) -> Self {
        Self::New { name: name.to_owned(), id: fresh_id() }
    }

    pub(super) fn owner(name: &str, inode: u64) -> Self {
        Self::Owner { name: name.to_owned(), inode }
    }

    /// The object's name in the same folder.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Partial { name, .. } | Self::New { name, .. } | Self::Owner { name, .. } => name,
        }
    }

    /// `None` for every other file name.
    pub(super) fn parse(file: &str) -> Option<Self> {
        let (rest, kind) = file.strip_prefix('.')?.rsplit_once('.')?;
        let (rest, id) = rest.rsplit_once('.')?;
        let hidden = match kind {
            "partial" => {
                let (name, attempt) = rest.rsplit_once('.')?;
                Self::Partial { name: name.to_owned(), attempt: attempt.parse().ok()?, id: hex32(id)? }
            }
            "new" => Self::New { name: rest.to_owned(), id: hex32(id)? },
            "owner" => Self::Owner { name: rest.to_owned(), inode: u64::from_str_radix(id, 16).ok()? },
            _ => return None,
        };
        // It must be identical when written again: `+1f`, capitals or a missing zero are not ours.
        (!hidden.name().is_empty() && hidden.to_string() == file).then_some(hidden)
    }
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partial { name, attempt, id } => write!(f, ".{name}.{attempt}.{id:08x}.partial"),
            Self::New { name, id } => write!(f, ".{name}.{id:08x}.new"),
            Self::Owner { name, inode } => write!(f, ".{name}.{inode:x}.owner"),
        }
    }
}

fn hex32(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok()
}

fn fresh_id() -> u32 {
    Uuid::new_v4().as_fields().0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_round_trip(name in "[A-Za-z0-9][A-Za-z0-9._-]{0,40}", raw in 1u128.., id in any::<u32>(), inode in any::<u64>()) {
            let attempt = AttemptId(Uuid::from_u128(raw));
            for hidden in [
                Hidden::Partial { name: name.clone(), attempt, id },
                Hidden::New { name: name.clone(), id },
                Hidden::Owner { name: name.clone(), inode },
            ] {
                prop_assert_eq!(Hidden::parse(&hidden.to_string()), Some(hidden.clone()));
            }
        }

        #[test]
        fn any_text_is_ours_exactly_or_not_at_all(text in "\\PC{0,60}") {
            if let Some(hidden) = Hidden::parse(&text) {
                prop_assert_eq!(hidden.to_string(), text);
            }
        }
    }

    #[test]
    fn other_hidden_files_are_not_ours() {
        for text in [".nfs000001", ".", "..", ".x.partial", ".x.new", ".x.+1.owner", "x.00000001.new", ".x.1.new"] {
            assert_eq!(Hidden::parse(text), None, "{text}");
        }
    }
}
