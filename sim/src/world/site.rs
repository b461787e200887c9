//! One region and its machine: the driver around a replica, as the daemon's, with every step an event
//! of its own.
//!
//! Two truths are kept apart: what the replica believes is written and synced (it is told), and what the
//! disk really has (`written`, `synced` here). The oracle judges by the latter.
//!
//! Must never: tell the replica that something is durable before it is.

use std::collections::BTreeMap;

use crdt::journal::{HEADER_BYTES, SegmentHeader};
use crdt::node::ReadRequest;
use crdt::store::Batch;

use super::clients::Parked;
use super::{Event, Held, World};
use crate::clock::WallClock;
use crate::disk::{Disk, Mark};
use crate::goals::Goal;
use crate::limits;
use crate::oracle::facts::{Lsn, Millis, Region};
use crate::oracle::sight::Look;
use crate::oracle::violation::{Violation, clause};
use crate::random::{Dice, Stream};
use crate::replica::{self, Replica};
use crate::scenario::Scenario;

/// A segment's last days.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    /// When the last part in it may die, Unix ms.
    dies_at: Millis,
    /// Its living parts were appended again up to here; it may go once that is synced.
    carried_to: Option<Lsn>,
}

/// How much goes down with a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Death {
    /// The process: what was written stays.
    Process,
    /// The machine: what was synced stays.
    Power,
    /// The machine and its disk.
    Disk,
}

/// See the module's text.
pub(super) struct Site {
    pub(super) index: usize,
    pub(super) clock: WallClock,
    pub(super) clock_dice: Dice,
    pub(super) slow: u64,
    pub(super) life: u64,
    pub(super) replica: Option<Replica>,
    pub(super) held: Vec<Held>,
    /// Parked duplicates by their ticket, which is the request's number.
    pub(super) parked: BTreeMap<u64, Parked>,
    /// By peer: the session that the replica was told of; 0 for none.
    pub(super) links: Vec<u64>,
    /// The last record that the kernel has.
    pub(super) written: Lsn,
    /// The last record that the disk has.
    pub(super) synced: Lsn,
    /// The latest time by which it may have dropped the dead, Unix ms: its wall clock may have stepped
    /// back since. A clock that the region itself distrusts must drop nothing (S2).
    pub(super) latest_ms: Millis,
    /// It has distrusted its clock at some time: what it then took in although it was dead may linger.
    distrusted: bool,
    /// Which run of the log this is.
    pub(super) epoch: u32,
    dice: Dice,
    disk: Disk,
    boot: u64,
    header: Option<SegmentHeader>,
    spans: Vec<Span>,
    writing: bool,
    syncing: bool,
    sync_wanted: bool,
}

impl Site {
    pub(super) fn new(index: usize, scenario: &Scenario) -> Self {
        Self {
            index,
            clock: WallClock::default(),
            clock_dice: Dice::new(scenario.seed, Stream::Clock, index as u64),
            slow: 1,
            life: 0,
            replica: None,
            held: Vec::new(),
            parked: BTreeMap::new(),
            links: vec![0; scenario.regions],
            written: 0,
            synced: 0,
            latest_ms: 0,
            distrusted: false,
            epoch: 0,
            dice: Dice::new(scenario.seed, Stream::Disk, index as u64),
            disk: Disk::default(),
            boot: 1,
            header: None,
            spans: Vec::new(),
            writing: false,
            syncing: false,
            sync_wanted: false,
        }
    }

    /// Its name for the oracle.
    pub(super) const fn region(&self) -> Region {
        self.index as Region + 1
    }

    /// Its wall clock, Unix ms.
    pub(super) const fn wall(&self, now_us: u64) -> Millis {
        self.clock.read(now_us)
    }

    /// The time by which parts may have died here, Unix ms.
    pub(super) fn death_ms(&mut self, now_us: u64) -> Millis {
        let wall = self.wall(now_us);
        if let Some(replica) = &self.replica {
            if replica.distrusts_clock(wall) {
                self.distrusted = true;
            } else {
                self.latest_ms = self.latest_ms.max(replica.now(wall));
            }
        }
        self.latest_ms
    }

    /// Whether what is past at [`Self::death_ms`] is past for the region too: it has always trusted its
    /// clock, which has not stepped back.
    pub(super) fn trusts_clock(&self, now_us: u64) -> bool {
        let wall = self.wall(now_us);
        self.replica.as_ref().is_some() && wall >= self.latest_ms && !self.distrusted
    }

