//! Named connections: the file of them, which one is in use, and the commands that change it.

pub mod commands;
pub mod file;
pub mod layers;
pub mod model;
