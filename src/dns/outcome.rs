//! How a question ended, and what two ends come to together.

use std::net::IpAddr;
use std::time::Duration;

use super::Failure;

/// How a question ended.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// At least one address.
    Found {
        addresses: Vec<IpAddr>,
        ttl: Duration,
    },
    /// The name has none, or nobody could say.
    Nothing(Nothing),
}

impl Outcome {
    /// What the answers for both families come to. A family of which nobody could say anything does
    /// not stand in the way of the other one, and may be back as soon as its failure is forgotten.
    pub(super) fn and(self, other: Outcome) -> Outcome {
        match (self, other) {
            (
                Outcome::Found { mut addresses, ttl },
                Outcome::Found {
                    addresses: more,
                    ttl: other,
                },
            ) => {
                addresses.extend(more);
                let ttl = ttl.min(other);
                Outcome::Found { addresses, ttl }
            }
            (Outcome::Found { addresses, ttl }, Outcome::Nothing(nothing))
            | (Outcome::Nothing(nothing), Outcome::Found { addresses, ttl }) => {
                let ttl = match nothing.failure.is_answer() {
                    true => ttl,
                    false => ttl.min(nothing.ttl),
                };
                Outcome::Found { addresses, ttl }
            }
            (Outcome::Nothing(nothing), Outcome::Nothing(other)) => {
                Outcome::Nothing(nothing.and(other))
            }
        }
    }
}

/// Why there is no address, and how long that holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nothing {
    pub(super) failure: Failure,
    pub(super) ttl: Duration,
}

impl Nothing {
    /// What two answers without an address come to: the first of the two that weighs most, for as
    /// long as both hold. A server's failure outweighs a "no", which may then be wrong; a name
    /// without addresses outweighs one that does not exist.
    pub(super) fn and(self, other: Nothing) -> Nothing {
        let weight = |nothing: &Nothing| match nothing.failure {
            Failure::NotFound => 0,
            Failure::NoAddress => 1,
            _ => 2,
        };
        let heavier = if weight(&other) > weight(&self) {
            other
        } else {
            self
        };
        Nothing {
            failure: heavier.failure,
            ttl: self.ttl.min(other.ttl),
        }
    }
}
