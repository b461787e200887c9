//! Threads hammer few keys of one daemon over sockets, and the recorded history is judged.
//!
//! What runs at the same time inside one process is what the simulator cannot show. Every call is kept with the time
//! it began and ended; the judge knows nothing of how onced works: one token at a time, one outcome for ever, nothing
//! replayed that was not completed, nothing refused that was free.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Barrier};
use std::time::Instant;

use daemon::resp::{Client, Value};
use tests::{Cluster, field, status};

const THREADS: usize = 8;
const KEYS: usize = 40;
const CALLS: usize = 1_500;

/// One call as its client saw it; times in microseconds since the start.
#[derive(Clone, Debug)]
struct Call {
    key: usize,
    claimant: usize,
    began_us: u64,
    ended_us: u64,
    what: What,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum What {
    Granted(String),
    InProgress,
    Replay(Vec<u8>),
    Completed(String, Vec<u8>),
    Released(String),
}

/// A small generator, so that a failure's seed repeats it as far as scheduling lets it.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

fn hammer(mut client: Client, thread: usize, start: Instant, rounds: usize) -> Vec<Call> {
    let mut random = Random(0x9e37_79b9 ^ ((thread as u64 + 1) * 0x0100_0000_01b3));
    let mut calls = Vec::with_capacity(rounds);
    let mut held: Vec<(usize, String)> = Vec::new();
    for round in 0..rounds {
        let began_us = start.elapsed().as_micros() as u64;
        // A holder goes on now and then; most operations are given back, so that keys stay fought over for long.
        let (key, what) = if !held.is_empty() && random.below(3) == 0 {
            let (key, token) = held.swap_remove(random.below(held.len()));
            (key, finish(&mut client, key, token, thread, round, random.below(8) == 0))
        } else {
            let key = random.below(KEYS);
            (key, claim(&mut client, key, thread))
        };
        if let What::Granted(token) = &what {
            // A retry of a held key gives the same token again.
            if !held.iter().any(|(_, known)| known == token) {
                held.push((key, token.clone()));
            }
        }
        let ended_us = start.elapsed().as_micros() as u64;
        calls.push(Call { key, claimant: thread, began_us, ended_us, what });
    }
    calls
}

fn claim(client: &mut Client, key: usize, thread: usize) -> What {
    let (key, claimant) = (format!("hot:{key}"), format!("t{thread}"));
    let words: [&[u8]; 6] = [b"CLAIM", key.as_bytes(), b"CLAIMANT", claimant.as_bytes(), b"LEASE", b"600000"];
    let reply = client.call(&words).expect("answered");
    match status(&reply).as_str() {
        "GRANTED" => What::Granted(field(&reply, "token")),
        "IN_PROGRESS" => What::InProgress,
        "REPLAY" => What::Replay(outcome(&reply)),
        other => panic!("CLAIM answered {other}: {reply:?}"),
    }
}

fn finish(client: &mut Client, key: usize, token: String, thread: usize, round: usize, done: bool) -> What {
    let key = format!("hot:{key}");
    if !done {
        let reply = client.call(&[b"RELEASE", key.as_bytes(), token.as_bytes()]).expect("answered");
        assert_eq!(status(&reply), "RELEASED", "{reply:?}");
        return What::Released(token);
    }
    let bytes = format!("{thread}.{round}").into_bytes();
    let reply = client.call(&[b"COMPLETE", key.as_bytes(), token.as_bytes(), &bytes]).expect("answered");
    assert_eq!(status(&reply), "COMPLETED", "one region, leases running: nobody contests it: {reply:?}");
    What::Completed(token, bytes)
}

fn outcome(reply: &Value) -> Vec<u8> {
    reply.field("outcome").and_then(Value::as_bytes).expect("REPLAY has an outcome").to_vec()
}

/// Judges one key's calls; how many different tokens it saw.
fn judge(calls: &[Call]) -> usize {
    // When each claim was certainly held: from the end of its first grant to the beginning of its last call.
    let mut held: BTreeMap<&str, (usize, u64, Option<u64>)> = BTreeMap::new();
    let mut completed: BTreeSet<&[u8]> = BTreeSet::new();
    let mut settled_us = None;
    for call in calls {
        match &call.what {
            What::Granted(token) => {
                let (owner, from_us, _) = held.entry(token).or_insert((call.claimant, call.ended_us, None));
                assert_eq!(*owner, call.claimant, "two claimants share {token}");
                *from_us = call.ended_us.min(*from_us);
            }
            What::Completed(token, bytes) => {
                held.get_mut(token.as_str()).expect("only holders complete").2 = Some(call.began_us);
                completed.insert(bytes);
                settled_us = Some(call.ended_us);
            }
            What::Released(token) => {
                held.get_mut(token.as_str()).expect("only holders release").2 = Some(call.began_us);
            }
            What::InProgress | What::Replay(_) => {}
        }
    }
    assert!(completed.len() <= 1, "a key has one outcome for ever: {completed:?}");
    for call in calls {
        match &call.what {
            What::Replay(bytes) => {
                assert!(completed.contains(bytes.as_slice()), "replayed out of nowhere: {call:?}");
            }
            What::Granted(_) | What::InProgress => {
                let late = settled_us.is_some_and(|settled_us| call.began_us > settled_us);
                assert!(!late, "after it was completed: {call:?}");
            }
            _ => {}
        }
    }
    for (token, (_, from_us, to_us)) in &held {
        for (other, (_, other_from_us, other_to_us)) in
            held.range::<str, _>((std::ops::Bound::Excluded(*token), std::ops::Bound::Unbounded))
        {
            let to_us = to_us.unwrap_or(u64::MAX);
            let overlap = *from_us < other_to_us.unwrap_or(u64::MAX) && *other_from_us < to_us;
            assert!(!overlap, "held at the same time: {token} and {other}");
            assert!(from_us <= other_from_us, "a later claim has the greater fence");
        }
    }
    held.len()
}

fn run(durable: &'static str, rounds: usize) {
    let cluster = Cluster::alone(durable);
    let (start, barrier) = (Instant::now(), Arc::new(Barrier::new(THREADS)));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (client, barrier) = (cluster.client(0), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                hammer(client, thread, start, rounds)
            })
        })
        .collect();
    let mut by_key: BTreeMap<usize, Vec<Call>> = BTreeMap::new();
    for thread in threads {
        for call in thread.join().expect("a client does not panic") {
            by_key.entry(call.key).or_default().push(call);
        }
    }
    let mut tokens = 0;
    for calls in by_key.values_mut() {
        calls.sort_by_key(|call| call.ended_us);
        tokens += judge(calls);
    }
    let in_progress = by_key.values().flatten().filter(|call| call.what == What::InProgress).count();
    // Otherwise the threads never met, and nothing was tested.
    assert!(tokens > KEYS && in_progress > 0, "{tokens} tokens, {in_progress} times in progress");
}

#[test]
fn hammered_keys_are_held_by_one_and_settled_once_at_interval() {
    run("interval", CALLS);
}

#[test]
fn hammered_keys_are_held_by_one_and_settled_once_at_always() {
    run("always", CALLS / 10);
}
