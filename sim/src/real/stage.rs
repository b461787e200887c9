//! One run of a schedule with real regions: services at their jobs, faults when they are due, then the healing and what
//! regions hold when they have agreed.
//!
//! ```text
//! schedule --> one loop in real time --> services, daemons, links      (what the simulator's heap does in virtual time)
//!                 history <-- answers        figures <-- watch
//! ```
//! Time begins, at the end of the warm-up, when all regions are ready and linked. The level clocks at the schedule's beginning
//! are the machine's own.
//!
//! Must never: wait for a daemon in the loop; the rest of the schedule would come late.

mod faults;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crdt::policy::Level;

use super::daemons::Daemons;
use super::finals::{self, End};
use super::links::{Counts, Links};
use super::machine::Lack;
use super::resp::Value;
use super::services::{Command, Done, Services};
use super::watch::{Looker, Watch};
use super::{answer, ask};
use crate::clock::WallClock;
use crate::faults::Fault;
use crate::goals::{Goal, Goals};
use crate::limits;
use crate::link::{Spread, Weather};
use crate::measure::Samples;
use crate::network::Network;
use crate::oracle::ask::{Answer, Ask};
use crate::oracle::history::{History, Spoken};
use crate::oracle::violation::Violation;
use crate::scenario::Scenario;
use crate::schedule::Schedule;
use crate::worker::{Heard, Sent, Worker};
use crate::world::Figures;

/// Typical time between a service and its region, microseconds; the simulator's.
const CLIENT_DELAY_US: u64 = 300;
/// Until all regions are ready and linked.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at what is to become so.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Between two looks at whether all daemons live and nobody wants to stop.
const CARE_EVERY_US: u64 = 50_000;
/// How long a look waits for a daemon.
const PATIENCE: Duration = Duration::from_millis(500);

/// Why a run came to nothing.
#[derive(Debug)]
pub enum Trouble {
    /// The machine does not let us.
    Lack(Lack),
    /// Something went wrong, and what to do.
    Failed(String),
    /// Ctrl-C.
    Stopped,
    /// The healed regions did not agree in time.
    Apart(Violation),
}

impl From<String> for Trouble {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

/// What it is run with.
#[derive(Clone, Copy, Debug)]
pub struct Stage<'a> {
    /// The daemon's binary.
    pub onced: &'a Path,
    /// Names of the regions.
    pub names: &'a [String],
    /// All files lie below it.
    pub folder: &'a Path,
    /// Set: somebody wants it to end.
    pub stop: &'a AtomicBool,
    /// For wall clocks that are set, if it is there.
    pub faketime: Option<&'a Path>,
}

/// What it came to.
#[derive(Debug)]
pub struct Played {
    /// What was asked and answered.
    pub history: History,
    /// What regions hold at the end.
    pub end: End,
    /// What was measured.
    pub samples: Samples,
    /// What links carried, and how long agreement took.
    pub figures: Figures,
    /// Answers by status.
    pub statuses: BTreeMap<&'static str, u64>,
    /// Moments that can be seen from outside.
    pub goals: Goals,
    /// Packets on all links.
    pub packets: Counts,
}

enum Event {
    Begin(usize),
    Turn(usize),
    Send { job: usize, request: u64, sent: Box<Sent> },
    Patience { job: usize, request: u64 },
    Reply { job: usize, request: u64, answer: Box<Answer>, token: Option<Box<Token>> },
    Fault(Fault),
    Restart { at: usize, life: u64 },
    Resume { at: usize, life: u64 },
    Care,
}

/// A token's number, and what it says.
type Token = (usize, crate::oracle::ask::TokenFact);

struct Play<'a> {
    stage: Stage<'a>,
    scenario: &'a Scenario,
    links: Links,
    network: Network,
    daemons: Daemons,
    services: Services,
    watch: Option<Watch>,
    done: Receiver<Done>,
    began: Instant,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    serial: u64,
    workers: Vec<Worker>,
    waiting: Vec<u64>,
    requests: u64,
    /// By request: what was asked, until its answer or the end.
    asked: BTreeMap<u64, (usize, Sent)>,
    tokens: Vec<Vec<u8>>,
    /// By region: how often it has died.
    lives: Vec<u64>,
    /// When the last pause of each region ends.
    paused_until_us: Vec<u64>,
    clocks: Vec<(WallClock, i64)>,
    /// Bytes of frames sent by processes that have died since.
    bytes: u64,
    history: History,
    samples: Samples,
    executed: Vec<(crate::oracle::facts::ClaimName, Vec<u8>)>,
    figures: Figures,
    statuses: BTreeMap<&'static str, u64>,
    goals: Goals,
}

