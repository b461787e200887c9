//! Requests at `home` (S5) between the sockets, the node and the store: peers' requests are run as they come, and our own
//! services are told what their homes said.
//!
//! Must never: decide; write or sync the log.

use crdt::node::ForwardCounts;

use super::Running;
use crate::driver::wall_ms;

/// A result's name, and its count.
type Row = (&'static str, fn(&ForwardCounts) -> u64);

impl Running {
    /// After every round, before what may leave does.
    pub(super) fn homes(&mut self) {
        while let Some(asked) = self.node.poll_asked() {
            // What it must wait for, the node's answer waits for; the reply is the peer's.
            let _ = self.node.run_asked(&self.shared.driver.store, &asked, wall_ms(), |_| {});
        }
        while let Some(answered) = self.node.poll_forwarded() {
            let Some(answer) = self.forwards.remove(&answered.ticket) else { continue };
            if answer.send(answered.verdict).is_err() {
                // Whoever asked has gone: what was granted stands in the others' way.
                self.node.withdraw(answered.asked, wall_ms());
            }
        }
    }

    /// Adds what has happened since to the metrics.
    pub(super) fn count_forwards(&mut self) {
        let now = self.node.forward_counts();
        let told = std::mem::replace(&mut self.forwards_told, now);
        let rows: [Row; 7] = [
            ("sent", |counts| counts.sent),
            ("answered", |counts| counts.answered),
            ("unreachable", |counts| counts.unreachable),
            ("withdrawn", |counts| counts.withdrawn),
            ("decided", |counts| counts.asked),
            ("refused", |counts| counts.refused),
            ("released", |counts| counts.released),
        ];
        for (result, of) in rows {
            metrics::counter!("onced_forwarded_total", "result" => result).increment(of(&now) - of(&told));
        }
    }
}
