//! How regions end and begin again: crashes of three degrees, starts from what the disk holds, and what
//! the operator does about a disk that is not fit to start from.
//!
//! What a crash took is told to the oracle only when the region lives again: a machine may lose its power
//! while a process that died before is down or about to start.
//!
//! Must never: help recovery; it gets the files as the disk has them.

use crdt::recovery::Damage;

use super::log::{Begin, Log};
use super::{Event, World};
use crate::disk::{Call, Fail};
use crate::goals::Goal;
use crate::limits;
use crate::oracle::facts::Lsn;
use crate::oracle::violation::{Violation, clause};
use crate::replica::Replica;
use crate::replica::rot::covered_bytes;
use crate::story::{Degree, What};

/// How much goes down with a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Death {
    /// The process: what was written stays.
    Process,
    /// The machine: what was synced stays.
    Power,
    /// The machine and its disk.
    Disk,
    /// The process, and its data: an old copy takes their place.
    Restored,
}

impl Death {
    /// As a story names it.
    const fn degree(self) -> Degree {
        match self {
            Self::Process => Degree::Process,
            Self::Power => Degree::Power,
            Self::Disk => Degree::Disk,
            Self::Restored => Degree::Backup,
        }
    }
}

/// What the crashes since a region lived last have taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crash {
    /// Its log survived at least up to here.
    kept: Lsn,
    /// Nothing that the kernel had is lost.
    process_only: bool,
    /// Nor is anything left …
    wiped: bool,
    /// … but an old copy.
    restored: bool,
}

impl Crash {
    /// Whether a record is sure to have survived.
    pub(super) const fn keeps(&self, lsn: Lsn) -> bool {
        !self.wiped && lsn <= self.kept
    }
}

impl World {
    /// A region dies, or its machine does while it is down. It starts again after `down_us`.
    pub(super) fn crash(&mut self, at: usize, down_us: u64, death: Death) {
        let now_us = self.now_us();
        let is_member = self.is_member(at);
        let site = &mut self.sites[at];
        // A machine that nobody has yet cannot fail.
        if !site.born && !is_member {
            return;
        }
        if site.replica.is_none() && death == Death::Process {
            // There is no process to end, but whoever wanted it down for so long is not asked to be content with less.
            self.stay_down(at, down_us);
            return;
        }
        site.note_lack();
        let lived = site.replica.take().is_some();
        site.life += 1;
        if !site.held.is_empty() {
            self.goals.reach(Goal::ReplyDied);
        }
        site.held.clear();
        site.parked.clear();
        site.asking.clear();
        site.forwarding.clear();
        site.links.fill(0);
        (site.log, site.fuse) = (None, None);
        // A process that stood still is ended all the same, and whoever held it wants nothing of it before.
        let down_us = down_us.max(site.paused_until_us.saturating_sub(now_us));
        site.paused_until_us = 0;
        site.disk.set_fuse(None);
        let kept = if death == Death::Process { site.written } else { site.synced };
        let crash =
            site.crash.get_or_insert(Crash { kept, process_only: true, wiped: false, restored: false });
        crash.kept = crash.kept.min(kept);
        crash.process_only &= death == Death::Process;
        if let Death::Disk | Death::Restored = death {
            (crash.wiped, crash.restored) = (true, death == Death::Restored);
        }
        // Another crash while it is down brings it back no sooner: an incarnation is numbered by the time of its birth.
        let down_us = if crash.wiped { down_us.max(limits::REBIRTH_US) } else { down_us };
        self.trace.event(now_us, "crash", &[at as u64, death as u64, crash.kept]);
        self.story.crashed(now_us, at, death.degree());
        match death {
            Death::Process => {}
            Death::Power => self.cut_power(at),
            Death::Disk => {
                let site = &mut self.sites[at];
                site.boot += 1;
                site.disk.lose_everything();
                self.goals.reach(Goal::DiskLost);
            }
            // The machine goes on: nothing but the copy itself says that a life is over.
            Death::Restored => {}
        }
        self.stay_down(at, down_us);
        if !lived {
            return;
        }
        let notice_us = if death == Death::Process { 1_000 } else { limits::IDLE_TIMEOUT_US };
        for peer in (0..self.scenario.sites()).filter(|peer| *peer != at) {
            if let Some(session) = self.network.session(at, peer) {
                self.end_session(at, peer, session, notice_us);
            }
        }
    }

