//! When regions hold alike again what they held differently at the end of a cut: the simulator's measure, taken from outside.
//!
//! The same definition as there (`world::measured`): at the end of the last cut, the keys are noted whose entries differ between
//! living regions; each is done with once it has been alike everywhere; the time until the last of them counts. A cut that
//! begins meanwhile ends the measuring. Entries are looked at by INSPECT, every other millisecond.
//!
//! Must never: look while nothing is measured; daemons have other work.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::resp::{Client, Value};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// A region that is silent for so long counts as dead for this look.
const PATIENCE: Duration = Duration::from_millis(500);
/// Commands sent at once.
const AT_ONCE: usize = 256;

/// Looks at entries of several regions.
#[derive(Debug)]
pub struct Looker {
    sockets: Vec<PathBuf>,
    clients: Vec<Option<Client>>,
    keys: Vec<String>,
}

impl Looker {
    /// At these keys, through these sockets.
    pub fn new(sockets: Vec<PathBuf>, keys: Vec<String>) -> Self {
        let clients = sockets.iter().map(|_| None).collect();
        Self { sockets, clients, keys }
    }

    /// Which of these keys living regions hold differently.
    pub fn apart(&mut self, among: &[usize]) -> Vec<usize> {
        let held: Vec<Vec<Value>> =
            (0..self.sockets.len()).filter_map(|at| self.entries(at, among)).collect();
        let Some((first, others)) = held.split_first() else { return Vec::new() };
        let differs = |at: &usize| others.iter().any(|other| other[*at] != first[*at]);
        (0..among.len()).filter(differs).map(|at| among[at]).collect()
    }

    /// What a region holds of these keys; `None`: it does not answer.
    fn entries(&mut self, at: usize, among: &[usize]) -> Option<Vec<Value>> {
        if self.clients[at].is_none() {
            self.clients[at] = Client::connect(&self.sockets[at], PATIENCE).ok();
        }
        let client = self.clients[at].as_mut()?;
        let mut entries = Vec::with_capacity(among.len());
        for some in among.chunks(AT_ONCE) {
            let words = |key: &usize| vec![&b"INSPECT"[..], self.keys[*key].as_bytes()];
            let commands: Vec<_> = some.iter().map(words).collect();
            let Ok(replies) = client.call_all(&commands) else {
                self.clients[at] = None;
                return None;
            };
            entries.extend(replies.iter().map(entry));
        }
        Some(entries)
    }
}

/// The entry without what depends on the region or on when it was looked at.
fn entry(reply: &Value) -> Value {
    let part = |name| reply.field(name).cloned().unwrap_or(Value::Null);
    Value::List(["attempts", "outcomes", "forgotten"].map(part).to_vec())
}

/// A thread that measures.
#[derive(Debug)]
pub struct Watch {
    orders: Option<Sender<(u64, Instant)>>,
    /// Counts cuts and their ends: what was ordered under another number is void.
    turn: Arc<AtomicU64>,
    converged_ms: Arc<Mutex<Vec<u64>>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Looks through `looker` whenever it is told to.
    pub fn start(looker: Looker) -> std::io::Result<Self> {
        let (orders, ordered) = channel();
        let (turn, converged_ms) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (now, results) = (Arc::clone(&turn), Arc::clone(&converged_ms));
        let thread = std::thread::Builder::new().name("watch".into());
        let thread = thread.spawn(move || follow(looker, &ordered, &now, &results))?;
        Ok(Self { orders: Some(orders), turn, converged_ms, thread: Some(thread) })
    }

    /// A cut begins: nothing is measured any more.
    pub fn cut(&self) {
        self.turn.fetch_add(1, Ordering::AcqRel);
    }

    /// The last cut has ended, now.
    pub fn mended(&self) {
        let turn = self.turn.fetch_add(1, Ordering::AcqRel) + 1;
        if let Some(orders) = &self.orders {
            // The thread ends only with this.
            let _ = orders.send((turn, Instant::now()));
        }
    }

    /// Ends it; how long each time took, milliseconds.
    pub fn end(mut self) -> Vec<u64> {
        self.stop();
        std::mem::take(&mut self.converged_ms.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn stop(&mut self) {
        self.cut();
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, nothing was measured.
            let _ = thread.join();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}

fn follow(
    mut looker: Looker,
    ordered: &Receiver<(u64, Instant)>,
    now: &AtomicU64,
    results: &Mutex<Vec<u64>>,
) {
    let all: Vec<usize> = (0..looker.keys.len()).collect();
    while let Ok((turn, since)) = ordered.recv() {
        let mut apart = looker.apart(&all);
        let any = !apart.is_empty();
        while !apart.is_empty() && now.load(Ordering::Acquire) == turn {
            std::thread::sleep(LOOK_EVERY);
            apart = looker.apart(&apart);
        }
        if any && apart.is_empty() && now.load(Ordering::Acquire) == turn {
            let took_ms = since.elapsed().as_millis() as u64;
            results.lock().unwrap_or_else(PoisonError::into_inner).push(took_ms);
        }
    }
}
