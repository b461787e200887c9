//! What a cluster is started with: the configurations, certificates and secrets of its regions.

use std::net::SocketAddr;
use std::path::Path;
use std::time::SystemTime;

use daemon::peer::ca::{self, Pair};

/// The regions' names, by index; ids count from 1.
pub const NAMES: [&str; 5] = ["eu", "us", "ap", "sa", "af"];
/// The cluster's name.
pub const CLUSTER: &str = "onced-tests";
/// Days the certificates are valid.
const DAYS: u32 = 2;

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Setup {
    /// As many as there are [`NAMES`] at most; one has no peers.
    pub regions: usize,
    /// `interval` or `always`.
    pub durable: &'static str,
    /// Lines for `[log]` in every region.
    pub log: String,
    /// Lines for `[socket]` in every region.
    pub socket: String,
    /// Tables at the end of every configuration.
    pub tables: String,
    /// A region that does not belong to the others.
    pub misfit: Option<(usize, Misfit)>,
}

/// What is wrong with a region, in the eyes of the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misfit {
    /// Its certificate is signed by a CA of its own, which it also trusts.
    OtherCa,
    /// It calls itself, and is certified as, a region that nobody knows.
    OtherName,
    /// It has another cluster secret.
    OtherSecret,
    /// It is configured for, and certified in, another cluster.
    OtherCluster,
}

impl Setup {
    /// So many regions, at `interval`.
    pub fn regions(regions: usize) -> Self {
        let (log, socket, tables) = Default::default();
        Self { regions, durable: "interval", log, socket, tables, misfit: None }
    }

    /// What is wrong with region `at`.
    pub fn misfit(&self, at: usize) -> Option<Misfit> {
        self.misfit.filter(|(misfit, _)| *misfit == at).map(|(_, what)| what)
    }

    /// What region `at` calls itself.
    pub fn name(&self, at: usize) -> &'static str {
        if self.misfit(at) == Some(Misfit::OtherName) { "stranger" } else { NAMES[at] }
    }

    fn cluster(&self, at: usize) -> &'static str {
        if self.misfit(at) == Some(Misfit::OtherCluster) { "another-cluster" } else { CLUSTER }
    }

    /// Writes everything into `folder`. `address(at, of)` is the UDP address of region `of` as region `at` knows it; its
    /// own is the one to listen on.
    pub fn write(&self, folder: &Path, address: &dyn Fn(usize, usize) -> SocketAddr) {
        let authorities = [authority("onced tests"), authority("a stranger")];
        for (at, name) in NAMES.into_iter().enumerate().take(self.regions) {
            let own = folder.join(name);
            std::fs::create_dir_all(&own).expect("the temporary folder takes a folder");
            let foreign = usize::from(self.misfit(at) == Some(Misfit::OtherCa));
            self.write_certificates(&own, &authorities[foreign], at);
            let secret = if self.misfit(at) == Some(Misfit::OtherSecret) { "b" } else { "a" };
            let path = own.join("cluster.secret");
            write_private(&path, &secret.repeat(64));
            std::fs::write(own.join("onced.toml"), self.config(at, address)).expect("a file can be written");
        }
    }

    fn write_certificates(&self, own: &Path, authority: &Pair, at: usize) {
        let issued = ca::issue(authority, self.cluster(at), self.name(at), DAYS, SystemTime::now());
        ca::write_region(own, self.name(at), &issued.expect("names are valid"), false).expect("new files");
        ca::copy_ca_cert(own, authority).expect("a new file");
    }

    fn config(&self, at: usize, address: &dyn Fn(usize, usize) -> SocketAddr) -> String {
        let (name, cluster) = (self.name(at), self.cluster(at));
        let mut text = format!(
            "[cluster]\nname = \"{cluster}\"\nsecret_file = \"cluster.secret\"\n\n\
             [log]\ndurable = \"{}\"\n{}\n\n[socket]\npath = \"onced.sock\"\n{}\n\n\
             [region]\nname = \"{name}\"\nid = {}\ndata_dir = \"data\"\n",
            self.durable,
            self.log,
            self.socket,
            at + 1,
        );
        if self.regions > 1 {
            text.push_str(&format!(
                "listen = \"{}\"\n\n[tls]\nca_file = \"ca.pem\"\ncert_file = \"{name}.pem\"\n\
                 key_file = \"{name}.key\"\n",
                address(at, at)
            ));
        }
        for other in (0..self.regions).filter(|other| *other != at) {
            text.push_str(&format!(
                "\n[[peer]]\nname = \"{}\"\nid = {}\naddress = \"{}\"\n",
                NAMES[other],
                other + 1,
                address(at, other)
            ));
        }
        text + "\n" + &self.tables
    }
}

fn authority(name: &str) -> Pair {
    ca::create_ca(name, DAYS, SystemTime::now()).expect("a CA can be made")
}

fn write_private(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).expect("the secret can be written");
}
