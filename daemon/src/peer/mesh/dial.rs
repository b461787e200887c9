//! Making connections: dialling peers with greater ids, accepting those with smaller ones, and finding out who
//! they are. Nothing is told to the mesh before certificate, cluster and configured name agree.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crdt::ids::RegionId;
use quinn::rustls::pki_types::CertificateDer;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, ServerConfig, TokioRuntime,
    TransportErrorCode,
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use super::super::ca::region_dns_name;
use super::super::limits::{
    DIAL_TIMEOUT, HANDSHAKES_AN_ADDRESS_MAX, HANDSHAKES_MAX, LINK_PROVED, REDIAL_COPY, REDIAL_MAX,
    REDIAL_MIN, SILENT_LINK, SILENT_LOOK_EVERY,
};
use super::super::link::Established;
use super::super::protocol::{NO_APPLICATION_PROTOCOL, PROTOCOLS};
use super::super::refusals::refused;
use super::super::tls::peer_region;
use super::super::transport_config::{Admission, admit};
use super::Event;

/// A configured peer.
#[derive(Clone, Debug)]
pub struct PeerAddress {
    /// Its number.
    pub region: RegionId,
    /// Its name.
    pub name: String,
    /// `host:port`, resolved at every dial.
    pub address: String,
}

/// What connections are made with.
#[derive(Debug)]
pub struct Dialling {
    /// This region's number.
    pub region: RegionId,
    /// The cluster's name, as in certificates.
    pub cluster: String,
    /// All peers.
    pub peers: Vec<PeerAddress>,
    /// For dialling.
    pub client: ClientConfig,
    /// For accepting.
    pub server: ServerConfig,
    /// For the UDP socket.
    pub endpoint: EndpointConfig,
}

/// Why no connection to a peer came about; shown in PEERS.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The name does not resolve.
    #[error("{0} cannot be resolved: {1}; check this peer's address")]
    Resolve(String, std::io::Error),
    /// quinn refuses to try.
    #[error("cannot dial: {0}")]
    Connect(#[from] quinn::ConnectError),
    /// The handshake failed, or the connection ended in it.
    #[error("{0}{advice}", advice = advice(.0))]
    Connection(#[from] ConnectionError),
    /// Nobody answers.
    #[error("no answer from {0} within {DIAL_TIMEOUT:?}: is onced running there, and may UDP pass?")]
    Timeout(String),
    /// Its certificate is somebody else's.
    #[error("{0}")]
    Identity(#[from] super::super::tls::IdentityError),
    /// Not one of ours.
    #[error("a region named {0:?} is no [[peer]] of this region's configuration")]
    Stranger(String),
    /// It should wait to be dialled.
    #[error("region {0:?} dialled us, but the region with the smaller id dials: check both [region] ids")]
    WrongDirection(String),
}

impl MeshError {
    /// One word, for a counter.
    const fn name(&self) -> &'static str {
        match self {
            Self::Resolve(..) | Self::Connect(_) => "dial",
            Self::Connection(_) => "handshake",
            Self::Timeout(_) => "timeout",
            Self::Identity(_) => "identity",
            Self::Stranger(_) => "stranger",
            Self::WrongDirection(_) => "direction",
        }
    }
}

/// What to do about a failed handshake: quinn passes on no more of rustls's reason than its text.
fn advice(error: &ConnectionError) -> String {
    let code = match error {
        ConnectionError::TransportError(error) => Some(error.code),
        ConnectionError::ConnectionClosed(close) => Some(close.error_code),
        _ => None,
    };
    if code == Some(TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL)) {
        let ours = PROTOCOLS.join(", ");
        return format!(
            "; no protocol version in common: this daemon speaks {ours}, and the log of the side that was dialled names \
             both and which one to upgrade"
        );
    }
    if error.to_string().contains("certificate") {
        return "; check tls.ca_file and tls.cert_file on both sides with: onced check-config FILE"
            .to_owned();
    }
    String::new()
}

