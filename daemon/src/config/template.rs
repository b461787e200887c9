//! The commented configuration that `onced config init` writes; deploy/onced.toml is one of its outputs.
//!
//! One text for both, so that the example in the repository cannot fall behind the code: a test compares them.
//! Values that are defaults stand commented out with their default; another test uncomments them all and finds
//! that nothing changes.

use std::fmt::Write as _;

/// A peer for the template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerArgument {
    /// Region name.
    pub name: String,
    /// Region number.
    pub id: u16,
    /// `host:port`.
    pub address: String,
}

/// What the template is filled with; checked by parsing the result.
#[derive(Clone, Debug)]
pub struct Filling<'a> {
    /// This region's name.
    pub region: &'a str,
    /// This region's number.
    pub id: u16,
    /// The cluster's name.
    pub cluster: &'a str,
    /// Where log and identity go.
    pub data_dir: &'a str,
    /// Where the socket goes.
    pub socket: &'a str,
    /// UDP address of QUIC.
    pub listen: &'a str,
    /// The other regions.
    pub peers: &'a [PeerArgument],
}

/// The whole file.
pub fn render(filling: &Filling<'_>) -> String {
    let mut text = String::new();
    head(&mut text, filling);
    links(&mut text, filling);
    text.push_str(&SOCKET_AND_STORAGE.replace("@SOCKET@", &quoted(filling.socket)));
    text.push_str(POLICIES);
    text
}

fn head(text: &mut String, filling: &Filling<'_>) {
    let alone = filling.peers.is_empty();
    let comment = if alone { "# " } else { "" };
    let Filling { region, id, cluster, data_dir, listen, .. } = filling;
    let (cluster, data_dir, listen) = (quoted(cluster), quoted(data_dir), quoted(listen));
    let _ = write!(
        text,
        "\
# Configuration of one onced region. Check it with: onced check-config FILE
# Values that are commented out are the defaults. Durations: 24h, 30s, 500ms. Sizes: 64KiB, 2GiB.
# Relative paths are meant from this file's folder.

[cluster]
# The same in every region, and in every certificate.
name = {cluster}
# At least 32 bytes, the same file in every region, readable by the daemon only. It keys hashes and tokens.
# Make it with: (umask 077; openssl rand -hex 32 > cluster.secret)
# A region without peers may leave it out: the daemon then makes cluster.secret in its data_dir.
{comment}secret_file = \"cluster.secret\"
# Wall clocks of any two regions differ by at most this; beyond it links stall instead of trusting them.
# max_drift = \"500ms\"
# Counts the changes of [[peer]] tables: adding or retiring a region takes the next number, in every region. Configurations
# are reloaded one region after the other; see README.md, \"Change it while it runs\".
# membership = 1

[region]
# 1 to 32 of a-z, 0-9 and -. Stands in this region's certificate.
name = \"{region}\"
# 1 to 65535, one a region. Breaks ties between claims, so it must never change.
id = {id}
# Log and identity. Never share it between daemons, never restore it from a snapshot while peers live.
data_dir = {data_dir}
# UDP address of QUIC. Needed as soon as there are peers.
{comment}listen = {listen}
"
    );
}

/// Peers and TLS. Writing into a String cannot fail, so results of `write!` are let go.
fn links(text: &mut String, filling: &Filling<'_>) {
    text.push_str("\n# One [[peer]] for every other region. Names are resolved at every dial.\n");
    for PeerArgument { name, id, address } in filling.peers {
        let _ = write!(text, "[[peer]]\nname = \"{name}\"\nid = {id}\naddress = {}\n\n", quoted(address));
    }
    let region = filling.region;
    if filling.peers.is_empty() {
        text.push_str(
            "# [[peer]]\n# name = \"us\"\n# id = 2\n# address = \"us.example.net:4646\"\n\n\
             # Peers need certificates under a private CA; see `onced tls --help`.\n",
        );
    }
    let comment = if filling.peers.is_empty() { "# " } else { "" };
    let _ = write!(
        text,
        "\
# Made with: onced tls init-ca --out ca
#            onced tls issue --ca ca --cluster {cluster} --region {region} --out tls
{comment}[tls]
# One CA certificate, or two while rotating.
{comment}ca_file = \"tls/ca.pem\"
{comment}cert_file = \"tls/{region}.pem\"
# Readable by the daemon only.
{comment}key_file = \"tls/{region}.key\"

[peers]
# After a start, claims are refused until caught up with every reachable peer, at most this long.
# catch_up_wait = \"10s\"
",
        cluster = shell_quoted(filling.cluster)
    );
}

const SOCKET_AND_STORAGE: &str = "
[socket]
path = @SOCKET@
# Who may connect at all: the file's mode and group.
# mode = \"0660\"
# group = \"onced\"
# threads = 2                  # half the number of cores, at most 4
# max_connections = 4096

# Who may do what, by the uid and gid the kernel vouches for. Rules add up. Without any rule root and the
# daemon's own user are admin, and everybody else who can open the socket may claim.
# Roles: read (GET, INSPECT, SCAN, …) < claim (CLAIM, COMPLETE, RENEW, RELEASE) < admin (FORGET, RESOLVE, PEER CUT, …).
# [[access]]
# group = \"payments\"           # exactly one of uid, user, gid, group
# role = \"claim\"
# namespaces = [\"pay\"]         # default: [\"*\"]