    /// The living replica of life `life`.
    fn living(&mut self, life: u64) -> Option<&mut Replica> {
        if self.life == life { self.replica.as_mut() } else { None }
    }

    fn delay_us(&mut self, typical_us: u64) -> u64 {
        self.dice.heavy(typical_us).saturating_mul(self.slow)
    }
}

impl World {
    /// A region dies. It starts again after `down_us`.
    pub(super) fn crash(&mut self, at: usize, down_us: u64, death: Death) {
        let now_us = self.now_us();
        let site = &mut self.sites[at];
        if site.replica.take().is_none() {
            return;
        }
        site.life += 1;
        let life = site.life;
        if !site.held.is_empty() {
            self.goals.reach(Goal::ReplyDied);
        }
        site.held.clear();
        site.parked.clear();
        site.links.fill(0);
        let kept = match death {
            Death::Process => site.written,
            Death::Power => site.synced,
            Death::Disk => 0,
        };
        self.trace.event(now_us, "crash", &[at as u64, death as u64, kept]);
        site.boot += u64::from(death != Death::Process);
        if death == Death::Power {
            let loss = site.disk.power_loss(&mut site.dice);
            if loss.lost_bytes > 0 {
                self.goals.reach(Goal::UnsyncedLost);
            }
            if loss.torn {
                self.goals.reach(Goal::Torn);
            }
        }
        let region = site.region();
        if death == Death::Disk {
            site.disk.lose_everything();
            self.goals.reach(Goal::DiskLost);
            self.oracle.wiped(region);
        } else {
            self.oracle.crashed(region, kept, death == Death::Process);
        }
        let silent = death != Death::Process;
        self.heap.after(down_us, Event::Restart { site: at, life });
        for peer in (0..self.scenario.regions).filter(|peer| *peer != at) {
            if let Some(session) = self.network.session(at, peer) {
                self.end_session(at, peer, session, if silent { limits::IDLE_TIMEOUT_US } else { 1_000 });
            }
        }
    }

    pub(super) fn restart(&mut self, at: usize, life: u64) -> Result<(), Violation> {
        let now_us = self.now_us();
        let site = &mut self.sites[at];
        if site.life != life || site.replica.is_some() {
            return Ok(());
        }
        let wall = site.wall(now_us);
        let first = site.header.is_none();
        let started = match Replica::start(&self.scenario, at, &site.disk, site.boot, wall) {
            Ok(started) => started,
            Err(damage) => {
                let story = [format!("r{} restarted after a crash", at + 1), damage.to_string()];
                return Err(self.violation("INV-7", clause::INV_7, &[at], story));
            }
        };
        site.spans.clear();
        for (number, segment) in started.segments.iter().enumerate() {
            site.disk.truncate(number, segment.end);
            site.spans.push(Span { dies_at: segment.dies_at_ms, carried_to: None });
        }
        // As a daemon does: what is recovered is synced before anything is built on it.
        site.disk.begin_segment(&started.header.encode());
        site.disk.sync();
        site.spans.push(Span::default());
        site.written = started.replica.store().tail().written();
        site.synced = site.written;
        site.epoch = started.header.epoch.0;
        (site.writing, site.syncing, site.sync_wanted) = (false, false, true);
        let incarnation = started.replica.incarnation();
        let (region, life_id) = (site.region(), (incarnation, site.epoch));
        site.header = Some(started.header);
        site.replica = Some(started.replica);
        self.trace.event(
            now_us,
            "start",
            &[at as u64, u64::from(incarnation), site.epoch.into(), site.written],
        );
        self.oracle.started(region, life_id, now_us)?;
        if !first {
            self.goals.reach(Goal::Crashed);
            if started.new_incarnation {
                self.goals.reach(Goal::NewIncarnation);
            }
        }
        for key in 0..self.scenario.keys.len() {
            self.look(at, key)?;
        }
        self.heap.after(limits::SYNC_INTERVAL_US, Event::SyncTimer { site: at, life });
        self.heap.after(1_000, Event::Tick { site: at, life });
        self.pump(at)
    }

