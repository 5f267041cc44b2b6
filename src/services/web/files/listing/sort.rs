//! A merge sort that can stop after any step: short runs are sorted as they come, and then two of
//! them at a time are merged to one, until one is left.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::iter::Peekable;
use std::vec::IntoIter;

/// Items of a run that is sorted at once: some tens of microseconds.
const RUN: usize = 256;

/// Items on their way to their order, which is that of the function given to each call.
pub(super) struct MergeSort<T> {
    /// What came since the last run.
    fresh: Vec<T>,
    runs: VecDeque<Vec<T>>,
    merging: Option<Merging<T>>,
    len: usize,
}

struct Merging<T> {
    one: Peekable<IntoIter<T>>,
    two: Peekable<IntoIter<T>>,
    merged: Vec<T>,
}

impl<T> Default for MergeSort<T> {
    fn default() -> Self {
        Self {
            fresh: Vec::new(),
            runs: VecDeque::new(),
            merging: None,
            len: 0,
        }
    }
}

impl<T> MergeSort<T> {
    /// One item more.
    pub(super) fn push(&mut self, item: T, order: impl Fn(&T, &T) -> Ordering) {
        self.len += 1;
        self.fresh.push(item);
        if self.fresh.len() == RUN {
            self.end_run(order);
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn end_run(&mut self, order: impl Fn(&T, &T) -> Ordering) {
        let mut run = std::mem::take(&mut self.fresh);
        run.sort_unstable_by(order);
        self.runs.push_back(run);
    }

    /// Moves at most `steps` items, and counts them there. All of them in their order, once they
    /// are; then there are none left.
    pub(super) fn step(
        &mut self,
        steps: &mut usize,
        order: impl Fn(&T, &T) -> Ordering,
    ) -> Option<Vec<T>> {
        if !self.fresh.is_empty() {
            self.end_run(&order);
        }
        loop {
            if let Some(merging) = &mut self.merging {
                if !merging.step(steps, &order) {
                    return None;
                }
                let merging = self.merging.take();
                self.runs.extend(merging.map(|merging| merging.merged));
            }
            if self.runs.len() < 2 {
                self.len = 0;
                return Some(self.runs.pop_front().unwrap_or_default());
            }
            self.merging = self
                .runs
                .pop_front()
                .zip(self.runs.pop_front())
                .map(Merging::new);
        }
    }
}

impl<T> Merging<T> {
    fn new((one, two): (Vec<T>, Vec<T>)) -> Self {
        Self {
            merged: Vec::with_capacity(one.len() + two.len()),
            one: one.into_iter().peekable(),
            two: two.into_iter().peekable(),
        }
    }

    /// Whether all of both were moved.
    fn step(&mut self, steps: &mut usize, order: impl Fn(&T, &T) -> Ordering) -> bool {
        loop {
            let next = match (self.one.peek(), self.two.peek()) {
                (None, None) => return true,
                _ if *steps == 0 => return false,
                (Some(one), Some(two)) if order(one, two).is_gt() => &mut self.two,
                (None, _) => &mut self.two,
                (Some(_), _) => &mut self.one,
            };
            *steps -= 1;
            self.merged.extend(next.next());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_step_moves_no_more_than_it_may() {
        let mut sort = MergeSort::default();
        for number in 0..10_000_u32 {
            sort.push(number.wrapping_mul(2_654_435_761), u32::cmp);
        }
        assert_eq!(sort.len(), 10_000);
        let (mut calls, mut moved) = (0, 0);
        let sorted = loop {
            let mut steps = 100;
            let done = sort.step(&mut steps, u32::cmp);
            (calls, moved) = (calls + 1, moved + 100 - steps);
            if let Some(sorted) = done {
                break sorted;
            }
            assert_eq!(steps, 0, "it stops only where it has to");
        };
        assert!(sorted.is_sorted() && sorted.len() == 10_000);
        assert!((40_000..70_000).contains(&moved), "{moved}");
        assert_eq!(calls, moved / 100 + 1);
    }

    proptest! {
        #[test]
        fn it_is_the_order_of_any_other_sort(
            items in proptest::collection::vec(0_u16..500, 0..2000),
            steps_max in 1_usize..3000,
        ) {
            let mut sort = MergeSort::default();
            let mut expected = items.clone();
            for item in items {
                sort.push(item, |one, two| two.cmp(one));
            }
            let sorted = loop {
                let mut steps = steps_max;
                if let Some(sorted) = sort.step(&mut steps, |one, two| two.cmp(one)) {
                    break sorted;
                }
            };
            expected.sort_unstable_by(|one, two| two.cmp(one));
            prop_assert_eq!(sorted, expected);
        }
    }
}