/// The endpoint, and what accepting and dialling follow.
pub(super) struct Started {
    pub(super) endpoint: Endpoint,
    accepting: Arc<Accepting>,
    client: watch::Sender<ClientConfig>,
    events: mpsc::Sender<Event>,
    peers: Vec<StartedPeer>,
}

pub(super) struct StartedPeer {
    pub(super) region: RegionId,
    pub(super) address: String,
    /// The dialler ends with it.
    pub(super) orders: watch::Sender<Orders>,
    /// Set once the peer holds more of our log than we do: the dialler then keeps away.
    pub(super) copy: Arc<AtomicBool>,
}

/// What a dialler follows.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    /// An operator has cut the peer off.
    pub(super) cut: bool,
    /// Where it is dialled.
    pub(super) address: String,
}

/// Starts the endpoint and one task for every peer that is ours to dial.
pub(super) fn start(
    dialling: Dialling,
    socket: UdpSocket,
    events: mpsc::Sender<Event>,
) -> std::io::Result<Started> {
    let Dialling { region, cluster, peers, client, server, endpoint } = dialling;
    let endpoint = Endpoint::new(endpoint, Some(server), socket, Arc::new(TokioRuntime))?;
    let accepting = Arc::new(Accepting { region, cluster, peers: Mutex::new(peers.clone()) });
    tokio::spawn(accept(endpoint.clone(), Arc::clone(&accepting), events.clone()));
    let client = watch::Sender::new(client);
    let mut started = Started { endpoint, accepting, client, events, peers: Vec::new() };
    started.peers = peers.into_iter().map(|peer| started.add(peer)).collect();
    Ok(started)
}

impl Started {
    /// Those that were there from the beginning.
    pub(super) fn take_peers(&mut self) -> Vec<StartedPeer> {
        std::mem::take(&mut self.peers)
    }

    /// One more peer, dialled from now on if that is ours to do.
    pub(super) fn add(&self, peer: PeerAddress) -> StartedPeer {
        let address = peer.address.clone();
        let (orders, follow) = watch::channel(Orders { cut: false, address: address.clone() });
        let (copy, region) = (Arc::new(AtomicBool::new(false)), peer.region);
        if self.accepting.region < region {
            let dialler = Dialler {
                endpoint: self.endpoint.clone(),
                client: self.client.subscribe(),
                cluster: self.accepting.cluster.clone(),
                region,
                name: peer.name,
                events: self.events.clone(),
                copy: Arc::clone(&copy),
            };
            tokio::spawn(dialler.run(follow));
        }
        StartedPeer { region, address, orders, copy }
    }

    /// Whom connections from outside are taken from.
    pub(super) fn accept_only(&self, peers: &[PeerAddress]) {
        *self.accepting.lock() = peers.to_vec();
    }

    /// What handshakes are made with from now on, in both directions.
    pub(super) fn identify_with(&self, client: ClientConfig, server: ServerConfig) {
        self.endpoint.set_server_config(Some(server));
        self.client.send_replace(client);
    }
}

struct Dialler {
    endpoint: Endpoint,
    client: watch::Receiver<ClientConfig>,
    cluster: String,
    region: RegionId,
    name: String,
    events: mpsc::Sender<Event>,
    copy: Arc<AtomicBool>,
}