/// Runs it from beginning to end.
///
/// # Errors
/// See [`Trouble`].
pub fn play(schedule: &Schedule, stage: Stage<'_>) -> Result<Played, Trouble> {
    let scenario = &schedule.scenario;
    let links = Links::create(scenario.sites(), Weather::calm(0, Spread::Even(0))).map_err(Trouble::Lack)?;
    let network = Network::of(scenario);
    let steps =
        schedule.incidents.iter().flat_map(|incident| &incident.faults).filter(|(at_us, _)| *at_us > 0);
    let clocks = steps.clone().any(|(_, fault)| matches!(fault, Fault::Clock(..)));
    let faketime = stage.faketime.filter(|_| clocks).map(Path::to_owned);
    let mut daemons = Daemons::prepare(stage.onced, stage.folder, stage.names, scenario, &links, faketime)?;
    for at in 0..scenario.sites() {
        daemons.start(at, &links)?;
    }
    set_weather(&links, &network);
    ready(&mut daemons, stage, scenario)?;
    let sockets: Vec<PathBuf> = (0..scenario.sites()).map(|at| daemons.socket(at)).collect();
    let (tell, done) = channel();
    let patience = Duration::from_micros(scenario.habits.patience_us);
    let started = Services::start(&sockets, patience, &tell)
        .and_then(|services| Ok((services, Watch::start(Looker::new(sockets, scenario.keys.clone()))?)));
    let (services, watch) = started.map_err(|error| format!("threads cannot be started: {error}"))?;
    let sites = scenario.sites();
    let jobs = &schedule.jobs;
    let decided = |key: &usize| scenario.namespaces[scenario.namespace_of[*key]].level == Level::Quorum;
    let quorum = (0..scenario.keys.len()).filter(decided).collect();
    let mut play = Play {
        stage,
        scenario,
        links,
        network,
        daemons,
        services,
        watch: Some(watch),
        done,
        began: Instant::now(),
        heap: BinaryHeap::new(),
        events: BTreeMap::new(),
        serial: 0,
        workers: jobs.iter().map(|job| Worker::new(job.clone(), scenario.seed)).collect(),
        waiting: vec![0; jobs.len()],
        requests: 0,
        asked: BTreeMap::new(),
        tokens: Vec::new(),
        lives: vec![0; sites],
        paused_until_us: vec![0; sites],
        clocks: vec![(WallClock::default(), 0); sites],
        bytes: 0,
        history: History { max_drift: scenario.max_drift_ms, quorum, ..History::default() },
        samples: Samples::default(),
        executed: Vec::new(),
        figures: Figures::default(),
        statuses: BTreeMap::new(),
        goals: Goals::default(),
    };
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let began_ms = wall.as_millis() as u64 - limits::WARM_UP_US / 1_000;
    play.history.began_ms = (!clocks).then_some(began_ms);
    jobs.iter().enumerate().for_each(|(at, job)| play.at(job.at_us, Event::Begin(at)));
    for (at_us, fault) in steps {
        play.at(*at_us, Event::Fault(*fault));
    }
    play.after(CARE_EVERY_US, Event::Care);
    play.sever();
    play.storm()?;
    play.end()
}

/// The library by which wall clocks are set, if the machine has it.
pub fn faketime() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let library = |folder| Path::new(folder).join("faketime/libfaketimeMT.so.1");
    folders.into_iter().map(library).find(|library| library.is_file())
}

