//! The objects that are in memory: all of a small one, the head and the open file of a large one.
//!
//! A clock goes round: whoever was used since it last came by stays once more.

use std::rc::Rc;

use slab::Slab;

use super::index::Slot;
use super::kept::Kept;

/// Objects in memory, up to a number of bytes and of open files.
#[derive(Debug)]
pub(super) struct Memory {
    places: Slab<Place>,
    hand: usize,
    bytes: usize,
    bytes_max: usize,
    /// Objects whose file is open.
    files: usize,
    files_max: usize,
}

#[derive(Debug)]
struct Place {
    kept: Rc<Kept>,
    /// Its place in the index.
    slot: Slot,
    used: bool,
}

impl Memory {
    pub(super) fn new(bytes_max: usize, files_max: usize) -> Self {
        Self {
            places: Slab::new(),
            hand: 0,
            bytes: 0,
            bytes_max,
            files: 0,
            files_max,
        }
    }

    pub(super) fn set_limits(&mut self, bytes_max: usize, files_max: usize) {
        (self.bytes_max, self.files_max) = (bytes_max, files_max);
    }

    /// Takes an object; where it is.
    pub(super) fn insert(&mut self, kept: Rc<Kept>, slot: Slot) -> u32 {
        self.bytes += kept.memory_bytes();
        self.files += usize::from(kept.is_open());
        let place = Place {
            kept,
            slot,
            used: false,
        };
        // Invariant: far fewer than 2^32 objects fit into memory.
        self.places.insert(place) as u32
    }

    /// The object at a place.
    #[inline]
    pub(super) fn get(&mut self, place: u32) -> &Rc<Kept> {
        let place = &mut self.places[place as usize];
        place.used = true;
        &place.kept
    }

    /// The same without using it.
    pub(super) fn peek(&self, place: u32) -> &Rc<Kept> {
        &self.places[place as usize].kept
    }

    /// Puts another object in the place of one.
    pub(super) fn replace(&mut self, place: u32, kept: Rc<Kept>) {
        let place = &mut self.places[place as usize];
        self.bytes += kept.memory_bytes();
        self.bytes -= place.kept.memory_bytes();
        self.files += usize::from(kept.is_open());
        self.files -= usize::from(place.kept.is_open());
        place.kept = kept;
    }

    /// Lets an object go.
    pub(super) fn remove(&mut self, place: u32) -> Rc<Kept> {
        let place = self.places.remove(place as usize);
        self.bytes -= place.kept.memory_bytes();
        self.files -= usize::from(place.kept.is_open());
        place.kept
    }

    /// Lets one go that was not used for a while, if they take too much; where that was in the
    /// index.
    pub(super) fn evict(&mut self) -> Option<Slot> {
        let is_over = |it: &Self| it.bytes > it.bytes_max || it.files > it.files_max;
        while is_over(self) && !self.places.is_empty() {
            self.hand = match self.places.get(self.hand) {
                None if self.hand >= self.places.capacity() => 0,
                _ => self.hand,
            };
            let hand = self.hand;
            self.hand += 1;
            match self.places.get_mut(hand) {
                None => {}
                Some(place) if place.used => place.used = false,
                Some(place) => {
                    let slot = place.slot;
                    self.remove(hand as u32);
                    return Some(slot);
                }
            }
        }
        None
    }

    /// Objects, and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.places.len(), self.bytes)
    }
}
