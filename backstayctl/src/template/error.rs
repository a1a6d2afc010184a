//! Why a file is not a template.

use crate::files::FileError;
use crate::reader::Problem;

/// Why a file is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("invalid template {file}: {reason}")]
    Invalid { file: String, reason: String },
    /// A machine can be in one cluster only.
    #[error("machine {machine} belongs to cluster {owner:?}: remove it there first")]
    Taken { machine: String, owner: String },
}

impl TemplateError {
    pub(super) fn at(file: &str, problem: &Problem) -> Self {
        Self::Invalid { file: file.to_owned(), reason: problem.to_string() }
    }
}

impl From<FileError> for TemplateError {
    fn from(error: FileError) -> Self {
        Self::Invalid { file: error.file, reason: error.reason }
    }
}
