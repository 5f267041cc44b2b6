//! How many of a number of places each client holds, so that none can take them all; and what waits,
//! the clients in turn.
//!
//! A client may hold as many as are free. So one alone gets half of the places, two get a third
//! each, and some are free however many come (the dynamic threshold of Choudhury and Hahne, 1998,
//! with a factor of one): a limit that needs no number of its own.

use std::collections::{BTreeMap, VecDeque};
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

/// What waits, in a line for each client, or whatever else `K` names: first come first served, and
/// the clients in turn, so that one with much does not keep out one with little.
#[derive(Debug)]
pub struct InTurn<T, K = Client> {
    /// No line is empty.
    lines: BTreeMap<K, VecDeque<T>>,
    /// The clients in the order in which they are served, each once.
    clients: VecDeque<K>,
}

impl<T, K> Default for InTurn<T, K> {
    fn default() -> Self {
        Self {
            lines: BTreeMap::new(),
            clients: VecDeque::new(),
        }
    }
}

impl<T, K: Copy + Ord> InTurn<T, K> {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// How much waits.
    pub fn len(&self) -> usize {
        self.lines.values().map(VecDeque::len).sum()
    }

    /// Puts it at the end of its client's line.
    pub fn push(&mut self, client: K, item: T) {
        let line = self.lines.entry(client).or_default();
        if line.is_empty() {
            self.clients.push_back(client);
        }
        line.push_back(item);
    }

    /// What [`InTurn::pop`] would take.
    pub fn front_mut(&mut self) -> Option<&mut T> {
        self.lines.get_mut(self.clients.front()?)?.front_mut()
    }

    /// Takes the next; its client comes after the others then.
    pub fn pop(&mut self) -> Option<(K, T)> {
        let client = self.clients.pop_front()?;
        let line = self.lines.get_mut(&client)?;
        let item = line.pop_front()?;
        match line.is_empty() {
            true => drop(self.lines.remove(&client)),
            false => self.clients.push_back(client),
        }
        Some((client, item))
    }

    /// All that waits, in no order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut T)> {
        let lines = self.lines.iter_mut();
        lines.flat_map(|(client, line)| line.iter_mut().map(|item| (*client, item)))
    }

    /// Keeps of one client's line what is to be kept.
    pub fn retain_of(&mut self, client: K, keep: impl FnMut(&mut T) -> bool) {
        let Some(line) = self.lines.get_mut(&client) else {
            return;
        };
        line.retain_mut(keep);
        if line.is_empty() {
            self.lines.remove(&client);
            self.clients.retain(|other| *other != client);
        }
    }

    /// Keeps of all lines what is to be kept.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        for line in self.lines.values_mut() {
            line.retain(&keep);
        }
        self.lines.retain(|_, line| !line.is_empty());
        self.clients
            .retain(|client| self.lines.contains_key(client));
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

    #[test]
    fn clients_are_served_in_turn_and_each_ones_first_come_first() {
        let mut waiting = InTurn::default();
        for (n, item) in [(1, 'a'), (1, 'b'), (1, 'c'), (2, 'd'), (3, 'e'), (2, 'f')] {
            waiting.push(client(n), item);
        }
        assert_eq!(waiting.front_mut(), Some(&mut 'a'));
        waiting.retain_of(client(3), |_| false);
        waiting.retain(|item| *item != 'b');
        assert_eq!(waiting.len(), 4);
        let order: String = std::iter::from_fn(|| waiting.pop().map(|(_, item)| item)).collect();
        assert_eq!(order, "adcf");
        assert!(waiting.is_empty() && waiting.lines.is_empty());
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
