//! The world of one run: regions, links, services and faults, all fed from one heap of events.
//!
//! It drives each region as the daemon does, but tears apart what the daemon does in one breath:
//! deciding, writing, marking as written, syncing, releasing and delivering are separate events, so that
//! a crash can fall between any two of them. The oracle is told of everything and decides whether it
//! was right.
//!
//! ```text
//! workers --Arrive--> site: decide -> held reply -> (Write, Written, Synced) -> released --Reply--> workers
//! site: poll_send -> network: fate -> Frame -> other site
//! ```
//! Must never: let one region see another but through frames; depend on anything but the seed.

mod backups;
mod clients;
mod consumers;
mod covering;
mod ending;
mod homes;
mod links;
mod lives;
mod log;
mod measured;
mod members;
mod pauses;
mod quic;
mod reserve;
mod site;
mod watch;

pub use ending::Trouble;

use std::collections::{BTreeMap, BTreeSet};

use crdt::node::ReadRequest;
use crdt::store::Batch;
use serde::Serialize;

use crate::clock::Step as ClockStep;
use crate::disk::Mark;
use crate::faults::{Fault, Incident};
use crate::goals::Goals;
use crate::heap::Heap;
use crate::limits;
use crate::measure::Samples;
use crate::network::Network;
use crate::oracle::violation::{Violation, clause};
use crate::oracle::{Oracle, Receipt, ask::Answer, ask::TokenFact, facts::Lsn, facts::Region};
use crate::pattern::Pattern;
use crate::random::{Dice, Stream};
use crate::scenario::Scenario;
use crate::schedule::Schedule;
use crate::story::{Recorder, What};
use crate::trace::Trace;
use crate::worker::{Sent, TokenNumber, Worker};
use lives::Death;
use site::Site;

/// Everything that can happen next. Sites carry their life's number: what was scheduled for a process
/// that died since is void.
enum Event {
    Begin {
        job: usize,
    },
    Turn {
        job: usize,
    },
    Patience {
        job: usize,
        request: u64,
    },
    Arrive {
        job: usize,
        request: u64,
        sent: Box<Sent>,
    },
    Look,
    Reply(Box<Told>),
    Wake {
        site: usize,
        life: u64,
        ticket: u64,
        over: bool,
    },
    Write {
        site: usize,
        life: u64,
    },
    Written {
        site: usize,
        life: u64,
        batch: Box<Batch>,
    },
    SyncTimer {
        site: usize,
        life: u64,
    },
    Synced {
        site: usize,
        life: u64,
        marks: Vec<Mark>,
        lsn: Lsn,
    },
    DiskRead {
        site: usize,
        life: u64,
        request: ReadRequest,
    },
    Tick {
        site: usize,
        life: u64,
    },
    Cover {
        site: usize,
        life: u64,
    },
    Restart {
        site: usize,
        life: u64,
    },
    Resume {
        site: usize,
        life: u64,
    },
    Dial {
        a: usize,
        b: usize,
    },
    Up {
        site: usize,
        peer: usize,
        session: u64,
    },
    Down {
        site: usize,
        peer: usize,
        session: u64,
    },
    Idle {
        a: usize,
        b: usize,
        session: u64,
    },
    Break {
        a: usize,
        b: usize,
        session: u64,
    },
    Frame {
        from: usize,
        to: usize,
        session: u64,
        bytes: Vec<u8>,
    },
    Room {
        from: usize,
        to: usize,
    },
    Reload {
        site: usize,
    },
    /// A consumer of the losers looks.
    Consume {
        site: usize,
        turn: u64,
    },
    Quic(quic::Timer),
    Fault(Fault),
}

/// A reply on its way.
struct Told {
    job: usize,
    request: u64,
    answer: Answer,
    token: Option<(TokenNumber, TokenFact)>,
}

/// A decided reply that waits for its durability.
struct Held {
    receipt: Receipt,
    release: crdt::store::Release,
    told: Told,
}

