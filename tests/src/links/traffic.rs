//! What clients do while links fail, and what must be true of it once they are healed: every region holds the same,
//! nothing that was acknowledged is lost, and each key that was run twice has one winner and its losers listed alike
//! everywhere (INV-2, INV-5, INV-7).
//!
//! It must never judge by what onced says of itself, only by what its clients were told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use daemon::resp::{Client, Value};

use crate::cluster::pause;
use crate::setup::NAMES;
use crate::{Cluster, field, status, until};

/// Between two operations of one region's clients: a load that leaves the machine to the daemons.
const PAUSE: Duration = Duration::from_millis(2);
/// Conflicts asked for at once.
const PAGE: &[u8] = b"100";

/// All that clients were told.
#[derive(Clone, Default, Debug)]
pub struct Told {
    /// By key: outcomes that a region answered COMPLETED, CONTESTED or SUPERSEDED for, and the region.
    outcomes: BTreeMap<String, Vec<(usize, String)>>,
}

impl Told {
    /// Keys that were completed.
    pub fn keys(&self) -> usize {
        self.outcomes.len()
    }

    /// Keys that more than one region has run.
    pub fn twice(&self) -> usize {
        self.outcomes.values().filter(|outcomes| outcomes.len() > 1).count()
    }

    /// Both.
    pub fn join(&mut self, other: Self) {
        for (key, outcomes) in other.outcomes {
            self.outcomes.entry(key).or_default().extend(outcomes);
        }
    }

    /// `count` operations at `at`, on keys of its own.
    ///
    /// # Panics
    /// One of them is not granted and completed: a region answers whatever its links do (INV-17).
    pub fn write(&mut self, cluster: &Cluster, at: usize, tag: &str, count: usize) {
        let mut client = cluster.client(at);
        for number in 0..count {
            let key = format!("pay:{tag}.{}.{number}", NAMES[at]);
            assert!(self.run(&mut client, at, &key), "{key} is nobody else's");
        }
    }

    /// The same key run at each of `regions`, which cannot know of each other.
    ///
    /// # Panics
    /// One of them does not grant it.
    pub fn run_twice(&mut self, cluster: &Cluster, regions: &[usize], key: &str) {
        let key = format!("pay:{key}");
        for at in regions {
            assert!(self.run(&mut cluster.client(*at), *at, &key), "{} knows of {key} already", NAMES[*at]);
        }
    }

    /// Claims and, if it is granted, completes a key.
    fn run(&mut self, client: &mut Client, at: usize, key: &str) -> bool {
        let outcome = format!("{key} by {}", NAMES[at]);
        let claimed = client.call(&[b"CLAIM", key.as_bytes(), b"CLAIMANT", NAMES[at].as_bytes()]);
        let claimed = claimed.expect("CLAIM is answered");
        match status(&claimed).as_str() {
            "GRANTED" => {}
            "IN_PROGRESS" | "REPLAY" => return false,
            other => panic!("CLAIM {key} at {} is answered {other}: {claimed:?}", NAMES[at]),
        }
        let token = field(&claimed, "token");
        let completed = client.call(&[b"COMPLETE", key.as_bytes(), token.as_bytes(), outcome.as_bytes()]);
        let completed = completed.expect("COMPLETE is answered");
        let known = ["COMPLETED", "CONTESTED", "SUPERSEDED"].contains(&status(&completed).as_str());
        assert!(known, "COMPLETE {key} at {}: {completed:?}", NAMES[at]);
        self.outcomes.entry(key.to_owned()).or_default().push((at, outcome));
        true
    }

    /// All regions at once, for so long: keys of their own, and now and then one that all of them want.
    pub fn load(&mut self, cluster: &Cluster, tag: &str, lasting: Duration) {
        let began = Instant::now();
        let client_of = |at: usize| {
            let (mut told, mut client) = (Self::default(), cluster.client(at));
            for number in 0.. {
                if began.elapsed() > lasting {
                    break;
                }
                let key = match number % 10 {
                    0 => format!("pay:{tag}.all.{}", began.elapsed().as_millis() / 50),
                    _ => format!("pay:{tag}.{}.{number}", NAMES[at]),
                };
                told.run(&mut client, at, &key);
                pause(PAUSE);
            }
            told
        };
        let all = std::thread::scope(|scope| {
            let clients: Vec<_> =
                (0..cluster.regions()).map(|at| scope.spawn(move || client_of(at))).collect();
            clients
                .into_iter()
                .map(|client| client.join().expect("a client does not panic"))
                .collect::<Vec<_>>()
        });
        all.into_iter().for_each(|told| self.join(told));
    }