    /// A region that is down starts again after `down_us`, or when the last of all that hold it down is over.
    pub(super) fn stay_down(&mut self, at: usize, down_us: u64) {
        let until_us = self.now_us().saturating_add(down_us);
        let site = &mut self.sites[at];
        site.down_until_us = site.down_until_us.max(until_us);
        self.heap.at(site.down_until_us, Event::Restart { site: at, life: site.life });
    }

    pub(super) fn set_fuse(&mut self, at: usize, calls: u64, power: bool, down_us: u64) {
        self.trace.event(self.now_us(), "fuse", &[at as u64, calls, u64::from(power)]);
        self.story.note(self.now_us(), at, What::Disk { trouble: "fuse", amount: calls });
        let death = if power { Death::Power } else { Death::Process };
        self.sites[at].fuse = Some((down_us, death));
        self.sites[at].disk.set_fuse(Some(calls));
    }

    pub(super) fn fail_disk(&mut self, at: usize, call: Call, after: u64) {
        self.trace.event(self.now_us(), "disk-error", &[at as u64, call as u64, after]);
        self.story.note(self.now_us(), at, What::Disk { trouble: "error", amount: after });
        self.sites[at].disk.fail(call, after);
    }

    pub(super) fn limit_disk(&mut self, at: usize, room: Option<usize>) {
        let disk = &mut self.sites[at].disk;
        let room = room.map(|room| disk.used_bytes() + room);
        disk.set_capacity(room);
        self.trace.event(self.now_us(), "room", &[at as u64, room.unwrap_or(usize::MAX) as u64]);
        self.story.note(self.now_us(), at, What::room(room));
    }

    /// Turns over a bit of what is synced, and that damage to which must not go unnoticed.
    pub(super) fn rot(&mut self, at: usize, which: u64) {
        let disk = &self.sites[at].disk;
        let files: Vec<(String, usize)> = covered_bytes(disk);
        let all: usize = files.iter().map(|(_, bytes)| bytes).sum();
        if all == 0 || self.sites[at].rotten {
            return;
        }
        let (mut byte, bit) = ((which >> 8) as usize % all, which as u8);
        let Some((name, _)) = files.into_iter().find(|(_, bytes)| {
            let here = byte < *bytes;
            byte -= if here { 0 } else { *bytes };
            here
        }) else {
            return;
        };
        self.trace.event(self.now_us(), "rot", &[at as u64, byte as u64, u64::from(bit % 8)]);
        self.story.note(self.now_us(), at, What::Disk { trouble: "rot", amount: byte as u64 });
        self.trace.remark(|| format!("byte {byte} of {name}"));
        self.sites[at].disk.flip(&name, byte, bit);
        self.sites[at].rotten = true;
    }

    fn cut_power(&mut self, at: usize) {
        let site = &mut self.sites[at];
        site.boot += 1;
        let loss = site.disk.power_loss();
        for (met, goal) in [
            (loss.lost_bytes > 0, Goal::UnsyncedLost),
            (loss.torn, Goal::Torn),
            (loss.hole, Goal::Hole),
            (loss.names, Goal::NameLost),
        ] {
            if met {
                self.goals.reach(goal);
            }
        }
    }

    /// A call to the disk has failed: nothing is acknowledged any more and the process ends.
    pub(super) fn disk_failed(&mut self, at: usize, fail: Fail) {
        let site = &mut self.sites[at];
        let down_us = site.dice.heavy(300_000);
        let (down_us, death) = match fail {
            Fail::Cut => site.fuse.take().unwrap_or((down_us, Death::Process)),
            Fail::Io | Fail::Full => (down_us, Death::Process),
        };
        match fail {
            Fail::Cut => self.goals.reach(Goal::CutBetween),
            Fail::Io => self.goals.reach(Goal::DiskError),
            Fail::Full => self.goals.reach(Goal::DiskFull),
        }
        if self.sites[at].replica.is_none() && death == Death::Process {
            // It was about to start.
            self.sites[at].disk.set_fuse(None);
            self.stay_down(at, down_us);
            return;
        }
        self.crash(at, down_us, death);
    }

