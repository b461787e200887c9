//! Power cuts: three regions on disks of their own under load, the power goes, and what clients were told is there.
//!
//! A real file system, because only that loses what was not synced: ext4 in an image, shut down without a flush of its
//! journal, mounted again ([`disk`]). Each cut takes one, two or all three regions; all three is the hardest, for then
//! nobody can help with what is gone. The victims are first looked at alone, cut off from everybody, so that what a
//! region lost is not quietly fetched from its peers; then the links are healed and all must agree.
//!
//! It must never judge by what onced says of itself (only by what its clients were told), and never leave a mount, a
//! loop device or a process behind.

pub mod disk;
pub mod judge;
pub mod load;
pub mod probe;
pub mod report;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use daemon::resp::{Client, Value};

use self::disk::{CutAt, Disks, Lack, Manner};
use self::judge::{Stamps, WINDOW_US, kept, look, lost};
use self::load::{Board, History, Load, Operation, Promises, claimant_of, is_outcome, outcome_of};
use self::probe::Probe;
use self::report::Tally;
use crate::cluster::pause;
use crate::random::Random;
use crate::setup::NAMES;
use crate::wait::LIMIT;
use crate::{Cluster, Setup, field, status, until};

/// Regions of every run.
const REGIONS: usize = 3;
/// Cuts on the same disks; then new ones are made, so that images stay small however many cuts there are.
const CUTS_PER_CLUSTER: usize = 7;
/// Duplicates asked for after each cut.
const DUPLICATES: usize = 200;
/// Keys of former rounds that each victim is asked for.
const KEPT_LOOKED_AT: usize = 5_000;
/// Keys that regions disagree on, named in a failure.
const DIFFERENCES_SHOWN: usize = 5;
/// Segments of the least size that can be configured, so that they rotate under the cuts.
const LOG: &str = "segment_bytes = \"1MiB\"\nsync_interval = \"50ms\"";
const PAY: &str = "[namespace.pay]\ndurable = \"always\"\n\n";
/// Keys that die by themselves while the power is cut again and again.
const BRIEF: &str = "[namespace.brief]\nretention = \"8s\"\nlease = \"2s\"\n";

/// Cuts the power `cuts` times; `told` hears after each, and says whether to go on. Clusters take turns in what they promise.
///
/// # Errors
/// What the machine lacks.
///
/// # Panics
/// A promise was broken.
pub fn run(cuts: usize, seed: u64, mut told: impl FnMut(&Tally) -> bool) -> Result<Tally, Lack> {
    let mut tally = Tally::new(seed);
    let mut random = Random::new(seed);
    let mut number = 0;
    let mut on = true;
    while on && tally.cuts < cuts {
        let mut power = Power::start(number, random.fork(number as u64))?;
        for _ in 0..CUTS_PER_CLUSTER.min(cuts - tally.cuts) {
            power.cut_once(&mut tally);
            tally.cuts += 1;
            on = told(&tally);
            if !on {
                break;
            }
        }
        power.finish();
        number += 1;
    }
    Ok(tally)
}

const KINDS: [Promises; 3] = [Promises::Mixed, Promises::Interval, Promises::Always];

/// One cluster and its disks.
struct Power {
    // Its daemons are ended before the disks are unmounted.
    cluster: Cluster,
    disks: Disks,
    number: usize,
    promises: Promises,
    random: Random,
    board: Board,
    stamps: [Stamps; REGIONS],
    /// What every region's clients know, and have found to be kept, of all rounds.
    kept: Vec<Operation>,
    rounds: usize,
}

/// One region's clients of one round.
struct Round {
    at: usize,
    histories: Vec<History>,
    cut: Option<CutAt>,
    /// What the machine itself adds to the window, in microseconds.
    delay_us: u64,
}

impl Round {
    /// What was acknowledged longer than this before the cut is there, at `interval`: a sync was under way when the answer
    /// left, and the next one covers it.
    fn window_us(&self) -> u64 {
        WINDOW_US + 2 * self.delay_us
    }

