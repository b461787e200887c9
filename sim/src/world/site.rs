//! One region and its machine: the driver around a replica, as the daemon's, with every step an event
//! of its own.
//!
//! Two truths are kept apart: what the replica believes is written and synced (it is told), and what the
//! disk really has (`written`, `synced` here). The oracle judges by the latter.
//!
//! Must never: tell the replica that something is durable before it is.

use std::collections::BTreeMap;
use std::rc::Rc;

use crdt::node::{LogRead, ReadRequest};
use crdt::store::Batch;

use super::backups::Backup;
use super::clients::{Asking, Parked};
use super::consumers::FEED_TICKETS;
use super::covering::{Covering, STEP_US};
use super::homes::Forwarding;
use super::lives::{Crash, Death};
use super::log::{Log, UnderWay};
use super::watch::Watch;
use super::{Event, Held, World};
use crate::clock::WallClock;
use crate::disk::{Disk, Fail, Mark};
use crate::goals::Goal;
use crate::limits;
use crate::oracle::facts::{Lsn, Millis, Region, View};
use crate::oracle::sight::Look;
use crate::oracle::violation::{Violation, clause};
use crate::random::{Dice, Stream};
use crate::replica::{self, Replica};
use crate::scenario::Scenario;
use crate::story::What;

/// See the module's text.
pub(super) struct Site {
    pub(super) index: usize,
    pub(super) clock: WallClock,
    pub(super) slow: u64,
    pub(super) life: u64,
    /// While it is down: it does not start before, virtual microseconds.
    pub(super) down_until_us: u64,
    /// While it lives: its process does nothing before, virtual microseconds.
    pub(super) paused_until_us: u64,
    /// The last copy of its files.
    pub(super) backup: Option<Backup>,
    /// Of its program, counted from that of the run's beginning.
    pub(super) version: u32,
    pub(super) replica: Option<Replica>,
    /// Changes of membership that its configuration has, and those that its operator wants it to have.
    pub(super) step: usize,
    pub(super) wanted: usize,
    pub(super) held: Vec<Held>,
    /// Parked duplicates by their ticket, which is the request's number.
    pub(super) parked: BTreeMap<u64, Parked>,
    /// Requests that wait for a majority, by the request's number.
    pub(super) asking: BTreeMap<u64, Asking>,
    /// Requests that wait for the homes of their keys.
    pub(super) forwarding: BTreeMap<u64, Forwarding>,
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
    pub(super) distrusted: bool,
    /// Which run of the log this is.
    pub(super) epoch: u32,
    pub(super) dice: Dice,
    /// Which of its entries the oracle looks at; beside the disk's, so that looking changes nothing.
    pub(super) look_dice: Dice,
    pub(super) disk: Disk,
    /// The machine's boots so far.
    pub(super) boot: u64,
    /// It has lived before.
    pub(super) born: bool,
    /// While it lives.
    pub(super) log: Option<Log>,
    /// What the oracle is to be told of when it lives again.
    pub(super) crash: Option<Crash>,
    /// What happens when the disk's fuse blows: how long it stays down, and what goes down.
    pub(super) fuse: Option<(u64, Death)>,
    /// A bit of its disk has turned over and no start has met it yet.
    pub(super) rotten: bool,
    /// Taken from the tail and not written whole: there was no room.
    pub(super) under_way: Option<UnderWay>,
    /// A write has found no room and waits.
    pub(super) stuck: bool,
    /// What the checkpoint thread is about.
    pub(super) covering: Option<Covering>,
    /// The fuse that is set when a checkpoint is tried again; and whether one is.
    pub(super) retry_fuse: Option<(u64, bool, u64)>,
    pub(super) retries: bool,
    /// No sync returns before this time, virtual microseconds.
    pub(super) stalled_us: u64,
    pub(super) writing: bool,
    pub(super) syncing: bool,
    pub(super) sync_wanted: bool,
    /// The sync timer has nothing to do: when it would next be due, virtual microseconds.
    pub(super) sync_sleeps: Option<u64>,
    /// The checkpoint thread waits until the log is synced.
    pub(super) cover_waits: bool,
    /// What has been seen of this life.
    pub(super) watch: Watch,
}

