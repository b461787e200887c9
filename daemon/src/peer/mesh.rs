//! The mesh thread: owns the node, dials, accepts, and moves frames between QUIC and `crdt::node`.
//!
//! One long-lived connection a pair of regions: the region with the smaller id dials, the other accepts, so that
//! no two connections ever have to be reconciled. A region that restarts is noticed at the next ping, because
//! its QUIC reset key survives (see `transport_config`).
//!
//! It runs beside the socket threads on few cores: it gathers for a millisecond, sends what may leave, and
//! sleeps. What heals a peer, or us, is done in pieces with rests between them, as long as the node says. Nothing here
//! decides what a frame means.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crdt::decide::{Gathered, Proposal, Verdict};
use crdt::ids::RegionId;
use crdt::limits::PING_EVERY_MS;
use crdt::node::{ForwardCounts, FrameError, LinkId, LinkState, MembershipError, Node, Pacing, PeerView};
use crdt::request::{Claim, Reason, Request};
use crdt::store::{Scratch, Ticket};
use crdt::wire::Carried;
use tokio::sync::{mpsc, oneshot, watch};

use super::certificates::ExpiryWatch;
use super::limits::{EVENTS_MAX, GATHER};
use super::link::{Established, Link, Misbehaviour};
use crate::driver::wall_ms;
use crate::log::ReadPlace;
use crate::priority::yield_to_clients;
use crate::socket::{MeshCommand, Shared};

pub use dial::{Dialling, MeshError, PeerAddress};
pub use reconfigure::Reconfigure;

mod dial;
mod homes;
mod reconfigure;

/// What PEERS shows of one peer.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// As the node sees it.
    pub view: PeerView,
    /// Where it is dialled, or from where it dials.
    pub address: String,
    /// The version of the protocol that its link speaks.
    pub protocol: Option<String>,
    /// Why the last link ended or could not be made.
    pub last_error: Option<String>,
}

/// What happens to the mesh.
#[derive(Debug)]
pub(super) enum Event {
    Up(Box<Established>),
    Down {
        peer: RegionId,
        link: LinkId,
        reason: String,
    },
    Failed {
        peer: RegionId,
        reason: String,
    },
    Frame {
        peer: RegionId,
        link: LinkId,
        frame: Vec<u8>,
    },
    /// What the peer did is no frame at all, and its connection is closed.
    Misbehaved {
        peer: RegionId,
        link: LinkId,
        what: Misbehaviour,
    },
    Writable {
        peer: RegionId,
        link: LinkId,
    },
    Ask(MeshCommand, oneshot::Sender<Vec<PeerStatus>>),
    Majority(Vec<u8>, Proposal, oneshot::Sender<Gathered>),
    Forward(RegionId, Carried, oneshot::Sender<Option<Verdict>>),
    Reconfigure(Box<Reconfigure>, oneshot::Sender<Result<(), MembershipError>>),
}

/// Asks the mesh thread.
#[derive(Clone, Debug)]
pub struct MeshHandle {
    events: mpsc::Sender<Event>,
}

/// The mesh thread's end of the handle.
#[derive(Debug)]
pub struct MeshInbox {
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
}

impl MeshHandle {
    /// A handle, and the inbox to start the thread with.
    pub fn channel() -> (Self, MeshInbox) {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        (Self { events: sender.clone() }, MeshInbox { events, sender })
    }

    /// Has the mesh do `command`; all peers as they stand afterwards, `None` when the thread has ended.
    pub async fn ask(&self, command: MeshCommand) -> Option<Vec<PeerStatus>> {
        let (answer, answered) = oneshot::channel();
        self.events.send(Event::Ask(command, answer)).await.ok()?;
        answered.await.ok()
    }

    /// Has a majority of the regions hold `proposal`, which is synced here; `None` when the thread has ended. It is over
    /// within [`crdt::limits::ROUND_MS_MAX`] and a tick.
    pub async fn majority(&self, key: Vec<u8>, proposal: Proposal) -> Option<Gathered> {
        let (answer, answered) = oneshot::channel();
        self.events.send(Event::Majority(key, proposal, answer)).await.ok()?;
        answered.await.ok()
    }

