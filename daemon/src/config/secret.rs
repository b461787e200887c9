//! The cluster's shared secret: read with care, never shown, only ever used through derived keys.
//!
//! One file serves several purposes (the map's hash, token tags, QUIC's reset key); each gets a key of its own
//! by blake3's key derivation, so that none says anything about another. Trailing white space is cut off, so
//! that a copy that lost its final newline is still the same secret in every region.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::limits::{SECRET_BYTES_MAX, SECRET_BYTES_MIN};
use super::{Cluster, units};

/// A secret that has been read. Its keys are the same in every region and version.
#[derive(Clone)]
pub struct ClusterSecret(Vec<u8>);

/// Why the secret cannot be used; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is none, or the system refuses.
    #[error("{file}: {reason}; {todo}")]
    Unusable {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
        /// What to do.
        todo: String,
    },
}

impl ClusterSecret {
    /// Reads the secret the configuration names; makes it first where that is allowed.
    ///
    /// # Errors
    /// [`SecretError`]: unreadable, too short, or readable by everybody.
    pub fn load(cluster: &Cluster) -> Result<Self, SecretError> {
        if cluster.secret_may_be_created && !cluster.secret_file.exists() {
            Self::create(&cluster.secret_file)?;
        }
        Self::read(&cluster.secret_file)
    }

    /// Reads and checks one file.
    ///
    /// # Errors
    /// [`SecretError`]: unreadable, too short, or readable by everybody.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let shown = path.display();
        let unusable =
            |reason: String, todo: String| SecretError::Unusable { file: shown.to_string(), reason, todo };
        let make = format!(
            "make one with: (umask 077; openssl rand -hex 32 > {shown}) and give every region a copy"
        );
        let system = |error: std::io::Error| unusable(error.to_string(), make.clone());
        let file = File::open(path).map_err(system)?;
        let mode = file.metadata().map_err(system)?.mode();
        if mode & 0o007 != 0 {
            let reason = format!("everybody may use this secret (mode {:04o})", mode & 0o7777);
            return Err(unusable(reason, format!("run: chmod 0600 {shown}")));
        }
        let mut bytes = Vec::new();
        file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(system)?;
        if bytes.len() as u64 > SECRET_BYTES_MAX {
            return Err(unusable(format!("holds more than {SECRET_BYTES_MAX} bytes"), make));
        }
        bytes.truncate(bytes.trim_ascii_end().len());
        if bytes.len() < SECRET_BYTES_MIN {
            let reason = format!("holds {} bytes, at least {SECRET_BYTES_MIN} are needed", bytes.len());
            return Err(unusable(reason, make));
        }
        Ok(Self(bytes))
    }

    /// Makes a new secret of 32 random bytes in hex, mode 0600, at a path where nothing is.
    ///
    /// # Errors
    /// [`SecretError`] when something is there or the system refuses.
    pub fn create(path: &Path) -> Result<(), SecretError> {
        let shown = path.display();
        let failed = |reason: String| SecretError::Unusable {
            file: shown.to_string(),
            reason,
            todo: "choose a folder this user may write to, and a name that is free".to_owned(),
        };
        let mut random = [0u8; SECRET_BYTES_MIN];
        getrandom::fill(&mut random).map_err(|error| failed(error.to_string()))?;
        let mut open = OpenOptions::new();
        let mut file = open
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| failed(error.to_string()))?;
        // Synced: a secret that a power cut takes back would make every token given meanwhile worthless.
        writeln!(file, "{}", units::hex(&random))
            .and_then(|()| file.sync_all())
            .map_err(|error| failed(error.to_string()))
    }

    /// Keys the map's hash: the same in all regions.
    pub fn hash_key(&self) -> [u8; 16] {
        first_half(self.derive("onced v1 key hash", &[]))
    }

    /// Keys the tokens' tags: the same in all regions, since any region completes any claim (S4.2).
    pub fn tag_key(&self) -> [u8; 16] {
        first_half(self.derive("onced v1 token tag", &[]))
    }

    /// Keys QUIC's stateless resets: one a region, the same across its restarts.
    pub fn reset_key(&self, region: &str) -> [u8; 32] {
        self.derive("onced v1 quic stateless reset", region.as_bytes())
    }

    /// What regions tell each other at the start of a link, and what stands in the log's headers: equal only where
    /// name and secret both are. A region with another secret would take every token for forged and look every key
    /// up under another hash; it must be refused before its first record, without the secret being shown.
    pub fn cluster_digest(&self, name: &str) -> [u8; 16] {
        first_half(self.derive("onced v1 cluster", name.as_bytes()))
    }

    fn derive(&self, purpose: &str, subject: &[u8]) -> [u8; 32] {
        let key = blake3::derive_key(purpose, &self.0);
        *blake3::keyed_hash(&key, subject).as_bytes()
    }
}

impl fmt::Debug for ClusterSecret {
    /// Never shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

fn first_half(key: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&key[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(folder: &Path, name: &str, bytes: &[u8], mode: u32) -> std::path::PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn the_final_newline_is_no_part_of_it_and_purposes_differ() {
        let folder = tempfile::tempdir().unwrap();
        let with = ClusterSecret::read(&file(
            folder.path(),
            "a",
            &[b"x".repeat(32), b"\n".to_vec()].concat(),
            0o640,
        ))
        .unwrap();
        let without = ClusterSecret::read(&file(folder.path(), "b", &b"x".repeat(32), 0o600)).unwrap();
        assert_eq!(with.hash_key(), without.hash_key());
        assert_ne!(with.hash_key(), with.tag_key());
        assert_ne!(with.reset_key("eu"), with.reset_key("us"));
        assert_eq!(with.cluster_digest("onced"), without.cluster_digest("onced"));
        assert_ne!(with.cluster_digest("onced"), with.cluster_digest("other"));
        assert_ne!(with.cluster_digest("onced"), ClusterSecret(vec![b'y'; 32]).cluster_digest("onced"));
        assert_eq!(format!("{with:?}"), "ClusterSecret(..)");
    }

    /// Tokens outlive versions: another derivation would void every token in callers' hands.
    #[test]
    fn derived_keys_never_change() {
        let secret = ClusterSecret(b"0123456789abcdef0123456789abcdef".to_vec());
        assert_eq!(units::hex(&secret.hash_key()), "677b34657c53f2c60ff22877fda4166b");
        assert_eq!(units::hex(&secret.tag_key()), "b883af2de3407fa8bf1b3fea691c9798");
    }

    #[test]
    fn open_short_and_missing_secrets_are_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = |path: &Path| ClusterSecret::read(path).unwrap_err().to_string();
        let open = file(folder.path(), "open", &[b'x'; 32], 0o644);
        let shown = open.display();
        assert_eq!(
            refusal(&open),
            format!("{shown}: everybody may use this secret (mode 0644); run: chmod 0600 {shown}")
        );
        let short = file(folder.path(), "short", b"abc\n", 0o600);
        assert!(
            refusal(&short).contains("holds 3 bytes, at least 32 are needed; make one with: (umask 077;")
        );
        assert!(refusal(&folder.path().join("none")).contains("No such file"));
    }

    #[test]
    fn a_created_secret_reads_back_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.secret");
        ClusterSecret::create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let before = ClusterSecret::read(&path).unwrap().tag_key();
        assert!(ClusterSecret::create(&path).is_err());
        assert_eq!(ClusterSecret::read(&path).unwrap().tag_key(), before);
    }
}
