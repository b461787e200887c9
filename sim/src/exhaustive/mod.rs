//! Exhaustive mode: every order of up to so many events in a small world, each end judged.
//!
//! A layer at a time: all states after n events, each reached along its shortest path, then everything that can happen
//! next in each of them. A replica cannot be copied, so a path is run again from the beginning for every step; a run of
//! eight events takes some hundred microseconds. States from which the same can follow are one (`cluster`), which is
//! what makes all orders payable: orders that commute meet again after two events.
//!
//! Every state is also an end: all links are healed, all frames delivered, and the oracle judges what the regions hold
//! (INV-2, INV-3, INV-5, INV-7). On the way it judges every answer (S4, INV-4, INV-8 to INV-11, INV-16).
//!
//! A request that writes nothing is judged and not continued from: it leaves a tick of its clock and nothing else. Claims
//! of which that is plain beforehand are judged within the run that found the state.
//!
//! Rejected: partial-order reduction (sound only without the merging of states, which saves more here).
//!
//! Must never: say that all was covered when a bound cut it short.

mod cluster;
mod event;
mod site;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::limits;
use crate::oracle::violation::Violation;
use crate::progress::Progress;
use crate::run::plant;
use crate::scenario::Scenario;
use crate::swarm::caught;
use cluster::{Cluster, Did};
pub use event::{Event, alphabet};

/// How large a world is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Regions.
    pub regions: usize,
    /// Keys.
    pub keys: usize,
}

/// What to search, and how far.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The world.
    pub size: Size,
    /// Events an order has at most.
    pub events: usize,
    /// States that are remembered at most.
    pub states_max: u64,
    /// Real time, milliseconds.
    pub ms_max: u64,
    /// Threads.
    pub jobs: usize,
    /// Which bug to plant.
    pub canary: Option<crdt::canary::Bug>,
}

/// What all orders of one length came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Layer {
    /// Events in each order.
    pub events: usize,
    /// States that no shorter order reaches.
    pub states: u64,
    /// Runs: each a path and one more event.
    pub runs: u64,
    /// Orders that lead to these states, those through states that were met before left out.
    pub orders: u128,
}

/// How a search ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Every order was looked at, and held.
    Covered,
    /// A bound was reached first.
    Bounded(&'static str),
    /// An invariant was broken, after these events.
    Broken(Vec<Event>, Violation),
    /// Something panicked, after these events.
    Panicked(Vec<Event>, String),
}

/// What a search came to.
#[derive(Clone, Debug)]
pub struct Found {
    /// By length of the orders, complete ones only.
    pub layers: Vec<Layer>,
    /// States met, those of an incomplete layer too.
    pub states: u64,
    /// Runs, likewise.
    pub runs: u64,
    /// How it ended.
    pub ended: Ended,
    /// Real time, milliseconds.
    pub elapsed_ms: u64,
}

/// Bits of a letter's number in a path.
const LETTER_BITS: usize = 6;

/// Events by their number in the alphabet, the first one uppermost; small, because there are millions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
struct Path(u64);

/// A state to continue from.
#[derive(Clone, Copy, Debug)]
struct Node {
    path: Path,
    /// Bits by the alphabet.
    enabled: u64,
    /// Requests that write nothing here: judged already.
    quiet: u64,
    orders: u64,
}

impl Path {
    const fn with(self, letter: u8) -> Self {
        Self(self.0 << LETTER_BITS | letter as u64)
    }

    /// The last `len` events.
    fn events(self, len: usize, alphabet: &[Event]) -> Vec<Event> {
        let letter = |at: usize| self.0 >> (LETTER_BITS * (len - 1 - at)) & ((1 << LETTER_BITS) - 1);
        (0..len).map(|at| alphabet[letter(at) as usize]).collect()
    }
}

/// What the threads of one layer share.
struct Shared<'s> {
    search: &'s Search,
    /// Events of its orders.
    events: usize,
    alphabet: &'s [Event],
    scenario: &'s Scenario,
    progress: &'s Progress,
    /// States of shorter orders.
    known: &'s BTreeSet<u128>,
    next: AtomicUsize,
    runs: AtomicU64,
    stop: AtomicBool,
    new: Mutex<BTreeMap<u128, Node>>,
    ended: Mutex<Option<Ended>>,
}

/// Looks at every order of up to `search.events` events.
pub fn search(search: Search, progress: &Progress) -> Found {
    let (scenario, alphabet) = (scenario(search.size), alphabet(search.size));
    let (mut known, mut layers) = (BTreeSet::new(), Vec::new());
    let (mut states, mut runs, mut ended) = (1, 0, Ended::Covered);
    let first = Node { path: Path::default(), enabled: 0, quiet: 0, orders: 1 };
    let mut frontier = match caught(|| first_node(&search, &scenario, &alphabet, first)) {
        Ok(Ok((state, node))) => {
            known.insert(state);
            vec![node]
        }
        Ok(Err(violation)) => {
            ended = Ended::Broken(Vec::new(), violation);
            Vec::new()
        }
        Err(panic) => {
            ended = Ended::Panicked(Vec::new(), panic);
            Vec::new()
        }
    };
    for events in 1..=search.events {
        if ended != Ended::Covered {
            break;
        }
        let shared = Shared::new((&search, events), &alphabet, &scenario, progress, &known);
        std::thread::scope(|scope| {
            for _ in 0..search.jobs {
                scope.spawn(|| shared.work(&frontier));
            }
        });
        let layer_runs = shared.runs.load(Ordering::Relaxed);
        let (new, found) = (into(shared.new), into(shared.ended));
        runs += layer_runs;
        states += new.len() as u64;
        if let Some(found) = found {
            ended = found;
            break;
        }
        let orders = new.values().map(|node| u128::from(node.orders)).sum();
        layers.push(Layer { events, states: new.len() as u64, runs: layer_runs, orders });
        known.extend(new.keys());
        frontier = new.into_values().collect();
    }
    Found { layers, states, runs, ended, elapsed_ms: progress.elapsed_ms() }
}