    /// Has `home` decide a request; what it said, or `None` inside if it could not be asked; `None` when the thread has ended.
    /// It is over within [`crdt::limits::FORWARD_MS_MAX`] and a tick.
    pub async fn forward(&self, home: RegionId, request: Carried) -> Option<Option<Verdict>> {
        let (answer, answered) = oneshot::channel();
        self.events.send(Event::Forward(home, request, answer)).await.ok()?;
        answered.await.ok()
    }

    /// Gives the mesh another configuration; `None` when the thread has ended.
    pub async fn reconfigure(&self, wanted: Reconfigure) -> Option<Result<(), MembershipError>> {
        let (answer, answered) = oneshot::channel();
        self.events.send(Event::Reconfigure(Box::new(wanted), answer)).await.ok()?;
        answered.await.ok()
    }
}

/// The running thread.
#[derive(Debug)]
pub struct Mesh {
    handle: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Mesh {
    /// Starts the thread. `socket` is bound already, so that a wrong address is found before anything runs.
    pub fn start(
        inbox: MeshInbox,
        node: Node,
        shared: Arc<Shared>,
        acked_by_all: Arc<AtomicU64>,
        dialling: Option<(Dialling, UdpSocket)>,
    ) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("mesh".into());
        let handle = thread.spawn(move || {
            yield_to_clients();
            runtime.block_on(async move {
                let started =
                    dialling.map(|(dialling, socket)| dial::start(dialling, socket, inbox.sender.clone()));
                let started = match started.transpose() {
                    Ok(started) => started,
                    Err(error) => return tracing::error!(%error, "the QUIC endpoint cannot start"),
                };
                let mut running = Running::new(node, shared, acked_by_all, started, inbox.sender);
                running.run(inbox.events, stopped).await;
            });
        })?;
        Ok(Self { handle, stop })
    }

    /// Ends all links in order and the thread.
    pub fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.handle.join();
    }
}

/// One peer's transport.
#[derive(Debug, Default)]
struct Transport {
    link: Option<Link>,
    address: String,
    last_error: Option<String>,
    place: ReadPlace,
    /// Tells the dialler where the peer is, and whether an operator has cut it.
    orders: Option<watch::Sender<dial::Orders>>,
    /// Tells the dialler that this is a copy of an older state.
    copy: Arc<AtomicBool>,
}

impl Transport {
    fn new(started: dial::StartedPeer) -> Self {
        let dial::StartedPeer { address, orders, copy, .. } = started;
        Self { address, orders: Some(orders), copy, ..Self::default() }
    }
}

struct Running {
    node: Node,
    shared: Arc<Shared>,
    acked_by_all: Arc<AtomicU64>,
    started: Option<dial::Started>,
    events: mpsc::Sender<Event>,
    transports: BTreeMap<RegionId, Transport>,
    next_link: LinkId,
    /// Who waits for a majority.
    majorities: HashMap<Ticket, (Vec<u8>, oneshot::Sender<Gathered>)>,
    /// Who waits for the home of a key.
    forwards: HashMap<Ticket, oneshot::Sender<Option<Verdict>>>,
    /// What the metrics know of them.
    forwards_told: ForwardCounts,
    next_ticket: Ticket,
    /// What was last said in the log: why claims are refused, and which links stall.
    said: (Option<Reason>, Vec<RegionId>),
    /// And how it stands to what majorities decide.
    said_voice: &'static str,
    expiry: ExpiryWatch,
}

impl Running {
    fn new(
        mut node: Node,
        shared: Arc<Shared>,
        acked_by_all: Arc<AtomicU64>,
        mut started: Option<dial::Started>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        node.pacing = Pacing::on_cores(std::thread::available_parallelism().map_or(1, usize::from));
        let peers = started.as_mut().map(dial::Started::take_peers).unwrap_or_default();
        let transports = peers.into_iter().map(|peer| (peer.region, Transport::new(peer))).collect();
        Self {
            node,
            shared,
            acked_by_all,
            started,
            events,
            transports,
            next_link: 1,
            majorities: HashMap::new(),
            forwards: HashMap::new(),
            forwards_told: ForwardCounts::default(),
            next_ticket: 1,
            said: (None, Vec::new()),
            said_voice: "unused",
            expiry: ExpiryWatch::default(),
        }
    }

