//! Counters and gauges, through the `metrics` facade, rendered in Prometheus' text format.
//!
//! Handles are made once: the hot path increments an atomic and looks nothing up.

use anyhow::Context as _;
use crdt::request::Reply;
use crdt::store::ConflictCounts;
use metrics::{Counter, Gauge, counter, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

/// Statuses that are counted, in the order of [`ReplyCounts::count`].
const STATUSES: [&str; 18] = [
    "GRANTED",
    "REPLAY",
    "IN_PROGRESS",
    "MISMATCH",
    "UNKNOWN",
    "EXPIRED",
    "UNAVAILABLE",
    "COMPLETED",
    "CONTESTED",
    "SUPERSEDED",
    "STALE",
    "RENEWED",
    "RELEASED",
    "SETTLED",
    "HELD",
    "FREE",
    "FORGOTTEN",
    "BEHIND",
];

/// One namespace, `None` for those without a table, and its losers.
pub type NamespaceConflicts = (Option<Vec<u8>>, ConflictCounts);

/// Namespaces with a label of their own, so that a configuration of thousands does not make thousands of series.
pub const NAMESPACE_LABELS_MAX: usize = 100;
/// The label of all others; a namespace that has this name is one of them.
const OTHER: &str = "other";

/// All metrics of the daemon.
pub struct Metrics {
    replies: [Counter; STATUSES.len()],
    /// Malformed or out-of-bounds requests.
    pub bad_requests: Counter,
    /// Requests without the role they need.
    pub refused: Counter,
    /// Connections opened.
    pub connections_opened: Counter,
    /// Keys remembered.
    pub keys: Gauge,
    /// Losers listed.
    conflicts: Gauge,
    /// As last seen, so that only what has changed is looked up.
    conflicts_seen: Mutex<Vec<NamespaceConflicts>>,
    /// Bytes of log that files allocated ahead still take.
    pub log_room_bytes: Gauge,
    /// How often the disk was found full, and claims refused for it.
    pub disk_full: Counter,
    /// How often the reserve was used up as well, and everything but reads refused.
    pub reserve_exhausted: Counter,
    /// Links made, this side having accepted or dialled.
    pub links_opened: Counter,
    /// Requests at home whose home was not to be asked, and which were decided here.
    forwards_fallback: Counter,
    /// The same, and refused.
    forwards_refused: Counter,
    /// Configurations reloaded.
    pub reloads: Counter,
    /// Reloads refused, which changed nothing.
    pub reloads_refused: Counter,
    handle: PrometheusHandle,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics(..)")
    }
}

impl Metrics {
    /// Installs the recorder of this process; called once. With an address, a thread of its own serves them over
    /// HTTP.
    ///
    /// # Errors
    /// When the recorder cannot be built, or this process has one already.
    pub fn install(listen: Option<SocketAddr>) -> anyhow::Result<Self> {
        let recorder = match listen {
            Some(address) => serve(address)?,
            None => PrometheusBuilder::new().build_recorder(),
        };
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| anyhow::anyhow!("metrics are installed twice"))?;
        Ok(Self {
            replies: STATUSES.map(|status| counter!("onced_replies_total", "status" => status)),
            bad_requests: counter!("onced_bad_requests_total"),
            refused: counter!("onced_refused_total"),
            connections_opened: counter!("onced_connections_opened_total"),
            keys: gauge!("onced_keys"),
            conflicts: gauge!("onced_conflicts"),
            conflicts_seen: Mutex::default(),
            log_room_bytes: gauge!("onced_log_room_bytes"),
            disk_full: counter!("onced_disk_full_total"),
            reserve_exhausted: counter!("onced_log_reserve_exhausted_total"),
            links_opened: counter!("onced_links_opened_total"),
            forwards_fallback: counter!("onced_home_unreachable_total", "result" => "fallback"),
            forwards_refused: counter!("onced_home_unreachable_total", "result" => "refused"),
            reloads: counter!("onced_reloads_total", "result" => "ok"),
            reloads_refused: counter!("onced_reloads_total", "result" => "refused"),
            handle,
        })
    }

    /// Losers by namespace, as the store counts them: those of namespaces without a table, and of tables beyond
    /// [`NAMESPACE_LABELS_MAX`], have one label together.
    pub fn observe_conflicts(&self, counts: &[NamespaceConflicts]) {
        let mut seen = self.conflicts_seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == counts {
            return;
        }
        let (mut all, mut others) = (0, ConflictCounts::default());
        for (at, (namespace, counts)) in counts.iter().enumerate() {
            all += counts.listed;
            match namespace {
                Some(name) if at < NAMESPACE_LABELS_MAX && name != OTHER.as_bytes() => {
                    label(&String::from_utf8_lossy(name), counts);
                }
                _ => {
                    others.listed += counts.listed;
                    others.uncompensated += counts.uncompensated;
                    others.detected += counts.detected;
                    others.compensated += counts.compensated;
                }
            }
        }
        label(OTHER, &others);
        // A namespace that has lost its table is counted among the others from now on.
        for (name, _) in seen.iter().filter(|(name, _)| counts.iter().all(|(known, _)| known != name)) {
            let name = name.as_deref().unwrap_or_default();
            label(&String::from_utf8_lossy(name), &ConflictCounts::default());
        }
        self.conflicts.set(all as f64);
        *seen = counts.to_vec();
    }

    /// Of requests whose home could not be asked, by whether they were decided here.
    pub const fn forwards_unanswered(&self, falls_back: bool) -> &Counter {
        if falls_back { &self.forwards_fallback } else { &self.forwards_refused }
    }

    /// Everything, as Prometheus reads it.
    pub fn render(&self) -> String {
        self.handle.render()
    }
}

