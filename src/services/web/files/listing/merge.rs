//! A sort without a step that is as long as there are items: runs of a few are sorted as they come,
//! and merged while the items are taken out.

use std::cmp::Ordering;

/// Items in a run: sorted in a tenth of a millisecond. The runs of 100,000 items are merged by eight
/// comparisons for each.
const RUN_ITEMS: usize = 256;

/// Items that come in any order.
#[derive(Debug)]
pub(super) struct Runs<T> {
    sorted: Vec<std::vec::IntoIter<T>>,
    /// The run that is not full yet.
    open: Vec<T>,
}

/// The same items, in their order.
#[derive(Debug)]
pub(super) struct Merge<T> {
    /// A heap: the run with the first item of all is the first, and none comes before the one at half
    /// its place. None is empty.
    runs: Vec<std::vec::IntoIter<T>>,
}

impl<T> Runs<T> {
    pub(super) fn new() -> Self {
        Self {
            sorted: Vec::new(),
            open: Vec::new(),
        }
    }

    /// Adds one. `order` has to be the same every time.
    pub(super) fn push(&mut self, item: T, order: impl FnMut(&T, &T) -> Ordering) {
        self.open.push(item);
        if self.open.len() == RUN_ITEMS {
            self.end_run(order);
        }
    }

    fn end_run(&mut self, order: impl FnMut(&T, &T) -> Ordering) {
        let mut run = std::mem::take(&mut self.open);
        run.sort_unstable_by(order);
        self.sorted.push(run.into_iter());
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.sorted.len() * RUN_ITEMS + self.open.len()
    }

    /// All of them are there.
    pub(super) fn merge(mut self, mut order: impl FnMut(&T, &T) -> Ordering) -> Merge<T> {
        if !self.open.is_empty() {
            self.end_run(&mut order);
        }
        let mut merge = Merge { runs: self.sorted };
        for place in (0..merge.runs.len() / 2).rev() {
            merge.sift_down(place, &mut order);
        }
        merge
    }
}

impl<T> Merge<T> {
    /// The next one.
    pub(super) fn next(&mut self, mut order: impl FnMut(&T, &T) -> Ordering) -> Option<T> {
        let run = self.runs.first_mut()?;
        let item = run.next();
        if run.as_slice().is_empty() {
            self.runs.swap_remove(0);
        }
        self.sift_down(0, &mut order);
        item
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Puts a run whose first item has changed in its place.
    fn sift_down(&mut self, mut place: usize, order: &mut impl FnMut(&T, &T) -> Ordering) {
        // Invariant: no run is empty.
        let mut is_before = |runs: &[std::vec::IntoIter<T>], one: usize, two: usize| {
            order(&runs[one].as_slice()[0], &runs[two].as_slice()[0]) == Ordering::Less
        };
        loop {
            let mut first = place;
            for child in [2 * place + 1, 2 * place + 2] {
                if child < self.runs.len() && is_before(&self.runs, child, first) {
                    first = child;
                }
            }
            if first == place {
                return;
            }
            self.runs.swap(place, first);
            place = first;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_comes_out_is_sorted(items in proptest::collection::vec(any::<u16>(), 0..3000)) {
            let mut runs = Runs::new();
            for item in &items {
                runs.push(*item, u16::cmp);
            }
            prop_assert_eq!(runs.len(), items.len());
            let mut merge = runs.merge(u16::cmp);
            let out: Vec<u16> = std::iter::from_fn(|| merge.next(u16::cmp)).collect();
            prop_assert!(merge.is_empty());
            let mut sorted = items;
            sorted.sort_unstable();
            prop_assert_eq!(out, sorted);
        }
    }
}