    async fn run(&mut self, mut inbox: mpsc::Receiver<Event>, mut stopped: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(Duration::from_millis(PING_EVERY_MS / 2));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let log_moved = Arc::clone(&self.shared.driver.log_moved);
        loop {
            tokio::select! {
                event = inbox.recv() => match event {
                    Some(event) => {
                        self.handle(event);
                        // All that has arrived before anything is written: one write serves it.
                        for _ in 0..EVENTS_MAX {
                            let Ok(event) = inbox.try_recv() else { break };
                            self.handle(event);
                        }
                    }
                    None => break,
                },
                () = log_moved.notified() => tokio::time::sleep(GATHER).await,
                _ = tick.tick() => {
                    self.node.handle_tick(&self.shared.driver.store, wall_ms());
                    self.alarm();
                }
                _ = stopped.wait_for(|stop| *stop) => break,
            }
            self.after();
        }
        for transport in self.transports.values() {
            if let Some(link) = &transport.link {
                link.close("the daemon stops");
            }
        }
        if let Some(started) = &self.started {
            let endpoint = &started.endpoint;
            endpoint.close(0u32.into(), b"the daemon stops");
            let _ = tokio::time::timeout(Duration::from_millis(500), endpoint.wait_idle()).await;
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Up(established) => self.up(*established),
            Event::Down { peer, link, reason } => self.down(peer, link, reason),
            Event::Failed { peer, reason } => {
                if let Some(transport) = self.transports.get_mut(&peer) {
                    if transport.last_error.as_ref() != Some(&reason) {
                        tracing::warn!(region = peer.0, %reason, "no link to a peer");
                    }
                    transport.last_error = Some(reason);
                }
            }
            Event::Frame { peer, link, frame } => self.frame(peer, link, &frame),
            Event::Misbehaved { peer, link, what } => {
                self.count_refused(peer, what.name());
                tracing::error!(region = peer.0, %what, "a peer misbehaves; its link is closed");
                self.down(peer, link, what.to_string());
            }
            Event::Writable { peer, link } => self.send(peer, link),
            Event::Ask(command, answer) => {
                if let MeshCommand::SetCut(peer, cut) = command {
                    self.set_cut(peer, cut);
                }
                // Whoever asked may have gone.
                let _ = answer.send(self.statuses());
            }
            Event::Majority(key, proposal, answer) => {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                let store = &self.shared.driver.store;
                self.node.handle_ask(store, ticket, &key, proposal, wall_ms());
                self.majorities.insert(ticket, (key, answer));
            }
            Event::Forward(home, request, answer) => {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                self.forwards.insert(ticket, answer);
                self.node.handle_forward(ticket, home, &request.request(), wall_ms());
            }
            Event::Reconfigure(wanted, answer) => {
                let _ = answer.send(self.reconfigure(*wanted));
            }
        }
    }

    fn up(&mut self, established: Established) {
        let peer = established.peer;
        if self.node.is_cut(peer) {
            established.connection.close(0u32.into(), b"cut by an operator");
            return;
        }
        let Some(transport) = self.transports.get_mut(&peer) else {
            established.connection.close(0u32.into(), b"retired by a change of configuration");
            return;
        };
        self.shared.metrics.links_opened.increment(1);
        if let Some(old) = transport.link.take() {
            old.close("replaced by a newer link");
            self.node.handle_link_down(peer, old.id, wall_ms());
        }
        let id = self.next_link;
        self.next_link += 1;
        tracing::info!(region = peer.0, from = %established.connection.remote_address(), "linked to a peer");
        transport.last_error = None;
        transport.link = Some(Link::start(id, established, self.events.clone()));
        self.node.handle_link_up(&self.shared.driver.store, peer, id, wall_ms());
    }

