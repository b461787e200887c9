//! Processor time from /proc: what a server spent, and what others on the machine took meanwhile.
//!
//! At 50 connections without pipelining every server ends near the same rate because the driver is the bottleneck;
//! what tells servers apart there is the CPU they spend on an operation. And a rate measured while somebody else
//! compiles is no rate: the share of foreign CPU is measured with every round. Must never count our own idle
//! waiting, or our driver, as foreign.

use anyhow::{Context, Result};
use std::time::Instant;

/// Linux reports process times in hundredths of a second on every architecture onced is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// A reading to be compared with a later one.
pub struct Reading {
    at: Instant,
    machine_busy_ticks: u64,
    ours_ticks: u64,
    servers_ticks: u64,
    pids: Vec<u32>,
}

/// What happened between two readings.
pub struct Spent {
    /// Seconds of CPU the servers took, user and system.
    pub servers_seconds: f64,
    /// Share of the machine's CPU taken by processes that are not ours, in percent of all cores. Kernel threads
    /// that write back our data count as foreign, and so does time stolen by the hypervisor.
    pub foreign_percent: f64,
}

/// Reads the clocks of the machine, of this process with its finished children, and of `pids`.
///
/// # Errors
/// /proc is missing, or one of the processes has ended.
pub fn read(pids: &[u32]) -> Result<Reading> {
    let mut servers_ticks = 0;
    for pid in pids {
        let [user, system, ..] = process_ticks(&format!("/proc/{pid}/stat"))?;
        servers_ticks += user + system;
    }
    Ok(Reading {
        at: Instant::now(),
        machine_busy_ticks: machine_busy_ticks()?,
        ours_ticks: process_ticks("/proc/self/stat")?.iter().sum(),
        servers_ticks,
        pids: pids.to_vec(),
    })
}

impl Reading {
    /// What happened since. The driver must have ended and been waited for: only then does it count as ours.
    ///
    /// # Errors
    /// As `read`.
    pub fn spent(&self) -> Result<Spent> {
        let now = read(&self.pids)?;
        let servers = now.servers_ticks - self.servers_ticks;
        let ours = now.ours_ticks - self.ours_ticks + servers;
        let busy = now.machine_busy_ticks - self.machine_busy_ticks;
        let offered = now.at.duration_since(self.at).as_secs_f64() * TICKS_PER_SECOND * cores() as f64;
        Ok(Spent {
            servers_seconds: servers as f64 / TICKS_PER_SECOND,
            foreign_percent: busy.saturating_sub(ours) as f64 / offered.max(1.0) * 100.0,
        })
    }
}

/// Cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Resident memory of a process in bytes.
///
/// # Errors
/// The process has ended.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("no VmRSS in {path}"))? * 1024)
}

/// User, system, and the same of children that were waited for.
fn process_ticks(path: &str) -> Result<[u64; 4]> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    parse_process_ticks(&text).with_context(|| format!("{path} has another form than expected"))
}

fn parse_process_ticks(text: &str) -> Option<[u64; 4]> {
    // The second field is the program's name in parentheses and may hold anything: start behind its end.
    let rest = text.rsplit_once(')')?.1;
    let mut fields = rest.split_whitespace().skip(11).map_while(|field| field.parse().ok());
    Some([fields.next()?, fields.next()?, fields.next()?, fields.next()?])
}

fn machine_busy_ticks() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    parse_busy_ticks(&text).context("/proc/stat has another form than expected")
}

/// All but idle and waiting for disks; guest time is part of user time already.
fn parse_busy_ticks(text: &str) -> Option<u64> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = fields[..] else { return None };
    Some(user + nice + system + irq + softirq + steal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_parenthesis_does_not_shift_the_fields() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194304 10 0 0 0 11 12 13 14 20 0 1 0";
        assert_eq!(parse_process_ticks(text), Some([11, 12, 13, 14]));
        assert_eq!(parse_process_ticks("7 (a"), None);
    }

    #[test]
    fn busy_is_all_but_idle_and_iowait() {
        assert_eq!(parse_busy_ticks("cpu  1 2 3 1000 1000 4 5 6 1 1\ncpu0 9"), Some(21));
    }
}
