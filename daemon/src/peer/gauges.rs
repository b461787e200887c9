//! What PEERS shows, for machines: one gauge a column, by region name.
//!
//! Must never: say anything that PEERS does not.

use metrics::{counter, gauge};

use crdt::node::{LinkState, PeerView};

/// A peer is retired: its gauges become NaN, which no alert compares with.
pub(super) fn forget(region: &str) {
    for name in [
        "onced_peer_linked",
        "onced_peer_stalled",
        "onced_peer_lag_records",
        "onced_peer_lag_ms",
        "onced_peer_rtt_ms",
        "onced_peer_offset_ms",
        "onced_peer_silent_ms",
        "onced_peer_compared_ago_ms",
        "onced_peer_behind",
    ] {
        gauge!(name, "peer" => region.to_owned()).set(f64::NAN);
    }
}

/// Sets the gauges of one peer; to be called a few times a second.
pub(super) fn set(region: &str, view: &PeerView, wall_ms: u64) {
    let labels = [("peer", region.to_owned())];
    gauge!("onced_peer_linked", &labels).set(f64::from(u8::from(view.state == LinkState::Linked)));
    gauge!("onced_peer_stalled", &labels).set(f64::from(u8::from(view.state == LinkState::Stalled)));
    gauge!("onced_peer_lag_records", &labels).set(view.lag_records as f64);
    gauge!("onced_peer_lag_ms", &labels).set(view.lag_ms as f64);
    if let Some(rtt_ms) = view.rtt_ms {
        gauge!("onced_peer_rtt_ms", &labels).set(rtt_ms as f64);
    }
    if let Some(offset_ms) = view.offset_ms {
        gauge!("onced_peer_offset_ms", &labels).set(offset_ms as f64);
    }
    if let Some(at_ms) = view.last_heard_ms {
        gauge!("onced_peer_silent_ms", &labels).set(wall_ms.saturating_sub(at_ms) as f64);
    }
    if let Some(at_ms) = view.compared_ms {
        gauge!("onced_peer_compared_ago_ms", &labels).set(wall_ms.saturating_sub(at_ms) as f64);
    }
    gauge!("onced_peer_behind", &labels).set(f64::from(u8::from(view.behind)));
    counter!("onced_peer_bytes_out_total", &labels).absolute(view.bytes_out);
    counter!("onced_peer_bytes_in_total", &labels).absolute(view.bytes_in);
    counter!("onced_peer_applied_total", &labels).absolute(view.applied);
    counter!("onced_peer_repaired_total", &labels).absolute(view.repaired);
    counter!("onced_peer_refused_total", &labels).absolute(view.refused);
}
