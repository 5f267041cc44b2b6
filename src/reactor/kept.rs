//! Places that are kept for each listener, so that the clients of one cannot keep out those of all
//! others: as long as a listener has few sessions, the others leave it room for so many.
//!
//! What is asked at each accept is one number, how many of the kept places are not in use; it is
//! kept up to date as sessions come and go.

use crate::limits::Limits;

/// Kept places are no more than this part of all.
const PART_MAX: usize = 4;

/// The kept places of all listeners.
#[derive(Debug)]
pub(super) struct Kept {
    sessions_max: usize,
    wanted: usize,
    /// Places that each listener has to itself.
    each: usize,
    /// Those that are not in use, of all listeners.
    free: usize,
}

impl Kept {
    /// Of no listeners.
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            sessions_max: limits.sessions_max,
            wanted: limits.sessions_kept,
            each: 0,
            free: 0,
        }
    }

    /// These are the listeners, by the sessions that each has.
    pub(super) fn recount(&mut self, sessions: impl Iterator<Item = usize> + Clone) {
        let listeners = sessions.clone().count().max(1);
        self.each = self.wanted.min(self.sessions_max / PART_MAX / listeners);
        self.free = sessions.map(|active| self.free_of(active)).sum();
    }

    /// Of a listener that has so many sessions.
    fn free_of(&self, active: usize) -> usize {
        self.each.saturating_sub(active)
    }

    /// Places that a listener with so many sessions must leave to the others.
    pub(super) fn of_others(&self, active: usize) -> usize {
        self.free - self.free_of(active)
    }

    /// A listener that had so many sessions gets one more.
    pub(super) fn entered(&mut self, before: usize) {
        self.free -= usize::from(before < self.each);
    }

    /// A listener lost one, and has so many left.
    pub(super) fn left(&mut self, after: usize) {
        self.free += usize::from(after < self.each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kept(sessions_max: usize, active: &[usize]) -> Kept {
        let limits = Limits {
            sessions_max,
            sessions_kept: 16,
            ..Limits::default()
        };
        let mut kept = Kept::new(&limits);
        kept.recount(active.iter().copied());
        kept
    }

    #[test]
    fn a_listener_leaves_places_to_those_that_have_few_sessions() {
        let kept = kept(1000, &[980, 0, 7, 100]);
        assert_eq!(kept.of_others(980), 16 + 9);
        assert_eq!(kept.of_others(0), 9);
        assert_eq!(kept.of_others(7), 16);
    }

    #[test]
    fn the_only_listener_has_all_places_and_many_share_a_quarter() {
        assert_eq!(kept(1000, &[0]).of_others(0), 0);
        assert_eq!(kept(1000, &[0; 100]).of_others(0), 99 * 2);
        assert_eq!(kept(4, &[0; 2]).of_others(0), 0);
    }

    proptest! {
        #[test]
        fn what_is_kept_up_to_date_is_what_a_count_says(
            steps in proptest::collection::vec((0..5_usize, any::<bool>()), 0..300),
        ) {
            let mut active = [0; 5];
            let mut running = kept(100, &active);
            for (listener, comes) in steps {
                match comes {
                    true => {
                        running.entered(active[listener]);
                        active[listener] += 1;
                    }
                    false if active[listener] > 0 => {
                        active[listener] -= 1;
                        running.left(active[listener]);
                    }
                    false => {}
                }
                prop_assert_eq!(running.free, kept(100, &active).free);
            }
        }
    }
}
