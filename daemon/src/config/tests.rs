//! Wrong configurations with their exact messages, right ones with what is understood, and noise.

use super::*;
use proptest::prelude::*;

fn here() -> Surroundings {
    Surroundings {
        passwd: "root:x:0:0:root:/root:/bin/sh\nsvc:x:1000:1000::/:/bin/false\n".to_owned(),
        group: "root:x:0:\npayments:x:1001:svc\n".to_owned(),
        own_uid: 990,
        cores: 2,
        base: "/etc/onced".into(),
    }
}

/// The smallest right file; two lines, so that what a test appends starts on line 3.
const ALONE: &str = "[region]\nname = \"eu\"; id = 1; data_dir = \"/d\"\n";

fn alone() -> String {
    ALONE.replace("; ", "\n")
}

/// Four lines of region, then `rest` from line 5 on.
fn with(rest: &str) -> String {
    alone() + rest
}

const PEERS: &str = "\
[cluster]
name = \"shop\"
secret_file = \"secret\"
[region]
name = \"eu\"
id = 1
data_dir = \"/d\"
listen = \"0.0.0.0:4646\"
[[peer]]
name = \"us\"
id = 2
address = \"us.example.net:4646\"
[tls]
ca_file = \"ca.pem\"
cert_file = \"/abs/eu.pem\"
key_file = \"eu.key\"
";

