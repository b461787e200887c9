//! What differs between the configuration in force and a new one, and what of it can be taken up while running.
//!
//! Both are compared leaf by leaf in the form that `check-config --json` prints. A leaf is live only if it is listed
//! here; every other one, those of later versions too, needs a restart and says so. So nobody can add a setting that a
//! reload accepts and nothing looks at.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Config, Peer, units};

/// Leaves whose place in the file does not follow from their place in [`Config`].
const PLACES: [(&str, &str); 4] = [
    ("max_memory_bytes", "[memory] max_memory"),
    ("metrics_listen", "[metrics] listen"),
    ("catch_up_wait_ms", "[peers] catch_up_wait"),
    ("socket.gid", "[socket] group"),
];
/// Taken up while running; peers and certificates are told apart.
const LIVE: [&str; 3] = ["policies", "socket.access", "cluster.membership"];
/// No settings of their own: derived from others, or of no effect after a start.
const DERIVED: [&str; 6] =
    ["warnings", "cluster.id", "cluster.secret_may_be_created", "log.durable", "peers", "tls"];

/// See the module's text. Each line names one setting, its old value and its new one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Can be taken up.
    pub live: Vec<String>,
    /// Need a restart.
    pub restart: Vec<String>,
}

impl Changes {
    /// From `before` to `after`.
    pub fn between(before: &Config, after: &Config) -> Self {
        let mut changes = Self::default();
        let (was, is) = (leaves(before), leaves(after));
        for place in was.keys().chain(is.keys().filter(|place| !was.contains_key(*place))) {
            let (old, new) = (was.get(place), is.get(place));
            if old == new || is_below(place, &DERIVED) {
                continue;
            }
            let line = format!("{}: {} -> {}", in_the_file(place), shown(place, old), shown(place, new));
            if is_below(place, &LIVE) { &mut changes.live } else { &mut changes.restart }.push(line);
        }
        changes.peers(before, after);
        for (name, old, new) in [
            (
                "ca_file",
                before.tls.as_ref().map(|tls| &tls.ca_file),
                after.tls.as_ref().map(|tls| &tls.ca_file),
            ),
            (
                "cert_file",
                before.tls.as_ref().map(|tls| &tls.cert_file),
                after.tls.as_ref().map(|tls| &tls.cert_file),
            ),
            (
                "key_file",
                before.tls.as_ref().map(|tls| &tls.key_file),
                after.tls.as_ref().map(|tls| &tls.key_file),
            ),
        ] {
            if let (Some(old), Some(new)) = (old, new)
                && old != new
            {
                changes.live.push(format!("[tls] {name}: {} -> {}", old.display(), new.display()));
            }
        }
        changes
    }

    fn peers(&mut self, before: &Config, after: &Config) {
        let find = |config: &'_ Config, id| config.peers.iter().find(|peer: &&Peer| peer.id == id).cloned();
        for peer in &after.peers {
            let Peer { name, id, address } = peer;
            match find(before, *id) {
                None if before.peers.is_empty() => self
                    .restart
                    .push(format!("[[peer]] {name:?}: the first peer of a region that stood alone")),
                None => self.live.push(format!("[[peer]] {name:?} (id {id}) at {address}: added")),
                Some(was) if was.name != *name => self.restart.push(format!(
                    "[[peer]] id {id}: name {:?} -> {name:?}; another region takes another id",
                    was.name
                )),
                Some(was) if was.address != *address => {
                    self.live.push(format!("[[peer]] {name:?} address: {} -> {address}", was.address));
                }
                Some(_) => {}
            }
        }
        for peer in before.peers.iter().filter(|peer| find(after, peer.id).is_none()) {
            self.live.push(format!("[[peer]] {:?} (id {}): retired", peer.name, peer.id));
        }
    }
}

