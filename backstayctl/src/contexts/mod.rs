//! Named connections: a file of them, which of them is in use, and the commands that change it.

pub mod commands;
pub mod file;
pub mod layers;
pub mod model;
