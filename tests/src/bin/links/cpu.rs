//! Who used this machine's cores while something was measured: each daemon, this program (load and relay), and others,
//! whose share says how far a figure is to be trusted.

use std::path::Path;
use std::time::Instant;

use tests::Cluster;
use tests::setup::NAMES;

use crate::table::{Goal, Row};

/// Clock ticks a second in `/proc`: fixed by the kernel's interface to programs.
const TICKS_PER_S: f64 = 100.0;

/// What everybody had used at one moment, in ticks.
pub struct Used {
    at: Instant,
    daemons: Vec<u64>,
    own: u64,
    all: u64,
}

impl Used {
    /// By now.
    pub fn now(cluster: &Cluster) -> Self {
        let of = |pid: &str| {
            let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
            // Behind the name, which may hold anything, utime and stime are the 12th and 13th words.
            let words = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
            words.filter_map(|word| word.parse::<u64>().ok()).sum()
        };
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let words = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).enumerate();
        // Idle and waiting for the disk are the 4th and 5th; those of guests (from the 9th on) are counted before.
        let busy = words.filter(|(at, _)| *at < 8 && *at != 3 && *at != 4);
        Self {
            at: Instant::now(),
            daemons: (0..cluster.regions()).map(|at| of(&cluster.pid(at).to_string())).collect(),
            own: of("self"),
            all: busy.filter_map(|(_, word)| word.parse::<u64>().ok()).sum(),
        }
    }

    /// Rows of cores used since then.
    pub fn rows(&self, cluster: &Cluster, during: &str) -> Vec<Row> {
        let now = Self::now(cluster);
        let seconds = (now.at - self.at).as_secs_f64();
        let cores = |from: u64, to: u64| to.saturating_sub(from) as f64 / TICKS_PER_S / seconds;
        let row =
            |who: &str, cores| Row::new(format!("{during}: CPU of {who}"), Goal::Stated, cores, "cores");
        let daemons: Vec<_> =
            self.daemons.iter().zip(&now.daemons).map(|(from, to)| cores(*from, *to)).collect();
        let own = cores(self.own, now.own);
        let others = (cores(self.all, now.all) - own - daemons.iter().sum::<f64>()).max(0.0);
        let mut rows: Vec<_> = NAMES.iter().zip(&daemons).map(|(name, cores)| row(name, *cores)).collect();
        rows.push(row("load and relay", own));
        rows.push(row("others: figures of a busy machine are worth little", others));
        rows
    }
}

/// Datagrams that found a region's UDP sockets full, since its namespace was made.
pub fn dropped_by_sockets(cluster: &Cluster, at: usize) -> u64 {
    let path = Path::new("/proc").join(cluster.pid(at).to_string()).join("net/snmp");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut columns = names.split(' ').zip(values.split(' '));
    columns.find(|(name, _)| *name == "RcvbufErrors").and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}
