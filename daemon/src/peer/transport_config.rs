//! QUIC between regions: windows for long fat links, bounds for strangers, resets after a restart.
//!
//! quinn's defaults are for web servers: windows that cap a 200 ms link at 6 MB/s, 65,536 half-open
//! connections, 100 MiB of early data held for strangers. Here it is the other way round: few, trusted, distant
//! peers. What must never happen: 0-RTT, migration (a link's address is configured, and a moved one would dodge
//! `peer cut`), or memory spent on an address that has not proved it exists ([`admit`]).
//!
//! There is no separate handshake timeout in QUIC: until the handshake ends the idle timeout of 15 s applies, so
//! a caller that wants to give up on a dial sooner wraps it in [`HANDSHAKE_TIMEOUT`].

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{
    ClientConfig, Connecting, ConnectionError, ConnectionId, ConnectionIdGenerator, EndpointConfig,
    IdleTimeout, Incoming, NoneTokenStore, ServerConfig, TransportConfig, ValidationTokenConfig, VarInt,
};

use super::tls::TlsIdentity;
use crate::config::ClusterSecret;

/// Bytes one stream may have in flight towards us: 80 MB/s at 200 ms.
pub const STREAM_WINDOW_BYTES_MAX: u32 = 16 << 20;
/// Bytes one connection may have in flight towards us.
pub const CONNECTION_WINDOW_BYTES_MAX: u32 = 48 << 20;
/// Bytes we keep unacknowledged towards one peer.
pub const SEND_WINDOW_BYTES_MAX: u64 = 32 << 20;
/// Streams a peer may have open at once, in both directions: the link's. What a second one brought would lie in memory
/// and be read by nobody.
pub const STREAMS_MAX: u32 = 1;
/// Handshakes of strangers at once; peers are at most 63.
pub const INCOMING_MAX: usize = 128;
/// Bytes held for one stranger's handshake.
pub const INCOMING_BUFFER_BYTES_MAX: u64 = 64 << 10;
/// Bytes held for all strangers' handshakes together.
pub const INCOMING_BUFFER_TOTAL_BYTES_MAX: u64 = 4 << 20;
/// A silent peer is given up after this long.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// A quiet link is kept alive this often: three may be lost before the idle timeout.
pub const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// What a dial should be wrapped in.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Socket buffers to ask the kernel for, in bytes; it may grant less (net.core.rmem_max).
pub const UDP_BUFFER_BYTES: usize = 4 << 20;

/// Asks the kernel for [`UDP_BUFFER_BYTES`] each way. With its default of 208 KiB a region that catches up over 40 ms
/// loses dozens of datagrams to its own full socket, and each of them halves the peer's window.
pub fn raise_buffers(socket: &std::net::UdpSocket) {
    use rustix::net::sockopt;
    let raised = sockopt::set_socket_recv_buffer_size(socket, UDP_BUFFER_BYTES)
        .and_then(|()| sockopt::set_socket_send_buffer_size(socket, UDP_BUFFER_BYTES))
        .and_then(|()| sockopt::socket_recv_buffer_size(socket));
    match raised {
        Ok(granted) if granted >= UDP_BUFFER_BYTES => {}
        Ok(granted) => tracing::warn!(
            granted,
            wanted = UDP_BUFFER_BYTES,
            "the kernel grants the peers' socket a smaller buffer: catching up over long distances is slower; raise \
             net.core.rmem_max and net.core.wmem_max"
        ),
        Err(error) => tracing::warn!(%error, "the buffers of the peers' socket cannot be raised"),
    }
}

/// Why no QUIC configuration came of a loaded identity: the crypto libraries disagree, which is a fault of the
/// build, not of the configuration.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// From rustls.
    #[error("TLS cannot be set up: {0}; this build is broken, please report it")]
    Tls(#[from] rustls::Error),
    /// From quinn: no cipher suite for QUIC's first packets.
    #[error("QUIC cannot be set up: {0}; this build is broken, please report it")]
    Suite(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// What both directions share.
pub fn transport() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES_MAX))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES_MAX))
        .send_window(SEND_WINDOW_BYTES_MAX)
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT.as_millis() as u32))))
        .keep_alive_interval(Some(KEEP_ALIVE))
        // Frames travel on streams; a datagram is nothing we ever expect.
        .datagram_receive_buffer_size(None);
    config
}

