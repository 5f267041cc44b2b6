//! How many of a number of places each client holds, so that none can take them all.
//!
//! A client may hold as many as are free. So one alone gets half of the places, two get a third
//! each, and some are free however many come (the dynamic threshold of Choudhury and Hahne, 1998,
//! with a factor of one): a limit that needs no number of its own.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Who holds places: an address that stands for one client, or `None` for all those without one.
pub type Client = Option<IpAddr>;

/// The places that are taken, by client.
#[derive(Debug, Default)]
pub struct Shares {
    taken: BTreeMap<Client, usize>,
    in_all: usize,
}

impl Shares {
    /// Whether this client may take one more of so many `places`.
    pub fn has_room(&self, client: Client, places: usize) -> bool {
        let free = places.saturating_sub(self.in_all);
        self.of(client) < free
    }

    /// Places that this client holds.
    pub fn of(&self, client: Client) -> usize {
        self.taken.get(&client).copied().unwrap_or(0)
    }

    /// The client takes one.
    pub fn enter(&mut self, client: Client) {
        *self.taken.entry(client).or_default() += 1;
        self.in_all += 1;
    }

    /// The client gives back one that it took.
    ///
    /// # Panics
    /// If it holds none.
    pub fn leave(&mut self, client: Client) {
        // Invariant: who leaves has entered.
        let taken = self.taken.get_mut(&client).expect("a place that was taken");
        *taken -= 1;
        if *taken == 0 {
            self.taken.remove(&client);
        }
        self.in_all -= 1;
    }

    /// Places that are taken.
    pub fn in_all(&self) -> usize {
        self.in_all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client(n: u8) -> Client {
        Some([192, 0, 2, n].into())
    }

    /// Takes as many as the client may have; how many those are.
    fn take_all(shares: &mut Shares, client: Client, places: usize) -> usize {
        while shares.has_room(client, places) {
            shares.enter(client);
        }
        shares.of(client)
    }

    #[test]
    fn one_client_gets_half_and_the_next_one_half_of_the_rest() {
        let mut shares = Shares::default();
        assert_eq!(take_all(&mut shares, client(1), 100), 50);
        assert_eq!(take_all(&mut shares, client(2), 100), 25);
        assert_eq!(take_all(&mut shares, None, 100), 13);
        for _ in 0..50 {
            shares.leave(client(1));
        }
        assert_eq!(take_all(&mut shares, client(2), 100), 44);
        assert_eq!(shares.in_all(), 57);
    }

    #[test]
    fn a_single_place_can_be_had() {
        let mut shares = Shares::default();
        assert_eq!(take_all(&mut shares, client(1), 1), 1);
        assert!(!shares.has_room(client(2), 1));
        assert!(!shares.has_room(client(2), 0));
    }

    proptest! {
        /// Whoever takes what it may, and however often: who holds nothing finds a place, as long
        /// as there are more places than clients.
        #[test]
        fn who_comes_new_finds_a_place(takers in proptest::collection::vec(0..8_u8, 0..400)) {
            let mut shares = Shares::default();
            for taker in takers {
                if shares.has_room(client(taker), 300) {
                    shares.enter(client(taker));
                }
            }
            prop_assert!(shares.has_room(client(9), 300));
        }
    }
}
