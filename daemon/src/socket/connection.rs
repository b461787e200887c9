//! One client connection: read, run every command that has arrived whole, make what they depend on durable
//! once, write all replies at once.
//!
//! Replies keep the order of their commands. A parked claim (WAIT) holds back what follows it on its own
//! connection and nothing else. Buffers are bounded: what a client does not take is not produced.

use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use crdt::decide::{Gathered, Proposal};
use crdt::ids::RegionId;
use crdt::store::{Look, Release, Scratch, Ticket};
use crdt::wire::Carried;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::limits::{BUFFER_KEPT_BYTES, OUTPUT_BYTES_MAX, PARK_RECHECK_MS, READ_BYTES, WRITE_STALL_MS_MAX};
use super::live::Live;
use super::native::{Caller, Done, MeshCommand};
use super::server::{NO_ROLE, Scope, Shared};
use super::session::Session;
use super::show;
use crate::config::Grants;
use crate::driver::wall_ms;
use crate::log::LogError;
use crate::metrics::ReplyCounts;
use crate::resp::encode::Encoder;
use crate::resp::limits::RespLimits;
use crate::resp::parse::{ArgVec, Parse, Parser};

/// Why a connection ends; never an error of the daemon.
#[derive(Debug)]
struct Ended;

/// Serves one connection of `caller`, a uid and a gid, until it ends.
pub async fn serve(stream: UnixStream, mut scope: Scope, caller: (u32, u32)) {
    let shared = Arc::clone(&scope.shared);
    let live = shared.live();
    let (ticket, woken) = shared.driver.ticket();
    let mut connection = Connection {
        stream,
        shared: &shared,
        grants: live.access.grants(caller.0, &[caller.1]),
        live,
        caller,
        session: Session::new(ticket),
        parser: Parser::new(RespLimits::default()),
        input: vec![0; READ_BYTES],
        filled: 0,
        wanted: 1,
        output: Vec::new(),
        scratch: Scratch::default(),
        replies: ReplyCounts::default(),
        ticket,
        woken,
        parked: None,
        look: Look::First,
    };
    let mut stop = Stop { waiting: pin!(scope.stopping()), came: false };
    // However it ends, there is nothing left to tell the client.
    let _ = connection.run(&mut stop).await;
    if let Some(parked) = connection.parked.take() {
        parked.unpark(&shared, ticket);
    }
    shared.driver.forget_ticket(ticket);
}

/// The daemon's stop, waited for once a connection and not once a read.
struct Stop<'s> {
    waiting: Pin<&'s mut dyn Future<Output = ()>>,
    came: bool,
}

impl Stop<'_> {
    /// Ends when the daemon stops, and from then on at once.
    async fn wait(&mut self) {
        if !self.came {
            self.waiting.as_mut().await;
            self.came = true;
        }
    }
}

/// The command at the head of the input waits.
struct Parked {
    /// For this key to change; `None`: for a loser to arrive.
    key: Option<Vec<u8>>,
    until: Instant,
}

impl Parked {
    fn unpark(&self, shared: &Shared, ticket: Ticket) {
        match &self.key {
            Some(key) => shared.driver.store.unpark(key, ticket),
            None => shared.driver.store.unpark_feed(ticket),
        }
    }
}

struct Connection<'c> {
    stream: UnixStream,
    shared: &'c Shared,
    caller: (u32, u32),
    /// As of its last read.
    live: Arc<Live>,
    grants: Grants,
    session: Session,
    parser: Parser,
    input: Vec<u8>,
    filled: usize,
    /// Bytes that must be there before parsing can find anything new.
    wanted: usize,
    output: Vec<u8>,
    scratch: Scratch,
    /// Counted since they were last added to the metrics.
    replies: ReplyCounts,
    ticket: Ticket,
    woken: Arc<Notify>,
    parked: Option<Parked>,
    /// What came of asking other regions for the command at the head of the input.
    look: Look,
}

/// What one round over the input has come to.
enum Round {
    /// Nothing more to parse.
    Read,
    /// The output is full: write, then go on.
    Write,
    /// The claim at the head of the input waits for its key.
    Park,
    /// The command at the head of the input wants a majority to hold what it proposes.
    Majority(Vec<u8>, Proposal),
    /// The command at the head of the input is for that region to decide.
    Home(RegionId, Carried),
    Mesh(MeshCommand),
    Reload,
    Close,
}

