//! What can be seen of the loop from inside: what it does ([`ring`]; `trace` and `words` write it for
//! others), where in the source that is ([`places`]), what sessions there are ([`roster`]); and what
//! a record showed of another process ([`replayed`]).
//!
//! The reactor writes both, and only the reactor; a service that shows them reads them. So whoever
//! wants to know asks the process itself, and no protocol has a line for it.

pub mod places;
pub mod replayed;
pub mod ring;
pub mod roster;
pub(crate) mod trace;
pub(crate) mod words;

use crate::limits::InsideLimits;
use replayed::Replayed;
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
    /// What is told of in the place of this process.
    pub replayed: Option<Box<Replayed>>,
}

impl Inside {
    /// From now on a record is told of, and no more of this process.
    pub fn show(&mut self, (ring, rows, replayed): (Ring, Vec<Row>, Replayed)) {
        self.ring = ring;
        self.roster.fix(rows);
        self.replayed = Some(Box::new(replayed));
    }

    /// Other limits, from now on.
    pub fn set_limits(&mut self, limits: InsideLimits) {
        self.ring.set(limits.ring_bytes, limits.ring_always);
        self.limits = limits;
    }
}