/// See the module's text.
pub struct World {
    scenario: Scenario,
    heap: Heap<Event>,
    network: Network,
    sites: Vec<Site>,
    /// By job, in the order of the schedule.
    workers: Vec<Worker>,
    /// By job: when it begins, virtual microseconds.
    begins_us: Vec<u64>,
    /// By job: the number of the request it waits for.
    waiting: Vec<u64>,
    requests: u64,
    tokens: Vec<crdt::token::Token>,
    oracle: Oracle,
    /// By direction, as the network counts them: what becomes of its sessions.
    session_dice: Vec<Dice>,
    /// Frames sent and not delivered to their session, by direction; some arrive later.
    stale_frames: BTreeMap<(usize, usize), Vec<Vec<u8>>>,
    /// By direction: the session whose first frame has left.
    greeted: Vec<u64>,
    /// Sessions that have lost a frame.
    holes: BTreeSet<u64>,
    /// Directed links that flap, and have been up again since they were cut first.
    flapping: BTreeSet<(usize, usize)>,
    quic: quic::Quic,
    /// Copies of real entries by key, for the join laws.
    copies: BTreeMap<usize, Vec<crdt::store::Inspected>>,
    consumers: consumers::Consumers,
    storm: bool,
    /// The schedule has no incidents.
    nothing_breaks: bool,
    pub(crate) trace: Trace,
    pub(crate) story: Recorder,
    pub(crate) goals: Goals,
    pub(crate) statuses: BTreeMap<&'static str, u64>,
    pub(crate) figures: Figures,
    pub(crate) samples: Option<Samples>,
    /// Claims of which a service was told that they are completed, in namespaces decided by homes.
    executed: BTreeSet<crate::oracle::facts::ClaimName>,
    close: bool,
    /// Patterns that are cut, in the order in which that began.
    open_cuts: Vec<Pattern>,
    healing: Option<measured::Healing>,
}

/// What links carried and did not, and how long agreement took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Figures {
    /// Directed links cut at once, at most.
    pub links_cut: usize,
    /// Frames that ran into a cut.
    pub frames_cut: u64,
    /// Keys that regions knew differently when all was healed.
    pub keys_apart: usize,
    /// Executions beyond the first of a key that CONFLICTS lists at the end, in the region that lists most.
    pub conflicts: usize,
    /// From the healing to the first look that found all alike, virtual milliseconds.
    pub converged_ms: u64,
    /// Bytes of all frames sent until then.
    pub bytes: u64,
    /// Those of them sent since the healing.
    pub bytes_healing: u64,
    /// Of the bytes, those that comparisons asked and answered with.
    pub bytes_compared: u64,
    /// Of the bytes, what comparisons brought.
    pub bytes_repaired: u64,
    /// Records that only comparisons brought.
    pub repaired: u64,
}

impl World {
    /// The world of `schedule`, before anything has happened.
    pub fn new(schedule: Schedule, keep_trace: bool) -> Self {
        let Schedule { scenario, incidents, jobs } = schedule;
        let regions: Vec<Region> = (1..=scenario.sites() as Region).collect();
        let unknown = scenario.namespace_of.iter().map(|ns| scenario.namespaces[*ns].unknown_on_lease_end);
        let oracle = Oracle::new(&regions, unknown.collect(), scenario.max_drift_ms);
        let network = Network::of(&scenario);
        let mut world = Self {
            heap: Heap::default(),
            network,
            sites: (0..scenario.sites()).map(|index| Site::new(index, &scenario)).collect(),
            waiting: vec![0; jobs.len()],
            begins_us: jobs.iter().map(|job| job.at_us).collect(),
            workers: jobs.into_iter().map(|job| Worker::new(job, scenario.seed)).collect(),
            requests: 0,
            tokens: Vec::new(),
            oracle,
            session_dice: session_dice(&scenario),
            stale_frames: BTreeMap::new(),
            greeted: vec![0; scenario.sites() * scenario.sites()],
            holes: BTreeSet::new(),
            flapping: BTreeSet::new(),
            quic: quic::Quic::new(scenario.seed, scenario.sites()),
            copies: BTreeMap::new(),
            consumers: consumers::Consumers::of(&scenario),
            storm: true,
            nothing_breaks: incidents.is_empty(),
            trace: Trace::new(keep_trace),
            story: Recorder::default(),
            goals: Goals::default(),
            statuses: BTreeMap::new(),
            figures: Figures::default(),
            samples: None,
            executed: BTreeSet::new(),
            close: false,
            open_cuts: Vec::new(),
            healing: None,
            scenario,
        };
        for own in &world.scenario.clocks {
            world.sites[own.region].clock.drift(own.drift_ppm, 0);
        }
        world.schedule_beginnings(&incidents);
        world
    }