impl Connection<'_> {
    async fn run(&mut self, stop: &mut Stop<'_>) -> Result<(), Ended> {
        loop {
            let (round, release) = self.round();
            self.reach(&release).await?;
            match round {
                Round::Read => {
                    self.write_out().await?;
                    self.read(stop).await?;
                }
                Round::Write => self.write_out().await?,
                Round::Park => {
                    self.write_out().await?;
                    self.park(stop).await?;
                }
                Round::Majority(key, proposal) => {
                    self.write_out().await?;
                    self.ask_majority(key, proposal).await?;
                }
                Round::Home(home, request) => {
                    self.write_out().await?;
                    self.ask_home(home, request).await?;
                }
                Round::Mesh(command) => self.ask_mesh(command).await,
                Round::Reload => self.reload().await,
                Round::Close => {
                    self.write_out().await?;
                    return Err(Ended);
                }
            }
        }
    }

    /// Runs every whole command in the input.
    fn round(&mut self) -> (Round, Release) {
        let mut release = Release::default();
        if self.live.version != self.shared.live_version() && !self.follow_reload() {
            return (Round::Close, release);
        }
        let (mut at, now_ms) = (0, wall_ms());
        // A claim that comes back from its park may park again while its time lasts.
        let may_park = self.parked.as_ref().is_none_or(|parked| Instant::now() < parked.until);
        let mut args = ArgVec::new();
        let input = &self.input[..self.filled];
        let round = loop {
            if self.output.len() >= OUTPUT_BYTES_MAX {
                break Round::Write;
            }
            if input.len() - at < self.wanted {
                break Round::Read;
            }
            let proto = self.session.proto;
            let mut out = Encoder::new(&mut self.output, proto);
            let mut caller = Caller {
                shared: self.shared,
                grants: &self.grants,
                live: &self.live,
                session: &mut self.session,
                scratch: &mut self.scratch,
                replies: &mut self.replies,
                wall_ms: now_ms,
                ticket: may_park.then_some(self.ticket),
                look: std::mem::replace(&mut self.look, Look::First),
            };
            let (consumed, done) = match self.parser.parse(&input[at..], &mut args) {
                Parse::Complete { consumed } => (consumed, caller.run(&args, &mut out)),
                Parse::Quoted { consumed, command } => {
                    (consumed, run_quoted(&mut caller, &command, &mut out))
                }
                Parse::Incomplete { bytes_min } => {
                    self.wanted = bytes_min;
                    break Round::Read;
                }
                Parse::Refused { consumed, error } => {
                    out.error(error);
                    (consumed, Done::Answered(Release::default()))
                }
                Parse::Fatal { error } => {
                    out.error(error);
                    break Round::Close;
                }
            };
            match done {
                Done::Answered(answered) => release.join(answered),
                Done::Parked { key, wait_ms } => {
                    park(&mut self.parked, Some(key), wait_ms);
                    break Round::Park;
                }
                Done::Feeding(wait_ms) => {
                    park(&mut self.parked, None, wait_ms);
                    break Round::Park;
                }
                Done::Asks { key, proposal, release: asked } => {
                    release.join(asked);
                    break Round::Majority(key, proposal);
                }
                Done::Forwards { home, request } => break Round::Home(home, request),
                Done::Close => break Round::Close,
                Done::Mesh(command) => {
                    at += consumed;
                    break Round::Mesh(command);
                }
                Done::Reload => {
                    at += consumed;
                    break Round::Reload;
                }
            }
            at += consumed;
            self.wanted = 1;
            self.parked = None;
        };
        self.replies.add_to(&self.shared.metrics);
        self.consume(at);
        (round, release)
    }

    /// INV-8: nothing leaves before what it depends on is durable. Yields once first, so that other
    /// connections of this thread join the same write.
    async fn reach(&mut self, release: &Release) -> Result<(), Ended> {
        self.shared.driver.wake_parked();
        if self.shared.driver.store.tail().may_release(release) {
            return Ok(());
        }
        tokio::task::yield_now().await;
        loop {
            match self.shared.driver.reach(release) {
                Ok(()) => return Ok(()),
                // The replies gathered must never leave.
                Err(LogError::Failed) => return Err(Ended),
                // Decided, and not durable: the client waits, or goes.
                Err(LogError::Full) => tokio::select! {
                    () = sleep(Duration::from_millis(PARK_RECHECK_MS)) => {}
                    () = gone(&self.stream) => return Err(Ended),
                },
            }
        }
    }

    async fn write_out(&mut self) -> Result<(), Ended> {
        let mut written = 0;
        while written < self.output.len() {
            // What was durable when it was gathered may have waited for the client to read.
            if self.shared.driver.log.has_failed() {
                return Err(Ended);
            }
            match self.stream.try_write(&self.output[written..]) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let writable = timeout(Duration::from_millis(WRITE_STALL_MS_MAX), self.stream.writable());
                    writable.await.map_err(|_| Ended)?.map_err(|_| Ended)?;
                }
                Err(_) => return Err(Ended),
            }
        }
        self.output.clear();
        if self.output.capacity() > BUFFER_KEPT_BYTES {
            self.output = Vec::new();
        }
        Ok(())
    }

    /// Waits for input; ends at the client's end, or when the daemon stops and nothing is left to answer.
    async fn read(&mut self, stop: &mut Stop<'_>) -> Result<(), Ended> {
        let needed = self.filled + self.wanted.max(READ_BYTES / 2);
        if self.input.len() < needed {
            self.input.resize(needed.next_power_of_two(), 0);
        }
        let into = &mut self.input[self.filled..];
        let read = tokio::select! {
            biased;
            // Knows from a read that did not fill the buffer that there is no more: `try_read` would have to ask.
            read = self.stream.read(into) => read,
            () = stop.wait() => {
                // Bytes may have come since the runtime last asked the kernel; a yield makes it ask again.
                tokio::task::yield_now().await;
                self.stream.try_read(&mut self.input[self.filled..])
            }
        };
        match read {
            Ok(0) | Err(_) => Err(Ended),
            Ok(bytes) => {
                self.filled += bytes;
                Ok(())
            }
        }
    }

    /// Waits until the key changes, the wait ends, or the client goes. What it sends meanwhile stays in the
    /// kernel's buffer, which is bounded.
    async fn park(&mut self, stop: &mut Stop<'_>) -> Result<(), Ended> {
        let Some(parked) = &mut self.parked else { return Ok(()) };
        // Leases end without anybody saying so: look again now and then.
        let recheck = Instant::now() + Duration::from_millis(PARK_RECHECK_MS);
        tokio::select! {
            () = self.woken.notified() => {}
            () = sleep_until(parked.until.min(recheck)) => {}
            () = gone(&self.stream) => return Err(Ended),
            // Its wait is over: it runs once more, and is told that the daemon drains.
            () = stop.wait() => parked.until = Instant::now(),
        }
        parked.unpark(self.shared, self.ticket);
        Ok(())
    }

    /// Waits for the majority; what came of it is for the command's second run.
    async fn ask_majority(&mut self, key: Vec<u8>, proposal: Proposal) -> Result<(), Ended> {
        tokio::select! {
            gathered = self.shared.mesh.majority(key, proposal) => {
                // A mesh that has ended is a daemon that stops: no majority is to be had.
                self.look = Look::Gathered(gathered.unwrap_or(Gathered { proposal, reached: false }));
                Ok(())
            }
            () = gone(&self.stream) => Err(Ended),
        }
    }

    /// Waits for the home's answer; what it said is for the command's second run.
    async fn ask_home(&mut self, home: RegionId, request: Carried) -> Result<(), Ended> {
        tokio::select! {
            verdict = self.shared.mesh.forward(home, request) => {
                self.look = Look::Answered(verdict.flatten());
                Ok(())
            }
            () = gone(&self.stream) => Err(Ended),
        }
    }

    async fn ask_mesh(&mut self, command: MeshCommand) {
        let answer = self.shared.mesh.ask(command).await;
        let mut out = Encoder::new(&mut self.output, self.session.proto);
        match answer {
            Some(peers) if command == MeshCommand::Peers => show::peers(&peers, &self.live.names, &mut out),
            Some(_) => {
                out.map(1);
                out.field_status("OK");
            }
            None => out.error("ERR the peers' thread has ended; onced is stopping"),
        }
    }

    /// Takes up what a reload has changed: false if the caller has no role any more, which it is told.
    fn follow_reload(&mut self) -> bool {
        self.live = self.shared.live();
        self.grants = self.live.access.grants(self.caller.0, &[self.caller.1]);
        if !self.grants.any() {
            Encoder::new(&mut self.output, self.session.proto).error(NO_ROLE);
        }
        self.grants.any()
    }

    async fn reload(&mut self) {
        let reloaded = self.shared.reload.ask().await;
        let mut out = Encoder::new(&mut self.output, self.session.proto);
        match reloaded {
            Some(reloaded) => show::reloaded(&reloaded, &mut out),
            None => out.error("ERR onced is stopping"),
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.input.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
        if self.filled == 0 && self.input.len() > BUFFER_KEPT_BYTES {
            self.input = vec![0; READ_BYTES];
        }
    }
}

/// It waits from its first look on, however often it is woken.
fn park(parked: &mut Option<Parked>, key: Option<Vec<u8>>, wait_ms: u64) {
    let until = Instant::now() + Duration::from_millis(wait_ms);
    parked.get_or_insert(Parked { key, until });
}

/// An inline command with quotes, given again as an array.
fn run_quoted(caller: &mut Caller<'_>, command: &[u8], out: &mut Encoder<'_>) -> Done {
    let mut args = ArgVec::new();
    match Parser::new(RespLimits::default()).parse(command, &mut args) {
        Parse::Complete { .. } => caller.run(&args, out),
        _ => Done::Answered(Release::default()),
    }
}

/// Ends when the client has closed its side.
async fn gone(stream: &UnixStream) {
    loop {
        match stream.ready(Interest::READABLE).await {
            Ok(ready) if !ready.is_read_closed() => {
                // It has sent more, which waits its turn.
                sleep(Duration::from_millis(PARK_RECHECK_MS)).await;
            }
            _ => return,
        }
    }
}
