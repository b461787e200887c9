//! Mutual TLS between regions: from files to rustls configurations, and from a certificate to a region (S7).
//!
//! Two checks, in this order, and both are needed. rustls checks the chain against the CA file and, when
//! dialling, the DNS name; that proves "issued by our CA" and nothing else. Then [`peer_region`] reads the URI in
//! the peer's certificate, and the caller compares it with the region and cluster the peer announces: without
//! that, any region's certificate could speak for every region. No verifier of our own replaces rustls's.
//!
//! TLS 1.3 only, one ALPN a version (`protocol`), no 0-RTT (replayable), no resumption (a resumed session would outlive its
//! certificate). The provider is named explicitly everywhere, never taken from the process, where whichever
//! library comes first would choose it.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ca::{region_dns_name, region_uri};
use super::certificates::{Certificate, OWN};
use super::protocol::{Certified, PROTOCOLS, alpn};
use crate::config::{Tls, is_region_name};

/// Bytes of one certificate or key file.
pub const PEM_BYTES_MAX: u64 = 256 * 1024;
/// CA certificates in a CA file; two are enough to rotate.
pub const CAS_MAX: usize = 16;

/// Why certificates or key cannot be used. Each text names the file and the command to run.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}; {todo}", file.display())]
pub struct TlsError {
    /// The file at fault.
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: String,
    /// What to do.
    pub todo: String,
}

/// Why a peer's certificate names no region, or not the announced one. The link is closed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The handshake yielded none; a server that demands them never lets this happen.
    #[error("the peer showed no certificate; issue one with: onced tls issue")]
    NoCertificate,
    /// It is not readable as X.509.
    #[error("the peer's certificate cannot be read; reissue it with: onced tls issue")]
    Unreadable,
    /// It has no `onced://CLUSTER/region/NAME`, or more than one.
    #[error(
        "the peer's certificate has {0} onced region names instead of one; reissue it with: onced tls issue"
    )]
    RegionNames(usize),
    /// It is some other region's, or of another cluster.
    #[error(
        "the peer's certificate is for {found}, but {expected} was expected; \
         check region.name, cluster.name and tls.cert_file on that side"
    )]
    Other {
        /// What the certificate says.
        found: String,
        /// What it should say.
        expected: String,
    },
}

/// Who a certificate says its holder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionIdentity {
    /// The cluster, as percent-encoded in the URI.
    pub cluster: String,
    /// The region.
    pub region: String,
}

impl RegionIdentity {
    /// Whether this is that region of that cluster.
    ///
    /// # Errors
    /// [`IdentityError::Other`] with both names.
    pub fn must_be(&self, cluster: &str, region: &str) -> Result<(), IdentityError> {
        let found = format!("onced://{}/region/{}", self.cluster, self.region);
        let expected = region_uri(cluster, region);
        if found == expected { Ok(()) } else { Err(IdentityError::Other { found, expected }) }
    }
}

/// The region a peer's certificate names; the first of `certs` is its own, as in every TLS chain. Call it only
/// with a chain rustls has verified.
///
/// # Errors
/// [`IdentityError`]; treat all of them as a peer that must not be talked to.
pub fn peer_region(certs: &[CertificateDer<'_>]) -> Result<RegionIdentity, IdentityError> {
    let own = certs.first().ok_or(IdentityError::NoCertificate)?;
    let (_, cert) = X509Certificate::from_der(own).map_err(|_| IdentityError::Unreadable)?;
    let names = cert.subject_alternative_name().map_err(|_| IdentityError::Unreadable)?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let uris: Vec<_> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix("onced://"),
            _ => None,
        })
        .collect();
    // Exactly one: a certificate for two regions would let one of them speak for the other.
    let [uri] = uris[..] else { return Err(IdentityError::RegionNames(uris.len())) };
    let (cluster, region) = uri.split_once("/region/").ok_or(IdentityError::RegionNames(0))?;
    if cluster.is_empty() || cluster.contains('/') || !is_region_name(region) {
        return Err(IdentityError::RegionNames(0));
    }
    Ok(RegionIdentity { cluster: cluster.to_owned(), region: region.to_owned() })
}

