//! Clients under whom the power goes, and what each of them was told.
//!
//! Every key belongs to one client of one region, which alone claims it, so that what must be found afterwards is
//! known without a model of who wins. Each promise is kept with the moment its answer was read and with the durability
//! it was given at. A client must note a call *before* it sends it: what was sent and not answered may be there or not,
//! and nothing else may.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use daemon::resp::{Client, Value};

use crate::random::Random;
use crate::words::{field, status};
use crate::{Cluster, cluster::pause};

/// A lease that outlives every test: nobody takes over.
const LEASE: &[u8] = b"3600000";
/// Claims in flight on a connection that pipelines.
const PIPELINED: usize = 8;
/// Between two batches: the load is there to be interrupted.
const BREATH: Duration = Duration::from_millis(8);
/// Outcomes that others have been told of, for those who look at them elsewhere.
const BOARD_MAX: usize = 256;

/// What a cluster promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promises {
    /// `pay` at `always`, the others at `interval`, single requests with DURABLE: every sync takes all along.
    Mixed,
    /// All at `always`: no start takes a new incarnation.
    Always,
    /// All at `interval` and nobody asks for more, so that the whole window is open at each cut.
    Interval,
}

/// What the clients of one region do. `pay` is synced before each answer, `web` within the window, `brief` is like
/// `web` and dies within seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Habit {
    /// Pipelines in `pay`.
    Pay,
    /// Pipelines in `web`, one in four with DURABLE.
    Web,
    /// One call at a time in all three, DURABLE at random, with duplicates.
    Single,
}

const HABITS: [Habit; 4] = [Habit::Pay, Habit::Web, Habit::Single, Habit::Pay];

/// A promise: when its answer was read, Unix microseconds, and whether it was synced before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Promise {
    /// When.
    pub at_us: u64,
    /// Whether power loss must not take it.
    pub durable: bool,
}

/// One key and what its client knows of it.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The key.
    pub key: String,
    /// What GRANTED gave: token and claim id; nothing while its answer was not read.
    pub claim: Option<(String, String)>,
    /// That it was granted.
    pub granted: Option<Promise>,
    /// COMPLETE was sent.
    pub completing: bool,
    /// That it was completed.
    pub completed: Option<Promise>,
}

/// An outcome that a region served though another had recorded it.
#[derive(Clone, Debug)]
pub struct Served {
    /// The key.
    pub key: String,
    /// At `always` all that an answer has seen is synced before.
    pub promise: Promise,
}

/// What one client has seen.
#[derive(Clone, Default, Debug)]
pub struct History {
    /// Its own keys, in the order in which it claimed them.
    pub operations: Vec<Operation>,
    /// Others' keys.
    pub served: Vec<Served>,
}

/// What an operation's outcome is, whoever asks: most are small, some larger than a page.
pub fn outcome_of(key: &str) -> Vec<u8> {
    let mut random = Random::new(key.bytes().fold(7, |hash, byte| hash * 31 + u64::from(byte)));
    let len = if random.once_in(64) { 9_000 } else { 8 + random.below(300) };
    let mut outcome = key.as_bytes().to_vec();
    outcome.extend((0..len).map(|_| random.word() as u8));
    outcome
}

/// Who claims a key.
pub fn claimant_of(key: &str) -> String {
    format!("c-{key}")
}

/// The wall clock in Unix microseconds, the cutter's too.
pub fn now_us() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_micros() as u64)
}

/// Running clients of one region.
#[derive(Debug)]
pub struct Load {
    threads: Vec<JoinHandle<History>>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
}

/// What all loads of a run share.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<Vec<String>>>);

impl Load {
    /// Starts the clients of region `at`. `name` is new in each start; all keys begin with it behind their namespace.
    pub fn start(
        cluster: &Cluster,
        at: usize,
        name: &str,
        promises: Promises,
        board: &Board,
        random: &mut Random,
    ) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let threads = HABITS.into_iter().enumerate().map(|(number, habit)| {
            let mut writer = Writer {
                client: cluster.client(at),
                name: format!("{name}.{number}"),
                habit,
                promises,
                random: random.fork(number as u64),
                board: board.clone(),
                acknowledged: Arc::clone(&acknowledged),
                history: History::default(),
            };
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) && writer.batch().is_some() {
                    pause(BREATH);
                }
                writer.history
            })
        });
        Self { threads: threads.collect(), stop, acknowledged }
    }

    /// Promises so far.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Ends the clients that have not lost their daemon; what each has seen.
    pub fn end(self) -> Vec<History> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().expect("a client does not panic")).collect()
    }
}

struct Writer {
    client: Client,
    name: String,
    habit: Habit,
    promises: Promises,
    random: Random,
    board: Board,
    acknowledged: Arc<AtomicUsize>,
    history: History,
}

