//! What can be seen of the loop from inside: what it does ([`ring`]; `trace` and `words` write it for
//! others), where in the source that is ([`places`]), and what sessions there are ([`roster`]).
//!
//! The reactor writes both, and only the reactor; a service that shows them reads them. So whoever
//! wants to know asks the process itself, and no protocol has a line for it.

pub mod places;
pub mod ring;
pub mod roster;
pub(crate) mod trace;
pub(crate) mod words;

use crate::limits::InsideLimits;
use ring::Ring;
use roster::{Roster, Row};

/// All of it.
#[derive(Debug, Default)]
pub struct Inside {
    /// What the loop did.
    pub ring: Ring,
    /// What sessions there are.
    pub roster: Roster<Row>,
    /// How many may look.
    pub limits: InsideLimits,
}

impl Inside {
    /// Other limits, from now on.
    pub fn set_limits(&mut self, limits: InsideLimits) {
        self.ring.set(limits.ring_bytes, limits.ring_always);
        self.limits = limits;
    }
}
