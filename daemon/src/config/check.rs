//! Raw configuration in, checked one out: the order of the checks, and those between several values.
//!
//! Every default of a table other than a policy stands here, beside its check.

use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;

use super::access;
use super::checker::{Checker, span_or};
use super::limits::{self, GIB, MIB, SECOND_MS};
use super::policy::{self, Durable, HomeRegion};
use super::problem::Source;
use super::raw::{RawCluster, RawConfig, RawLog, RawPeer, RawRegion, RawSocket, RawTls};
use super::shares;
use super::{Cluster, Config, ConfigError, Log, Peer, Region, Socket, Surroundings, Tls};

/// The cluster's name when none is given; `onced tls` has the same default.
pub const CLUSTER_NAME_DEFAULT: &str = "onced";
/// Where the socket is when nothing is said; what the systemd unit's RuntimeDirectory makes.
const SOCKET_PATH_DEFAULT: &str = "/run/onced/onced.sock";
const SOCKET_MODE_DEFAULT: u32 = 0o660;
const SOCKET_THREADS_DEFAULT: usize = 4;
const SOCKET_CONNECTIONS_DEFAULT: usize = 4_096;
const MAX_DRIFT_MS_DEFAULT: u64 = 500;
/// A cluster's first membership.
const MEMBERSHIP_DEFAULT: u64 = 1;
const SYNC_INTERVAL_MS_DEFAULT: u64 = 50;
const SEGMENT_BYTES_DEFAULT: u64 = 64 * MIB;
const RESERVE_BYTES_DEFAULT: u64 = 64 * MIB;
pub(super) const RING_BYTES_DEFAULT: u64 = 32 * MIB;
const KEEP_BYTES_DEFAULT: u64 = GIB;
const MAX_MEMORY_BYTES_DEFAULT: u64 = GIB;
const CATCH_UP_WAIT_MS_DEFAULT: u64 = 10 * SECOND_MS;

/// Checks a whole file.
pub(super) fn check(file: &str, text: &str, surroundings: &Surroundings) -> Result<Config, ConfigError> {
    let source = Source::new(file, text);
    let raw: RawConfig = toml::from_str(text).map_err(|error| {
        // A message may have several lines ("unknown field …, expected one of …"); an error is one line here.
        let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        let span = error.span().unwrap_or(0..0);
        ConfigError::Wrong(vec![source.problem(&span, message)])
    })?;
    let mut checker = Checker::new(source, &surroundings.base);
    let config = assemble(&mut checker, &raw, surroundings);
    let Checker { mut errors, mut warnings, .. } = checker;
    errors.sort_by_key(|problem| (problem.line, problem.column));
    warnings.sort_by_key(|problem| (problem.line, problem.column));
    match config {
        Some(config) if errors.is_empty() => Ok(Config { warnings, ..config }),
        _ => Err(ConfigError::Wrong(errors)),
    }
}