    fn schedule_beginnings(&mut self, incidents: &[Incident]) {
        self.sever();
        for site in 0..self.scenario.sites() {
            let own = self.scenario.clocks.iter().find(|own| own.region == site);
            let step = own.and_then(|own| own.offset_ms).map_or(ClockStep::Calm, ClockStep::To);
            self.heap.at(0, Event::Fault(Fault::Clock(site, step)));
        }
        for (at_us, fault) in incidents.iter().flat_map(|incident| &incident.faults) {
            self.heap.at(*at_us, Event::Fault(*fault));
        }
        for site in 0..self.scenario.sites() {
            let delay_us = self.sites[site].look_dice.below(20_000);
            self.heap.at(1 + delay_us, Event::Restart { site, life: 0 });
            for b in site + 1..self.scenario.sites() {
                self.heap.at(20_000, Event::Dial { a: site, b });
            }
        }
        self.schedule_consumers();
        // One after the other: most of them lie far ahead.
        self.schedule_job(0);
    }

    /// Cuts the link that never heals.
    fn sever(&mut self) {
        if let Some((a, b)) = self.scenario.severed {
            self.network.cut(a, b, true);
            self.network.cut(b, a, true);
        }
    }

    /// A direction's place among all.
    const fn direction(&self, from: usize, to: usize) -> usize {
        from * self.scenario.sites() + to
    }

    fn session_dice(&mut self, from: usize, to: usize) -> &mut Dice {
        let direction = self.direction(from, to);
        &mut self.session_dice[direction]
    }

    /// Takes samples from now on; `close`: and looks for agreement more often.
    pub fn measure(&mut self, close: bool) {
        self.samples = Some(Samples::default());
        self.close = close;
    }

    /// Virtual microseconds since the start.
    pub const fn now_us(&self) -> u64 {
        self.heap.now_us()
    }

    /// Events so far.
    pub const fn events(&self) -> u64 {
        self.heap.happened()
    }

    /// The keys of the run.
    pub fn keys(&self) -> &[String] {
        &self.scenario.keys
    }

    /// Names of the regions, where they have any.
    pub fn regions(&self) -> &[String] {
        &self.scenario.names
    }

    /// First phase: faults and work. Any violation ends it.
    pub fn storm(&mut self) -> Result<(), Violation> {
        self.run_until(self.scenario.storm_us)
    }

    fn run_until(&mut self, until_us: u64) -> Result<(), Violation> {
        while let Some(event) = self.heap.next(until_us) {
            if self.trace.lines() > self.events_max() {
                return Err(self.endless());
            }
            self.happen(event)?;
        }
        Ok(())
    }

    /// Beyond so many events something feeds itself.
    fn events_max(&self) -> u64 {
        limits::EVENTS_MAX.max(self.scenario.storm_us / 1_000_000 * limits::EVENTS_PER_S_MAX)
    }

    fn endless(&self) -> Violation {
        let story = [
            format!("{} events happened by {} us of virtual time", self.events_max(), self.now_us()),
            "something answers itself without end".to_owned(),
        ];
        let (invariant, at_us) = ("INV-17", self.now_us());
        Violation { invariant, clause: clause::INV_17, key: None, at_us, regions: [].into(), story }
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        if let Some(at) = event.process().filter(|at| self.stands_still(*at)) {
            self.put_off(at, event);
            return Ok(());
        }
        match event {
            Event::Begin { job } => self.begin(job),
            Event::Turn { job } => self.turn(job),
            Event::Patience { job, request } => self.lose_patience(job, request),
            Event::Arrive { job, request, sent } => return self.arrive(job, request, &sent),
            Event::Look => self.look_at_healing(),
            Event::Reply(told) => self.deliver(*told),
            Event::Wake { site, life, ticket, over } => return self.wake(site, life, ticket, over),
            Event::Write { site, life } => return self.write(site, life),
            Event::Written { site, life, batch } => return self.written(site, life, *batch),
            Event::SyncTimer { site, life } => self.sync_timer(site, life),
            Event::Synced { site, life, marks, lsn } => return self.synced(site, life, &marks, lsn),
            Event::DiskRead { site, life, request } => return self.disk_read(site, life, request),
            Event::Tick { site, life } => return self.tick(site, life),
            Event::Cover { site, life } => return self.cover(site, life),
            Event::Restart { site, life } => return self.restart(site, life),
            Event::Resume { site, life } => self.resume(site, life),
            Event::Dial { a, b } => self.dial(a, b),
            Event::Up { site, peer, session } => return self.session_up(site, peer, session),
            Event::Down { site, peer, session } => return self.session_down(site, peer, session),
            Event::Idle { a, b, session } => self.idle(a, b, session),
            Event::Break { a, b, session } => self.break_session(a, b, session),
            Event::Frame { from, to, session, bytes } => return self.frame(from, to, session, &bytes),
            Event::Room { from, to } => return self.room(from, to),
            Event::Quic(timer) => return self.timer(timer),
            Event::Consume { site, turn } => return self.consume(site, turn),
            Event::Reload { site } => return self.take_up(site),
            Event::Fault(fault) => return self.fault(fault),
        }
        Ok(())
    }

