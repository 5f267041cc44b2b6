//! The configuration: the TOML file, every default, every limit and time-out of the program.
//!
//! Rules:
//! - Parse, don't validate: what comes out needs no further check, what cannot be right is refused
//!   with its line and column.
//! - Every default stands in one place, the `Default` or `new` of its struct.
//! - Spans of time are `Duration`s; every other number has its unit, then its bound, at the end of
//!   its name.

mod kinds;
mod limits;
mod value;

use std::time::Duration;

pub use kinds::*;
pub use limits::*;
pub use value::*;

/// Everything that the program can be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Time for what is under way to finish after SIGTERM or SIGINT; what is left is cut.
    /// Key `drain_timeout`, default 10 s.
    pub drain_timeout: Duration,
    /// Table `[resolver]`.
    pub resolver: ResolverConfig,
    /// Table `[limits]`.
    pub limits: Limits,
    /// Each `[[listener]]`, in their order; never empty.
    pub listeners: Vec<ListenerConfig>,
}

/// One `[[listener]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerConfig {
    /// The name in logs and metrics. Key `name`, default the kind.
    pub name: String,
    /// Where it listens. Key `bind`, default the address of its kind.
    pub bind: Bind,
    /// What it serves. Key `kind`, and the keys of that kind.
    pub kind: Kind,
}