impl Writer {
    /// A few keys from claim to completion; `None` once the daemon is gone.
    fn batch(&mut self) -> Option<()> {
        let (namespace, count) = match self.habit {
            Habit::Pay => ("pay", PIPELINED),
            Habit::Web => ("web", PIPELINED),
            Habit::Single => (["pay", "web", "web", "brief"][self.random.below(4)], 1),
        };
        let (claims, completes) = match self.habit {
            Habit::Pay => (true, true),
            Habit::Web => <(bool, bool)>::from([self.random.once_in(4); 2]),
            Habit::Single => (self.random.once_in(3), self.random.once_in(3)),
        };
        let may_ask = self.promises != Promises::Interval;
        let (claims, completes) = (claims && may_ask, completes && may_ask);
        let begin = self.history.operations.len();
        for number in begin..begin + count {
            let key = format!("{namespace}:{}.{number}", self.name);
            self.send_claim(&key, &claimant_of(&key), claims)?;
            let (claim, granted) = (None, None);
            self.history.operations.push(Operation {
                key,
                claim,
                granted,
                completing: false,
                completed: None,
            });
        }
        let always = match self.promises {
            Promises::Mixed => namespace == "pay",
            Promises::Always => true,
            Promises::Interval => false,
        };
        for at in begin..begin + count {
            self.read_grant(at, claims || always)?;
        }
        // Some stay claimed, so that claims are looked for, too.
        let completing: Vec<_> = (begin..begin + count).filter(|_| !self.random.once_in(4)).collect();
        for at in &completing {
            self.send_complete(*at, completes)?;
        }
        for at in &completing {
            self.read_completion(*at, completes || always)?;
        }
        if self.habit == Habit::Single {
            self.repeat(begin)?;
            self.look_elsewhere()?;
        }
        Some(())
    }

    fn send_claim(&mut self, key: &str, claimant: &str, durable: bool) -> Option<()> {
        let mut words: Vec<&[u8]> =
            vec![b"CLAIM", key.as_bytes(), b"CLAIMANT", claimant.as_bytes(), b"LEASE", LEASE];
        if key.starts_with("brief:") {
            words.truncate(4);
        }
        if durable {
            words.push(b"DURABLE");
        }
        self.client.send(&words).ok()
    }

    fn read_grant(&mut self, at: usize, durable: bool) -> Option<()> {
        let reply = self.client.recv().ok()?;
        let operation = &mut self.history.operations[at];
        match status(&reply).as_str() {
            "GRANTED" => {
                operation.claim = Some((field(&reply, "token"), field(&reply, "claim_id")));
                operation.granted = Some(Promise { at_us: now_us(), durable });
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            // Nothing was granted, so nothing can be lost (S4.1).
            "UNAVAILABLE" => {}
            other => panic!("{} was answered {other}: {reply:?}", operation.key),
        }
        Some(())
    }

    fn send_complete(&mut self, at: usize, durable: bool) -> Option<()> {
        let operation = &mut self.history.operations[at];
        let Some((token, _)) = &operation.claim else { return Some(()) };
        operation.completing = true;
        let outcome = outcome_of(&operation.key);
        let mut words: Vec<&[u8]> = vec![b"COMPLETE", operation.key.as_bytes(), token.as_bytes(), &outcome];
        if durable {
            words.push(b"DURABLE");
        }
        self.client.send(&words).ok()
    }

    fn read_completion(&mut self, at: usize, durable: bool) -> Option<()> {
        let operation = &mut self.history.operations[at];
        if !operation.completing {
            return Some(());
        }
        let reply = self.client.recv().ok()?;
        assert_eq!(status(&reply), "COMPLETED", "{}: {reply:?}", operation.key);
        operation.completed = Some(Promise { at_us: now_us(), durable });
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        if operation.key.starts_with("pay:") {
            let mut board = self.board.0.lock().expect("nobody panics with it");
            let at = self.random.below(BOARD_MAX);
            if at < board.len() {
                board[at].clone_from(&operation.key);
            } else {
                board.push(operation.key.clone());
            }
        }
        Some(())
    }

    /// The same claim again, by its claimant and by another, whose reply may have been lost.
    fn repeat(&mut self, at: usize) -> Option<()> {
        let operation = self.history.operations[at].clone();
        let Some((token, _)) = &operation.claim else { return Some(()) };
        for claimant in [claimant_of(&operation.key), "another".to_owned()] {
            self.send_claim(&operation.key, &claimant, false)?;
            let reply = self.client.recv().ok()?;
            match (status(&reply).as_str(), operation.completed.is_some()) {
                ("REPLAY", true) => assert!(is_outcome(&reply, &operation.key), "{reply:?}"),
                ("GRANTED", false) if claimant != "another" => assert_eq!(field(&reply, "token"), *token),
                ("IN_PROGRESS", false) if claimant == "another" => {}
                ("UNAVAILABLE", _) => {}
                // A brief key's lease may be over on a machine that was busy with others.
                _ if operation.key.starts_with("brief:") => {}
                (other, _) => panic!("{operation:?} was answered {other}: {reply:?}"),
            }
        }
        Some(())
    }

    /// Another region's outcome, if it has come here already.
    fn look_elsewhere(&mut self) -> Option<()> {
        let board = self.board.0.lock().expect("nobody panics with it");
        let Some(key) = board.get(self.random.below(board.len().max(1))).cloned() else { return Some(()) };
        drop(board);
        let reply = self.client.call(&[b"GET", key.as_bytes()]).ok()?;
        if status(&reply) == "SETTLED" {
            assert!(is_outcome(&reply, &key), "{key}: {reply:?}");
            let durable = self.promises != Promises::Interval;
            self.history.served.push(Served { key, promise: Promise { at_us: now_us(), durable } });
        }
        Some(())
    }
}

/// Whether a reply has the outcome that this harness recorded for a key.
pub fn is_outcome(reply: &Value, key: &str) -> bool {
    reply.field("outcome").and_then(Value::as_bytes) == Some(outcome_of(key).as_slice())
}