    /// What is judged; keys of `brief` die by themselves.
    fn operations(&self) -> impl Iterator<Item = &Operation> {
        let all = self.histories.iter().flat_map(|history| &history.operations);
        all.filter(|operation| !operation.key.starts_with("brief:"))
    }
}

impl Power {
    fn start(number: usize, random: Random) -> Result<Self, Lack> {
        let promises = KINDS[number % KINDS.len()];
        let disks = Disks::create(REGIONS)?;
        let (durable, pay) = match promises {
            Promises::Mixed => ("interval", PAY),
            Promises::Interval => ("interval", ""),
            Promises::Always => ("always", ""),
        };
        let tables = format!("{pay}{BRIEF}");
        let setup = Setup { durable, log: LOG.to_owned(), tables, ..Setup::regions(REGIONS) };
        let mut cluster = Cluster::prepare(setup);
        for at in 0..REGIONS {
            let pointer = cluster.own(at).join("data");
            std::os::unix::fs::symlink(disks.data(at), pointer).expect("a link can be made");
            cluster.spawn(at);
        }
        (0..REGIONS).for_each(|at| cluster.wait_ready(at));
        cluster.wait_linked();
        let (board, stamps, kept) = (Board::default(), Default::default(), Vec::new());
        Ok(Self { cluster, disks, number, promises, random, board, stamps, kept, rounds: 0 })
    }

    /// Load, cut, recovery, judgement.
    fn cut_once(&mut self, tally: &mut Tally) {
        let round = self.rounds;
        self.rounds += 1;
        let incarnations = self.incarnations();
        let (cluster, board, random) = (&self.cluster, &self.board, &mut self.random);
        let mut loads: Vec<_> = (0..REGIONS)
            .map(|at| Some(Load::start(cluster, at, &format!("{round}.{at}"), self.promises, board, random)))
            .collect();
        let mut probes: Vec<_> = (0..REGIONS).map(|at| Some(Probe::start(&self.disks.folder(at)))).collect();
        until("all regions acknowledge", || loads.iter().flatten().all(|load| load.acknowledged() > 0));
        // What the round before has left to be synced everywhere is so by then.
        pause(Duration::from_micros(WINDOW_US) + Duration::from_millis(self.random.below(400) as u64));
        let victims = self.victims();
        let manner = if self.random.once_in(2) { Manner::Torn } else { Manner::Plain };
        let cuts = self.disks.cut(&victims, manner, self.random.word());
        self.end(&victims);
        tally.count_cut(victims.len(), manner);
        let mut rounds = Vec::new();
        for (at, cut) in victims.iter().zip(cuts) {
            let histories = loads[*at].take().expect("each victim once").end();
            let delay_us = probes[*at].take().expect("one a region").end();
            rounds.push(Round { at: *at, histories, cut: Some(cut), delay_us });
        }
        self.recover(&victims, &rounds, tally);
        probes.into_iter().flatten().map(Probe::end).for_each(|_delay_us| {});
        // The others never stopped.
        for (at, load) in loads.into_iter().enumerate() {
            let Some(load) = load else { continue };
            rounds.push(Round { at, histories: load.end(), cut: None, delay_us: 0 });
        }
        self.cluster.wait_linked();
        self.agree(rounds.iter().flat_map(Round::operations));
        for round in &rounds {
            tally.count_promises(round.operations());
            self.stamps[round.at].note(&round.histories).unwrap_or_else(|broken| panic!("{broken}"));
        }
        self.check_incarnations(&incarnations, &victims, tally);
        self.judge_together(rounds, tally);
    }

    /// One region, in turn, or two, or all.
    fn victims(&mut self) -> Vec<usize> {
        let first = self.rounds % REGIONS;
        let mut victims = match self.rounds % 7 {
            2 => vec![first, (first + 1) % REGIONS],
            0 | 4 => (0..REGIONS).collect(),
            _ => vec![first],
        };
        victims.sort_unstable();
        victims
    }

