//! Clients: a paced load of claims and completions in batches, and a prober that times single claims.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use daemon::resp::{Client, Value};
use tests::Cluster;

/// Bytes of every key.
pub const KEY_BYTES: usize = 36;
/// Bytes of every outcome.
pub const OUTCOME_BYTES: usize = 200;
/// A paced load sends one batch in this time.
const BATCH_EVERY: Duration = Duration::from_millis(10);
/// Operations of a batch of an unpaced load.
const UNPACED_BATCH: u64 = 500;
/// Between two probes.
const PROBE_EVERY: Duration = Duration::from_millis(2);

/// A key of [`KEY_BYTES`] bytes.
pub fn key(tag: &str, number: u64) -> String {
    let key = format!("pay:{tag}:{number:0>width$}", width = KEY_BYTES - 5 - tag.len());
    assert_eq!(key.len(), KEY_BYTES);
    key
}

/// An outcome that does not compress.
pub fn outcome(number: u64) -> Vec<u8> {
    let mut random = tests::random::Random::new(number);
    (0..OUTCOME_BYTES / 8).flat_map(|_| random.word().to_le_bytes()).collect()
}

/// Claims and completes `numbers`, all claims first, then all completions, each in one write.
///
/// # Panics
/// One is refused.
pub fn run_batch(client: &mut Client, tag: &str, numbers: std::ops::Range<u64>) {
    let keys: Vec<_> = numbers.clone().map(|number| key(tag, number)).collect();
    for key in &keys {
        client.send(&[b"CLAIM", key.as_bytes()]).expect("a claim can be sent");
    }
    let claimed: Vec<_> = keys.iter().map(|_| client.recv().expect("a claim is answered")).collect();
    for ((key, claimed), number) in keys.iter().zip(&claimed).zip(numbers) {
        let token = claimed.field("token").and_then(Value::as_bytes);
        let token = token.unwrap_or_else(|| panic!("{key} is refused: {claimed:?}"));
        client.send(&[b"COMPLETE", key.as_bytes(), token, &outcome(number)]).expect("it can be sent");
    }
    for key in &keys {
        let completed = client.recv().expect("a completion is answered");
        assert_eq!(completed.status(), Some("COMPLETED"), "{key}: {completed:?}");
    }
}

/// `per_s` operations (a claim and a completion each) a second at `at` until `stop`; how many there were, and for how
/// long the load was behind its pace at most.
pub fn paced(cluster: &Cluster, at: usize, tag: &str, per_s: u64, stop: &AtomicBool) -> (u64, Duration) {
    let mut client = cluster.client(at);
    let (began, mut done, mut behind) = (Instant::now(), 0, Duration::ZERO);
    for batch in 1u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let wanted = (began.elapsed() + BATCH_EVERY).as_micros() as u64 * per_s / 1_000_000;
        if wanted > done {
            run_batch(&mut client, tag, done..wanted);
            done = wanted;
        }
        match (BATCH_EVERY * batch).checked_sub(began.elapsed()) {
            Some(early) => std::thread::sleep(early),
            None => behind = behind.max(began.elapsed() - BATCH_EVERY * batch),
        }
    }
    (done, behind)
}

/// `count` operations at `at`, as fast as one connection goes.
pub fn unpaced(cluster: &Cluster, at: usize, tag: &str, count: u64) {
    let mut client = cluster.client(at);
    for from in (0..count).step_by(UNPACED_BATCH as usize) {
        run_batch(&mut client, tag, from..(from + UNPACED_BATCH).min(count));
    }
}

/// Times single claims at `at` until `stop`; each took so many milliseconds.
pub fn probe(cluster: &Cluster, at: usize, tag: &str, stop: &AtomicBool) -> Vec<f64> {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let (mut client, mut took_ms) = (cluster.client(at), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let key = key(tag, SERIAL.fetch_add(1, Ordering::Relaxed));
        let began = Instant::now();
        let reply = client.call(&[b"CLAIM", key.as_bytes()]).expect("a claim is answered");
        took_ms.push(began.elapsed().as_secs_f64() * 1e3);
        assert_eq!(reply.status(), Some("GRANTED"), "{reply:?}");
        std::thread::sleep(PROBE_EVERY);
    }
    took_ms
}

/// Tells clients to stop when it goes, also because somebody panics: a scope waits for its threads.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How many keys a region holds.
pub fn keys(client: &mut Client) -> u64 {
    let reply = client.call(&[b"STATUS"]).expect("STATUS is answered");
    tests::int(&reply, "keys") as u64
}

/// The value below which so many percent of `values` lie.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