    fn down(&mut self, peer: RegionId, link: LinkId, reason: String) {
        self.node.handle_link_down(peer, link, wall_ms());
        let Some(transport) = self.transports.get_mut(&peer) else { return };
        if transport.link.as_ref().is_some_and(|current| current.id == link) {
            tracing::warn!(region = peer.0, %reason, "the link to a peer is gone");
            transport.link = None;
            transport.last_error = Some(reason);
        }
    }

    fn frame(&mut self, peer: RegionId, link: LinkId, frame: &[u8]) {
        let began = Instant::now();
        let result = self.node.handle_frame(&self.shared.driver.store, peer, link, frame, wall_ms());
        self.pace(began);
        let Err(error) = result else { return };
        if error == FrameError::ClosedLink {
            // It was under way when the link was closed.
            return;
        }
        self.count_refused(peer, error.name());
        let Some(transport) = self.transports.get_mut(&peer) else { return };
        if let Some(current) = transport.link.take_if(|current| current.id == link) {
            tracing::error!(region = peer.0, %error, "a peer's frame is refused; its link is closed");
            if matches!(error, FrameError::WeAreOldCopy { .. }) {
                transport.copy.store(true, Ordering::Release);
            }
            current.close(&error.to_string());
            transport.last_error = Some(error.to_string());
            self.node.handle_link_down(peer, link, wall_ms());
        }
    }

    /// Rests after a piece of healing, as long as the node says: the socket threads' turn. The whole thread does, in the
    /// middle of its work: timers of the runtime are ten times too coarse, and what comes meanwhile waits in the kernel.
    fn pace(&mut self, began: Instant) {
        let rest_us = self.node.pacing.worked(began.elapsed().as_micros() as u64);
        if rest_us > 0 {
            let resting = Instant::now();
            std::thread::sleep(Duration::from_micros(rest_us));
            self.node.pacing.rested(rest_us, resting.elapsed().as_micros() as u64);
        }
    }

    fn count_refused(&self, peer: RegionId, reason: &'static str) {
        let name = self.shared.live().names.name(peer);
        metrics::counter!("onced_frames_refused_total", "peer" => name, "reason" => reason).increment(1);
    }

    fn set_cut(&mut self, peer: RegionId, cut: bool) {
        if !self.node.set_cut(peer, cut) {
            return;
        }
        tracing::warn!(region = peer.0, cut, "an operator cuts or heals a peer");
        let Some(transport) = self.transports.get_mut(&peer) else { return };
        if cut && let Some(link) = transport.link.take() {
            link.close("cut by an operator");
        }
        if let Some(orders) = &transport.orders {
            orders.send_modify(|orders| orders.cut = cut);
        }
    }

    /// Whoever asked has gone: a claim that is granted to nobody must not stand in the others' way.
    fn withdraw(&mut self, key: &[u8], proposal: Proposal) {
        let Proposal::Claim(_) = proposal else { return };
        let claim = Request::Claim(Claim { key, ..Claim::default() });
        let gathered = Some(Gathered { proposal, reached: false });
        let store = &self.shared.driver.store;
        // The reply is nobody's.
        let _ = store.run_gathered(&claim, gathered, wall_ms(), None, &mut Scratch::default(), |_| {});
    }

