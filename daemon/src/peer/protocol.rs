//! Which version of the protocol a link speaks: chosen by ALPN in the handshake, before any frame.
//!
//! A daemon offers every version that it can speak, the newest first; both sides get the newest that both offer. So N
//! and N-1 link in the version N-1, whichever dials. The version byte of frames stays: it says how to read a frame, and
//! guards against a mistake here.
//!
//! Without a version in common TLS ends the handshake. The side that was dialled then knows what both offer and says
//! which one to upgrade; the other one learns only that there is none.

use std::sync::Arc;

use quinn::Connection;
use quinn::crypto::rustls::HandshakeData;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::refusals::refused;

/// The versions that this daemon speaks, the newest first.
pub const PROTOCOLS: [&str; 1] = ["onced/1"];
/// TLS's alert when no protocol is common.
pub(super) const NO_APPLICATION_PROTOCOL: u8 = 120;
/// Bytes of a stranger's list that are shown.
const SHOWN_BYTES_MAX: usize = 64;

/// As TLS takes them.
pub(super) fn alpn(protocols: &[&str]) -> Vec<Vec<u8>> {
    protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect()
}

/// What a link speaks; empty where no handshake has chosen.
pub(super) fn chosen(connection: &Connection) -> String {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    data.and_then(|data| data.protocol).map(|bytes| shown(&bytes)).unwrap_or_default()
}

fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(SHOWN_BYTES_MAX)].escape_ascii().to_string()
}

/// The version of `onced/N`; of anything else none.
fn version(protocol: &str) -> Option<u32> {
    protocol.strip_prefix("onced/")?.parse().ok()
}

/// Why two daemons have no version in common, and whose fault that is; `None`: they have one.
pub(super) fn mismatch(ours: &[Vec<u8>], theirs: &[Vec<u8>]) -> Option<String> {
    if theirs.iter().any(|protocol| ours.contains(protocol)) {
        return None;
    }
    let names = |list: &[Vec<u8>]| match list {
        [] => "none".to_owned(),
        list => list.iter().take(4).map(|protocol| shown(protocol)).collect::<Vec<_>>().join(", "),
    };
    let newest = |list: &[Vec<u8>]| list.iter().filter_map(|protocol| version(&shown(protocol))).max();
    let todo = match (newest(ours), newest(theirs)) {
        (Some(ours), Some(theirs)) if ours < theirs => "upgrade this daemon",
        (_, Some(_)) => "upgrade the daemon that dials",
        _ => "it is no onced",
    };
    Some(format!("the dialling side speaks {}, this daemon {}: {todo}", names(theirs), names(ours)))
}

/// Gives the one certificate there is, after a look at the protocols that are offered: rustls asks for it before it
/// chooses among them, and nowhere else shows what the other side offered.
#[derive(Debug)]
pub(super) struct Certified {
    certificate: SingleCertAndKey,
    protocols: Vec<Vec<u8>>,
}

impl Certified {
    pub(super) fn new(own: &Arc<CertifiedKey>, protocols: Vec<Vec<u8>>) -> Self {
        Self { certificate: SingleCertAndKey::from(Arc::clone(own)), protocols }
    }
}

impl ResolvesServerCert for Certified {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let theirs: Vec<_> = client_hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect();
        if let Some(reason) = mismatch(&self.protocols, &theirs) {
            refused("protocol", &format_args!("no protocol version in common: {reason}"));
        }
        self.certificate.resolve(client_hello)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_named_and_whom_to_upgrade() {
        let said = |ours: &[&str], theirs: &[&str]| mismatch(&alpn(ours), &alpn(theirs));
        assert_eq!(said(&["onced/2", "onced/1"], &["onced/1"]), None);
        assert_eq!(said(&["onced/1"], &["onced/2", "onced/1"]), None);
        let expected = "the dialling side speaks onced/3, onced/2, this daemon onced/1: upgrade this daemon";
        assert_eq!(said(&["onced/1"], &["onced/3", "onced/2"]).as_deref(), Some(expected));
        let expected =
            "the dialling side speaks onced/1, this daemon onced/3, onced/2: upgrade the daemon that dials";
        assert_eq!(said(&["onced/3", "onced/2"], &["onced/1"]).as_deref(), Some(expected));
        let expected = "the dialling side speaks h3, this daemon onced/1: it is no onced";
        assert_eq!(said(&["onced/1"], &["h3"]).as_deref(), Some(expected));
        assert!(said(&["onced/1"], &[]).is_some_and(|said| said.contains("speaks none")));
        let rude = ["\n".repeat(999)];
        assert!(mismatch(&alpn(&["onced/1"]), &alpn(&[&rude[0]])).is_some_and(|said| said.len() < 400));
    }
}