    /// Shows the oracle a region's entry.
    pub(super) fn look(&mut self, at: usize, key: usize) -> Result<(), Violation> {
        let at_us = self.now_us();
        let site = &mut self.sites[at];
        let now = site.death_ms(at_us);
        let Some(replica) = &site.replica else { return Ok(()) };
        let view = replica.view(&self.scenario.keys[key]);
        let (region, lsn) = (site.region(), replica.appended());
        let trusted = site.trusts_clock(at_us);
        self.oracle.look(&Look { region, key, at_us, now, trusted, lsn, view: &view })
    }

    /// Keeps a copy of a real entry for the join laws; when there are many, one of the old ones goes.
    fn copy(&mut self, at: usize, key: usize) {
        let Some(replica) = &self.sites[at].replica else { return };
        let Some(copy) = replica.real(&self.scenario.keys[key]) else { return };
        let copies = self.copies.entry(key).or_default();
        if copies.len() < limits::COPIES_MAX {
            copies.push(copy);
        } else {
            copies[self.dice.below(limits::COPIES_MAX as u64) as usize] = copy;
        }
    }

    /// After anything happened in a region: what wants to be written, read, sent and told now.
    pub(super) fn pump(&mut self, at: usize) -> Result<(), Violation> {
        let life = self.sites[at].life;
        self.send_frames(at)?;
        let site = &mut self.sites[at];
        let Some(replica) = site.replica.as_mut() else { return Ok(()) };
        let mut reads = Vec::new();
        while let Some(request) = replica.poll_read() {
            reads.push(request);
        }
        for ticket in replica.take_woken() {
            self.heap.after(10, Event::Wake { site: at, life, ticket, over: false });
        }
        if !site.writing && replica.store().tail().pending_bytes() > 0 {
            site.writing = true;
            let delay_us = site.dice.below(60);
            self.heap.after(delay_us, Event::Write { site: at, life });
        }
        for request in reads {
            let delay_us = site.delay_us(200);
            self.heap.after(delay_us, Event::DiskRead { site: at, life, request });
        }
        self.begin_sync(at);
        self.release(at)
    }

    /// Tells what may be told. INV-8 is judged here, by what the disk has and not by what is believed.
    fn release(&mut self, at: usize) -> Result<(), Violation> {
        let at_us = self.now_us();
        let site = &mut self.sites[at];
        let Some(replica) = &site.replica else { return Ok(()) };
        let tail = replica.store().tail();
        let (told, held) =
            std::mem::take(&mut site.held).into_iter().partition(|h| tail.may_release(&h.release));
        site.held = held;
        let (written, synced): (Lsn, Lsn) = (site.written, site.synced);
        let told: Vec<Held> = told;
        for held in told {
            self.oracle.told(held.receipt, at_us, written, synced)?;
            self.tell(held.told);
        }
        Ok(())
    }

    pub(super) fn write(&mut self, at: usize, life: u64) -> Result<(), Violation> {
        let (now_us, segment_bytes) = (self.now_us(), self.scenario.segment_bytes);
        let typical_us = self.scenario.disk_us.0;
        let site = &mut self.sites[at];
        let wall = site.wall(now_us);
        let Some(replica) = site.living(life) else { return Ok(()) };
        let Some(batch) = replica.store().tail().take(Vec::new()) else {
            site.writing = false;
            return Ok(());
        };
        if site.disk.last_segment_bytes() > segment_bytes {
            self.rotate(at, batch.first, wall);
        }
        let site = &mut self.sites[at];
        site.disk.write(&batch.bytes);
        if let Some(span) = site.spans.last_mut() {
            span.dies_at = span.dies_at.max(batch.dies_at_ms);
        }
        site.written = batch.last;
        self.trace.event(now_us, "write", &[at as u64, batch.first, batch.last]);
        self.trace.bytes(&batch.bytes);
        let delay_us = site.delay_us(typical_us);
        self.heap.after(delay_us, Event::Written { site: at, life, batch: Box::new(batch) });
        Ok(())
    }

    /// Begins a new segment; the old one is whole on disk before the new one exists.
    fn rotate(&mut self, at: usize, first_lsn: Lsn, wall: Millis) {
        let site = &mut self.sites[at];
        let (Some(header), Some(replica)) = (&mut site.header, &site.replica) else { return };
        *header = SegmentHeader { first_lsn, created_ms: wall, ..*header };
        let bytes = header.encode();
        site.disk.sync();
        site.synced = site.written;
        site.disk.begin_segment(&bytes);
        site.disk.sync();
        site.spans.push(Span::default());
        replica.prologue(wall);
    }