    /// After every round: what must be written is, what may leave does, what is wanted from disk is read.
    fn after(&mut self) {
        while let Some((ticket, gathered)) = self.node.poll_gathered() {
            let Some((key, answer)) = self.majorities.remove(&ticket) else { continue };
            if answer.send(gathered).is_err() {
                self.withdraw(&key, gathered.proposal);
            }
        }
        self.homes();
        let driver = &self.shared.driver;
        driver.wake_parked();
        if driver.store.tail().appended() > driver.store.tail().written() {
            // Never written here: a sync would hold up every link.
            driver.log.kick();
        }
        let links: Vec<(RegionId, LinkId)> =
            self.transports.iter().filter_map(|(peer, t)| Some((*peer, t.link.as_ref()?.id))).collect();
        for (peer, link) in &links {
            self.send(*peer, *link);
        }
        while let Some(request) = self.node.poll_read() {
            let Some(transport) = self.transports.get_mut(&request.peer) else { continue };
            match self.shared.driver.log.read(request.from, &mut transport.place) {
                Ok(read) => self.node.handle_read(request, read),
                Err(error) => {
                    tracing::error!(region = request.peer.0, %error, "cannot read the log for a peer");
                    if let Some(link) = transport.link.take() {
                        link.close("the log cannot be read");
                        self.node.handle_link_down(request.peer, link.id, wall_ms());
                    }
                }
            }
            for (peer, link) in &links {
                self.send(*peer, *link);
            }
        }
        self.acked_by_all.store(self.node.acked_by_all(), Ordering::Release);
    }

    /// S2: a clock that is off is said aloud, once, and so is its end.
    fn alarm(&mut self) {
        let reason = self.shared.driver.store.unready_reason(wall_ms());
        if reason != self.said.0 {
            match reason {
                // The log's thread says more of it.
                Some(Reason::DiskFull) => {}
                Some(reason) => tracing::warn!(reason = reason.name(), "claims are refused"),
                None => tracing::info!("claims are served"),
            }
            self.said.0 = reason;
        }
        let store = &self.shared.driver.store;
        let voice = store.gate.voice_name(store.policies().ask_majorities());
        if voice != self.said_voice {
            match voice {
                "counted" => tracing::info!("this region counts in majorities: claims at quorum are served"),
                _ => tracing::warn!(
                    "this region counts in no majority before it has compared everything with enough others: claims at quorum \
                     are refused"
                ),
            }
            self.said_voice = voice;
        }
        self.count_forwards();
        metrics::gauge!("onced_healing_share_percent").set(self.node.pacing.share_percent() as f64);
        let views = self.node.peers(&self.shared.driver.store);
        let stalled: Vec<_> =
            views.iter().filter(|view| view.state == LinkState::Stalled).map(|view| view.region).collect();
        let live = self.shared.live();
        // Between a change of peers and of their names, which follows, a newcomer has none yet.
        for view in views.iter().filter(|view| live.peers.contains(&view.region)) {
            super::gauges::set(&live.names.name(view.region), view, wall_ms());
        }
        if stalled != self.said.1 {
            for region in stalled.iter().filter(|region| !self.said.1.contains(region)) {
                tracing::error!(
                    region = region.0,
                    "a peer's clock runs ahead of ours beyond max_drift: nothing it sends is taken; check both clocks"
                );
            }
            self.said.1 = stalled;
        }
        for warning in self.expiry.due(&live.certificates, SystemTime::now()) {
            tracing::warn!("{warning}");
        }
    }

    /// Fills the link's queue as far as there is room.
    fn send(&mut self, peer: RegionId, link: LinkId) {
        let Some(current) = self.transports.get(&peer).and_then(|transport| transport.link.as_ref()) else {
            return;
        };
        if current.id != link {
            return;
        }
        let frames = current.frames.clone();
        while let Ok(room) = frames.try_reserve() {
            let began = Instant::now();
            match self.node.poll_send(&self.shared.driver.store, peer) {
                Some((id, frame)) if id == link => {
                    room.send(frame);
                    self.pace(began);
                }
                _ => return,
            }
        }
    }

    fn statuses(&self) -> Vec<PeerStatus> {
        let views = self.node.peers(&self.shared.driver.store);
        let status = |view: PeerView| {
            let transport = self.transports.get(&view.region);
            let live = transport.and_then(|t| t.link.as_ref()).map(|link| link.connection.remote_address());
            let configured = transport.map(|t| t.address.clone()).unwrap_or_default();
            PeerStatus {
                view,
                address: live.map_or(configured, |address: SocketAddr| address.to_string()),
                protocol: transport.and_then(|t| t.link.as_ref()).map(|link| link.protocol.clone()),
                last_error: transport.and_then(|t| t.last_error.clone()),
            }
        };
        views.into_iter().map(status).collect()
    }
}
