//! A peer that is who its certificate says, and whose every byte is the test's; and strangers without a certificate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crdt::entry::Bytes;
use crdt::hlc::Stamp;
use crdt::ids::{Incarnation, LogEpoch, RegionId};
use crdt::wire::{Frame, Hello};
use daemon::config::{ClusterSecret, Tls};
use daemon::peer::ca::region_dns_name;
use daemon::peer::tls::TlsIdentity;
use daemon::peer::transport_config::client_config;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, SendStream};
use tokio::runtime::Runtime;

use crate::Cluster;
use crate::setup::{CLUSTER, NAMES};

/// Who is impersonated: the region with the smallest id dials everybody.
pub const HOSTILE: usize = 0;
/// How long a refusal may take.
const REFUSED_WITHIN: Duration = Duration::from_secs(30);

/// Everything a hostile daemon of region [`HOSTILE`] has.
#[derive(Debug)]
pub struct Attacker {
    runtime: Runtime,
    endpoint: Endpoint,
    certified: ClientConfig,
    cluster: [u8; 16],
    regions: Vec<u8>,
    began_ms: u64,
    target: SocketAddr,
    name: &'static str,
}

/// One link of it.
#[derive(Debug)]
pub struct HostileLink<'a> {
    attacker: &'a Attacker,
    /// The connection, to be misused.
    pub connection: Connection,
    send: SendStream,
}

/// Unix milliseconds.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

impl Attacker {
    /// With the certificate and secret of a region that does not run, against `target`.
    pub fn new(cluster: &Cluster, target: usize) -> Self {
        let own = cluster.own(HOSTILE);
        let file = |name: &str| own.join(name);
        let name = NAMES[HOSTILE];
        let tls = Tls {
            ca_file: file("ca.pem"),
            cert_file: file(&format!("{name}.pem")),
            key_file: file(&format!("{name}.key")),
        };
        let identity = TlsIdentity::load(&tls, CLUSTER, name, SystemTime::now()).expect("good certificates");
        let secret = ClusterSecret::read(&file("cluster.secret")).expect("a good secret");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let endpoint = {
            let _inside = runtime.enter();
            Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a free port")
        };
        Self {
            runtime,
            endpoint,
            certified: client_config(&identity).expect("a good identity"),
            cluster: secret.cluster_digest(CLUSTER),
            regions: (1..=cluster.regions() as u16).flat_map(u16::to_le_bytes).collect(),
            began_ms: now_ms(),
            target: ([127, 0, 0, 1], cluster.port(target)).into(),
            name: NAMES[target],
        }
    }

    /// What an honest daemon would say first.
    pub fn hello(&self) -> Hello<'_> {
        Hello {
            cluster: self.cluster,
            region: RegionId(HOSTILE as u16 + 1),
            name: NAMES[HOSTILE],
            incarnation: Incarnation(1),
            epoch: LogEpoch(1),
            membership: 1,
            have: None,
            tip: 0,
            newest_of_yours: Stamp::ZERO,
            epoch_first: 1,
            torn: false,
            incomplete: false,
            began_ms: self.began_ms,
            latest_of_yours: Default::default(),
            members: Bytes(&self.regions),
        }
    }

    /// A link that has said nothing yet. What comes is read and forgotten.
    pub fn silent(&self) -> HostileLink<'_> {
        let (connection, send) = self.runtime.block_on(async {
            let dialled =
                self.endpoint.connect_with(self.certified.clone(), self.target, &region_dns_name(self.name));
            let connection = dialled.expect("a good configuration").await.expect("a good certificate");
            let (send, mut receive) = connection.open_bi().await.expect("one stream");
            tokio::spawn(async move { while let Ok(Some(_)) = receive.read_chunk(1 << 16, true).await {} });
            (connection, send)
        });
        HostileLink { attacker: self, connection, send }
    }

    /// A link with the hello said.
    pub fn linked(&self) -> HostileLink<'_> {
        let mut link = self.silent();
        link.frame(&Frame::Hello(self.hello()));
        link
    }

    /// Connections that somebody without a certificate of this cluster begins, all at once: with `config`, each given up
    /// after `patience`.
    pub fn strangers(&self, config: &ClientConfig, count: usize, patience: Duration) {
        self.runtime.block_on(async {
            let dial = || {
                let dialled =
                    self.endpoint.connect_with(config.clone(), self.target, &region_dns_name(self.name));
                let dialled = dialled.expect("a good configuration");
                tokio::spawn(async move {
                    if let Ok(Ok(connection)) = tokio::time::timeout(patience, dialled).await {
                        // A client has its keys before the server has seen its certificate.
                        let _ = tokio::time::timeout(patience, connection.closed()).await;
                    }
                })
            };
            let dials: Vec<_> = (0..count).map(|_| dial()).collect();
            for dial in dials {
                dial.await.expect("no panic");
            }
        });
    }

    /// The configuration of somebody who trusts `cluster`'s CA, shows no certificate, and offers `protocol`.
    pub fn uncertified(cluster: &Cluster, protocol: &str) -> ClientConfig {
        use quinn::rustls::pki_types::{CertificateDer, pem::PemObject as _};
        let ca = CertificateDer::from_pem_file(cluster.own(HOSTILE).join("ca.pem")).expect("a CA");
        let mut roots = quinn::rustls::RootCertStore::empty();
        roots.add(ca).expect("a good CA");
        let provider = quinn::rustls::crypto::aws_lc_rs::default_provider();
        let config = quinn::rustls::ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[&quinn::rustls::version::TLS13])
            .expect("TLS 1.3 is there");
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).expect("a suite for QUIC")))
    }
}

impl<'a> HostileLink<'a> {
    /// Bytes as they are; whether the link took them.
    pub fn bytes(&mut self, bytes: &[u8]) -> bool {
        let sent = async { tokio::time::timeout(REFUSED_WITHIN, self.send.write_all(bytes)).await };
        matches!(self.attacker.runtime.block_on(sent), Ok(Ok(())))
    }

    /// Whose it is.
    pub fn attacker(&self) -> &'a Attacker {
        self.attacker
    }

    /// Bytes behind their length, as frames are.
    pub fn framed(&mut self, bytes: &[u8]) -> bool {
        let length = (bytes.len() as u32).to_le_bytes();
        self.bytes(&[&length[..], bytes].concat())
    }

    /// A frame.
    pub fn frame(&mut self, frame: &Frame<'_>) -> bool {
        self.framed(&frame.encode())
    }

    /// Why the other side has closed the link.
    ///
    /// # Panics
    /// It does not.
    pub fn closed(&self) -> String {
        let closed = async { tokio::time::timeout(REFUSED_WITHIN, self.connection.closed()).await };
        self.attacker.runtime.block_on(closed).expect("the link is closed").to_string()
    }

    /// Whether a second stream, of either kind, can be opened within a moment.
    pub fn opens_another(&self) -> bool {
        self.attacker.runtime.block_on(async {
            let moment = Duration::from_millis(300);
            let both = tokio::time::timeout(moment, self.connection.open_bi()).await.is_ok();
            both || tokio::time::timeout(moment, self.connection.open_uni()).await.is_ok()
        })
    }
}