[log]
# interval: answered when the kernel has it, synced within sync_interval. always: answered when it is on disk.
# durable = \"interval\"
# sync_interval = \"50ms\"       # 1ms to 1s
# segment_bytes = \"64MiB\"      # 1MiB to 1GiB
# Room kept allocated beyond the next segment. On a full disk claims are refused (disk_full); completions,
# renewals, releases, reads and replication go on from it: 64MiB are some 300000 completions of 100 bytes.
# reserve_bytes = \"64MiB\"      # 1MiB to 64GiB
# ring_bytes = \"32MiB\"         # log kept in memory for peers; one further behind reads from disk
# Log that snapshots cover is kept for peers that are away up to this size; beyond it a peer that returns is compared
# with, and given what it lacks.
# keep_bytes = \"1GiB\"          # 0B to 1024GiB

[memory]
# All that is held for keys: records, index, conflicts, log in memory. New claims are refused beyond it (UNAVAILABLE
# full) until keys expire; nothing live is ever evicted, and completions and what peers granted are always taken.
# max_memory = \"1GiB\"

[metrics]
# Prometheus text over HTTP. Off unless given.
# listen = \"127.0.0.1:9464\"
";

const POLICIES: &str = "
# What namespaces ask for. A key's namespace is what stands before its first colon.
[defaults]
# How long a key is remembered: 1s to 90d, and longer than lease + 2 x max_drift.
# retention = \"1d\"
# How long a holder may be silent before the next claim takes over.
# lease = \"30s\"
# level = \"local\"              # or home: each key has a region that decides it, one round trip away at most;
#                              # or quorum: claims are granted once a majority of the regions holds them
# fallback = \"refuse\"          # or local: what is done at level home while that region cannot be reached
# on_lease_end = \"takeover\"    # or unknown: nobody runs it again until somebody resolves it
# durable = \"interval\"         # or always; default: that of [log]
# key_time = \"none\"            # or uuidv7, ulid: keys older than retention answer EXPIRED
# keys = \"any\"                 # or issued: only what TOKEN has answered, and never once older than retention
# max_outcome = \"64KiB\"        # at most 1MiB; a larger outcome is refused, never cut short
# conflict_retention = \"7d\"    # how long CONFLICTS lists a loser
# audit = false
# on_unavailable = \"closed\"    # or open: what the gateway does while claims are unavailable
# These are not set unless given:
#   home = \"eu\"                at level home: this region decides all keys; else they are spread over all regions
#   max_staleness = \"1m\"       claims are refused when a peer was last heard longer ago
#   max_keys = 1000000         new keys beyond it are refused (UNAVAILABLE quota), in this namespace alone
#   max_bytes = \"256MiB\"       as max_keys; and so much of max_memory is kept free for this namespace. Namespaces
#                              without it share the rest. In [defaults]: for all without a table together, and for
#                              each table that does not set its own

# One table a namespace; what it does not set comes from [defaults].
# [namespace.pay]
# retention = \"30d\"
# lease = \"1m\"
# durable = \"always\"
# max_bytes = \"256MiB\"
";

/// A TOML string. TOML's basic strings have JSON's escapes.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// One word for a shell.
pub(super) fn shell_quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''").replace('\n', " "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Surroundings};
    use super::*;

    fn here() -> Surroundings {
        Surroundings {
            passwd: String::new(),
            group: "onced:x:990:\npayments:x:1001:\n".to_owned(),
            own_uid: 990,
            cores: 4,
            base: "/etc/onced".into(),
        }
    }

    fn filling(peers: &[PeerArgument]) -> String {
        render(&Filling {
            region: "eu",
            id: 1,
            cluster: "onced",
            data_dir: "/var/lib/onced",
            socket: "/run/onced/onced.sock",
            listen: "0.0.0.0:4646",
            peers,
        })
    }

    fn two_peers() -> Vec<PeerArgument> {
        let peer = |name: &str, id| PeerArgument {
            name: name.to_owned(),
            id,
            address: format!("{name}.onced.example.net:4646"),
        };
        vec![peer("us", 2), peer("ap", 3)]
    }

    #[test]
    fn it_passes_its_own_check_with_and_without_peers() {
        for peers in [vec![], two_peers()] {
            let text = filling(&peers);
            let config = Config::parse("t", &text, &here()).unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!((config.peers.len(), config.warnings.len()), (peers.len(), 0));
        }
    }

    /// A commented-out value claims to be the default: uncommented, it must change nothing.
    #[test]
    fn values_commented_out_are_the_defaults() {
        let text = filling(&two_peers());
        let is_default = |line: &str| {
            let body = line.strip_prefix("# ").unwrap_or_default();
            let key = body.split(" = ").next().unwrap_or_default();
            body.contains(" = ") && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        let mut skipping = false;
        let uncommented: Vec<_> = text
            .lines()
            .map(|line| {
                // Examples of tables end with the next blank line.
                skipping = line.starts_with("# [") || (skipping && !line.is_empty());
                // The two whose default is "none": an optional listener and a group.
                let optional = line.starts_with("# listen") || line.starts_with("# group");
                if is_default(line) && !skipping && !optional { &line[2..] } else { line }
            })
            .collect();
        let uncommented = uncommented.join("\n");
        assert!(uncommented.matches("\nlease = ").count() == 1, "{uncommented}");
        let with = Config::parse("t", &uncommented, &here()).unwrap_or_else(|error| panic!("{error}"));
        let without = Config::parse("t", &text, &here()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(with, without);
        assert!(uncommented.len() + 2 * 20 <= text.len(), "hardly anything was uncommented");
    }

    #[test]
    fn the_example_in_deploy_is_this_text() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/onced.toml");
        let example = std::fs::read_to_string(path).unwrap();
        assert_eq!(example, filling(&two_peers()), "write it anew with the command in deploy/README.md");
    }

    #[test]
    fn odd_names_stay_one_value() {
        assert_eq!(shell_quoted("a'b"), r"'a'\''b'");
        let odd = "a\"b\\c";
        let table: toml::Table = format!("x = {}", quoted(odd)).parse().unwrap();
        assert_eq!(table["x"].as_str(), Some(odd));
    }
}
