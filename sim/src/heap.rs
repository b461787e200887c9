//! What happens when: events in virtual time, in one order.
//!
//! No tick loop: time jumps to the next event. Two events of the same microsecond happen in the order
//! in which they were scheduled, so that the order never depends on anything but the run itself.
//!
//! Must never: order events by anything that differs between two runs (addresses, hashes).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// When, the how-manieth to be scheduled, and where it lies: small, since a heap moves what it orders.
type Scheduled = (u64, u64, usize);

/// The future of one run.
pub struct Heap<E> {
    now_us: u64,
    serial: u64,
    happened: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    events: Vec<Option<E>>,
    free: Vec<usize>,
}

impl<E> Default for Heap<E> {
    fn default() -> Self {
        let (queue, events, free) = (BinaryHeap::new(), Vec::new(), Vec::new());
        Self { now_us: 0, serial: 0, happened: 0, queue, events, free }
    }
}

impl<E> Heap<E> {
    /// Virtual microseconds since the start.
    pub const fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Events that have happened so far.
    pub const fn happened(&self) -> u64 {
        self.happened
    }

    /// `event` happens `delay_us` from now.
    pub fn after(&mut self, delay_us: u64, event: E) {
        self.at(self.now_us.saturating_add(delay_us), event);
    }

    /// `event` happens at `at_us`, or now if that has passed.
    pub fn at(&mut self, at_us: u64, event: E) {
        self.serial += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.queue.push(Reverse((at_us.max(self.now_us), self.serial, place)));
    }

    /// Moves time to the next event that is not after `until_us`.
    pub fn next(&mut self, until_us: u64) -> Option<E> {
        if self.queue.peek().is_none_or(|Reverse((at_us, ..))| *at_us > until_us) {
            return None;
        }
        let Reverse((at_us, _, place)) = self.queue.pop()?;
        self.now_us = at_us;
        self.happened += 1;
        self.free.push(place);
        self.events[place].take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_the_order_of_scheduling() {
        let mut heap = Heap::default();
        heap.after(20, 'c');
        heap.after(10, 'a');
        heap.after(10, 'b');
        assert_eq!(std::iter::from_fn(|| heap.next(15)).collect::<String>(), "ab");
        assert_eq!(heap.now_us(), 10);
        heap.at(3, 'x');
        assert_eq!(std::iter::from_fn(|| heap.next(99)).collect::<String>(), "xc");
    }
}