    /// A machine without power ends at once; one whose disk alone is gone lets the daemon find out.
    fn end(&mut self, victims: &[usize]) {
        let killed = self.random.once_in(2);
        for at in victims {
            if killed {
                self.cluster.kill(*at);
            } else {
                let ended = self.cluster.wait_end(*at);
                assert!(!ended.success(), "a daemon whose disk fails must say so: {ended}");
            }
        }
    }

    /// Starts the victims on what their disks still hold, each looked at before any peer reaches it.
    fn recover(&mut self, victims: &[usize], rounds: &[Round], tally: &mut Tally) {
        for at in (0..REGIONS).filter(|at| !victims.contains(at)) {
            victims.iter().for_each(|victim| self.cut_off(at, *victim));
        }
        let mut began = Vec::new();
        for (number, (at, round)) in victims.iter().zip(rounds).enumerate() {
            let torn_before = self.cluster.log(*at).matches("torn record").count();
            self.disks.remount(*at);
            tally.count_files((self.number, *at), &self.disks.data(*at));
            began.push(Instant::now());
            self.cluster.spawn(*at);
            let mut client = self.answering(*at);
            tally.answering(began[number].elapsed());
            tally.torn_tails += self.cluster.log(*at).matches("torn record").count() - torn_before;
            victims[number + 1..].iter().for_each(|later| self.cut_off(*at, *later));
            self.judge_alone(&mut client, round, tally);
        }
        for at in 0..REGIONS {
            (at + 1..REGIONS).for_each(|other| self.cluster.heal(at, other));
        }
        for (at, began) in victims.iter().zip(began) {
            self.cluster.wait_ready(*at);
            tally.ready(began.elapsed());
        }
    }

    fn cut_off(&self, at: usize, other: usize) {
        let reply = self.cluster.call(at, &[b"PEER", b"CUT", NAMES[other].as_bytes()]);
        assert_eq!(field(&reply, "status"), "OK");
    }

    /// A connection to a region as soon as it reads the log no more.
    fn answering(&mut self, at: usize) -> Client {
        let mut connected = None;
        until(&format!("{} answers", NAMES[at]), || {
            if let Some(status) = self.cluster.ended(at) {
                panic!("{} does not start from its disk after the cut: {status}", NAMES[at]);
            }
            connected = Client::connect(self.cluster.socket(at), LIMIT)
                .and_then(|mut client| client.hello3().map(|_| client))
                .ok();
            connected.is_some()
        });
        connected.expect("the condition was met")
    }

    /// INV-7, by the region's own disk alone.
    fn judge_alone(&self, client: &mut Client, round: &Round, tally: &mut Tally) {
        let cut = round.cut.expect("only victims are judged alone");
        let operations: Vec<_> = round.operations().collect();
        let replies = look(client, operations.iter().map(|operation| operation.key.as_str()));
        for (operation, reply) in operations.iter().zip(&replies) {
            let lost = lost(operation, reply).unwrap_or_else(|wrong| panic!("{wrong}"));
            for promise in lost.promises() {
                // Told by a process that had outlived its power: ext4 lets a sync that was under way when it was shut
                // down succeed, though it then refuses to note where the bytes are. No machine without power answers.
                let Some(age_us) = cut.before_us.checked_sub(promise.at_us) else {
                    tally.told_late += 1;
                    continue;
                };
                let name = NAMES[round.at];
                assert!(!promise.durable, "{name} LOST AT ALWAYS, {age_us} us old: {operation:?}, {reply:?}");
                assert!(
                    age_us <= round.window_us(),
                    "{name} lost what was {age_us} us old, of {} us: {operation:?}, {reply:?}",
                    round.window_us()
                );
                tally.lost_alone(age_us);
            }
        }
        let served: Vec<_> = round.histories.iter().flat_map(|history| &history.served).collect();
        let replies = look(client, served.iter().map(|served| served.key.as_str()));
        for (served, reply) in served.iter().zip(&replies) {
            let age_us = cut.before_us.saturating_sub(served.promise.at_us);
            let may_be_gone = age_us == 0 || (!served.promise.durable && age_us <= round.window_us());
            assert!(
                may_be_gone || kept(served, reply),
                "{} LOST WHAT IT SERVED: {served:?}, {reply:?}",
                NAMES[round.at]
            );
        }
        tally.served += served.len();
        // What former rounds kept stays; all of it is looked at in the end.
        let step = self.kept.len() / KEPT_LOOKED_AT + 1;
        let sample: Vec<_> = self.kept.iter().skip(self.rounds % step).step_by(step).collect();
        let replies = look(client, sample.iter().map(|operation| operation.key.as_str()));
        for (operation, reply) in sample.into_iter().zip(&replies) {
            let lost = lost(operation, reply).unwrap_or_else(|wrong| panic!("{wrong}"));
            let (name, none) = (NAMES[round.at], lost.promises().next().is_none());
            assert!(
                none,
                "LOST by {name}, though it had it at the end of an earlier round: {operation:?}, {reply:?}"
            );
        }
    }