/// A small world in which nothing expires, nothing is drawn and nothing breaks by itself.
fn scenario(size: Size) -> Scenario {
    Scenario::small(size.regions, size.keys)
}

fn first_node(
    search: &Search,
    scenario: &Scenario,
    alphabet: &[Event],
    node: Node,
) -> Result<(u128, Node), Violation> {
    plant(search.canary);
    let cluster = Cluster::new(scenario, search.size)?;
    let (state, enabled) = (cluster.state(), enabled(&cluster, alphabet));
    cluster.end()?;
    Ok((state, Node { enabled, ..node }))
}

fn enabled(cluster: &Cluster<'_>, alphabet: &[Event]) -> u64 {
    let bits = alphabet.iter().enumerate().filter(|(_, event)| cluster.is_enabled(**event));
    bits.fold(0, |all, (at, _)| all | 1 << at)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn into<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl<'s> Shared<'s> {
    const fn new(
        (search, events): (&'s Search, usize),
        alphabet: &'s [Event],
        scenario: &'s Scenario,
        progress: &'s Progress,
        known: &'s BTreeSet<u128>,
    ) -> Self {
        Self {
            search,
            events,
            alphabet,
            scenario,
            progress,
            known,
            next: AtomicUsize::new(0),
            runs: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            new: Mutex::new(BTreeMap::new()),
            ended: Mutex::new(None),
        }
    }

    /// One thread's share of a layer.
    fn work(&self, frontier: &[Node]) {
        plant(self.search.canary);
        while !self.stop.load(Ordering::Relaxed) {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(node) = frontier.get(at) else { return };
            let letters = node.enabled & !node.quiet;
            for letter in (0..self.alphabet.len() as u8).filter(|letter| letters & 1 << letter != 0) {
                let path = node.path.with(letter);
                let events = path.events(self.events, self.alphabet);
                match caught(|| self.run(path, &events, node.orders)) {
                    Ok(Ok(())) => {}
                    Ok(Err(violation)) => return self.end(Ended::Broken(events, violation)),
                    Err(panic) => return self.end(Ended::Panicked(events, panic)),
                }
            }
            if let Some(bound) = self.bound_reached() {
                return self.end(Ended::Bounded(bound));
            }
        }
    }

    fn end(&self, ended: Ended) {
        self.stop.store(true, Ordering::Relaxed);
        let mut known = lock(&self.ended);
        // What is broken counts more than a bound.
        if known.is_none() || matches!(*known, Some(Ended::Bounded(_))) {
            *known = Some(ended);
        }
    }

    fn bound_reached(&self) -> Option<&'static str> {
        if self.known.len() as u64 + lock(&self.new).len() as u64 > self.search.states_max {
            return Some("--states");
        }
        (self.progress.so_far_ms() > self.search.ms_max).then_some("--seconds")
    }

    /// Runs a path; where it leads to a state that nobody has met, that is an end to be judged, too.
    fn run(&self, path: Path, events: &[Event], orders: u64) -> Result<(), Violation> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let mut cluster = Cluster::new(self.scenario, self.search.size)?;
        let mut did = Did::Nothing;
        for event in events {
            did = cluster.happen(*event)?;
        }
        if did == Did::Nothing {
            return Ok(());
        }
        let state = cluster.state();
        if self.known.contains(&state) {
            return Ok(());
        }
        let enabled = enabled(&cluster, self.alphabet);
        {
            let mut new = lock(&self.new);
            if let Some(met) = new.get_mut(&state) {
                met.orders = met.orders.saturating_add(orders);
                if path < met.path {
                    // Whichever thread was first: the same paths are continued. Grants may be numbered otherwise.
                    (met.path, met.enabled) = (path, enabled);
                }
                return Ok(());
            }
            new.insert(state, Node { path, enabled, quiet: 0, orders });
        }
        self.progress.finished(true);
        let quiet = cluster.judge_quiet(self.alphabet)?;
        if let Some(node) = lock(&self.new).get_mut(&state) {
            node.quiet = quiet;
        }
        cluster.end()
    }
}

impl Found {
    /// The longest orders of which all were looked at.
    pub fn covered(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.events)
    }

    /// Orders of any length that were looked at, at least.
    pub fn orders(&self) -> u128 {
        self.layers.iter().map(|layer| layer.orders).sum()
    }
}

impl Default for Search {
    fn default() -> Self {
        Self {
            size: Size { regions: 3, keys: 1 },
            events: limits::EXHAUSTIVE_EVENTS,
            states_max: limits::EXHAUSTIVE_STATES,
            ms_max: limits::EXHAUSTIVE_SECONDS * 1000,
            jobs: 1,
            canary: None,
        }
    }
}