/// Runs every check; `None` only after noting an error.
fn assemble(checker: &mut Checker<'_>, raw: &RawConfig, surroundings: &Surroundings) -> Option<Config> {
    let top = 0..0;
    let region = region(checker, raw.region.as_ref());
    let data_dir = region.as_ref().map(|region| region.data_dir.clone());
    let peers = peers(checker, &raw.peer, region.as_ref());
    let cluster = cluster(checker, raw, data_dir);
    let tls = tls(checker, raw, cluster.as_ref());
    if let (Some(first), Some(table)) = (raw.peer.first(), raw.region.as_ref())
        && table.get_ref().listen.is_none()
    {
        checker.error(
            &table.span(),
            format!(
                "listen is missing though there is {}; write listen = \"0.0.0.0:4646\", the UDP address peers dial",
                describe_peer(first)
            ),
        );
    }
    warn_unused_listen(checker, raw);
    let memory = &raw.memory.max_memory;
    let max_memory_bytes =
        checker.bytes(memory, "max_memory", limits::MAX_MEMORY_BYTES, MAX_MEMORY_BYTES_DEFAULT);
    let ring_bytes = shares::ring_bytes(checker, raw, max_memory_bytes);
    let log = log(checker, &raw.log, ring_bytes);
    let max_drift_ms = cluster.as_ref().map_or(MAX_DRIFT_MS_DEFAULT, |cluster| cluster.max_drift_ms);
    let own = region.iter().map(|own| HomeRegion { name: own.name.clone(), id: own.id });
    let others = peers.iter().map(|peer| HomeRegion { name: peer.name.clone(), id: peer.id });
    let regions: Vec<HomeRegion> = own.chain(others).collect();
    let policies = policy::check(checker, raw, log.durable, max_drift_ms, &regions);
    shares::check(checker, raw, &policies, max_memory_bytes, ring_bytes);
    let socket = socket(checker, raw, surroundings);
    let wait = &raw.peers.catch_up_wait;
    let catch_up_wait_ms =
        checker.duration_ms(wait, "catch_up_wait", limits::CATCH_UP_WAIT_MS, CATCH_UP_WAIT_MS_DEFAULT);
    let metrics_listen = checker.listen(&raw.metrics.listen, "listen", "listen = \"127.0.0.1:9464\"");
    if raw.region.is_none() {
        checker.error(&top, "[region] is missing; write [region] with name, id and data_dir");
    }
    Some(Config {
        cluster: cluster?,
        region: region?,
        peers,
        tls,
        socket,
        log,
        max_memory_bytes,
        policies,
        catch_up_wait_ms,
        metrics_listen,
        warnings: Vec::new(),
    })
}

fn cluster(checker: &mut Checker<'_>, raw: &RawConfig, data_dir: Option<PathBuf>) -> Option<Cluster> {
    let empty = RawCluster::default();
    let (table, span) = raw.cluster.as_ref().map_or((&empty, 0..0), |table| (table.get_ref(), table.span()));
    let name = match checker.text(&table.name, "name") {
        None => CLUSTER_NAME_DEFAULT.to_owned(),
        Some((text, _)) if (1..=limits::CLUSTER_NAME_BYTES_MAX).contains(&text.len()) => text.to_owned(),
        Some((text, at)) => {
            let (length, max) = (text.len(), limits::CLUSTER_NAME_BYTES_MAX);
            checker.error(&at, format!("name: has {length} bytes; choose a name of 1 to {max} bytes"));
            CLUSTER_NAME_DEFAULT.to_owned()
        }
    };
    let given = checker.path(&table.secret_file, "secret_file");
    let alone = raw.peer.is_empty();
    if table.secret_file.is_none() && !alone {
        checker.error(
            &span,
            "secret_file is missing in [cluster] though there are peers; make one with: \
             (umask 077; openssl rand -hex 32 > cluster.secret), give every region the same file, \
             and write secret_file = \"cluster.secret\"",
        );
    }
    let secret_may_be_created = given.is_none() && alone;
    let secret_file = given.or_else(|| data_dir.map(|folder| folder.join("cluster.secret")))?;
    let max_drift_ms =
        checker.duration_ms(&table.max_drift, "max_drift", limits::MAX_DRIFT_MS, MAX_DRIFT_MS_DEFAULT);
    let membership =
        checker.integer(&table.membership, "membership", &limits::MEMBERSHIP).unwrap_or(MEMBERSHIP_DEFAULT);
    let id = cluster_id(&name);
    Some(Cluster { id, name, secret_file, secret_may_be_created, max_drift_ms, membership })
}

/// First 16 bytes of the name's blake3.
pub fn cluster_id(name: &str) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::hash(name.as_bytes()).as_bytes()[..16]);
    id
}

fn region(checker: &mut Checker<'_>, raw: Option<&Spanned<RawRegion>>) -> Option<Region> {
    let span = raw?.span();
    let table = raw?.get_ref();
    let name = checker.region_name(&table.name, "name", &span);
    let id = checker.region_id(&table.id, &span);
    let data_dir = checker.required_path(&table.data_dir, "data_dir", &span, "data_dir = \"/var/lib/onced\"");
    let listen = checker.listen(&table.listen, "listen", "listen = \"0.0.0.0:4646\"");
    Some(Region { name: name?, id: id?, data_dir: data_dir?, listen })
}