/// Every leaf by its dotted place; lists are leaves, too.
fn leaves(config: &Config) -> BTreeMap<String, Value> {
    fn collect(place: String, value: Value, into: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    // A namespace may hold dots; they do no harm, since places are only compared and shown.
                    let place = if place.is_empty() { name } else { format!("{place}.{name}") };
                    collect(place, value, into);
                }
            }
            leaf => {
                into.insert(place, leaf);
            }
        }
    }
    let mut into = BTreeMap::new();
    // A Config has string keys and finite numbers only: it always has this form.
    collect(String::new(), serde_json::to_value(config).unwrap_or_default(), &mut into);
    into
}

fn is_below(place: &str, tops: &[&str]) -> bool {
    tops.iter()
        .any(|top| place.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// How the file names a leaf: `[table] key`.
fn in_the_file(place: &str) -> String {
    if let Some((_, known)) = PLACES.iter().find(|(at, _)| *at == place) {
        return (*known).to_owned();
    }
    if is_below(place, &["socket.access"]) {
        return "[[access]]".to_owned();
    }
    let (table, key) = place.rsplit_once('.').unwrap_or(("", place));
    let key = key.strip_suffix("_ms").unwrap_or(key);
    let key = if key == "max_outcome_bytes" { "max_outcome" } else { key };
    match table.strip_prefix("policies.") {
        Some("defaults") => format!("[defaults] {key}"),
        Some(named) => format!("[namespace.{}] {key}", named.trim_start_matches("named.")),
        None => format!("[{table}] {key}"),
    }
}

fn shown(place: &str, value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "unset".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => format!("{} rules", items.len()),
        Some(Value::Number(number)) => match number.as_u64() {
            Some(ms) if place.ends_with("_ms") => units::duration(ms),
            Some(bytes) if place.ends_with("_bytes") => units::bytes(bytes),
            Some(mode) if place == "socket.mode" => format!("{mode:04o}"),
            _ => number.to_string(),
        },
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Surroundings;

    const BASE: &str = "[cluster]\nsecret_file = \"s\"\n[region]\nname = \"eu\"\nid = 1\ndata_dir = \"d\"\n\
                        listen = \"0.0.0.0:4646\"\n[tls]\nca_file = \"c\"\ncert_file = \"e\"\nkey_file = \"k\"\n\
                        [[peer]]\nname = \"us\"\nid = 2\naddress = \"us:4646\"\n";

    fn config(text: &str) -> Config {
        let here = Surroundings {
            passwd: String::new(),
            group: String::new(),
            own_uid: 0,
            cores: 2,
            base: "/etc/onced".into(),
        };
        Config::parse("f", text, &here).expect("a good configuration")
    }

    fn changes(from: &str, to: &str) -> Changes {
        let after = BASE.replace(from, to);
        assert_ne!(after, BASE, "{from:?} is in it");
        Changes::between(&config(BASE), &config(&after))
    }

    fn live(from: &str, to: &str) -> Vec<String> {
        let Changes { live, restart } = changes(from, to);
        assert_eq!(restart, Vec::<String>::new());
        live
    }

    fn restart(from: &str, to: &str) -> Vec<String> {
        let Changes { live, restart } = changes(from, to);
        assert_eq!(live, Vec::<String>::new());
        restart
    }

    #[test]
    fn nothing_differs_from_itself() {
        assert_eq!(Changes::between(&config(BASE), &config(BASE)), Changes::default());
    }

    #[test]
    fn policies_access_addresses_and_files_are_live() {
        let with = |table: &str| format!("{table}\n[tls]");
        let said = live("[tls]", &with("[namespace.pay]\nlease = \"10s\"\n"));
        assert!(said.contains(&"[namespace.pay] lease: unset -> 10s".to_owned()), "{said:?}");
        assert_eq!(
            live("[tls]", &with("[defaults]\nlease = \"9s\"\nmax_outcome = \"1KiB\"\n")),
            ["[defaults] lease: 30s -> 9s", "[defaults] max_outcome: 64KiB -> 1KiB"]
        );
        assert_eq!(
            live("[tls]", &with("[log]\ndurable = \"always\"\n")),
            ["[defaults] durable: interval -> always"]
        );
        let said = live("[tls]", &with("[[access]]\nuid = 7\nrole = \"admin\"\n"));
        assert_eq!(said, ["[[access]]: true -> false", "[[access]]: 2 rules -> 1 rules"]);
        assert_eq!(live("us:4646", "us:9"), ["[[peer]] \"us\" address: us:4646 -> us:9"]);
        assert_eq!(
            live("ca_file = \"c\"", "ca_file = \"c2\""),
            ["[tls] ca_file: /etc/onced/c -> /etc/onced/c2"]
        );
        assert_eq!(live("[cluster]\n", "[cluster]\nmembership = 2\n"), ["[cluster] membership: 1 -> 2"]);
    }

    #[test]
    fn peers_come_and_go() {
        let second = "[[peer]]\nname = \"ap\"\nid = 3\naddress = \"ap:4646\"\n[[peer]]\nname = \"us\"";
        assert_eq!(live("[[peer]]\nname = \"us\"", second), ["[[peer]] \"ap\" (id 3) at ap:4646: added"]);
        assert_eq!(
            live("[[peer]]\nname = \"us\"\nid = 2\naddress = \"us:4646\"\n", ""),
            ["[[peer]] \"us\" (id 2): retired"]
        );
        assert_eq!(
            restart("name = \"us\"", "name = \"usa\""),
            ["[[peer]] id 2: name \"us\" -> \"usa\"; another region takes another id"]
        );
        let alone = "[region]\nname = \"eu\"\nid = 1\ndata_dir = \"d\"\n[cluster]\nsecret_file = \"s\"\n";
        let first = Changes::between(&config(alone), &config(BASE)).restart;
        let expected = "[[peer]] \"us\": the first peer of a region that stood alone".to_owned();
        assert!(first.contains(&expected), "{first:?}");
    }

    #[test]
    fn everything_else_needs_a_restart_and_is_named_as_in_the_file() {
        for (from, to, said) in [
            ("\"d\"", "\"d2\"", "[region] data_dir: /etc/onced/d -> /etc/onced/d2"),
            ("name = \"eu\"", "name = \"eu2\"", "[region] name: eu -> eu2"),
            ("id = 1", "id = 9", "[region] id: 1 -> 9"),
            (":4646\"\n[tls]", ":4647\"\n[tls]", "[region] listen: 0.0.0.0:4646 -> 0.0.0.0:4647"),
            (
                "[tls]",
                "[socket]\npath = \"s\"\n[tls]",
                "[socket] path: /run/onced/onced.sock -> /etc/onced/s",
            ),
            ("[tls]", "[socket]\nmode = \"0600\"\n[tls]", "[socket] mode: 0660 -> 0600"),
            ("[tls]", "[memory]\nmax_memory = \"2GiB\"\n[tls]", "[memory] max_memory: 1GiB -> 2GiB"),
            ("[tls]", "[metrics]\nlisten = \"127.0.0.1:1\"\n[tls]", "[metrics] listen: unset -> 127.0.0.1:1"),
            ("[tls]", "[peers]\ncatch_up_wait = \"1s\"\n[tls]", "[peers] catch_up_wait: 10s -> 1s"),
            ("[cluster]\n", "[cluster]\nmax_drift = \"1s\"\n", "[cluster] max_drift: 500ms -> 1s"),
            ("[cluster]\n", "[cluster]\nname = \"x\"\n", "[cluster] name: onced -> x"),
            ("\"s\"", "\"s2\"", "[cluster] secret_file: /etc/onced/s -> /etc/onced/s2"),
            ("[tls]", "[log]\nsync_interval = \"9ms\"\n[tls]", "[log] sync_interval: 50ms -> 9ms"),
        ] {
            assert_eq!(restart(from, to), [said]);
        }
    }
}
