//! What happens when: events in virtual time, in one order.
//!
//! No tick loop: time jumps to the next event. Two events of the same microsecond happen in the order
//! in which they were scheduled, so that the order never depends on anything but the run itself.
//!
//! Must never: order events by anything that differs between two runs (addresses, hashes).

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

struct Scheduled<E> {
    at_us: u64,
    serial: u64,
    event: E,
}

impl<E> PartialEq for Scheduled<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at_us, self.serial) == (other.at_us, other.serial)
    }
}

impl<E> Eq for Scheduled<E> {}

impl<E> PartialOrd for Scheduled<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Scheduled<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at_us, self.serial).cmp(&(other.at_us, other.serial))
    }
}

/// The future of one run.
pub struct Heap<E> {
    now_us: u64,
    serial: u64,
    queue: BinaryHeap<Reverse<Scheduled<E>>>,
}

impl<E> Default for Heap<E> {
    fn default() -> Self {
        Self { now_us: 0, serial: 0, queue: BinaryHeap::new() }
    }
}

impl<E> Heap<E> {
    /// Virtual microseconds since the start.
    pub const fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Events popped and pending so far.
    pub const fn scheduled(&self) -> u64 {
        self.serial
    }

    /// `event` happens `delay_us` from now.
    pub fn after(&mut self, delay_us: u64, event: E) {
        self.at(self.now_us.saturating_add(delay_us), event);
    }

    /// `event` happens at `at_us`, or now if that has passed.
    pub fn at(&mut self, at_us: u64, event: E) {
        self.serial += 1;
        let at_us = at_us.max(self.now_us);
        self.queue.push(Reverse(Scheduled { at_us, serial: self.serial, event }));
    }

    /// Moves time to the next event that is not after `until_us`.
    pub fn next(&mut self, until_us: u64) -> Option<E> {
        if self.queue.peek().is_none_or(|Reverse(next)| next.at_us > until_us) {
            return None;
        }
        let Reverse(next) = self.queue.pop()?;
        self.now_us = next.at_us;
        Some(next.event)
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
