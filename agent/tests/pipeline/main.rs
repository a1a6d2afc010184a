//! The agent's pipeline against an etcd that lies, and against a real one.
//!
//! - `fake_etcd`: a server that speaks just enough of etcd's protocol to say what it is told to;
//! - `streams`: whatever a stream may be, only a whole one becomes a backup;
//! - `attempts`: accepting, cancelling, reporting, and what a kill -9 leaves;
//! - `daemon`: the whole agent on a real nats-server, which comes and goes;
//! - `real_etcd`: the real thing.

mod attempts;
mod daemon;
mod fake_etcd;
mod real_etcd;
mod streams;
mod support;
