//! The private certificate authority: makes a CA and one certificate a region, in memory and as files.
//!
//! A region's identity is a URI in its certificate, `onced://CLUSTER/region/NAME` (S7), which peers compare
//! with what it announces. A DNS name, `NAME.region.onced.internal`, stands beside it only because rustls checks
//! a server's name by DNS: with it, no verifier of our own is needed, and a verifier of one's own is where TLS
//! goes wrong. The name is never resolved. Keys are ECDSA P-256, certificates valid for both client and server,
//! since each of two peers may dial the other.
//!
//! A private key never leaves this module but into a file of mode 0600, and no file is overwritten unasked.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};

/// Days a CA is valid unless said otherwise: ten years.
pub const CA_DAYS_DEFAULT: u32 = 3_650;
/// Days a region's certificate is valid unless said otherwise: a year and a month to renew it in.
pub const REGION_DAYS_DEFAULT: u32 = 397;
/// Most days either may be asked for: a hundred years.
pub const DAYS_MAX: u32 = 36_525;
/// How far back validity begins, so that a peer whose clock is behind accepts a fresh certificate.
const BACKDATED: Duration = Duration::from_secs(3_600);
/// The CA's certificate within its folder.
pub const CA_CERT_FILE: &str = "ca.pem";
/// The CA's private key within its folder.
pub const CA_KEY_FILE: &str = "ca.key";

/// A certificate and its private key, both PEM.
pub struct Pair {
    /// The certificate.
    pub cert_pem: String,
    /// The private key, PKCS#8.
    pub key_pem: String,
}

