//! One daemon from its configuration to its orderly end.
//!
//! Order of starting: everything that can be refused (configuration, secret, certificates, data folder, addresses,
//! socket) before the first thread; then log, mesh, socket. Order of stopping: socket (so that no new work
//! comes), mesh, log (so that what was answered is on disk). Between the two the main thread waits for signals and
//! reloads.

use std::io::IsTerminal;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use crdt::hash::ClusterKeys;
use crdt::ids::{Incarnation, LogEpoch, RegionId};
use crdt::node::{ComparePace, Node, NodeConfig};
use crdt::policy;
use crdt::recovery::RecoveryConfig;
use crdt::store::StoreConfig;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::config::{self, ClusterSecret, Config};
use crate::driver::{Driver, wall_ms};
use crate::log::{self, CheckpointConfig, Checkpointer, Keeper, KeeperConfig, LogSizes, Opened};
use crate::metrics::Metrics;
use crate::peer::certificates;
use crate::peer::mesh::{Dialling, Mesh, MeshHandle, PeerAddress};
use crate::peer::tls::TlsIdentity;
use crate::peer::transport_config;
use crate::reload::{ReloadHandle, ReloadInbox, Reloader};
use crate::socket::{self, Live, Server, Shared};

const _: () = assert!(!crdt::canary::COMPILED_IN, "onced is never built with planted bugs");

/// Peers not reached within this time of a start are not waited for, in milliseconds.
const REACH_WAIT_MS: u64 = 2_000;

/// As many descriptors as the system gives: the usual soft limit of 1,024 is fewer than `max_connections`, and
/// a log that finds none at its next segment must end the daemon.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, current = ?limit.current, "the limit of open files cannot be raised");
    }
}

/// Runs a daemon until SIGTERM or SIGINT; `file` is where `config` comes from and what a reload reads. Returns an error when it cannot start or its disk fails.
///
/// `alone`: a life that lacks data grants without having met a peer (S6).
pub fn serve(file: &Path, config: Config, alone: bool) -> anyhow::Result<()> {
    raise_descriptor_limit();
    // A lone region's secret is made inside its data folder.
    log::create_folder(&config.region.data_dir)?;
    let secret = ClusterSecret::load(&config.cluster)?;
    let identity = identity(&config)?;
    let dialling = identity.as_ref().map(|identity| dialling(&config, &secret, identity)).transpose()?;
    let udp = config.region.listen.filter(|_| dialling.is_some());
    let udp = udp.map(|address| {
        UdpSocket::bind(address).with_context(|| {
            format!("{address}: cannot listen for peers; check [region] listen, and what else uses the port")
        })
    });
    let udp = udp.transpose()?;
    udp.iter().for_each(transport_config::raise_buffers);
    let moved = Arc::new(Notify::new());
    let opened = open_log(&config, &secret, &moved)?;
    let listening = socket::bind(&config.socket)?;
    let metrics = Metrics::install(config.metrics_listen)?;
    let (mesh_handle, inbox) = MeshHandle::channel();
    let Opened { log, store, memory, header, new_incarnation, records, torn_bytes, lock: _lock } = opened;
    let cluster = secret.cluster_digest(&config.cluster.name);
    let node = Node::new(node_config(&config, cluster, header.epoch, alone), memory, &store, wall_ms());
    let driver = Driver::new(Arc::clone(&store), Arc::clone(&log), Arc::clone(&moved));
    let certificates = identity.map(|identity| identity.certificates).unwrap_or_default();
    certificates::set_gauges(&[], &certificates);
    let live = Live::of(&config, certificates);
    let (reload, reload_inbox) = ReloadHandle::channel();
    let shared = Arc::new(Shared::new(driver, mesh_handle, reload, metrics, header.epoch, live));
    // The prologue of this start, so that the clock has its ceiling before the first claim.
    log.flush_all()?;
    let failed = Arc::new(Notify::new());
    let acked_by_all = Arc::new(AtomicU64::new(node.acked_by_all()));
    let keeper = start_keeper(&config, &shared, &failed)?;
    let checkpoints = CheckpointConfig {
        max_drift_ms: config.cluster.max_drift_ms,
        keep_bytes: config.log.keep_bytes,
        acked_by_all: Arc::clone(&acked_by_all),
    };
    let checkpointer = Checkpointer::start(Arc::clone(&log), checkpoints)?;
    let mesh = Mesh::start(inbox, node, Arc::clone(&shared), acked_by_all, dialling.zip(udp))?;
    let server = Server::start(listening, Arc::clone(&shared), &config.socket)?;
    tracing::info!(
        region = config.region.name, socket = %config.socket.path.display(), incarnation = header.incarnation.0,
        log_epoch = header.epoch.0, records, torn_bytes, new_incarnation, "onced serves"
    );
    let reloader = Reloader::new(file.to_owned(), config, cluster, Arc::clone(&shared));
    let disk_failed = wait_for_end(&failed, reloader, reload_inbox)?;
    tracing::info!("stopping: connections are drained");
    server.drain();
    mesh.stop();
    checkpointer.stop();
    let stopped = keeper.stop();
    if disk_failed {
        anyhow::bail!("the log's disk has failed; see the log above");
    }
    stopped.context("the last records could not be synced")?;
    tracing::info!("stopped in order");
    Ok(())
}

