//! Cluster templates: a file of Cluster, ControlPlane, Workers and Machine documents, and what becomes of it.

pub mod delete;
pub mod export;
pub mod model;
pub mod render;
pub mod shapes;
pub mod state;
pub mod sync;
mod unsaid;

use super::files::FileError;
use super::reader::Problem;

pub use model::Template;

/// Why a file is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("invalid template {file}: {reason}")]
    Invalid { file: String, reason: String },
    /// A machine can be in one cluster only.
    #[error("machine {machine} belongs to cluster {owner:?}: take it out there first")]
    Taken { machine: String, owner: String },
}

impl TemplateError {
    fn at(file: &str, problem: &Problem) -> Self {
        Self::Invalid { file: file.to_owned(), reason: problem.to_string() }
    }
}

impl From<FileError> for TemplateError {
    fn from(error: FileError) -> Self {
        Self::Invalid { file: error.file, reason: error.reason }
    }
}
