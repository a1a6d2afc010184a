//! Sizes, ages and durations as people read them: those of all programs.

pub use backstay_daemon::units::*;
