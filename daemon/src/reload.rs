//! `onced reload` and SIGHUP: another configuration for a running daemon (S7).
//!
//! All of it is checked before any of it is taken up: the file, what in it would need a restart, secret, certificates,
//! and, by the node, the step of membership. What is left cannot fail. So a reload that is refused has changed nothing,
//! and one that succeeds has changed exactly what it says.
//!
//! It runs on the main thread, which has nothing else to do: reading files and checking signatures holds up no
//! connection and no link.
//!
//! Rejected: taking up what can be and naming the rest (two reloads of one file would then mean different things), and
//! watching the file (half-written files, and nobody to tell what is wrong with them).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot};

use crate::config::change::Changes;
use crate::config::{ClusterSecret, Config};
use crate::lifecycle::{peer_addresses, policies};
use crate::peer::certificates::{Certificate, differences, set_gauges};
use crate::peer::mesh::Reconfigure;
use crate::peer::tls::TlsIdentity;
use crate::peer::transport_config;
use crate::socket::{Live, Shared};

/// Reloads asked for and not begun; whoever comes then waits.
const ASKED_MAX: usize = 4;

/// What has changed, a line each; or why nothing has.
pub type Reloaded = Result<Vec<String>, Vec<String>>;

/// Asks for a reload.
#[derive(Clone, Debug)]
pub struct ReloadHandle(mpsc::Sender<oneshot::Sender<Reloaded>>);

/// Where reloads are asked for.
pub type ReloadInbox = mpsc::Receiver<oneshot::Sender<Reloaded>>;

impl ReloadHandle {
    /// A handle, and the inbox for the [`Reloader`].
    pub fn channel() -> (Self, ReloadInbox) {
        let (sender, inbox) = mpsc::channel(ASKED_MAX);
        (Self(sender), inbox)
    }

    /// Has the daemon reload its configuration; `None` when it is stopping.
    pub async fn ask(&self) -> Option<Reloaded> {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.ok()?;
        answered.await.ok()
    }
}

/// The configuration in force, and how the next one is taken up.
#[derive(Debug)]
pub struct Reloader {
    file: PathBuf,
    config: Config,
    /// Of cluster and secret; a reload must find the same.
    cluster: [u8; 16],
    shared: Arc<Shared>,
}

/// What a good file asks for, checked as far as it can be without the node.
struct Checked {
    config: Config,
    identity: Option<TlsIdentity>,
    changes: Vec<String>,
}

impl Reloader {
    /// For a daemon that runs with `config`, read from `file`.
    pub fn new(file: PathBuf, config: Config, cluster: [u8; 16], shared: Arc<Shared>) -> Self {
        Self { file, config, cluster, shared }
    }

    /// Reads the file again and takes up what it says; says all of it in the log.
    pub async fn reload(&mut self) -> Reloaded {
        let reloaded = self.try_reload().await;
        let file = self.file.display();
        match &reloaded {
            Ok(changes) => {
                self.shared.metrics.reloads.increment(1);
                tracing::info!(%file, changes = changes.len(), "the configuration is reloaded");
                changes.iter().for_each(|change| tracing::info!("reloaded: {change}"));
                self.config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            }
            Err(problems) => {
                self.shared.metrics.reloads_refused.increment(1);
                tracing::error!(%file, "the configuration is not reloaded; nothing was changed");
                problems.iter().for_each(|problem| tracing::error!("not reloaded: {problem}"));
            }
        }
        reloaded
    }

    async fn try_reload(&mut self) -> Reloaded {
        let Checked { config, identity, changes } = self.check(SystemTime::now())?;
        let failed = |error: &dyn std::fmt::Display| vec![error.to_string()];
        let configs = identity.as_ref().map(|identity| {
            let client = transport_config::client_config(identity);
            client.and_then(|client| Ok((client, transport_config::server_config(identity)?)))
        });
        let wanted = Reconfigure {
            membership: config.cluster.membership,
            peers: peer_addresses(&config),
            identity: configs.transpose().map_err(|error| failed(&error))?,
        };
        // The last that can refuse, and the first that changes anything.
        let answer = self.shared.mesh.reconfigure(wanted).await;
        answer
            .ok_or_else(|| vec!["the peers' thread has ended; onced is stopping".to_owned()])?
            .map_err(|error| failed(&error))?;
        if config.policies != self.config.policies {
            self.shared.driver.store.set_policies(policies(&config.policies));
            // What was acknowledged at `interval` until now is synced before `always` can be relied on. A disk that
            // fails ends the daemon, and says so itself.
            let _ = self.shared.driver.log.flush_all();
        }
        let before = self.shared.live();
        let certificates =
            identity.map_or_else(|| before.certificates.clone(), |identity| identity.certificates);
        set_gauges(&before.certificates, &certificates);
        self.shared.set_live(Live::of(&config, certificates));
        self.config = config;
        Ok(changes)
    }

    /// Everything but the step of membership.
    fn check(&self, now: SystemTime) -> Result<Checked, Vec<String>> {
        let config = Config::load(&self.file).map_err(|error| {
            let problems: Vec<_> = error.problems().iter().map(ToString::to_string).collect();
            if problems.is_empty() { vec![error.to_string()] } else { problems }
        })?;
        let Changes { live: mut changes, mut restart } = Changes::between(&self.config, &config);
        let secret =
            ClusterSecret::read(&config.cluster.secret_file).map_err(|error| vec![error.to_string()])?;
        if restart.is_empty() && secret.cluster_digest(&config.cluster.name) != self.cluster {
            let file = config.cluster.secret_file.display();
            restart.push(format!("[cluster] secret_file: {file} holds another secret"));
        }
        if !restart.is_empty() {
            let refuse = |line: String| format!("{line}: needs a restart; put it back, or restart onced");
            return Err(restart.into_iter().map(refuse).collect());
        }
        let identity = config.tls.as_ref().filter(|_| !config.peers.is_empty());
        let identity = identity
            .map(|files| TlsIdentity::load(files, &config.cluster.name, &config.region.name, now))
            .transpose()
            .map_err(|error| vec![error.to_string()])?;
        if let Some(identity) = &identity {
            let known: &[Certificate] = &self.shared.live().certificates;
            changes.extend(differences(known, &identity.certificates, now));
        }
        Ok(Checked { config, identity, changes })
    }
}