    /// Waits until what region `from` was told by now is known in region `to`.
    pub fn wait_seen(&self, cluster: &Cluster, from: usize, to: usize) {
        let mut client = cluster.client(to);
        let keys: Vec<_> = self.of(from).collect();
        until(&format!("{} has what {} acknowledged", NAMES[to], NAMES[from]), || {
            keys.iter().rev().all(|key| status(&get(&mut client, key)) == "SETTLED")
        });
    }

    /// How many of the keys completed at `from` are known at `to`.
    pub fn seen(&self, cluster: &Cluster, from: usize, to: usize) -> usize {
        let mut client = cluster.client(to);
        self.of(from).filter(|key| status(&get(&mut client, key)) == "SETTLED").count()
    }

    fn of(&self, at: usize) -> impl Iterator<Item = &str> {
        let own = move |outcomes: &Vec<(usize, String)>| outcomes.iter().any(|(region, _)| *region == at);
        self.outcomes.iter().filter(move |(_, outcomes)| own(outcomes)).map(|(key, _)| key.as_str())
    }

    /// Waits until all regions hold the same, and judges it; how long it took.
    ///
    /// # Panics
    /// Something acknowledged is lost, or regions differ in winners or conflicts.
    pub fn judge(&self, cluster: &Cluster) -> Duration {
        let began = Instant::now();
        cluster.agree();
        let took = began.elapsed();
        let regions = 0..cluster.regions();
        let mut clients: Vec<_> = regions.clone().map(|at| cluster.client(at)).collect();
        let lists: Vec<_> = clients.iter_mut().map(conflicts).collect();
        for at in regions {
            assert!(lists[at] == lists[0], "{} and {} list other conflicts", NAMES[at], NAMES[0]);
        }
        let mut listed: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in &lists[0] {
            listed.entry(field(row, "key")).or_default().push(field(row, "loser_region"));
        }
        for (key, outcomes) in &self.outcomes {
            let winner = judge_key(&mut clients, key, outcomes);
            let mut losers: Vec<_> =
                outcomes.iter().map(|(at, _)| NAMES[*at].to_owned()).filter(|at| *at != winner).collect();
            let mut found = listed.remove(key).unwrap_or_default();
            losers.sort();
            found.sort();
            assert_eq!(found, losers, "the losers of {key}, each exactly once; {winner} has won");
        }
        assert!(listed.is_empty(), "conflicts of keys that were not run twice: {listed:?}");
        took
    }
}

/// The winner of one key, the same everywhere.
fn judge_key(clients: &mut [Client], key: &str, outcomes: &[(usize, String)]) -> String {
    let mut winner = None;
    for (at, client) in clients.iter_mut().enumerate() {
        let reply = get(client, key);
        assert_eq!(status(&reply), "SETTLED", "LOST at {}: {key}: {reply:?}", NAMES[at]);
        let outcome = reply.field("outcome").and_then(Value::as_bytes).unwrap_or_default();
        let outcome = String::from_utf8_lossy(outcome).into_owned();
        let known = outcomes.iter().find(|(_, told)| *told == outcome);
        let (by, _) = known.unwrap_or_else(|| panic!("{key} at {}: {outcome:?} is nobody's", NAMES[at]));
        assert_eq!(*winner.get_or_insert(*by), *by, "{key} has another winner at {}", NAMES[at]);
    }
    NAMES[winner.expect("there are regions")].to_owned()
}

fn get(client: &mut Client, key: &str) -> Value {
    client.call(&[b"GET", key.as_bytes()]).expect("GET is answered")
}

/// All of them, page after page.
fn conflicts(client: &mut Client) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), "0".to_owned());
    loop {
        let words: [&[u8]; 5] = [b"CONFLICTS", b"CURSOR", cursor.as_bytes(), b"COUNT", PAGE];
        let reply = client.call(&words).expect("CONFLICTS is answered");
        all.extend(reply.field("conflicts").and_then(Value::as_array).expect("a list").to_vec());
        cursor = field(&reply, "cursor");
        if cursor == "0" {
            return all;
        }
    }
}