fn good(text: &str) -> Config {
    Config::parse("f", text, &here()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn refusal(text: &str) -> String {
    Config::parse("f", text, &here())
        .map(|config| panic!("accepted: {config:?}"))
        .unwrap_or_else(|e: ConfigError| e.to_string())
}

#[test]
fn one_region_alone_needs_three_lines() {
    let config = good(&alone());
    assert_eq!(config.cluster.name, "onced");
    assert_eq!(config.cluster.secret_file, Path::new("/d/cluster.secret"));
    assert!(config.cluster.secret_may_be_created);
    assert_eq!(config.socket.path, Path::new("/run/onced/onced.sock"));
    assert_eq!((config.socket.mode, config.socket.threads), (0o660, 1));
    assert_eq!(config.socket.access, Access::default_for(990));
    assert_eq!(config.policies.defaults, NamespacePolicy::DEFAULT);
    assert_eq!((config.log.sync_interval_ms, config.log.segment_bytes), (50, 64 << 20));
    assert_eq!(config.log.reserve_bytes, 64 << 20);
    assert_eq!((config.max_memory_bytes, config.catch_up_wait_ms), (1 << 30, 10_000));
    assert_eq!((config.tls, config.warnings), (None, vec![]));
}

#[test]
fn a_reserve_is_a_size_within_bounds() {
    let with = |value: &str| format!("{}\n[log]\nreserve_bytes = {value}\n", alone());
    assert_eq!(good(&with("\"1MiB\"")).log.reserve_bytes, 1 << 20);
    for wrong in ["\"1KiB\"", "\"65GiB\"", "\"much\"", "0"] {
        let refusal = refusal(&with(wrong));
        assert!(refusal.contains("reserve_bytes") && refusal.contains("MiB"), "{wrong}: {refusal}");
    }
}

#[test]
fn paths_are_meant_from_the_files_folder() {
    let config = good(PEERS);
    let tls = config.tls.unwrap();
    assert_eq!(
        (tls.ca_file.as_path(), tls.cert_file.as_path()),
        (Path::new("/etc/onced/ca.pem"), Path::new("/abs/eu.pem"))
    );
    assert_eq!(config.cluster.secret_file, Path::new("/etc/onced/secret"));
    assert!(!config.cluster.secret_may_be_created, "regions must share it, so none may make its own");
    assert_eq!(config.peers, [Peer { name: "us".into(), id: 2, address: "us.example.net:4646".into() }]);
}

#[test]
fn cluster_ids_come_from_the_name_alone() {
    let config = good(PEERS);
    assert_eq!(config.cluster.id[..], blake3::hash(b"shop").as_bytes()[..16]);
}

#[test]
fn namespaces_take_over_what_they_do_not_set() {
    let config = good(&with(
        "[log]\ndurable = \"always\"\n[defaults]\nlease = \"10s\"\nmax_staleness = \"5s\"\n\
         [namespace.pay]\nretention = \"30d\"\nkey_time = \"uuidv7\"\n[namespace.\"\"]\ndurable = \"interval\"\n",
    ));
    let pay = &config.policies.named["pay"];
    assert_eq!(
        (pay.lease_ms, pay.retention_ms, pay.max_staleness_ms),
        (10_000, 30 * limits::DAY_MS, Some(5_000))
    );
    assert_eq!((pay.durable, pay.key_time), (Durable::Always, KeyTime::UuidV7));
    assert_eq!(config.policies.named[""].durable, Durable::Interval);
    assert_eq!(config.policies.defaults.key_time, KeyTime::None);
}

#[test]
fn access_rules_resolve_names() {
    let config = good(&with(
        "[[access]]\nuser = \"svc\"\nrole = \"claim\"\nnamespaces = [\"pay\"]\n\
         [[access]]\ngroup = \"payments\"\nrole = \"admin\"\n[socket]\ngroup = \"payments\"\n",
    ));
    let rules = &config.socket.access.rules;
    assert_eq!((rules[0].who, rules[1].who), (Who::Uid(1000), Who::Gid(1001)));
    assert_eq!(rules[1].namespaces, ["*"]);
    assert_eq!((config.socket.gid, config.warnings.len()), (Some(1001), 0));
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let config = good(&with("listen = \"0.0.0.0:1\"\n[[access]]\nuid = 5\nrole = \"read\"\n"));
    let shown: Vec<_> = config.warnings.iter().map(Problem::to_string).collect();
    assert_eq!(
        shown,
        [
            "f:5:10: listen is not used without a [[peer]]; add the other regions or remove it",
            "f:6:1: [[access]]: nobody is admin, so nobody can FORGET or cut a peer; add a rule with role = \"admin\"",
        ]
    );
}

/// S8: a namespace without a reservation can be crowded out, and its owner should know.
#[test]
fn who_shares_memory_is_told_so() {
    let config = good(&with(
        "[memory]\nmax_memory = \"100MiB\"\n[namespace.pay]\nmax_bytes = \"50MiB\"\nmax_keys = 100000\n\
         [namespace.mail]\nmax_keys = 5\n[namespace.web]\nlease = \"5s\"\n",
    ));
    let shown: Vec<_> = config.warnings.iter().map(Problem::to_string).collect();
    assert_eq!(
        shown,
        [
            "f:10:12: no max_bytes for \"mail\", \"web\": it shares 48MiB with every namespace that has none, and when any of them fills that, its claims are refused; max_bytes reserves a part"
        ]
    );
    let pay = &config.policies.named["pay"];
    assert_eq!((pay.max_keys, pay.max_bytes), (Some(100_000), Some(50 << 20)));
    assert_eq!(config.policies.named["mail"].max_bytes, None);
}

#[test]
fn the_ring_is_a_part_of_the_memory() {
    let small = "[memory]\nmax_memory = \"32MiB\"\n";
    assert_eq!(good(&(PEERS.to_owned() + small)).log.ring_bytes, 8 << 20);
    assert_eq!(
        refusal(&(PEERS.to_owned() + small + "[log]\nring_bytes = \"17MiB\"\n")),
        "f:20:14: ring_bytes: 17MiB is more than half of max_memory (32MiB), of which it is a part; lower it or raise [memory] max_memory"
    );
    assert_eq!(good(&with(&(small.to_owned() + "[log]\nring_bytes = \"17MiB\"\n"))).log.ring_bytes, 17 << 20);
}

/// Each wrong text with the whole message people see. Texts start on line 5.
#[test]
fn wrong_values_say_where_and_what_to_do() {
    let table = [
        ("[log]\nsync_interval = \"2s\"", "f:6:17: sync_interval: 2s is out of range; choose from 1ms to 1s"),
        (
            "[log]\nsync_interval = 50",
            "f:6:17: sync_interval: 50 is not a duration; write a number with one of the units d, h, m, s, ms, such as \"24h\" or \"500ms\"",
        ),
        (
            "[memory]\nmax_memory = \"2GB\"",
            "f:6:14: max_memory: \"2GB\" is not a size; write a number with one of the units B, KiB, MiB, GiB, such as \"64KiB\" or \"2GiB\"",
        ),
        (
            "[defaults]\nretenton = \"1d\"",
            "f:6:1: unknown field `retenton`, expected one of `retention`, `lease`, `level`, `home`, `fallback`, `on_lease_end`, `durable`, `key_time`, `keys`, `max_outcome`, `max_keys`, `max_bytes`, `max_staleness`, `conflict_retention`, `audit`, `on_unavailable`",
        ),
        (
            "[defaults]\nhome = \"asia\"",
            "f:6:8: home: \"asia\" is no region of this cluster; name this region or a [[peer]] (\"eu\"), the same in every region, or leave home out: keys are then spread over all regions",
        ),
        (
            "[defaults]\nlevel = \"global\"",
            "f:6:9: level: \"global\" is not known; choose one of \"local\", \"home\", \"quorum\"",
        ),
        (
            "[namespace.pay]\nkeys = \"issud\"",
            "f:6:8: keys: \"issud\" is not known; choose one of \"any\", \"issued\"",
        ),
        (
            "[namespace.pay]\nkeys = \"issued\"\nkey_time = \"ulid\"",
            "f:7:12: key_time: issued keys carry the time of their UUIDv7; remove this line, or write keys = \"any\"",
        ),
        (
            "[namespace.pay]\nmax_keys = \"10\"",
            "f:6:12: max_keys: \"10\" is not in range; write a whole number from 1 to 10000000000",
        ),
        (
            "[namespace.pay]\nmax_bytes = 5",
            "f:6:13: max_bytes: 5 is not a size; write a number with one of the units B, KiB, MiB, GiB, such as \"64KiB\" or \"2GiB\"",
        ),
        (
            "[namespace.pay]\nmax_bytes = \"1KiB\"",
            "f:6:13: max_bytes: 1KiB is out of range; choose from 1MiB to 1024GiB",
        ),
        (
            "[memory]\nmax_memory = \"64MiB\"\n[namespace.a]\nmax_bytes = \"40MiB\"\n[namespace.b]\nmax_bytes = \"23MiB\"",
            "f:10:13: max_bytes: with this one namespaces reserve 63MiB together, and max_memory (64MiB) has 62MiB for them; lower some or raise [memory] max_memory",
        ),
        (
            "[defaults]\nmax_bytes = \"400MiB\"\n[namespace.a]\n[namespace.b]\nlease = \"5s\"",
            "f:8:12: max_bytes: with this one namespaces reserve 1200MiB together, and max_memory (1GiB) has 1022MiB for them; lower some or raise [memory] max_memory",
        ),
        (
            "[defaults]\naudit = true",
            "f:6:9: audit: is not in this version; write audit = false or leave it out",
        ),
        (
            "[defaults]\non_lease_end = \"run\"",
            "f:6:16: on_lease_end: \"run\" is not known; choose one of \"takeover\", \"unknown\"",
        ),
        (
            "[defaults]\nmax_outcome = \"2MiB\"",
            "f:6:15: max_outcome: 2MiB is out of range; choose from 1B to 1MiB",
        ),
        (
            "[namespace.pay]\nlease = \"24h\"",
            "f:6:9: retention: 1d must be longer than lease + 2 x max_drift = 1d + 2 x 500ms = 86401s; raise retention or lower lease",
        ),
        (
            "[namespace.\"a:b\"]\nlease = \"5s\"",
            "f:5:12: [namespace.\"a:b\"] can never match; name what stands before a key's first colon, at most 511 bytes",
        ),
        (
            "[socket]\nmode = \"0080\"",
            "f:6:8: mode: \"0080\" is no socket mode; write three octal digits after a 0 that let the owner read and write, such as \"0660\"",
        ),
        ("[socket]\nthreads = 0", "f:6:11: threads: 0 is not in range; write a whole number from 1 to 256"),
        (
            "[socket]\ngroup = \"nobody-here\"",
            "f:6:9: group: \"nobody-here\" is not in /etc/group; create it with: groupadd --system nobody-here",
        ),
        (
            "[[access]]\nuser = \"x\"\nrole = \"claim\"",
            "f:6:8: user: \"x\" is not in /etc/passwd; write its number as uid = N instead",
        ),
        (
            "[[access]]\nrole = \"claim\"",
            "f:5:1: [[access]] names 0 callers; write exactly one of uid, user, gid, group",
        ),
        ("[[access]]\nuid = 1", "f:5:1: role is missing; write role = \"claim\" (or \"read\", or \"admin\")"),
        (
            "[[access]]\nuid = 1\nrole = \"admin\"\nnamespaces = \"pay\"",
            "f:8:14: namespaces: expected a list of names without colons; write namespaces = [\"pay\"], or [\"*\"] for all",
        ),
        (
            "[metrics]\nlisten = \"localhost:1\"",
            "f:6:10: listen: \"localhost:1\" is not an IP address with a port; write listen = \"127.0.0.1:9464\"",
        ),
        ("[cluster]\nname = 5", "f:6:8: name: expected text in quotes, found a number; write name = \"…\""),
        ("[cluster]\nname = \"\"", "f:6:8: name: has 0 bytes; choose a name of 1 to 64 bytes"),
        ("[socket\n", "f:5:8: unclosed table, expected `]`"),
    ];
    for (text, message) in table {
        assert_eq!(refusal(&with(text)), message, "for {text}");
    }
}

#[test]
fn wrong_peers_say_where_and_what_to_do() {
    let table = [
        ("id = 2", "id = 1", "f:11:6: id: 1 is taken; give every region a number of its own"),
        ("\"us\"", "\"eu\"", "f:10:8: name: \"eu\" is taken; list every other region once, and not this one"),
        (
            "\"us\"",
            "\"US\"",
            "f:10:8: name: \"US\" is no region name; use 1 to 32 of a-z, 0-9 and -, with no - at either end",
        ),
        ("id = 2", "id = 65536", "f:11:6: id: 65536 is not in range; write a whole number from 1 to 65535"),
        (
            ":4646\"\n[tls]",
            "\"\n[tls]",
            "f:12:11: address: \"us.example.net\" is not host:port; write address = \"us.example.net:4646\"",
        ),
        (
            "listen = \"0.0.0.0:4646\"\n",
            "",
            "f:4:1: listen is missing though there is peer \"us\"; write listen = \"0.0.0.0:4646\", the UDP address peers dial",
        ),
        ("key_file = \"eu.key\"\n", "", "f:13:1: key_file is missing; write key_file = \"tls/NAME.key\""),
    ];
    for (from, to, message) in table {
        let text = PEERS.replace(from, to);
        assert_ne!(text, PEERS, "{from} is not in the text");
        assert_eq!(refusal(&text), message);
    }
}

#[test]
fn peers_without_tls_or_secret_get_the_commands_to_run() {
    let text = PEERS.split("[tls]").next().unwrap().replace("secret_file = \"secret\"\n", "");
    assert_eq!(
        refusal(&text),
        "f:1:1: secret_file is missing in [cluster] though there are peers; make one with: \
         (umask 077; openssl rand -hex 32 > cluster.secret), give every region the same file, \
         and write secret_file = \"cluster.secret\"\n\
         f:8:1: [tls] is missing though there are peers; make certificates with: \
         onced tls init-ca --out ca, then: onced tls issue --ca ca --cluster shop --region eu --out tls, and write \
         [tls] with ca_file = \"tls/ca.pem\", cert_file = \"tls/eu.pem\", key_file = \"tls/eu.key\""
    );
}

#[test]
fn all_errors_are_told_at_once_in_the_order_of_the_file() {
    let text = "[region]\nname = \"EU\"\n[log]\ndurable = \"x\"\nring_bytes = 1\n[defaults]\nlease = \"1\"\n";
    let error = Config::parse("f", text, &here()).unwrap_err();
    let places: Vec<_> = error.problems().iter().map(|problem| (problem.line, problem.column)).collect();
    assert_eq!(places, [(1, 1), (1, 1), (2, 8), (4, 11), (5, 14), (7, 9)], "{error}");
    assert_eq!(refusal(""), "f:1:1: [region] is missing; write [region] with name, id and data_dir");
}

#[test]
fn an_unreadable_file_says_how_to_make_one() {
    let error = Config::load(Path::new("/nonexistent/onced.toml")).unwrap_err().to_string();
    assert_eq!(
        error,
        "/nonexistent/onced.toml: No such file or directory (os error 2); name another file with --config, \
         or write one with: onced config init --output /nonexistent/onced.toml"
    );
}

#[test]
fn hosts_and_ports() {
    for good in ["a:1", "us.example.net:4646", "10.0.0.1:65535", "[::1]:4646", "my_host:1"] {
        assert!(is_host_and_port(good), "{good}");
    }
    for wrong in
        ["", "a", ":1", "a:", "a:0", "a:65536", "a:+1", "::1:4646", "[::1]", "a b:1", "[x]:1", "a:1:2"]
    {
        assert!(!is_host_and_port(wrong), "{wrong}");
    }
}

/// Pieces that, thrown together, reach deeper than random bytes do.
fn piece() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "[region]\n",
        "[[peer]]\n",
        "[tls]\n",
        "[defaults]\n",
        "[namespace.é]\n",
        "[[access]]\n",
        "[socket]\n",
        "name = ",
        "id = ",
        "retention = ",
        "lease = ",
        "namespaces = ",
        "mode = ",
        "path = ",
        "address = ",
        "\"24h\"",
        "\"\"",
        "-1",
        "[",
        "]",
        "{",
        "}",
        "=",
        "\n",
        "\"é\"",
        "1979-05-27",
        "18446744073709551615",
        "\"18446744073709551615d\"",
        "nan",
    ]);
    prop_oneof![4 => fixed.prop_map(str::to_owned), 1 => "\\PC{0,8}"]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Whatever the text, there is a configuration or at least one error that points into the text.
    #[test]
    fn no_text_panics(pieces in prop::collection::vec(piece(), 0..40)) {
        points_into(&pieces.concat())?;
    }

    /// A right file with something cut out and something put in.
    #[test]
    fn no_mutation_panics(at in 0usize..400, cut in 0usize..20, new in piece()) {
        let chars: Vec<char> = PEERS.chars().collect();
        let at = at.min(chars.len());
        let end = (at + cut).min(chars.len());
        let text: String = chars[..at].iter().copied().chain(new.chars()).chain(chars[end..].iter().copied()).collect();
        points_into(&text)?;
    }
}

fn points_into(text: &str) -> Result<(), TestCaseError> {
    let Err(error) = Config::parse("f", text, &here()) else { return Ok(()) };
    prop_assert!(!error.problems().is_empty());
    for problem in error.problems() {
        prop_assert!(problem.line <= text.matches('\n').count() + 1, "{problem}");
        prop_assert!(!problem.message.contains('\n'), "{problem}");
    }
    Ok(())
}
