//! Health, readiness and metrics of the real daemons, their logs as programs read them, the settings
//! that they print, and the alert rules that come with them.

mod logs;
mod look;
mod memory;
mod metrics;
mod rules;
mod settings;