    fn fault(&mut self, fault: Fault) -> Result<(), Violation> {
        let now_us = self.now_us();
        match fault {
            // What was to hold or to flap for longer than the storm: links are as the healing has left them.
            Fault::Cut(..) | Fault::Mend(_) if !self.storm => {}
            Fault::Cut(pattern, turn) => self.cut(pattern, turn),
            Fault::Mend(pattern) => self.mend(pattern),
            Fault::Reload(site) => return self.reload(site),
            Fault::Reset(a, b) => {
                self.trace.event(now_us, "reset", &[a as u64, b as u64]);
                if let Some(session) = self.network.session(a, b) {
                    self.break_session(a, b, session);
                }
            }
            Fault::Pause(site, us) => self.pause(site, us),
            Fault::Backup(site) => self.back_up(site),
            Fault::Restore(site, down_us) => self.restore(site, down_us),
            Fault::Upgrade(site, down_us) => self.upgrade(site, down_us),
            Fault::Crash(site, down_us) => self.crash(site, down_us, Death::Process),
            Fault::PowerLoss(site, down_us) => self.crash(site, down_us, Death::Power),
            Fault::DiskLoss(site, down_us) => self.crash(site, down_us, Death::Disk),
            Fault::Clock(site, step) => self.step_clock(site, step),
            Fault::SlowDisk(site, factor) => {
                self.trace.event(now_us, "disk", &[site as u64, factor]);
                self.story.note(now_us, site, What::Disk { trouble: "slow", amount: factor });
                self.sites[site].slow = factor;
            }
            Fault::Fuse(site, calls, power, down_us) => self.set_fuse(site, calls, power, down_us),
            Fault::RetryFuse(site, calls, power, down_us) => {
                self.sites[site].retry_fuse = Some((calls, power, down_us));
            }
            Fault::DiskError(site, call, after) => self.fail_disk(site, call, after),
            Fault::Full(site, room) => self.limit_disk(site, room),
            Fault::Stall(site, us) => {
                self.trace.event(now_us, "stall", &[site as u64, us]);
                self.story.note(now_us, site, What::Disk { trouble: "stalled", amount: us });
                // No sync is given back by the healing: one that stalls for longer would look like a region that does not heal.
                let last_us = self.scenario.storm_us + limits::STALL_AFTER_US_MAX;
                self.sites[site].stalled_us = (now_us + us).min(last_us);
            }
            Fault::Rot(site, which) => self.rot(site, which),
        }
        Ok(())
    }

    fn step_clock(&mut self, site: usize, step: ClockStep) {
        let (now_us, max_drift_ms) = (self.now_us(), self.scenario.max_drift_ms);
        self.sites[site].watch.started_us = None;
        // Keyed by when: another step more or less changes nothing for this one.
        let mut dice = Dice::new(self.scenario.seed, Stream::Clock, (now_us << 8) | site as u64);
        let change_ms = self.sites[site].clock.step(step, (now_us, max_drift_ms), &mut dice);
        self.trace.event(now_us, "clock", &[site as u64, change_ms.unsigned_abs(), u64::from(change_ms < 0)]);
        self.story.note(now_us, site, What::Clock { change_ms });
    }

    /// A violation that names sites and not a key.
    fn violation(
        &self,
        invariant: &'static str,
        text: &'static str,
        sites: &[usize],
        story: [String; 2],
    ) -> Violation {
        let regions = sites.iter().map(|site| *site as Region + 1).collect();
        Violation { invariant, clause: text, key: None, at_us: self.now_us(), regions, story }
    }
}

/// One for each direction: what becomes of the sessions of one must not depend on those of another.
fn session_dice(scenario: &Scenario) -> Vec<Dice> {
    let directions = (scenario.sites() * scenario.sites()) as u64;
    (0..directions).map(|direction| Dice::new(scenario.seed, Stream::Sessions, direction)).collect()
}