/// Why no certificate was made; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file is in the way.
    #[error("{} exists already; choose another folder with --out, or replace it with --force", .0.display())]
    Exists(PathBuf),
    /// The system refused a file or folder.
    #[error("{}: {error}; check that this user may read and write there", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The CA's own files are unusable.
    #[error("{}: {reason}; make a CA with: onced tls init-ca --out {}", path.display(), folder_of(path))]
    BadCa {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An argument is.
    #[error("{0}")]
    Argument(String),
    /// The cryptography library refused, which only broken randomness explains.
    #[error("making a certificate failed: {0}; try again, and check that /dev/urandom works")]
    Library(#[from] rcgen::Error),
}

fn folder_of(path: &Path) -> String {
    path.parent().map_or_else(|| ".".to_owned(), |folder| folder.display().to_string())
}

/// The URI that names a region: `onced://CLUSTER/region/NAME`, what is no plain letter in CLUSTER
/// percent-encoded.
pub fn region_uri(cluster: &str, region: &str) -> String {
    let mut uri = String::from("onced://");
    for &byte in cluster.as_bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri.push_str("/region/");
    uri.push_str(region);
    uri
}

/// The DNS name by which rustls checks a region's certificate when it is dialled.
pub fn region_dns_name(region: &str) -> String {
    format!("{region}.region.onced.internal")
}

/// Makes a CA: `name` is what people see in its certificate.
///
/// # Errors
/// [`CaError`] on a bad number of days, or when the library fails.
pub fn create_ca(name: &str, days: u32, now: SystemTime) -> Result<Pair, CaError> {
    let mut params = validity(days, now)?;
    params.distinguished_name = common_name(name);
    // A path length of 0: this CA signs regions and no further CAs.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let cert = params.self_signed(&key)?;
    Ok(Pair { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
}

/// Makes one region's certificate, signed by `ca`.
///
/// # Errors
/// [`CaError`] on a bad name or number of days, or when `ca` is unusable.
pub fn issue(ca: &Pair, cluster: &str, region: &str, days: u32, now: SystemTime) -> Result<Pair, CaError> {
    if !crate::config::is_region_name(region) {
        return Err(CaError::Argument(format!(
            "{region:?} is no region name; use 1 to 32 of a-z, 0-9 and -, with no - at either end"
        )));
    }
    let max = crate::config::limits::CLUSTER_NAME_BYTES_MAX;
    if !(1..=max).contains(&cluster.len()) {
        return Err(CaError::Argument(format!(
            "a cluster's name has 1 to {max} bytes; choose another --cluster"
        )));
    }
    let ca_key = KeyPair::from_pem(&ca.key_pem)?;
    let issuer = Issuer::from_ca_cert_pem(&ca.cert_pem, ca_key)?;
    let mut params = validity(days, now)?;
    params.distinguished_name = common_name(&format!("onced region {region}"));
    params.subject_alt_names = vec![
        SanType::DnsName(Ia5String::try_from(region_dns_name(region))?),
        SanType::URI(Ia5String::try_from(region_uri(cluster, region))?),
    ];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let cert = params.signed_by(&key, &issuer)?;
    Ok(Pair { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
}

/// Valid from an hour before `now` for `days`.
fn validity(days: u32, now: SystemTime) -> Result<CertificateParams, CaError> {
    if !(1..=DAYS_MAX).contains(&days) {
        return Err(CaError::Argument(format!("--days {days} is out of range; choose from 1 to {DAYS_MAX}")));
    }
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    // X.509 counts whole seconds.
    let start = Duration::from_secs(since_epoch.saturating_sub(BACKDATED).as_secs());
    let end = Duration::from_secs(since_epoch.as_secs() + u64::from(days) * 86_400);
    let mut params = CertificateParams::default();
    params.not_before = epoch + start;
    params.not_after = epoch + end;
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Reads a CA from its folder.
///
/// # Errors
/// [`CaError::BadCa`] when a file is missing, unreadable or no CA's.
pub fn read_ca(folder: &Path) -> Result<Pair, CaError> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).map_err(|error| CaError::BadCa { path, reason: error.to_string() })
    };
    let pair = Pair { cert_pem: read(CA_CERT_FILE)?, key_pem: read(CA_KEY_FILE)? };
    let bad = |name: &str, reason: String| CaError::BadCa { path: folder.join(name), reason };
    let key = KeyPair::from_pem(&pair.key_pem)
        .map_err(|error| bad(CA_KEY_FILE, format!("holds no private key in PEM ({error})")))?;
    Issuer::from_ca_cert_pem(&pair.cert_pem, &key)
        .map_err(|error| bad(CA_CERT_FILE, format!("holds no CA certificate in PEM ({error})")))?;
    Ok(pair)
}

/// Writes a CA into `folder` as `ca.pem` and `ca.key` (0600); answers the paths.
///
/// # Errors
/// [`CaError::Exists`] without `force`, else what the system says.
pub fn write_ca(folder: &Path, ca: &Pair, force: bool) -> Result<[PathBuf; 2], CaError> {
    write_pair(folder, CA_CERT_FILE, CA_KEY_FILE, ca, force)
}

/// Writes a region's certificate into `folder` as `NAME.pem` and `NAME.key` (0600); answers the paths.
///
/// # Errors
/// As [`write_ca`].
pub fn write_region(folder: &Path, region: &str, pair: &Pair, force: bool) -> Result<[PathBuf; 2], CaError> {
    write_pair(folder, &format!("{region}.pem"), &format!("{region}.key"), pair, force)
}

/// Puts the CA's certificate (never its key) into `folder`, so that the folder is all a region needs. One that
/// is there stays: it may already hold a second CA for a rotation.
///
/// # Errors
/// [`CaError::File`] with the system's reason.
pub fn copy_ca_cert(folder: &Path, ca: &Pair) -> Result<PathBuf, CaError> {
    let path = folder.join(CA_CERT_FILE);
    if !path.exists() {
        write(&path, &ca.cert_pem, 0o644, false)?;
    }
    Ok(path)
}

fn write_pair(
    folder: &Path,
    cert_file: &str,
    key_file: &str,
    pair: &Pair,
    force: bool,
) -> Result<[PathBuf; 2], CaError> {
    let mut builder = DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| CaError::File { path: folder.to_owned(), error })?;
    let paths = [folder.join(cert_file), folder.join(key_file)];
    // Both are looked at before either is written: half a pair would be worse than none.
    if let Some(taken) = paths.iter().find(|path| !force && path.exists()) {
        return Err(CaError::Exists(taken.clone()));
    }
    write(&paths[1], &pair.key_pem, 0o600, force)?;
    write(&paths[0], &pair.cert_pem, 0o644, force)?;
    Ok(paths)
}

/// Writes a file that must be new. With `force` a new file replaces the old one whole, so that no key ever
/// lands in a file somebody already holds open or may read.
fn write(path: &Path, text: &str, mode: u32, force: bool) -> Result<(), CaError> {
    let failed = |error| CaError::File { path: path.to_owned(), error };
    let target = if force { path.with_extension("new") } else { path.to_owned() };
    if force && target.exists() {
        std::fs::remove_file(&target).map_err(failed)?;
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&target).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    if force {
        std::fs::rename(&target, path).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn uris_keep_odd_cluster_names_apart() {
        assert_eq!(region_uri("onced", "eu"), "onced://onced/region/eu");
        assert_eq!(region_uri("a/region/b", "eu"), "onced://a%2Fregion%2Fb/region/eu");
        assert_eq!(region_uri("Zürich 1", "eu"), "onced://Z%C3%BCrich%201/region/eu");
    }

    #[test]
    fn files_are_private_and_not_overwritten_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("ca");
        let ca = create_ca("test", 10, SystemTime::now()).unwrap();
        let [cert, key] = write_ca(&out, &ca, false).unwrap();
        assert_eq!(std::fs::metadata(&key).unwrap().mode() & 0o777, 0o600);
        let refusal = write_ca(&out, &ca, false).unwrap_err().to_string();
        assert_eq!(
            refusal,
            format!(
                "{} exists already; choose another folder with --out, or replace it with --force",
                cert.display()
            )
        );
        let second = create_ca("second", 10, SystemTime::now()).unwrap();
        write_ca(&out, &second, true).unwrap();
        assert_eq!(read_ca(&out).unwrap().key_pem, second.key_pem);
        assert_eq!(std::fs::metadata(&key).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn wrong_arguments_and_broken_cas_say_what_to_do() {
        let ca = create_ca("test", 10, SystemTime::now()).unwrap();
        let refusal =
            |region, days| issue(&ca, "onced", region, days, SystemTime::now()).err().unwrap().to_string();
        assert!(refusal("EU", 1).starts_with("\"EU\" is no region name; use 1 to 32 of"));
        assert!(refusal("eu", 0).starts_with("--days 0 is out of range"));
        let folder = tempfile::tempdir().unwrap();
        let missing = read_ca(folder.path()).err().unwrap().to_string();
        assert!(missing.contains("make a CA with: onced tls init-ca --out"), "{missing}");
        write_ca(folder.path(), &Pair { cert_pem: "x".into(), ..ca }, false).unwrap();
        assert!(read_ca(folder.path()).err().unwrap().to_string().contains("holds no CA certificate in PEM"));
    }
}