fn warn_unused_listen(checker: &mut Checker<'_>, raw: &RawConfig) {
    if let Some(table) = raw.region.as_ref()
        && table.get_ref().listen.is_some()
        && raw.peer.is_empty()
    {
        let span = span_or(&table.get_ref().listen, &table.span());
        checker.warn(&span, "listen is not used without a [[peer]]; add the other regions or remove it");
    }
}

/// The peers, each unlike this region and unlike the others.
fn peers(checker: &mut Checker<'_>, raw: &[Spanned<RawPeer>], own: Option<&Region>) -> Vec<Peer> {
    let mut peers: Vec<Peer> = Vec::new();
    for table in raw {
        let span = table.span();
        let table = table.get_ref();
        let name = checker.region_name(&table.name, "name", &span);
        let id = checker.region_id(&table.id, &span);
        let address = address(checker, table, &span);
        if let Some(name) = &name
            && (own.is_some_and(|own| own.name == *name) || peers.iter().any(|peer| peer.name == *name))
        {
            let at = span_or(&table.name, &span);
            checker.error(
                &at,
                format!("name: {name:?} is taken; list every other region once, and not this one"),
            );
        }
        if let Some(id) = id
            && (own.is_some_and(|own| own.id == id) || peers.iter().any(|peer| peer.id == id))
        {
            let at = span_or(&table.id, &span);
            checker.error(&at, format!("id: {id} is taken; give every region a number of its own"));
        }
        if let (Some(name), Some(id), Some(address)) = (name, id, address) {
            peers.push(Peer { name, id, address });
        }
    }
    if let Some(beyond) = raw.get(limits::PEERS_MAX) {
        let max = limits::PEERS_MAX;
        checker.error(&beyond.span(), format!("[[peer]]: there are more than {max}; remove the surplus"));
    }
    peers
}

fn address(checker: &mut Checker<'_>, table: &RawPeer, span: &Range<usize>) -> Option<String> {
    let example = "address = \"us.example.net:4646\"";
    let (text, at) = checker.required_text(&table.address, "address", span, example)?;
    if !is_host_and_port(text) {
        checker.error(&at, format!("address: {text:?} is not host:port; write {example}"));
        return None;
    }
    Some(text.to_owned())
}

/// Whether `text` is `host:port` or `[IPv6]:port`. Whether the name exists is asked at every dial.
pub fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let port_is_good = port.parse::<u16>().is_ok_and(|port| port > 0) && !port.starts_with('+');
    let host_is_good = if host.starts_with('[') {
        text.parse::<std::net::SocketAddrV6>().is_ok()
    } else {
        let name_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        (1..=253).contains(&host.len()) && host.bytes().all(name_byte)
    };
    port_is_good && host_is_good
}

fn describe_peer(peer: &Spanned<RawPeer>) -> String {
    let name = peer.get_ref().name.as_ref().and_then(|name| name.get_ref().as_str());
    name.map_or_else(|| "a [[peer]]".to_owned(), |name| format!("peer {name:?}"))
}

fn tls(checker: &mut Checker<'_>, raw: &RawConfig, cluster: Option<&Cluster>) -> Option<Tls> {
    let Some(table) = &raw.tls else {
        if let Some(first) = raw.peer.first() {
            let region = raw
                .region
                .as_ref()
                .and_then(|region| region.get_ref().name.as_ref())
                .and_then(|name| name.get_ref().as_str())
                .filter(|name| super::is_region_name(name))
                .unwrap_or("NAME");
            let cluster = cluster.map_or(CLUSTER_NAME_DEFAULT, |cluster| &cluster.name);
            let cluster = super::template::shell_quoted(cluster);
            checker.error(
                &first.span(),
                format!(
                    "[tls] is missing though there are peers; make certificates with: \
                     onced tls init-ca --out ca, then: \
                     onced tls issue --ca ca --cluster {cluster} --region {region} --out tls, and write \
                     [tls] with ca_file = \"tls/ca.pem\", cert_file = \"tls/{region}.pem\", \
                     key_file = \"tls/{region}.key\""
                ),
            );
        }
        return None;
    };
    let RawTls { ca_file, cert_file, key_file } = table.get_ref();
    let span = table.span();
    let ca_file = checker.required_path(ca_file, "ca_file", &span, "ca_file = \"tls/ca.pem\"");
    let cert_file = checker.required_path(cert_file, "cert_file", &span, "cert_file = \"tls/NAME.pem\"");
    let key_file = checker.required_path(key_file, "key_file", &span, "key_file = \"tls/NAME.key\"");
    Some(Tls { ca_file: ca_file?, cert_file: cert_file?, key_file: key_file? })
}