/// Replies of one read by their status, so that the metrics' shared counters are touched once for all of them.
#[derive(Clone, Debug, Default)]
pub struct ReplyCounts {
    counts: [u32; STATUSES.len()],
    any: bool,
}

impl ReplyCounts {
    /// Counts one reply by its status.
    pub fn count(&mut self, reply: &Reply<'_>) {
        let at = match reply {
            Reply::Granted { .. } => 0,
            Reply::Replay(_) => 1,
            Reply::InProgress { .. } => 2,
            Reply::Mismatch { .. } => 3,
            Reply::Unknown(_) => 4,
            Reply::Expired => 5,
            Reply::Unavailable { .. } => 6,
            Reply::Completed { .. } => 7,
            Reply::Contested { .. } => 8,
            Reply::Superseded { .. } => 9,
            Reply::Stale(_) => 10,
            Reply::Renewed { .. } => 11,
            Reply::Released => 12,
            Reply::Settled(_) => 13,
            Reply::Held { .. } => 14,
            Reply::Free => 15,
            Reply::Forgotten(_) => 16,
            Reply::Behind { .. } => 17,
        };
        self.counts[at] += 1;
        self.any = true;
        if let Reply::Unavailable { reason, .. } = reply {
            // Looked up each time: what is refused is not the hot path.
            counter!("onced_unavailable_total", "reason" => reason.name()).increment(1);
        }
    }

    /// Adds them to the metrics and starts anew.
    pub fn add_to(&mut self, metrics: &Metrics) {
        if !std::mem::take(&mut self.any) {
            return;
        }
        for (count, counter) in self.counts.iter_mut().zip(&metrics.replies).filter(|(count, _)| **count > 0)
        {
            counter.increment(u64::from(std::mem::take(count)));
        }
    }
}

/// Sets the figures of one label. Looked up each time: they change when operations have run twice.
fn label(namespace: &str, counts: &ConflictCounts) {
    let namespace = namespace.to_owned();
    gauge!("onced_conflicts_listed", "namespace" => namespace.clone()).set(counts.listed as f64);
    gauge!("onced_conflicts_uncompensated", "namespace" => namespace.clone())
        .set(counts.uncompensated as f64);
    counter!("onced_conflicts_detected_total", "namespace" => namespace.clone()).absolute(counts.detected);
    counter!("onced_conflicts_compensated_total", "namespace" => namespace).absolute(counts.compensated);
}

/// Binds `address` and serves what is recorded from a thread of its own: a scrape must not wait for the peers'
/// thread, nor they for it.
fn serve(address: SocketAddr) -> anyhow::Result<PrometheusRecorder> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let inside = runtime.enter();
    let built = PrometheusBuilder::new().with_http_listener(address).build();
    let (recorder, serving) =
        built.with_context(|| format!("{address}: metrics cannot be served; check [metrics] listen"))?;
    drop(inside);
    std::thread::Builder::new().name("metrics".into()).spawn(move || {
        if let Err(error) = runtime.block_on(serving) {
            tracing::error!(?error, "the metrics endpoint has ended");
        }
    })?;
    Ok(recorder)
}