    /// After all have talked: what is left of the round, its retries, its duplicates.
    fn judge_together(&mut self, rounds: Vec<Round>, tally: &mut Tally) {
        let mut duplicates = Vec::new();
        for round in rounds {
            let mut client = self.cluster.client(self.random.below(REGIONS));
            let operations: Vec<_> = round.operations().cloned().collect();
            let replies = look(&mut client, operations.iter().map(|operation| operation.key.as_str()));
            let mut own = self.cluster.client(round.at);
            for (mut operation, reply) in operations.into_iter().zip(replies) {
                let lost = lost(&operation, &reply).unwrap_or_else(|wrong| panic!("{wrong}"));
                for promise in lost.promises() {
                    let told_late = round.cut.is_some_and(|cut| promise.at_us > cut.before_us);
                    let possible = round.cut.is_some() && (!promise.durable || told_late);
                    assert!(possible, "LOST BY ALL: {operation:?}, {reply:?}");
                    tally.lost_by_all += usize::from(!told_late);
                }
                if lost.outcome.is_some() {
                    operation.completed = None;
                }
                self.retry(&mut own, round.at, &mut operation, status(&reply) == "FREE");
                if operation.completed.is_some() && duplicates.len() < DUPLICATES {
                    duplicates.push(operation.key.clone());
                }
                self.kept.push(operation);
            }
        }
        let mut client = self.cluster.client(self.random.below(REGIONS));
        // Retries spread within milliseconds; the first that is not there yet would be granted.
        self.agree(std::iter::empty());
        for key in duplicates {
            let reply = client.call(&[b"CLAIM", key.as_bytes(), b"CLAIMANT", b"another"]).expect("answered");
            assert!(status(&reply) == "REPLAY" && is_outcome(&reply, &key), "{key}: {reply:?}");
            tally.replayed += 1;
        }
    }

    /// Does what a client does whose answer was lost: the same again (S4.1, S4.2).
    fn retry(&mut self, client: &mut Client, at: usize, operation: &mut Operation, free: bool) {
        let key = operation.key.as_bytes();
        let now = Some(load::Promise { at_us: load::now_us(), durable: true });
        if operation.claim.is_none() || (free && !operation.completing) {
            let claimant = claimant_of(&operation.key);
            let words: [&[u8]; 7] =
                [b"CLAIM", key, b"CLAIMANT", claimant.as_bytes(), b"LEASE", b"3600000", b"DURABLE"];
            let reply = client.call(&words).expect("answered");
            assert_eq!(status(&reply), "GRANTED", "{operation:?} was lost or never was: {reply:?}");
            let token = field(&reply, "token");
            if free {
                self.stamps[at].note_later(&token).unwrap_or_else(|broken| panic!("{broken}"));
            }
            operation.claim = Some((token, field(&reply, "claim_id")));
            operation.granted = now;
        }
        let (token, _) = operation.claim.clone().expect("known by now");
        if operation.completing && operation.completed.is_none() {
            let outcome = outcome_of(&operation.key);
            let words: [&[u8]; 5] = [b"COMPLETE", key, token.as_bytes(), &outcome, b"DURABLE"];
            let reply = client.call(&words).expect("answered");
            assert_eq!(status(&reply), "COMPLETED", "{operation:?}: {reply:?}");
            operation.completed = now;
        }
    }