    pub(super) fn written(&mut self, at: usize, life: u64, batch: Batch) -> Result<(), Violation> {
        let site = &mut self.sites[at];
        let Some(replica) = site.living(life) else { return Ok(()) };
        let sync_wanted = batch.sync_to > 0;
        replica.store().tail().mark_written(batch);
        site.writing = false;
        site.sync_wanted |= sync_wanted;
        self.pump(at)
    }

    pub(super) fn sync_timer(&mut self, at: usize, life: u64) {
        let site = &mut self.sites[at];
        if site.living(life).is_none() {
            return;
        }
        site.sync_wanted = true;
        self.heap.after(limits::SYNC_INTERVAL_US, Event::SyncTimer { site: at, life });
        self.begin_sync(at);
    }

    fn begin_sync(&mut self, at: usize) {
        let typical_us = self.scenario.disk_us.1;
        let site = &mut self.sites[at];
        let Some(replica) = &site.replica else { return };
        if !site.sync_wanted || site.syncing {
            return;
        }
        // Covers what is known to be written when it starts, and tells of no more.
        let (lsn, mark) = (replica.store().tail().written(), site.disk.mark());
        if lsn <= replica.store().tail().synced() {
            // Nothing yet: what was asked for is still being written, or there was nothing to do.
            site.sync_wanted = site.writing;
            return;
        }
        (site.syncing, site.sync_wanted) = (true, false);
        let (delay_us, life) = (site.delay_us(typical_us), site.life);
        self.heap.after(delay_us, Event::Synced { site: at, life, mark, lsn });
    }

    pub(super) fn synced(&mut self, at: usize, life: u64, mark: &Mark, lsn: Lsn) -> Result<(), Violation> {
        let now_us = self.now_us();
        let deletes = self.scenario.deletes;
        let site = &mut self.sites[at];
        let Some(replica) = site.living(life) else { return Ok(()) };
        replica.store().tail().mark_synced(lsn);
        replica.store().settle_ceiling();
        site.disk.sync_to(mark);
        site.synced = site.synced.max(lsn);
        site.syncing = false;
        self.trace.event(now_us, "synced", &[at as u64, lsn]);
        if deletes {
            self.delete_dead(at);
        }
        self.pump(at)
    }

    /// Deletes the oldest segment once its living parts stand, synced, further on.
    fn delete_dead(&mut self, at: usize) {
        let (now_us, max_drift) = (self.now_us(), self.scenario.max_drift_ms);
        let site = &mut self.sites[at];
        let wall = site.wall(now_us);
        let Some(replica) = &site.replica else { return };
        if site.spans.len() < 2 || wall <= site.spans[0].dies_at + max_drift {
            return;
        }
        let Some(carried_to) = site.spans[0].carried_to else {
            replica.store().carry(&site.disk.segments()[0].bytes()[HEADER_BYTES..], wall);
            site.spans[0].carried_to = Some(replica.appended());
            return;
        };
        if site.synced >= carried_to {
            site.disk.delete_oldest();
            site.spans.remove(0);
            self.trace.event(now_us, "delete", &[at as u64]);
        }
    }

    pub(super) fn disk_read(&mut self, at: usize, life: u64, request: ReadRequest) -> Result<(), Violation> {
        let site = &mut self.sites[at];
        let written = site.written;
        // Small answers, so that a peer needs many of them.
        let read = replica::read_log(&site.disk, request, written, 2_000);
        let Some(replica) = site.living(life) else { return Ok(()) };
        replica.read_done(request, read);
        self.goals.reach(Goal::ResumedFromDisk);
        self.pump(at)
    }

    pub(super) fn tick(&mut self, at: usize, life: u64) -> Result<(), Violation> {
        let now_us = self.now_us();
        let site = &mut self.sites[at];
        let wall = site.wall(now_us);
        site.death_ms(now_us);
        let Some(replica) = site.living(life) else { return Ok(()) };
        replica.tick(wall);
        site.death_ms(now_us);
        self.trace.event(now_us, "tick", &[at as u64]);
        let key = self.dice.below(self.scenario.keys.len() as u64) as usize;
        self.look(at, key)?;
        self.copy(at, key);
        self.heap.after(100_000, Event::Tick { site: at, life });
        self.pump(at)
    }
}