impl Dialler {
    /// Keeps one connection to the peer, until it is retired.
    async fn run(self, mut orders: watch::Receiver<Orders>) {
        let mut pause = REDIAL_MIN;
        loop {
            // The peer, or the mesh, is gone when its orders are.
            let Ok(target) = orders.wait_for(|orders| !orders.cut).await.map(|orders| orders.address.clone())
            else {
                return;
            };
            // `wait_for` looks at the last orders first, and says nothing of there being no more.
            if orders.has_changed().is_err() {
                return;
            }
            let dialled = timeout(DIAL_TIMEOUT, self.dial(&target)).await;
            match dialled.unwrap_or_else(|_| Err(MeshError::Timeout(target.clone()))) {
                // Retired meanwhile.
                Ok(_) if orders.has_changed().is_err() => return,
                Ok(established) => {
                    let mut next = Some(established);
                    while let Some(established) = next.take() {
                        let connection = established.connection.clone();
                        if self.events.send(Event::Up(Box::new(established))).await.is_err() {
                            return;
                        }
                        let up = tokio::time::Instant::now();
                        next = self.outlive(&connection, &target).await;
                        // A handshake alone proves nothing: a peer may refuse our hello each time.
                        if up.elapsed() > LINK_PROVED {
                            pause = REDIAL_MIN;
                        }
                    }
                }
                Err(error) => {
                    let reason = error.to_string();
                    if self.events.send(Event::Failed { peer: self.region, reason }).await.is_err() {
                        return;
                    }
                }
            }
            if self.copy.swap(false, Ordering::AcqRel) {
                pause = REDIAL_COPY;
            }
            // Healing, or another address, is worth a dial at once.
            let changed = match timeout(jittered(pause), orders.changed()).await {
                Ok(Err(_)) => return,
                changed => changed.is_ok(),
            };
            pause = if changed { REDIAL_MIN } else { (pause * 2).min(REDIAL_MAX) };
        }
    }

    /// Until the connection has ended; a better one, if it fell silent and another could be made meanwhile.
    ///
    /// QUIC asks a silent path again after twice the time before, each time. Over a path that flaps it may ask whenever
    /// the path is down, and then be silent for as long again after it is up for good. A new handshake begins with short
    /// pauses; where nothing passes, it fails, and nothing is lost.
    async fn outlive(&self, connection: &Connection, target: &str) -> Option<Established> {
        loop {
            tokio::select! {
                _ = connection.closed() => return None,
                () = silence(connection) => {}
            }
            tokio::select! {
                _ = connection.closed() => return None,
                () = word(connection) => {}
                dialled = timeout(DIAL_TIMEOUT, self.dial(target)) => match dialled {
                    Ok(Ok(better)) => {
                        tracing::info!(region = self.region.0, "a silent link is replaced by a new one");
                        return Some(better);
                    }
                    // Nothing passes, or not to us: the old link's end will say why.
                    _ => tokio::time::sleep(SILENT_LOOK_EVERY).await,
                }
            }
        }
    }

    async fn dial(&self, target: &str) -> Result<Established, MeshError> {
        let resolve = |error| MeshError::Resolve(target.to_owned(), error);
        let mut addresses = tokio::net::lookup_host(target).await.map_err(resolve)?;
        let address: SocketAddr =
            addresses.next().ok_or_else(|| resolve(std::io::Error::other("it has no address")))?;
        let client = self.client.borrow().clone();
        let connection = self.endpoint.connect_with(client, address, &region_dns_name(&self.name))?.await?;
        let certified = peer_region(&certificates(&connection))?;
        certified.must_be(&self.cluster, &self.name)?;
        let (send, receive) = connection.open_bi().await?;
        Ok(Established { peer: self.region, connection, send, receive })
    }
}

/// Ends when not one packet has come for [`SILENT_LINK`].
async fn silence(connection: &Connection) {
    let (mut had, mut since) = (packets(connection), tokio::time::Instant::now());
    while since.elapsed() < SILENT_LINK {
        tokio::time::sleep(SILENT_LOOK_EVERY).await;
        if packets(connection) != had {
            (had, since) = (packets(connection), tokio::time::Instant::now());
        }
    }
}

/// Ends with the next packet that comes.
async fn word(connection: &Connection) {
    let had = packets(connection);
    while packets(connection) == had {
        tokio::time::sleep(SILENT_LOOK_EVERY).await;
    }
}

fn packets(connection: &Connection) -> u64 {
    connection.stats().udp_rx.datagrams
}