    fn incarnations(&self) -> Vec<u64> {
        let of = |at| field(&self.cluster.call(at, &[b"STATUS"]), "incarnation");
        (0..REGIONS).map(|at| of(at).parse().expect("a number")).collect()
    }

    /// INV-16, S6: a new life where acknowledged data may be gone, and nowhere else.
    fn check_incarnations(&self, before: &[u64], victims: &[usize], tally: &mut Tally) {
        for (at, now) in self.incarnations().into_iter().enumerate() {
            let anew = victims.contains(&at) && self.promises != Promises::Always;
            let (name, before) = (NAMES[at], before[at]);
            assert!(if anew { now > before } else { now == before }, "{name} was {before} and is {now}");
            tally.incarnations += usize::from(anew);
        }
    }

    /// Everything is everywhere; and a disk that is mounted again after an orderly end has lost nothing.
    fn finish(mut self) {
        self.agree(std::iter::empty());
        (0..REGIONS).for_each(|at| self.check_kept(at));
        let incarnations = self.incarnations();
        for (at, name) in NAMES.into_iter().enumerate().take(REGIONS) {
            self.cluster.terminate(at);
            assert!(self.cluster.wait_end(at).success(), "{name} ends in order");
            self.disks.remount(at);
            self.cluster.spawn(at);
            self.answering(at);
            self.check_kept(at);
        }
        (0..REGIONS).for_each(|at| self.cluster.wait_ready(at));
        assert_eq!(self.incarnations(), incarnations, "an orderly end loses nothing");
    }

    /// INV-2; where they do not agree, on what.
    fn agree<'o>(&'o self, more: impl Iterator<Item = &'o Operation>) {
        let began = Instant::now();
        let digests = || (0..REGIONS).map(|at| self.cluster.digest(at)).collect::<BTreeSet<_>>();
        while digests().len() > 1 {
            if began.elapsed() > LIMIT {
                let keys: Vec<_> = self.kept.iter().chain(more).map(|known| known.key.as_str()).collect();
                panic!(
                    "INV-2: not within {LIMIT:?}: all regions hold the same state; {}",
                    self.differences(&keys)
                );
            }
            pause(Duration::from_millis(5));
        }
    }

    fn differences(&self, keys: &[&str]) -> String {
        let mut clients: Vec<_> = (0..REGIONS).map(|at| self.cluster.client(at)).collect();
        let seen: Vec<_> = clients.iter_mut().map(|client| look(client, keys.iter().copied())).collect();
        let differ: Vec<_> =
            (0..keys.len()).filter(|at| seen.iter().any(|s| s[*at] != seen[0][*at])).collect();
        let mut text = format!("{} of {} keys differ:", differ.len(), keys.len());
        for at in differ.into_iter().take(DIFFERENCES_SHOWN) {
            text.push_str(&format!("\n{}", keys[at]));
            for seen in &seen {
                let claim = seen[at].field("claim_id").and_then(Value::as_str).unwrap_or("-");
                text.push_str(&format!("  {} {claim}", status(&seen[at])));
            }
        }
        for (at, client) in clients.iter_mut().enumerate() {
            text.push_str(&format!("\n{}: {:?}", NAMES[at], crate::cluster::peers(client)));
        }
        text
    }

    fn check_kept(&self, at: usize) {
        let replies = look(&mut self.cluster.client(at), self.kept.iter().map(|kept| kept.key.as_str()));
        for (operation, reply) in self.kept.iter().zip(&replies) {
            let lost = lost(operation, reply).unwrap_or_else(|wrong| panic!("{wrong}"));
            assert!(lost.promises().next().is_none(), "LOST at {}: {operation:?}, {reply:?}", NAMES[at]);
        }
    }
}