impl Site {
    pub(super) fn new(index: usize, scenario: &Scenario) -> Self {
        Self {
            index,
            clock: WallClock::default(),
            slow: 1,
            life: 0,
            down_until_us: 0,
            paused_until_us: 0,
            backup: None,
            version: 0,
            replica: None,
            step: 0,
            wanted: 0,
            held: Vec::new(),
            parked: BTreeMap::new(),
            asking: BTreeMap::new(),
            forwarding: BTreeMap::new(),
            links: vec![0; scenario.sites()],
            written: 0,
            synced: 0,
            latest_ms: 0,
            distrusted: false,
            epoch: 0,
            dice: Dice::new(scenario.seed, Stream::Disk, index as u64),
            look_dice: Dice::new(scenario.seed, Stream::Oracle, index as u64),
            disk: Disk::new(Dice::new(scenario.seed, Stream::Platter, index as u64)),
            boot: 1,
            born: false,
            log: None,
            crash: None,
            fuse: None,
            rotten: false,
            under_way: None,
            stuck: false,
            covering: None,
            retry_fuse: None,
            retries: false,
            stalled_us: 0,
            writing: false,
            syncing: false,
            sync_wanted: false,
            sync_sleeps: None,
            cover_waits: false,
            watch: Watch::default(),
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
    pub(super) fn living(&mut self, life: u64) -> Option<&mut Replica> {
        if self.life == life { self.replica.as_mut() } else { None }
    }

    /// Nothing of its log is on its way to the disk, and nothing is to be.
    fn is_durable(&self) -> bool {
        let busy = self.writing || self.syncing || self.stuck || self.under_way.is_some();
        let durable = |replica: &Replica| {
            let tail = replica.store().tail();
            tail.pending_bytes() == 0 && tail.written() <= tail.synced()
        };
        !busy && self.replica.as_ref().is_some_and(durable)
    }

    fn delay_us(&mut self, typical_us: u64) -> u64 {
        self.dice.heavy(typical_us).saturating_mul(self.slow)
    }

    /// How long a sync takes that starts now.
    fn sync_us(&mut self, typical_us: u64, now_us: u64) -> u64 {
        self.delay_us(typical_us).max(self.stalled_us.saturating_sub(now_us))
    }
}

impl World {
    /// Shows the oracle a region's entry, and gives it out.
    pub(super) fn look(&mut self, at: usize, key: usize) -> Result<Rc<View>, Violation> {
        let at_us = self.now_us();
        let site = &mut self.sites[at];
        let now = site.death_ms(at_us);
        let Some(replica) = &site.replica else { return Ok(Rc::default()) };
        let view = replica.view(&self.scenario.keys[key]);
        let (region, lsn) = (site.region(), replica.appended());
        let trusted = site.trusts_clock(at_us);
        self.story.looked(at_us, at, key, &view);
        self.oracle.look(&Look { region, key, at_us, now, trusted, lsn, view: &view })?;
        Ok(view)
    }

    /// Keeps a copy of a real entry for the join laws; when there are many, one of the old ones goes.
    fn copy(&mut self, at: usize, key: usize) {
        let Some(replica) = &self.sites[at].replica else { return };
        let Some(copy) = replica.real(&self.scenario.keys[key]) else { return };
        let copies = self.copies.entry(key).or_default();
        if copies.len() < limits::COPIES_MAX {
            copies.push(copy);
        } else {
            copies[self.sites[at].look_dice.below(limits::COPIES_MAX as u64) as usize] = copy;
        }
    }

    /// After anything happened in a region: what wants to be written, read, sent and told now.
    pub(super) fn pump(&mut self, at: usize) -> Result<(), Violation> {
        let life = self.sites[at].life;
        self.ask_majorities(at)?;
        self.homes(at)?;
        self.send_frames(at)?;
        if self.trace.lines().is_multiple_of(limits::DIGEST_EVERY) {
            self.check_digest(at)?;
        }
        let site = &mut self.sites[at];
        let Some(replica) = site.replica.as_mut() else { return Ok(()) };
        let mut consumer_woken = false;
        for ticket in replica.take_woken() {
            if ticket >= FEED_TICKETS {
                consumer_woken = true;
                continue;
            }
            if let Some(parked) = site.parked.get_mut(&ticket) {
                parked.woken = true;
            }
            self.heap.after(10, Event::Wake { site: at, life, ticket, over: false });
        }
        if consumer_woken {
            self.wake_consumer(at);
        }
        while let Some(request) = self.sites[at].replica.as_mut().and_then(Replica::poll_read) {
            let delay_us = self.sites[at].delay_us(200);
            self.heap.after(delay_us, Event::DiskRead { site: at, life, request });
        }
        self.wake_sync_timer(at);
        self.begin_write(at);
        self.begin_sync(at);
        self.release(at)
    }

    /// INV-13: "The digest equals one recomputed from the map, at any instant."
    fn check_digest(&self, at: usize) -> Result<(), Violation> {
        let Some(wrong) = self.sites[at].replica.as_ref().and_then(Replica::wrong_digest) else {
            return Ok(());
        };
        let story = [format!("r{} keeps sums that are not those of its map", at + 1), wrong];
        Err(self.violation("INV-13", clause::INV_13, &[at], story))
    }

    fn begin_write(&mut self, at: usize) {
        let site = &mut self.sites[at];
        let Some(replica) = &site.replica else { return };
        if !site.writing && !site.stuck && replica.store().tail().pending_bytes() > 0 {
            site.writing = true;
            let (delay_us, life) = (site.dice.below(60), site.life);
            self.heap.after(delay_us, Event::Write { site: at, life });
        }
    }

    /// Tells what may be told. INV-8 is judged here, by what the disk has and not by what is believed.
    fn release(&mut self, at: usize) -> Result<(), Violation> {
        let at_us = self.now_us();
        let site = &mut self.sites[at];
        let Some(replica) = &site.replica else { return Ok(()) };
        let tail = replica.store().tail();
        if !site.held.iter().any(|held| tail.may_release(&held.release)) {
            return Ok(());
        }
        let (told, held): (Vec<Held>, Vec<Held>) =
            std::mem::take(&mut site.held).into_iter().partition(|h| tail.may_release(&h.release));
        site.held = held;
        let (written, synced): (Lsn, Lsn) = (site.written, site.synced);
        for held in told {
            self.oracle.told(held.receipt, at_us, written, synced)?;
            self.story.told(at_us, held.told.request);
            self.tell(held.told);
        }
        Ok(())
    }

    pub(super) fn write(&mut self, at: usize, life: u64) -> Result<(), Violation> {
        let site = &mut self.sites[at];
        if site.living(life).is_none() {
            return Ok(());
        }
        if site.stuck {
            // Only the log's own thread tries again.
            site.writing = false;
            return Ok(());
        }
        self.write_waiting(at);
        Ok(())
    }

    /// Writes what has gathered, or what found no room.
    fn write_waiting(&mut self, at: usize) {
        let now_us = self.now_us();
        let (write_us, sync_us) = self.scenario.disk_us;
        let site = &mut self.sites[at];
        let wall = site.wall(now_us);
        let (Some(replica), Some(log)) = (&site.replica, &mut site.log) else { return };
        let taken = site.under_way.take();
        let taken = taken.or_else(|| replica.store().tail().take(Vec::new()).map(UnderWay::new));
        let Some(mut way) = taken else {
            site.writing = false;
            return;
        };
        let rotated = match log.write(&mut site.disk, &mut way, wall) {
            Ok(rotated) => rotated,
            Err(Fail::Full) => {
                site.under_way = Some(way);
                (site.stuck, site.writing) = (true, false);
                log.report_room(replica.store(), true);
                self.wake_cover(at);
                return;
            }
            Err(fail) => return self.disk_failed(at, fail),
        };
        let batch = way.batch;
        site.stuck = false;
        site.written = batch.last;
        self.trace.event(now_us, "write", &[at as u64, batch.first, batch.last]);
        self.trace.bytes(&batch.bytes);
        let mut delay_us = site.delay_us(write_us);
        if rotated {
            delay_us += site.sync_us(sync_us, now_us);
        }
        let life = site.life;
        self.heap.after(delay_us, Event::Written { site: at, life, batch: Box::new(batch) });
    }

    pub(super) fn written(&mut self, at: usize, life: u64, batch: Batch) -> Result<(), Violation> {
        let site = &mut self.sites[at];
        if site.life != life {
            return Ok(());
        }
        let Some(replica) = &site.replica else { return Ok(()) };
        let sync_wanted = batch.sync_to > 0;
        replica.store().tail().mark_written(batch);
        if let Some(log) = &site.log {
            log.report_room(replica.store(), false);
        }
        site.writing = false;
        site.sync_wanted |= sync_wanted;
        self.pump(at)
    }

    pub(super) fn sync_timer(&mut self, at: usize, life: u64) {
        let site = &mut self.sites[at];
        let Some(replica) = site.living(life) else { return };
        replica.store().tail().mark_idle();
        site.sync_wanted = true;
        if site.is_durable() {
            // The next one that has something to do is the next that happens.
            site.sync_sleeps = Some(self.heap.now_us() + limits::SYNC_INTERVAL_US);
            return;
        }
        self.heap.after(limits::SYNC_INTERVAL_US, Event::SyncTimer { site: at, life });
        self.begin_write(at);
        self.begin_sync(at);
    }

    /// There is something to be synced again: the timer is due when it would have been without its sleep.
    fn wake_sync_timer(&mut self, at: usize) {
        let now_us = self.now_us();
        let site = &mut self.sites[at];
        let Some(due_us) = site.sync_sleeps.filter(|_| !site.is_durable()) else { return };
        site.sync_sleeps = None;
        let missed = now_us.saturating_sub(due_us).div_ceil(limits::SYNC_INTERVAL_US);
        let due_us = due_us + missed * limits::SYNC_INTERVAL_US;
        self.heap.at(due_us, Event::SyncTimer { site: at, life: site.life });
    }

    /// The checkpoint thread goes on, if it has waited for the log.
    fn wake_cover(&mut self, at: usize) {
        let site = &mut self.sites[at];
        if std::mem::take(&mut site.cover_waits) {
            let (delay_us, life) = (site.dice.heavy(STEP_US), site.life);
            self.heap.after(delay_us, Event::Cover { site: at, life });
        }
    }

    fn begin_sync(&mut self, at: usize) {
        let now_us = self.now_us();
        let typical_us = self.scenario.disk_us.1;
        let site = &mut self.sites[at];
        let Some(replica) = &site.replica else { return };
        if !site.sync_wanted || site.syncing {
            return;
        }
        // Covers what is known to be written when it starts, and tells of no more.
        let lsn = replica.store().tail().written();
        if lsn <= replica.store().tail().synced() {
            // Nothing yet: what was asked for is still being written, or there was nothing to do.
            site.sync_wanted = site.writing;
            return;
        }
        let Some(log) = &site.log else { return };
        let marks = log.marks(&site.disk);
        (site.syncing, site.sync_wanted) = (true, false);
        let (delay_us, life) = (site.sync_us(typical_us, now_us), site.life);
        if delay_us >= limits::STALL_US && site.stalled_us > now_us {
            self.goals.reach(Goal::Stalled);
        }
        self.heap.after(delay_us, Event::Synced { site: at, life, marks, lsn });
    }

    pub(super) fn synced(&mut self, at: usize, life: u64, marks: &[Mark], lsn: Lsn) -> Result<(), Violation> {
        let now_us = self.now_us();
        let site = &mut self.sites[at];
        if site.living(life).is_none() {
            return Ok(());
        }
        let (Some(log), Some(replica)) = (&mut site.log, &site.replica) else { return Ok(()) };
        if let Err(fail) = log.sync_to(&mut site.disk, marks) {
            self.disk_failed(at, fail);
            return Ok(());
        }
        replica.store().tail().mark_synced(lsn);
        replica.store().settle_ceiling();
        site.synced = site.synced.max(lsn);
        site.syncing = false;
        self.trace.event(now_us, "synced", &[at as u64, lsn]);
        self.story.note(now_us, at, What::Durable { lsn });
        self.wake_cover(at);
        self.pump(at)
    }

    /// As the log's own thread does: what found no room is tried again, what is missing of the reserve is
    /// allocated, and a segment that is old is closed.
    fn chores(&mut self, at: usize) -> Result<(), Fail> {
        let now_us = self.now_us();
        let site = &mut self.sites[at];
        let wall = site.wall(now_us);
        let (Some(replica), Some(log)) = (&site.replica, &mut site.log) else { return Ok(()) };
        let changed = log.reserve.fill(&mut site.disk)?;
        if log.reserve.refused {
            self.goals.reach(Goal::DiskFull);
        }
        if site.stuck {
            site.writing = true;
            self.write_waiting(at);
            return Ok(());
        }
        if site.writing {
            return Ok(());
        }
        let aged = log.rotate_aged(&mut site.disk, wall, self.scenario.rotate_after_ms)?;
        if changed || aged {
            log.report_room(replica.store(), false);
        }
        Ok(())
    }

    pub(super) fn disk_read(&mut self, at: usize, life: u64, request: ReadRequest) -> Result<(), Violation> {
        let site = &mut self.sites[at];
        let written = site.written;
        let Some(log) = &site.log else { return Ok(()) };
        let from = request.from;
        // Small answers, so that a peer needs many of them.
        let read = log.segment_of(from).filter(|segment| segment.first_lsn <= from).map(|segment| {
            let bytes = site.disk.read_to(&segment.name, segment.end).unwrap_or_default();
            replica::read_log(&bytes, segment.first_lsn, from, segment.last_lsn.min(written), 2_000)
        });
        let read = match read {
            Some(Some(read)) => read,
            // What the log no longer gives the map can.
            Some(None) => LogRead::StartsAt(from + 1),
            None => LogRead::StartsAt(log.first_lsn().max(from)),
        };
        let goal = match &read {
            LogRead::StartsAt(first) if *first > from => Goal::FedFromMap,
            _ => Goal::ResumedFromDisk,
        };
        let Some(replica) = site.living(life) else { return Ok(()) };
        replica.read_done(request, read);
        self.goals.reach(goal);
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
        self.check_memberships(at)?;
        let key = self.sites[at].look_dice.below(self.scenario.keys.len() as u64) as usize;
        let view = self.look(at, key)?;
        self.watch_tick(at, key, &view)?;
        self.copy(at, key);
        self.heap.after(limits::TICK_US, Event::Tick { site: at, life });
        if let Err(fail) = self.chores(at) {
            self.disk_failed(at, fail);
            return Ok(());
        }
        self.pump(at)
    }
}