/// Waits until every region grants and is linked to every other.
fn ready(daemons: &mut Daemons, stage: Stage<'_>, scenario: &Scenario) -> Result<(), Trouble> {
    let (sites, until) = (scenario.sites(), Instant::now() + READY_WITHIN);
    for at in 0..sites {
        loop {
            if stage.stop.load(Ordering::Relaxed) {
                return Err(Trouble::Stopped);
            }
            if let Some(ended) = daemons.ended() {
                return Err(Trouble::Failed(ended));
            }
            let counted = !scenario.asks_majorities() || finals::is_counted(daemons, at);
            if finals::is_linked(daemons, at, sites - 1) && finals::is_ready(daemons, at) && counted {
                break;
            }
            if Instant::now() > until {
                let name = &stage.names[at];
                let text = format!(
                    "{name} is not ready and linked to all within {READY_WITHIN:?}; --keep DIR keeps its log"
                );
                return Err(Trouble::Failed(text));
            }
            std::thread::sleep(LOOK_EVERY * 5);
        }
    }
    Ok(())
}

fn set_weather(links: &Links, network: &Network) {
    for (from, to) in network.pairs() {
        links.set(from, to, network.weather_of(from, to));
    }
}

impl Play<'_> {
    fn now_us(&self) -> u64 {
        self.us_of(Instant::now())
    }

    fn us_of(&self, at: Instant) -> u64 {
        limits::WARM_UP_US + at.saturating_duration_since(self.began).as_micros() as u64
    }

    fn at(&mut self, at_us: u64, event: Event) {
        self.serial += 1;
        self.heap.push(Reverse((at_us, self.serial)));
        self.events.insert(self.serial, event);
    }

    fn after(&mut self, delay_us: u64, event: Event) {
        self.at(self.now_us() + delay_us, event);
    }

    /// The first phase: services and faults.
    fn storm(&mut self) -> Result<(), Trouble> {
        loop {
            let now_us = self.now_us();
            if now_us >= self.scenario.storm_us {
                return Ok(());
            }
            let due_us = self.heap.peek().map_or(u64::MAX, |Reverse((at_us, _))| *at_us);
            if due_us <= now_us {
                let Some(Reverse((at_us, serial))) = self.heap.pop() else { continue };
                if let Some(event) = self.events.remove(&serial) {
                    self.happen(at_us, event)?;
                }
                continue;
            }
            let wait_us = due_us.min(self.scenario.storm_us) - now_us;
            match self.done.recv_timeout(Duration::from_micros(wait_us)) {
                Ok(done) => self.heard(done)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Trouble::Failed("all services have ended; please report it".to_owned()));
                }
            }
        }
    }

    fn happen(&mut self, at_us: u64, event: Event) -> Result<(), Trouble> {
        match event {
            Event::Begin(job) | Event::Turn(job) => self.turn(job),
            Event::Send { job, request, sent } => {
                let words = ask::words(&self.scenario.keys[sent.key], &sent, |token| &self.tokens[token]);
                let region = sent.region;
                self.asked.insert(request, (job, *sent));
                self.services.send(region, Command { job, request, words });
            }
            Event::Patience { job, request } if self.waiting[job] == request => {
                self.hear(job, Heard::Nothing);
            }
            Event::Patience { .. } => {}
            Event::Reply { job, request, answer, token } => {
                if self.waiting[job] == request {
                    *self.statuses.entry(answer.status()).or_default() += 1;
                    self.hear(job, Heard::Answer(*answer, token.map(|token| *token)));
                }
            }
            Event::Fault(fault) => self.fault(at_us, fault)?,
            Event::Restart { at, life } => {
                if self.lives[at] == life && !self.daemons.runs(at) {
                    self.daemons.start(at, &self.links)?;
                    self.goals.reach(Goal::Crashed);
                }
            }
            Event::Resume { at, life } => {
                if self.lives[at] == life && self.now_us() >= self.paused_until_us[at] {
                    self.daemons.pause(at, false);
                }
            }
            Event::Care => {
                self.care()?;
                self.after(CARE_EVERY_US, Event::Care);
            }
        }
        Ok(())
    }

    fn care(&mut self) -> Result<(), Trouble> {
        if self.stage.stop.load(Ordering::Relaxed) {
            return Err(Trouble::Stopped);
        }
        self.daemons.ended().map_or(Ok(()), |ended| Err(Trouble::Failed(ended)))
    }

    fn turn(&mut self, job: usize) {
        let Some(sent) = self.workers[job].act(self.scenario) else { return };
        self.requests += 1;
        let request = self.requests;
        self.waiting[job] = request;
        self.after(self.scenario.habits.patience_us, Event::Patience { job, request });
        let dice = self.workers[job].dice();
        if !dice.chance(self.scenario.habits.lost) {
            let delay_us = dice.heavy(CLIENT_DELAY_US);
            self.after(delay_us, Event::Send { job, request, sent: Box::new(sent) });
        }
    }

    fn hear(&mut self, job: usize, heard: Heard) {
        self.waiting[job] = 0;
        if let Some(sleep_us) = self.workers[job].hear(heard, self.scenario) {
            self.after(sleep_us, Event::Turn(job));
        }
    }

    /// A region's answer, or that there is none.
    fn heard(&mut self, done: Done) -> Result<(), Trouble> {
        let Done { job, request, sent, heard } = done;
        let Some((_, asked)) = self.asked.remove(&request) else { return Ok(()) };
        let Some(sent) = sent else { return Ok(()) };
        let (sent_us, region) = (self.us_of(sent), asked.region as u16 + 1);
        let mut spoken = Spoken { region, key: asked.key, ask: asked.ask, sent_us, heard: None };
        let Some((at, reply)) = heard else {
            self.history.spoken.push(spoken);
            return Ok(());
        };
        let heard_us = self.us_of(at);
        let understood = answer::answer(&reply);
        let (answer, fact) = understood
            .map_err(|reply| format!("a reply that is not understood, of another version? {reply}"))?;
        let token = fact.and_then(|fact| {
            self.tokens.push(reply.bytes("token")?.to_vec());
            Some(Box::new((self.tokens.len() - 1, fact)))
        });
        self.sample(&spoken.ask, &answer, &reply);
        self.note_goals(&spoken, &answer);
        spoken.heard = Some((heard_us, answer.clone()));
        self.history.spoken.push(spoken);
        let dice = self.workers[job].dice();
        if !dice.chance(self.scenario.habits.lost) {
            let delay_us = dice.heavy(CLIENT_DELAY_US);
            self.after(delay_us, Event::Reply { job, request, answer: Box::new(answer), token });
        }
        Ok(())
    }

    fn sample(&mut self, ask: &Ask, answer: &Answer, reply: &Value) {
        match (ask, answer) {
            (Ask::Complete { token, bytes }, Answer::Completed | Answer::Contested) => {
                let execution = (token.claim, bytes.clone());
                // Told again to whoever asks again.
                if !self.executed.contains(&execution) {
                    self.executed.push(execution);
                    self.samples.executions += 1;
                }
            }
            (Ask::Claim { .. }, answer) => {
                self.samples.claims += 1;
                self.samples.refused += u64::from(matches!(answer, Answer::Unavailable { .. }));
                self.samples.stale_ms.extend(reply.number("stale_ms"));
            }
            _ => {}
        }
    }

    fn note_goals(&mut self, spoken: &Spoken, answer: &Answer) {
        let goal = match answer {
            Answer::Granted { .. } => Goal::Granted,
            Answer::Replay { claim, .. } if claim.region != spoken.region => Goal::ReplayAcrossRegions,
            Answer::Unknown => Goal::Unknown,
            Answer::Mismatch => Goal::Mismatch,
            Answer::Contested => Goal::Contested,
            Answer::Superseded { bytes: Some(_) } => Goal::SupersededShown,
            Answer::Renewed { .. } => Goal::Renewed,
            Answer::Released => Goal::Released,
            Answer::Forgotten => Goal::Forgotten,
            Answer::Stale { .. } => Goal::Stale,
            Answer::Unavailable { reason } if reason == "clock" => Goal::ClockRefused,
            Answer::Unavailable { reason } if reason == "catching_up" => Goal::CatchingUp,
            Answer::Unavailable { reason } if reason == "quota" => Goal::QuotaRefused,
            _ => return,
        };
        self.goals.reach(goal);
    }

    /// The second phase: all is healed, nobody asks any more, and regions must agree.
    fn end(mut self) -> Result<Played, Trouble> {
        self.samples.converged_ms = self.watch.take().map(Watch::end).unwrap_or_default();
        let healed: Vec<usize> = self.scenario.healed().regions().collect();
        let sockets = healed.iter().map(|at| self.daemons.socket(*at)).collect();
        let mut looker = Looker::new(sockets, self.scenario.keys.clone());
        let mut apart = looker.apart(&(0..self.scenario.keys.len()).collect::<Vec<_>>());
        self.figures.keys_apart = apart.len();
        self.heal(&healed)?;
        let healed_at = Instant::now();
        let bound = healed_at + Duration::from_micros(self.scenario.convergence_us());
        loop {
            self.care()?;
            apart = looker.apart(&apart);
            if apart.is_empty() && finals::agree(&self.daemons, &healed, self.scenario.severed) {
                break;
            }
            if Instant::now() > bound {
                return Err(Trouble::Apart(finals::apart(
                    self.now_us(),
                    self.scenario,
                    &healed,
                    apart.first(),
                )));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.figures.converged_ms = healed_at.elapsed().as_millis() as u64;
        if self.figures.keys_apart > 0 {
            self.samples.converged_ms.push(self.figures.converged_ms);
        }
        self.gather(&healed, bound)
    }

    fn heal(&mut self, healed: &[usize]) -> Result<(), Trouble> {
        self.network.heal(self.scenario.calm());
        set_weather(&self.links, &self.network);
        for (from, to) in self.network.pairs() {
            self.links.set_open(from, to, true);
        }
        self.sever();
        for outside in (0..self.scenario.sites()).filter(|at| !healed.contains(at)) {
            for other in (0..self.scenario.sites()).filter(|other| *other != outside) {
                self.cut(outside, other, true);
                self.cut(other, outside, true);
            }
        }
        for at in healed {
            if !self.clocks[*at].0.is_calm(self.scenario.max_drift_ms) {
                self.daemons.set_clock(*at, 0)?;
            }
            if !self.daemons.runs(*at) {
                self.daemons.start(*at, &self.links)?;
                self.goals.reach(Goal::Crashed);
            }
        }
        Ok(())
    }

    /// What is there when all have agreed.
    fn gather(mut self, healed: &[usize], bound: Instant) -> Result<Played, Trouble> {
        let sites = self.scenario.sites();
        let end = finals::gather(&self.daemons, healed, self.stage.names, &self.scenario.keys)?;
        let ended_us = self.now_us();
        self.bytes += (0..sites).map(|at| finals::bytes_out(&self.daemons, at)).sum::<u64>();
        let listed = &end.finals[0].conflicts;
        let apart = |conflict: &crate::oracle::agreement::ConflictFact| {
            let (_, _, winner) = conflict.winner?;
            Some((conflict.loser.stamp >> 16).abs_diff(winner.stamp >> 16))
        };
        self.samples.duplicates_ms = listed.iter().filter_map(apart).collect();
        if !listed.is_empty() {
            self.goals.reach(Goal::DoubleExecution);
        }
        self.figures.conflicts = listed.len();
        (self.figures.bytes, self.samples.bytes) = (self.bytes, self.bytes);
        (self.samples.virtual_us, self.samples.links) =
            (ended_us - limits::WARM_UP_US, (sites * (sites - 1)) as u64);
        // INV-17: every region grants again.
        while let Some(refused) = healed.iter().find_map(|at| finals::refuses(&self.daemons, *at)) {
            self.care()?;
            if Instant::now() > bound {
                return Err(Trouble::Apart(finals::refusing(self.now_us(), &refused)));
            }
            std::thread::sleep(LOOK_EVERY * 10);
        }
        // Those whose answer nobody waited for.
        while let Ok(done) = self.done.try_recv() {
            self.heard(done)?;
        }
        for (_, sent) in std::mem::take(&mut self.asked).into_values() {
            let (region, key) = (sent.region as u16 + 1, sent.key);
            self.history.spoken.push(Spoken { region, key, ask: sent.ask, sent_us: 0, heard: None });
        }
        let packets = self.links.counts_of_all();
        let Self { history, samples, figures, statuses, goals, .. } = self;
        Ok(Played { history, end, samples, figures, statuses, goals, packets })
    }
}
