//! Tokens: what a socket is registered with, and what an event brings back.
//!
//! A token carries the generation of its session, or of its socket, so that an event which was
//! already in the kernel's queue when that ended finds nobody, even if the index has a new user
//! (nginx calls these stale events).

use crate::service::Id;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A listening socket, by its number.
    Listener(u32),
    /// A socket of a datagram service, by its number.
    Datagram(u32),
    /// A socket of the resolver, by its number.
    Resolver(u32),
    /// The client's side of a session.
    Session(Id),
    /// A connection to an origin, whoever uses it: its place, and the number of its socket.
    Upstream(Id),
}

const INDEX_BITS: u32 = 24;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
const GENERATION_SHIFT: u32 = INDEX_BITS;
const KIND_SHIFT: u32 = 60;

/// How many sessions tokens can tell apart; `sessions_max` is kept below it.
pub(crate) const SESSIONS_MAX: usize = 1 << INDEX_BITS;

impl Token {
    /// Packs it: kind (4 bits), generation (32), index (24).
    pub(crate) fn pack(self) -> u64 {
        let (kind, generation, index) = match self {
            Token::Listener(index) => (0, 0, index),
            Token::Datagram(index) => (1, 0, index),
            Token::Resolver(index) => (2, 0, index),
            Token::Session(id) => (3, id.generation, id.index),
            Token::Upstream(id) => (4, id.generation, id.index),
        };
        debug_assert!(u64::from(index) <= INDEX_MASK);
        (kind << KIND_SHIFT) | (u64::from(generation) << GENERATION_SHIFT) | u64::from(index)
    }

    /// Unpacks it; `None` for what [`Token::pack`] never made.
    pub(crate) fn unpack(packed: u64) -> Option<Self> {
        let index = (packed & INDEX_MASK) as u32;
        let id = Id {
            index,
            generation: (packed >> GENERATION_SHIFT) as u32,
        };
        match packed >> KIND_SHIFT {
            0 => Some(Token::Listener(index)),
            1 => Some(Token::Datagram(index)),
            2 => Some(Token::Resolver(index)),
            3 => Some(Token::Session(id)),
            4 => Some(Token::Upstream(id)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn unpack_is_the_inverse_of_pack(index in 0u32..1 << INDEX_BITS, generation: u32) {
            let id = Id { index, generation };
            for token in [
                Token::Listener(index),
                Token::Datagram(index),
                Token::Resolver(index),
                Token::Session(id),
                Token::Upstream(id),
            ] {
                prop_assert_eq!(Token::unpack(token.pack()), Some(token));
            }
        }

        #[test]
        fn any_number_unpacks_or_is_refused(packed: u64) {
            if let Some(token) = Token::unpack(packed) {
                prop_assert!(Token::unpack(token.pack()) == Some(token));
            }
        }
    }
}