/// For accepting peers.
///
/// # Errors
/// [`TransportError`] only in a broken build.
pub fn server_config(identity: &TlsIdentity) -> Result<ServerConfig, TransportError> {
    server_of(identity.server_config()?)
}

fn server_of(tls: rustls::ServerConfig) -> Result<ServerConfig, TransportError> {
    // Through rustls's configuration, because quinn's convenience constructors turn early data on.
    let crypto = QuicServerConfig::try_from(Arc::new(tls))?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    let mut no_tokens = ValidationTokenConfig::default();
    no_tokens.sent(0);
    config
        .transport_config(Arc::new(transport()))
        .migration(false)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES_MAX)
        .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL_BYTES_MAX)
        // Addresses are validated by a retry each time; tokens for later would only be state.
        .validation_token_config(no_tokens);
    Ok(config)
}

/// For dialling peers.
///
/// # Errors
/// [`TransportError`] only in a broken build.
pub fn client_config(identity: &TlsIdentity) -> Result<ClientConfig, TransportError> {
    client_of(identity.client_config()?)
}

fn client_of(tls: rustls::ClientConfig) -> Result<ClientConfig, TransportError> {
    let crypto = QuicClientConfig::try_from(Arc::new(tls))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport())).token_store(Arc::new(NoneTokenStore));
    Ok(config)
}

/// For the UDP socket. The reset key is the same across this region's restarts, so that a restarted daemon tells
/// peers at once that their old connections are gone, instead of letting them wait for the idle timeout.
pub fn endpoint_config(secret: &ClusterSecret, region: &str) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(ResetKey(secret.reset_key(region))));
    config.cid_generator(|| Box::new(ConnectionIds::default()));
    config
}

/// What becomes of a stranger's first packet.
pub enum Admission {
    /// Its address answered a retry: the handshake goes on.
    Handshake(Connecting),
    /// It was sent a retry, statelessly; it will be back.
    Retried,
    /// It cannot be accepted.
    Refused(ConnectionError),
}

/// Lets a handshake begin only from an address that has proved it exists, so that forged sources cost us nothing
/// and we amplify nothing.
pub fn admit(incoming: Incoming) -> Admission {
    if incoming.remote_address_validated() {
        return match incoming.accept() {
            Ok(connecting) => Admission::Handshake(connecting),
            Err(error) => Admission::Refused(error),
        };
    }
    match incoming.retry() {
        Ok(()) => Admission::Retried,
        // Only an address that is validated already cannot be retried.
        Err(error) => {
            error.into_incoming().refuse();
            Admission::Refused(ConnectionError::LocallyClosed)
        }
    }
}

/// Connection ids that a daemon accepts from its predecessor. quinn's own generator marks its ids with a key of
/// the process and silently drops packets for others, so that a restarted daemon would never send a reset; resets
/// for garbage are bounded by quinn's `min_reset_interval` instead.
#[derive(Default)]
struct ConnectionIds {
    /// SipHash under a key from the operating system's randomness: ids are unpredictable and unlinkable.
    keyed: RandomState,
    made: u64,
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        self.made += 1;
        ConnectionId::new(&self.keyed.hash_one(self.made).to_be_bytes())
    }

    fn cid_len(&self) -> usize {
        size_of::<u64>()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The HMAC of stateless resets: blake3's keyed mode, so that no further crypto crate is needed.
struct ResetKey([u8; 32]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        blake3::Hasher::new_keyed(&self.0).update(data).finalize_xof().fill(signature_out);
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let expected = blake3::keyed_hash(&self.0, data);
        // A comparison of hashes takes the same time whatever they hold; of other lengths, none is equal.
        let given = <[u8; blake3::OUT_LEN]>::try_from(signature).map_err(|_| CryptoError)?;
        if expected == blake3::Hash::from_bytes(given) { Ok(()) } else { Err(CryptoError) }
    }
}

#[cfg(test)]
#[path = "transport_config_tests.rs"]
mod tests;