/// The name rustls checks when `region` is dialled.
///
/// # Errors
/// [`IdentityError::RegionNames`] for what is no region name.
pub fn server_name(region: &str) -> Result<ServerName<'static>, IdentityError> {
    ServerName::try_from(region_dns_name(region)).map_err(|_| IdentityError::RegionNames(0))
}

/// This region's certificates and key, read and found to fit together.
#[derive(Debug)]
pub struct TlsIdentity {
    roots: Arc<RootCertStore>,
    own: Arc<CertifiedKey>,
    /// When this region's certificate ends.
    pub not_after: SystemTime,
    /// How many CAs are trusted.
    pub cas: usize,
    /// This region's own, then the CAs'.
    pub certificates: Vec<Certificate>,
}

impl TlsIdentity {
    /// Reads the three files and checks what peers would: that the key belongs to the certificate, that this is
    /// `region` of `cluster`, that a trusted CA signed it, and that it is valid at `now`. Called again for a
    /// reload; a failed reload leaves the old identity in use.
    ///
    /// # Errors
    /// [`TlsError`] with file, fault and command.
    pub fn load(files: &Tls, cluster: &str, region: &str, now: SystemTime) -> Result<Self, TlsError> {
        let reissue = format!(
            "reissue it with: onced tls issue --ca DIR --cluster {cluster:?} --region {region} --out DIR --force"
        );
        let fault = |file: &Path, reason: String, todo: &str| TlsError {
            file: file.to_owned(),
            reason,
            todo: todo.to_owned(),
        };
        let (roots, authorities) = read_roots(&files.ca_file)?;
        let chain = read_certs(&files.cert_file, &reissue)?;
        let key = read_key(&files.key_file, &reissue)?;
        let own = CertifiedKey::from_der(chain.clone(), key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                let reason = format!("does not belong to the certificate in {}", files.cert_file.display());
                fault(&files.key_file, reason, &format!("name the key that was issued with it, or {reissue}"))
            }
            other => fault(&files.key_file, format!("is unusable ({other})"), &reissue),
        })?;
        let cert_fault = |reason: String| fault(&files.cert_file, reason, &reissue);
        let identity =
            peer_region(&chain).map_err(|error| cert_fault(format!("names no region ({error})")))?;
        identity.must_be(cluster, region).map_err(|_| {
            let IdentityUris { found, expected } = IdentityUris::of(&identity, cluster, region);
            cert_fault(format!("is for {found}, this is {expected}"))
        })?;
        let not_after = check_chain(&roots, &chain, region, now).map_err(cert_fault)?;
        let cas = authorities.len();
        let named = authorities.iter().enumerate();
        let named = named.map(|(at, der)| Certificate::new(format!("ca-{}", at + 1), der));
        let certificates = chain.iter().take(1).map(|der| Certificate::new(OWN.to_owned(), der));
        let certificates = certificates.chain(named).collect();
        Ok(Self { roots, own: Arc::new(own), not_after, cas, certificates })
    }

    /// For accepting peers: a client certificate is mandatory.
    ///
    /// # Errors
    /// rustls's, which a loaded identity does not cause.
    pub fn server_config(&self) -> Result<ServerConfig, rustls::Error> {
        self.server_config_of(&PROTOCOLS)
    }

    /// As [`Self::server_config`], of a daemon that speaks these versions.
    pub(super) fn server_config_of(&self, protocols: &[&str]) -> Result<ServerConfig, rustls::Error> {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Certified::new(&self.own, alpn(protocols))));
        config.alpn_protocols = alpn(protocols);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// For dialling peers, with this region's certificate.
    ///
    /// # Errors
    /// As [`Self::server_config`].
    pub fn client_config(&self) -> Result<ClientConfig, rustls::Error> {
        self.client_config_of(&PROTOCOLS)
    }

    /// As [`Self::client_config`], of a daemon that speaks these versions.
    pub(super) fn client_config_of(&self, protocols: &[&str]) -> Result<ClientConfig, rustls::Error> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(Arc::clone(&self.own))));
        config.alpn_protocols = alpn(protocols);
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Ok(config)
    }
}