fn node_config(config: &Config, cluster: [u8; 16], epoch: LogEpoch, alone: bool) -> NodeConfig {
    NodeConfig {
        cluster,
        name: config.region.name.clone(),
        peers: config.peers.iter().map(|peer| RegionId(peer.id)).collect(),
        membership: config.cluster.membership,
        epoch,
        catch_up_wait_ms: config.catch_up_wait_ms,
        reach_wait_ms: REACH_WAIT_MS.min(config.catch_up_wait_ms),
        alone,
        pace: ComparePace::default(),
    }
}

/// How the data folder of a configuration is read back.
pub(crate) fn recovery_config(config: &Config, secret: &ClusterSecret) -> RecoveryConfig {
    RecoveryConfig {
        store: StoreConfig {
            region: RegionId(config.region.id),
            incarnation: Incarnation::default(),
            keys: ClusterKeys { hash: secret.hash_key(), tag: secret.tag_key() },
            max_drift_ms: config.cluster.max_drift_ms,
            shards: crdt::limits::SHARDS_DEFAULT,
            max_memory_bytes: usize::try_from(config.max_memory_bytes).unwrap_or(usize::MAX),
            ring_bytes_max: if config.peers.is_empty() { 0 } else { config.log.ring_bytes as usize },
        },
        policies: policies(&config.policies),
        cluster: secret.cluster_digest(&config.cluster.name),
        boot: crate::boot::number(&config.region.data_dir),
        acknowledged_unsynced: acknowledges_unsynced(&config.policies),
        wall_ms: wall_ms(),
        salvage: false,
        keys_hint: 0,
    }
}

fn open_log(config: &Config, secret: &ClusterSecret, moved: &Arc<Notify>) -> anyhow::Result<Opened> {
    let recovery = recovery_config(config, secret);
    let bar = progress_bar("reading the log");
    let sizes = LogSizes { segment_bytes: config.log.segment_bytes, reserve_bytes: config.log.reserve_bytes };
    let moved = (!config.peers.is_empty()).then(|| Arc::clone(moved));
    let opened = log::open(&config.region.data_dir, recovery, sizes, moved, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    if opened.torn_bytes > 0 {
        tracing::warn!(
            bytes = opened.torn_bytes,
            "the log ended in a torn record, which was never acknowledged: it is cut"
        );
    }
    Ok(opened)
}

/// Only drawn on a terminal; indicatif sees to that.
pub(crate) fn progress_bar(what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {bar:40} {bytes}/{total_bytes} {eta}");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.with_message(what.to_owned())
}

fn start_keeper(config: &Config, shared: &Arc<Shared>, failed: &Arc<Notify>) -> std::io::Result<Keeper> {
    let keeper = KeeperConfig { sync_interval: Duration::from_millis(config.log.sync_interval_ms.max(1)) };
    let failed = Arc::clone(failed);
    Keeper::start(Arc::clone(shared), keeper, move || failed.notify_one())
}

/// Waits for a signal to end, or for the disk to fail: true. Reloads meanwhile, one after the other.
fn wait_for_end(
    failed: &Arc<Notify>,
    mut reloader: Reloader,
    mut inbox: ReloadInbox,
) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        loop {
            let asked = tokio::select! {
                _ = terminate.recv() => return Ok(false),
                _ = interrupt.recv() => return Ok(false),
                () = failed.notified() => return Ok(true),
                _ = hang_up.recv() => None,
                Some(asked) = inbox.recv() => Some(asked),
            };
            let reloaded = reloader.reload().await;
            if let Some(answer) = asked {
                // Whoever asked may have gone; the log has it all the same.
                let _ = answer.send(reloaded);
            }
        }
    })
}