    /// A start refuses what it finds on its disk.
    fn refused(&mut self, at: usize, damage: &Damage) -> Result<(), Violation> {
        let now_us = self.now_us();
        let site = &mut self.sites[at];
        if !site.rotten {
            let story = [format!("r{} restarted after a crash", at + 1), damage.to_string()];
            return Err(self.violation("INV-7", clause::INV_7, &[at], story));
        }
        // The operator's way out: the region starts empty and fetches what its peers hold. An incarnation is
        // numbered by the time of its birth.
        site.rotten = false;
        self.trace.event(now_us, "refused", &[at as u64]);
        self.story.note(now_us, at, What::Refused);
        self.trace.remark(|| damage.to_string());
        self.goals.reach(Goal::RotFound);
        self.crash(at, limits::REBIRTH_US, Death::Disk);
        Ok(())
    }

    pub(super) fn restart(&mut self, at: usize, life: u64) -> Result<(), Violation> {
        let now_us = self.now_us();
        let is_member = self.is_member(at);
        let site = &mut self.sites[at];
        let too_soon = now_us < site.down_until_us;
        if site.life != life || site.replica.is_some() || !is_member || too_soon {
            return Ok(());
        }
        let wall = site.wall(now_us);
        let machine = (&site.disk, site.boot);
        let started = match Replica::start(&self.scenario, at, site.step, machine, wall) {
            Ok(started) => started,
            Err(damage) => return self.refused(at, &damage),
        };
        let begin = Begin {
            closed: started.closed,
            manifest: started.manifest,
            to_settle: &started.to_settle,
            leftovers: &started.leftovers,
            header: started.header,
        };
        let log = match Log::start(&mut site.disk, begin, &self.scenario) {
            Ok(log) => log,
            Err(fail) => {
                self.disk_failed(at, fail);
                return Ok(());
            }
        };
        if started.torn {
            self.goals.reach(Goal::TailCut);
        }
        if !log.manifest.runs.is_empty() {
            self.goals.reach(Goal::StartedFromRuns);
        }
        log.report_room(started.replica.store(), false);
        site.log = Some(log);
        (site.under_way, site.stuck, site.covering) = (None, false, None);
        let first = !std::mem::replace(&mut site.born, true);
        // The flip has harmed nothing, or the oracle is about to find what.
        site.rotten = false;
        // As a daemon does: what is recovered is synced before anything is built on it.
        site.written = started.replica.store().tail().written();
        site.synced = site.written;
        site.epoch = started.header.epoch.0;
        (site.writing, site.syncing, site.sync_wanted) = (false, false, true);
        (site.sync_sleeps, site.cover_waits) = (None, false);
        let incarnation = started.replica.incarnation();
        let (region, life_id) = (site.region(), (incarnation, site.epoch));
        site.replica = Some(started.replica);
        let crash = site.crash.take();
        site.watch.begin(now_us, site.step, first || crash.is_some_and(|crash| crash.wiped));
        if let Some(crash) = crash {
            self.consumers.crashed(at, crash);
        }
        match crash {
            Some(Crash { restored: true, .. }) => self.oracle.restored(region),
            Some(Crash { wiped: true, .. }) => self.oracle.wiped(region),
            Some(Crash { kept, process_only, .. }) => self.oracle.crashed(region, kept, process_only),
            None => {}
        }
        let site = &self.sites[at];
        let numbers = [at as u64, u64::from(incarnation), site.epoch.into(), site.written];
        self.trace.event(now_us, "start", &numbers);
        self.story.note(now_us, at, What::Started { incarnation, epoch: site.epoch });
        self.oracle.started(region, life_id, now_us)?;
        if !first {
            self.goals.reach(Goal::Crashed);
            if started.new_incarnation {
                self.goals.reach(Goal::NewIncarnation);
            }
        }
        if self.scenario.quic && !first {
            self.quic_restarted(at);
        }
        self.begin_life(at, life)
    }

    /// What a start has begun goes on.
    fn begin_life(&mut self, at: usize, life: u64) -> Result<(), Violation> {
        for key in 0..self.scenario.keys.len() {
            self.look(at, key)?;
        }
        self.heap.after(limits::SYNC_INTERVAL_US, Event::SyncTimer { site: at, life });
        let tick_us = if self.scenario.quic { self.first_tick_us() } else { 1_000 };
        self.heap.after(tick_us, Event::Tick { site: at, life });
        if self.scenario.checkpoints {
            self.heap.after(50_000, Event::Cover { site: at, life });
        }
        self.pump(at)
    }
}