/// Both URIs, for an error about our own certificate.
struct IdentityUris {
    found: String,
    expected: String,
}

impl IdentityUris {
    fn of(identity: &RegionIdentity, cluster: &str, region: &str) -> Self {
        let found = format!("onced://{}/region/{}", identity.cluster, identity.region);
        Self { found, expected: region_uri(cluster, region) }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Checks our own chain as a peer will; answers when its first certificate ends.
fn check_chain(
    roots: &Arc<RootCertStore>,
    chain: &[CertificateDer<'static>],
    region: &str,
    now: SystemTime,
) -> Result<SystemTime, String> {
    let (own, intermediates) = chain.split_first().ok_or("holds no certificate")?;
    let (_, parsed) = X509Certificate::from_der(own).map_err(|_| "cannot be read")?;
    let end = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider())
        .build()
        .map_err(|error| error.to_string())?;
    let name = server_name(region).map_err(|error| error.to_string())?;
    verifier
        .verify_server_cert(own, intermediates, &name, &[], UnixTime::since_unix_epoch(since_epoch))
        .map_err(|error| explain(&error).unwrap_or_else(|| error.to_string()))?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(end))
}

/// What a refused certificate means in plain words; `None` for errors that are not about certificates.
pub fn explain(error: &rustls::Error) -> Option<String> {
    let rustls::Error::InvalidCertificate(error) = error else { return None };
    Some(match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet; check this machine's clock".to_owned()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the certificate was not signed by a CA in tls.ca_file".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the certificate is for another region than the one dialled".to_owned()
        }
        other => format!("the certificate is not acceptable ({other})"),
    })
}

fn read_roots(path: &Path) -> Result<(Arc<RootCertStore>, Vec<CertificateDer<'static>>), TlsError> {
    let todo = "copy ca.pem from the folder that `onced tls init-ca` wrote";
    let certs = read_certs(path, todo)?;
    let fault = |reason: String| TlsError { file: path.to_owned(), reason, todo: todo.to_owned() };
    if certs.len() > CAS_MAX {
        return Err(fault(format!("holds {} certificates, more than {CAS_MAX}", certs.len())));
    }
    let mut roots = RootCertStore::empty();
    for (at, cert) in certs.iter().enumerate() {
        let is_ca = X509Certificate::from_der(cert).is_ok_and(|(_, parsed)| parsed.is_ca());
        if !is_ca {
            return Err(fault(format!("certificate {} in it is no CA's", at + 1)));
        }
        roots
            .add(cert.clone())
            .map_err(|error| fault(format!("certificate {} is unusable ({error})", at + 1)))?;
    }
    Ok((Arc::new(roots), certs))
}

fn read_certs(path: &Path, todo: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fault = |reason: String| TlsError { file: path.to_owned(), reason, todo: todo.to_owned() };
    let (bytes, _) = read_bounded(path).map_err(fault)?;
    let certs: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| fault(format!("is no PEM file ({error})")))?;
    if certs.is_empty() {
        return Err(fault("holds no certificate in PEM".to_owned()));
    }
    Ok(certs)
}

fn read_key(path: &Path, todo: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    let fault =
        |reason: String, todo: &str| TlsError { file: path.to_owned(), reason, todo: todo.to_owned() };
    let (bytes, mode) = read_bounded(path).map_err(|reason| fault(reason, todo))?;
    if mode & 0o007 != 0 {
        let reason = format!("everybody may use this private key (mode {:04o})", mode & 0o7777);
        return Err(fault(reason, &format!("run: chmod 0600 {}", path.display())));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| fault("holds no private key in PEM".to_owned(), todo))
}

/// A file's bytes and mode.
fn read_bounded(path: &Path) -> Result<(Vec<u8>, u32), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mode = file.metadata().map_err(|error| error.to_string())?.mode();
    let mut bytes = Vec::new();
    file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > PEM_BYTES_MAX {
        return Err(format!("holds more than {PEM_BYTES_MAX} bytes"));
    }
    Ok((bytes, mode))
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
