//! Counters and gauges, through the `metrics` facade, rendered in Prometheus' text format.
//!
//! Handles are made once: the hot path increments an atomic and looks nothing up.

use crdt::request::Reply;
use metrics::{Counter, Gauge, counter, gauge};
use metrics_exporter_prometheus::{ExporterFuture, PrometheusBuilder, PrometheusHandle};
use std::net::SocketAddr;

/// Statuses that are counted, in the order of [`Metrics::count`].
const STATUSES: [&str; 17] = [
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
];

/// All metrics of the daemon.
pub struct Metrics {
    replies: [Counter; 17],
    /// Malformed or out-of-bounds requests.
    pub bad_requests: Counter,
    /// Requests without the role they need.
    pub refused: Counter,
    /// Connections opened.
    pub connections_opened: Counter,
    /// Keys remembered.
    pub keys: Gauge,
    /// Bytes of entries and index.
    pub memory_bytes: Gauge,
    /// Losers listed.
    pub conflicts: Gauge,
    handle: PrometheusHandle,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics(..)")
    }
}

impl Metrics {
    /// Installs the recorder of this process; called once. With an address, the future serves it over HTTP and
    /// is to be spawned.
    ///
    /// # Errors
    /// When the recorder cannot be built, or this process has one already.
    pub fn install(listen: Option<SocketAddr>) -> anyhow::Result<(Self, Option<ExporterFuture>)> {
        let (recorder, serve) = match listen {
            Some(address) => {
                let (recorder, serve) = PrometheusBuilder::new().with_http_listener(address).build()?;
                (recorder, Some(serve))
            }
            None => (PrometheusBuilder::new().build_recorder(), None),
        };
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| anyhow::anyhow!("metrics are installed twice"))?;
        let metrics = Self {
            replies: STATUSES.map(|status| counter!("onced_replies_total", "status" => status)),
            bad_requests: counter!("onced_bad_requests_total"),
            refused: counter!("onced_refused_total"),
            connections_opened: counter!("onced_connections_opened_total"),
            keys: gauge!("onced_keys"),
            memory_bytes: gauge!("onced_memory_bytes"),
            conflicts: gauge!("onced_conflicts"),
            handle,
        };
        Ok((metrics, serve))
    }

    /// Counts one reply by its status.
    pub fn count(&self, reply: &Reply<'_>) {
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
        };
        self.replies[at].increment(1);
    }

    /// Everything, as Prometheus reads it.
    pub fn render(&self) -> String {
        self.handle.render()
    }
}
