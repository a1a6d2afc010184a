//! Cluster templates: a file of Cluster, ControlPlane, Workers and Machine documents, and what is done with it.

pub mod delete;
mod error;
pub mod export;
pub mod model;
pub mod render;
pub mod shapes;
pub mod state;
pub mod sync;
mod unsaid;

pub use error::TemplateError;
pub use model::Template;