fn identity(config: &Config) -> anyhow::Result<Option<TlsIdentity>> {
    let Some(tls) = config.tls.as_ref().filter(|_| !config.peers.is_empty()) else { return Ok(None) };
    let identity = TlsIdentity::load(tls, &config.cluster.name, &config.region.name, SystemTime::now())?;
    Ok(Some(identity))
}

fn dialling(config: &Config, secret: &ClusterSecret, identity: &TlsIdentity) -> anyhow::Result<Dialling> {
    Ok(Dialling {
        region: RegionId(config.region.id),
        cluster: config.cluster.name.clone(),
        peers: peer_addresses(config),
        client: transport_config::client_config(identity)?,
        server: transport_config::server_config(identity)?,
        endpoint: transport_config::endpoint_config(secret, &config.region.name),
    })
}

/// The peers as the mesh knows them.
pub(crate) fn peer_addresses(config: &Config) -> Vec<PeerAddress> {
    let peer = |peer: &config::Peer| PeerAddress {
        region: RegionId(peer.id),
        name: peer.name.clone(),
        address: peer.address.clone(),
    };
    config.peers.iter().map(peer).collect()
}

/// As the store takes them.
pub(crate) fn policies(configured: &config::Policies) -> policy::Policies {
    let named = configured.named.iter().map(|(name, policy)| (name.clone().into_bytes(), map_policy(policy)));
    policy::Policies::new(map_policy(&configured.defaults), named.collect())
}

fn map_policy(configured: &config::NamespacePolicy) -> policy::Policy {
    policy::Policy {
        retention_ms: configured.retention_ms,
        lease_ms: configured.lease_ms,
        level: match configured.level {
            config::Level::Local => policy::Level::Local,
            config::Level::Home => policy::Level::Home,
            config::Level::Quorum => policy::Level::Quorum,
        },
        home: configured.home.as_ref().map(|home| RegionId(home.id)),
        fallback: match configured.fallback {
            config::Fallback::Local => policy::Fallback::Local,
            config::Fallback::Refuse => policy::Fallback::Refuse,
        },
        on_lease_end: match configured.on_lease_end {
            config::OnLeaseEnd::Takeover => policy::OnLeaseEnd::Takeover,
            config::OnLeaseEnd::Unknown => policy::OnLeaseEnd::Unknown,
        },
        durable: match configured.durable {
            config::Durable::Interval => policy::Durable::Interval,
            config::Durable::Always => policy::Durable::Always,
        },
        key_time: match configured.key_time {
            config::KeyTime::None => policy::KeyTime::None,
            config::KeyTime::UuidV7 => policy::KeyTime::UuidV7,
            config::KeyTime::Ulid => policy::KeyTime::Ulid,
        },
        issued_only: configured.keys == config::KeysAccepted::Issued,
        max_outcome_bytes: configured.max_outcome_bytes as usize,
        max_staleness_ms: configured.max_staleness_ms,
        conflict_retention_ms: configured.conflict_retention_ms,
        max_keys: configured.max_keys,
        max_bytes: configured.max_bytes,
    }
}

fn acknowledges_unsynced(policies: &config::Policies) -> bool {
    let mut all = policies.named.values().chain([&policies.defaults]);
    all.any(|policy| policy.durable == config::Durable::Interval)
}