fn log(checker: &mut Checker<'_>, raw: &RawLog, ring_bytes: u64) -> Log {
    let RawLog { durable, sync_interval, segment_bytes, reserve_bytes, ring_bytes: _, keep_bytes } = raw;
    Log {
        durable: checker.word(durable, "durable", &policy::DURABLE_WORDS, Durable::Interval),
        sync_interval_ms: checker.duration_ms(
            sync_interval,
            "sync_interval",
            limits::SYNC_INTERVAL_MS,
            SYNC_INTERVAL_MS_DEFAULT,
        ),
        segment_bytes: checker.bytes(
            segment_bytes,
            "segment_bytes",
            limits::SEGMENT_BYTES,
            SEGMENT_BYTES_DEFAULT,
        ),
        reserve_bytes: checker.bytes(
            reserve_bytes,
            "reserve_bytes",
            limits::RESERVE_BYTES,
            RESERVE_BYTES_DEFAULT,
        ),
        ring_bytes,
        keep_bytes: checker.bytes(keep_bytes, "keep_bytes", limits::KEEP_BYTES, KEEP_BYTES_DEFAULT),
    }
}

fn socket(checker: &mut Checker<'_>, raw: &RawConfig, surroundings: &Surroundings) -> Socket {
    let RawSocket { path, mode, group, threads, max_connections } = &raw.socket;
    let path_given = checker.path(path, "path").unwrap_or_else(|| PathBuf::from(SOCKET_PATH_DEFAULT));
    let length = path_given.as_os_str().len();
    if length > limits::SOCKET_PATH_BYTES_MAX {
        let max = limits::SOCKET_PATH_BYTES_MAX;
        let at = span_or(path, &(0..0));
        checker.error(
            &at,
            format!(
                "path: {} has {length} bytes, a Unix socket's path at most {max}; choose a shorter one",
                path_given.display()
            ),
        );
    }
    // Half of the cores: a second thread on a machine of two took CPU from the services that it serves.
    let threads_default = (surroundings.cores / 2).clamp(1, SOCKET_THREADS_DEFAULT);
    let number = |found: Option<u64>, default| found.and_then(|n| usize::try_from(n).ok()).unwrap_or(default);
    Socket {
        path: path_given,
        mode: socket_mode(checker, mode),
        gid: access::gid(checker, group, "group", surroundings),
        threads: number(checker.integer(threads, "threads", &limits::SOCKET_THREADS), threads_default),
        max_connections: number(
            checker.integer(max_connections, "max_connections", &limits::SOCKET_CONNECTIONS),
            SOCKET_CONNECTIONS_DEFAULT,
        ),
        access: access::check(checker, &raw.access, surroundings),
    }
}

fn socket_mode(checker: &mut Checker<'_>, leaf: &super::raw::Leaf) -> u32 {
    let Some((text, span)) = checker.text(leaf, "mode") else { return SOCKET_MODE_DEFAULT };
    let octal = text.bytes().all(|byte| (b'0'..=b'7').contains(&byte)) && (3..=4).contains(&text.len());
    match u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o777 && mode & 0o600 == 0o600) {
        Some(mode) => mode,
        None => {
            checker.error(
                &span,
                format!(
                    "mode: {text:?} is no socket mode; \
                     write three octal digits after a 0 that let the owner read and write, such as \"0660\""
                ),
            );
            SOCKET_MODE_DEFAULT
        }
    }
}