/// How many handshakes are under way, of each address that has proved it exists.
#[derive(Debug, Default)]
struct Handshakes(Mutex<HashMap<IpAddr, usize>>);

/// One of them.
struct Handshake {
    all: Arc<Handshakes>,
    from: IpAddr,
}

impl Handshakes {
    /// `None`: the address has as many as it may.
    fn begin(self: &Arc<Self>, from: IpAddr) -> Option<Handshake> {
        let mut counts = self.lock();
        let count = counts.entry(from).or_default();
        if *count >= HANDSHAKES_AN_ADDRESS_MAX {
            return None;
        }
        *count += 1;
        Some(Handshake { all: Arc::clone(self), from })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut counts = self.all.lock();
        if let Some(count) = counts.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.from);
            }
        }
    }
}

struct Accepting {
    region: RegionId,
    cluster: String,
    peers: Mutex<Vec<PeerAddress>>,
}

async fn accept(endpoint: Endpoint, accepting: Arc<Accepting>, events: mpsc::Sender<Event>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let addresses = Arc::new(Handshakes::default());
    while let Some(incoming) = endpoint.accept().await {
        let from = incoming.remote_address();
        let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
            refused("flood", &format_args!("{HANDSHAKES_MAX} handshakes are under way already"));
            incoming.refuse();
            continue;
        };
        // Before that, an address may be anybody's.
        let counted = incoming.remote_address_validated().then(|| addresses.begin(from.ip()));
        if let Some(None) = counted {
            refused(
                "flood",
                &format_args!("{from} has {HANDSHAKES_AN_ADDRESS_MAX} handshakes under way already"),
            );
            incoming.refuse();
            continue;
        }
        let Admission::Handshake(connecting) = admit(incoming) else { continue };
        let (accepting, events) = (Arc::clone(&accepting), events.clone());
        tokio::spawn(async move {
            let _permits = (permit, counted);
            let accepted = async {
                let connection = connecting.await?;
                accepting
                    .identify(&connection)
                    .inspect_err(|error| {
                        let reason = error.to_string();
                        connection.close(2u32.into(), &reason.as_bytes()[..reason.len().min(200)]);
                    })
                    .map(|peer| (peer, connection))
            };
            let result = match timeout(DIAL_TIMEOUT, accepted).await {
                Ok(Ok((peer, connection))) => match timeout(DIAL_TIMEOUT, connection.accept_bi()).await {
                    Ok(Ok((send, receive))) => Ok(Established { peer, connection, send, receive }),
                    Ok(Err(error)) => Err(error.into()),
                    Err(_) => Err(MeshError::Timeout(from.to_string())),
                },
                Ok(Err(error)) => Err(error),
                Err(_) => Err(MeshError::Timeout(from.to_string())),
            };
            match result {
                // A send error means that the mesh has ended.
                Ok(established) => drop(events.send(Event::Up(Box::new(established))).await),
                Err(error) => refused(error.name(), &format_args!("from {from}: {error}")),
            }
        });
    }
}

impl Accepting {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<PeerAddress>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which configured peer a verified certificate belongs to.
    fn identify(&self, connection: &Connection) -> Result<RegionId, MeshError> {
        let certified = peer_region(&certificates(connection))?;
        certified.must_be(&self.cluster, &certified.region)?;
        let peer = self.lock().iter().find(|peer| peer.name == certified.region).map(|peer| peer.region);
        let peer = peer.ok_or_else(|| MeshError::Stranger(certified.region.clone()))?;
        if peer > self.region {
            return Err(MeshError::WrongDirection(certified.region));
        }
        Ok(peer)
    }
}

fn certificates(connection: &Connection) -> Vec<CertificateDer<'static>> {
    let identity = connection.peer_identity();
    identity
        .and_then(|identity| identity.downcast().ok())
        .map(|certificates| *certificates)
        .unwrap_or_default()
}

/// A random pause between half of `pause` and all of it, so that regions do not dial in step.
fn jittered(pause: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    pause.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}
