//! The socket against clients that are broken, slow, gone, greedy or not allowed: the daemon answers with a typed
//! error or closes, nobody else notices, and nothing changes that should not.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use daemon::resp::{Client, ClientError, Value};
use tests::wait::LIMIT;
use tests::{Cluster, Setup, field, int, status, until};

fn raw(cluster: &Cluster) -> UnixStream {
    let stream = UnixStream::connect(cluster.socket(0)).expect("it takes a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout can be set");
    stream
}

/// What the daemon answers to `bytes` once it has closed the connection, or answered a PING after them.
fn answer(cluster: &Cluster, bytes: &[u8]) -> String {
    let mut stream = raw(cluster);
    // It may have closed already, which is an answer too.
    let _ = stream.write_all(bytes);
    let _ = stream.write_all(b"\r\nECHO the-end\r\n");
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&said).contains("the-end\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => said.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("neither an answer nor a close after {said:?}: {error}"),
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

fn keys(cluster: &Cluster) -> i64 {
    int(&cluster.call(0, &[b"STATUS"]), "keys")
}

fn claim(client: &mut Client, key: &[u8]) -> Value {
    client.call(&[b"CLAIM", key, b"CLAIMANT", b"a"]).expect("answered")
}

#[test]
fn garbage_is_answered_or_closed_and_changes_nothing() {
    let cluster = Cluster::alone("interval");
    assert_eq!(status(&claim(&mut cluster.client(0), b"k")), "GRANTED");
    let before = cluster.digest(0);
    let cases: [(&[u8], &str); 8] = [
        (b"\x00\xff\xfe\x80", "ERR unknown command"),
        (b"*1\r\n:5\r\n", "Protocol error: expected '$', got ':'"),
        (b"*x\r\n", "Protocol error: invalid multibulk length"),
        (b"*99999999999999999999\r\n", "Protocol error: invalid multibulk length"),
        (b"*1\r\n$-7\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$4\r\nPINGxx", "Protocol error: expected CRLF"),
        (b"*40\r\n", "TOOBIG 40 arguments"),
        (b"CLAIM 'unbalanced", "BADARG unbalanced quotes"),
    ];
    for (bytes, expected) in cases {
        let said = answer(&cluster, &[bytes, &b"\r\n".repeat(100)].concat());
        assert!(said.contains(expected), "{:?} was answered {said:?}", String::from_utf8_lossy(bytes));
    }
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..200 {
        let noise: Vec<u8> = (0..300)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random as u8
            })
            .collect();
        let mut stream = raw(&cluster);
        let _ = stream.write_all(&noise);
    }
    until("all of them are gone", || int(&cluster.call(0, &[b"STATUS"]), "connections") == 1);
    assert_eq!(cluster.digest(0), before);
    assert_eq!(keys(&cluster), 1);
}

#[test]
fn nested_arrays_cost_no_stack() {
    let cluster = Cluster::alone("interval");
    // 40 KB of these overflow the stack of parsers that recurse.
    let said = answer(&cluster, &b"*1\r\n".repeat(10_000));
    assert!(said.contains("Protocol error: expected '$', got '*'"), "{said:?}");
    assert_eq!(status(&claim(&mut cluster.client(0), b"k")), "GRANTED");
}

#[test]
fn oversized_things_are_refused_and_the_connection_lives_on() {
    let cluster = Cluster::alone("interval");
    let mut client = cluster.client(0);
    let token = field(&claim(&mut client, b"k"), "token");
    let error = |client: &mut Client, words: &[&[u8]]| match client.call(words).expect("answered") {
        Value::Error(text) => text,
        reply => panic!("accepted: {reply:?}"),
    };
    let huge = vec![b'x'; 3 << 20];
    assert!(error(&mut client, &[b"COMPLETE", b"k", token.as_bytes(), &huge]).starts_with("TOOBIG"));
    let large = vec![b'x'; 65_537];
    let refusal = error(&mut client, &[b"COMPLETE", b"k", token.as_bytes(), &large]);
    assert!(refusal.starts_with("TOOBIG") && refusal.contains("65536"), "the limit is named: {refusal}");
    let key = vec![b'k'; 513];
    assert!(error(&mut client, &[b"CLAIM", &key]).starts_with("BADARG"));
    assert!(error(&mut client, &[b"CLAIM", b"k2", b"CLAIMANT", &[b'c'; 65]]).starts_with("BADARG"));
    assert!(error(&mut client, &[b"CLAIM", b"k2", b"NOTE", &vec![b'n'; 5000]]).starts_with("BADARG"));
    assert_eq!(status(&client.call(&[b"GET", b"k"]).expect("answered")), "HELD", "nothing was stored");
    let fits = vec![b'x'; 65_536];
    let completed = client.call(&[b"COMPLETE", b"k", token.as_bytes(), &fits]).expect("answered");
    assert_eq!(status(&completed), "COMPLETED", "the limit itself fits");
    assert_eq!(claim(&mut client, b"k").field("outcome").and_then(Value::as_bytes), Some(&fits[..]));
    assert_eq!(keys(&cluster), 1);
}

#[test]
fn malformed_arguments_are_named_and_the_connection_lives_on() {
    let cluster = Cluster::alone("interval");
    let mut client = cluster.client(0);
    let cases: [(&[&[u8]], &str); 12] = [
        (&[b"CLAIM"], "BADARG CLAIM takes"),
        (&[b"CLAIM", b""], "BADARG a key has 1 to 512 bytes"),
        (&[b"CLAIM", b"k", b"FP", b"00"], "BADARG FP takes 32 hex digits"),
        (&[b"CLAIM", b"k", b"LEASE"], "BADARG LEASE stands twice, or without a value"),
        (&[b"CLAIM", b"k", b"LEASE", b"-1"], "BADARG LEASE takes whole milliseconds"),
        (&[b"CLAIM", b"k", b"LEASE", b"86400000"], "BADARG retention"),
        (&[b"CLAIM", b"k", b"WAIT", b"99999999999"], "BADARG WAIT is at most"),
        (&[b"CLAIM", b"k", b"TTL", b"5"], "BADARG unknown option \"TTL\""),
        (&[b"COMPLETE", b"k", b"no-token", b"x"], "BADARG the token is not one that CLAIM answers"),
        (&[b"SCAN", b"elsewhere"], "BADARG"),
        (&[b"PEER", b"CUT", b"mars"], "BADARG unknown option \"mars\""),
        (&[b"SET", b"a", b"b"], "ERR unknown command 'SET', with args beginning with: 'a' 'b' "),
    ];
    for (words, expected) in cases {
        match client.call(words).expect("answered") {
            Value::Error(text) => assert!(text.starts_with(expected), "{text:?}, not {expected:?}"),
            reply => panic!("{expected} was accepted: {reply:?}"),
        }
    }
    let forged = "0".repeat(106);
    let stale = client.call(&[b"COMPLETE", b"k", forged.as_bytes(), b"x"]).expect("answered");
    assert_eq!((status(&stale).as_str(), field(&stale, "reason").as_str()), ("STALE", "bad_tag"));
    assert_eq!(client.call(&[b"PING"]).expect("answered"), Value::Simple("PONG".into()));
    assert_eq!(keys(&cluster), 0, "nothing was changed");
}

#[test]
fn inline_commands_and_both_dialects_say_the_same() {
    let cluster = Cluster::alone("interval");
    let mut client = cluster.client2(0);
    client
        .send_raw(b"claim 'a key' fp 000102030405060708090a0b0c0d0e0f note \"x\\ty\" claimant a\r\nPING\r\n")
        .expect("taken");
    assert_eq!(status(&client.recv().expect("answered")), "GRANTED");
    assert_eq!(client.recv().expect("answered"), Value::Simple("PONG".into()));
    let Value::Array(flat) = client.call(&[b"GET", b"a key"]).expect("answered") else {
        panic!("RESP2 has no maps")
    };
    assert_eq!(flat[0].as_str(), Some("status"), "the first field always");
    client.hello3().expect("answered");
    let Value::Map(pairs) = client.call(&[b"GET", b"a key"]).expect("answered") else {
        panic!("RESP3 has maps")
    };
    assert_eq!(pairs[0].0.as_str(), Some("status"));
    let flattened: Vec<_> = pairs.iter().flat_map(|(name, value)| [name, value]).map(comparable).collect();
    assert_eq!(flat.iter().map(comparable).collect::<Vec<_>>(), flattened);
    assert_eq!(Value::Map(pairs).field("note").and_then(Value::as_bytes), Some(&b"x\ty"[..]));
}

/// Booleans are numbers in RESP2.
fn comparable(value: &Value) -> Value {
    value.as_bool().map_or_else(|| value.clone(), |flag| Value::Int(i64::from(flag)))
}

#[test]
fn a_client_gone_in_the_middle_leaves_whole_commands_done_and_the_half_one_undone() {
    let cluster = Cluster::alone("interval");
    for round in 0..20 {
        let mut stream = raw(&cluster);
        let whole: String =
            (0..100).map(|number| format!("CLAIM gone:{round}.{number} CLAIMANT a\r\n")).collect();
        let half = format!("*4\r\n$5\r\nCLAIM\r\n$9\r\nhalf:{round:04}\r\n$8\r\nCLAIMA");
        stream.write_all(whole.as_bytes()).expect("the socket takes it");
        stream.write_all(half.as_bytes()).expect("the socket takes it");
    }
    until("all whole commands are done", || keys(&cluster) >= 2_000);
    until("their connections are gone", || int(&cluster.call(0, &[b"STATUS"]), "connections") == 1);
    assert_eq!(keys(&cluster), 2_000);
}

#[test]
fn a_slow_reader_holds_back_itself_and_nobody_else() {
    let cluster = Cluster::alone("interval");
    let mut client = cluster.client(0);
    let token = field(&claim(&mut client, b"big"), "token");
    let outcome = vec![b'o'; 60_000];
    assert_eq!(
        status(&client.call(&[b"COMPLETE", b"big", token.as_bytes(), &outcome]).expect("answered")),
        "COMPLETED"
    );
    let before = memory_bytes(&cluster);
    // 180 MB of replies that nobody reads yet.
    const GETS: usize = 3_000;
    let slow = raw(&cluster);
    let mut writing = slow.try_clone().expect("a socket can be shared");
    let writer = std::thread::spawn(move || writing.write_all(&b"GET big\r\n".repeat(GETS)));
    let mut other = cluster.client(0);
    let began = Instant::now();
    for number in 0..2_000 {
        assert_eq!(status(&claim(&mut other, format!("other:{number}").as_bytes())), "GRANTED");
    }
    assert!(began.elapsed() < LIMIT, "others wait for the slow one");
    let grown = memory_bytes(&cluster).saturating_sub(before);
    assert!(grown < 32 << 20, "replies nobody reads are kept: {grown} bytes more");
    // When it reads at last, it gets every one of them.
    let mut reading = std::io::BufReader::with_capacity(1 << 16, &slow);
    let mut left = GETS;
    let mut reply = Vec::new();
    let one = reply_length(&mut client);
    while left > 0 {
        reply.resize(one, 0);
        reading.read_exact(&mut reply).expect("every reply comes, whole");
        assert!(reply.ends_with(b"\r\n") && reply.starts_with(b"*14\r\n"), "out of step");
        left -= 1;
    }
    writer.join().expect("no panic").expect("all was taken in the end");
}

/// Bytes of `GET big`'s reply in RESP2, where every reply of a settled key has the same length.
fn reply_length(client: &mut Client) -> usize {
    let Value::Map(pairs) = client.call(&[b"GET", b"big"]).expect("answered") else { panic!("RESP3") };
    let bulk = |bytes: usize| format!("${bytes}\r\n").len() + bytes + 2;
    let value = |value: &Value| match value {
        Value::Int(number) => format!(":{number}\r\n").len(),
        Value::Null => "$-1\r\n".len(),
        value => bulk(value.as_bytes().expect("text").len()),
    };
    let fields: usize =
        pairs.iter().map(|(name, of)| bulk(name.as_bytes().expect("text").len()) + value(of)).sum();
    format!("*{}\r\n", pairs.len() * 2).len() + fields
}

/// Resident memory of the daemon.
fn memory_bytes(cluster: &Cluster) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.pid(0))).expect("Linux says");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

#[test]
fn connections_are_bounded_and_come_back() {
    let cluster = Cluster::start(Setup { socket: "max_connections = 4".into(), ..Setup::regions(1) });
    until("those of the start are gone", || int(&cluster.call(0, &[b"STATUS"]), "connections") == 1);
    let mut clients = Vec::new();
    // The one that asked may not be gone yet: take what there is.
    until("four are open", || {
        let mut client = cluster.client2(0);
        if matches!(client.call(&[b"PING"]), Ok(Value::Simple(_))) {
            clients.push(client);
        }
        clients.len() == 4
    });
    let mut fifth = cluster.client2(0);
    match fifth.recv() {
        Ok(Value::Error(text)) => assert_eq!(text, "ERR max number of clients reached"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(fifth.recv(), Err(ClientError::Closed)));
    drop(clients.pop());
    until("its place is free", || matches!(cluster.client2(0).call(&[b"PING"]), Ok(Value::Simple(_))));
    for client in &mut clients {
        assert!(matches!(client.call(&[b"PING"]), Ok(Value::Simple(_))), "the others were never disturbed");
    }
}

/// One region whose rules name this very user.
fn with_rules(rules: &[&str]) -> Cluster {
    let uid = rustix::process::getuid().as_raw();
    let tables: String = rules.iter().map(|rule| format!("[[access]]\nuid = {uid}\n{rule}\n\n")).collect();
    // Waiting for readiness needs `read`; this harness must not demand more than a rule under test gives.
    let mut cluster = Cluster::prepare(Setup { tables, ..Setup::regions(1) });
    cluster.spawn(0);
    until("it takes connections", || Client::connect(cluster.socket(0), LIMIT).is_ok());
    cluster
}

#[test]
fn roles_are_the_kernels_word_and_no_more() {
    let cluster = with_rules(&["role = \"read\"", "role = \"claim\"\nnamespaces = [\"pay\"]"]);
    let mut client = cluster.client(0);
    let mut said = |words: &[&[u8]]| status(&client.call(words).expect("answered"));
    until("it is ready", || said(&[b"CLAIM", b"pay:1", b"CLAIMANT", b"a"]) == "GRANTED");
    assert_eq!(said(&[b"CLAIM", b"ship:1"]), "-NOPERM", "reading only");
    assert_eq!(said(&[b"GET", b"ship:1"]), "FREE");
    assert_eq!(said(&[b"STATUS"]), "OK");
    assert_eq!(said(&[b"FORGET", b"pay:1"]), "-NOPERM", "an admin's");
    assert_eq!(said(&[b"PEER", b"CUT", b"us"]), "-NOPERM");
    assert_eq!(said(&[b"GET", b"pay:1"]), "HELD", "nothing was forgotten");

    let cluster = with_rules(&["role = \"claim\"\nnamespaces = [\"pay\"]"]);
    let mut client = cluster.client(0);
    let mut said = |words: &[&[u8]]| status(&client.call(words).expect("answered"));
    until("it is ready", || said(&[b"CLAIM", b"pay:1", b"CLAIMANT", b"a"]) == "GRANTED");
    for words in [
        &[b"GET" as &[u8], b"ship:1"] as &[&[u8]],
        &[b"STATUS"],
        &[b"PEERS"],
        &[b"SCAN", b"0"],
        &[b"CONFLICTS"],
    ] {
        assert_eq!(said(words), "-NOPERM", "{:?} shows other namespaces", String::from_utf8_lossy(words[0]));
    }
    assert_eq!(said(&[b"SCAN", b"0", b"PREFIX", b"pay:"]), "OK");
}

#[test]
fn nobody_named_by_no_rule_is_served() {
    let other = rustix::process::getuid().as_raw() + 1;
    let tables = format!("[[access]]\nuid = {other}\nrole = \"admin\"\n");
    let mut cluster = Cluster::prepare(Setup { tables, ..Setup::regions(1) });
    cluster.spawn(0);
    until("it takes connections", || Client::connect(cluster.socket(0), LIMIT).is_ok());
    let mut client = cluster.client2(0);
    match client.recv() {
        Ok(Value::Error(text)) => assert!(text.starts_with("NOPERM no [[access]] rule"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(client.recv(), Err(ClientError::Closed)));
}

#[test]
fn the_sockets_mode_is_0660_unless_configured() {
    let mode = |cluster: &Cluster| {
        std::fs::metadata(cluster.socket(0)).expect("it is there").permissions().mode() & 0o777
    };
    assert_eq!(mode(&Cluster::alone("interval")), 0o660);
    let wide = Cluster::start(Setup { socket: "mode = \"0600\"".into(), ..Setup::regions(1) });
    assert_eq!(mode(&wide), 0o600);
}

#[test]
fn a_parked_client_that_goes_leaves_nothing_behind() {
    let cluster = Cluster::alone("interval");
    let mut holder = cluster.client(0);
    let token = field(&claim(&mut holder, b"k"), "token");
    for _ in 0..20 {
        let mut parked = cluster.client(0);
        parked.send(&[b"CLAIM", b"k", b"CLAIMANT", b"b", b"WAIT", b"600000"]).expect("taken");
        // And one that has sent more meanwhile, which waits behind.
        parked.send(&[b"PING"]).expect("taken");
        parked.flush().expect("taken");
    }
    until("they are gone", || int(&holder.call(&[b"STATUS"]).expect("answered"), "connections") == 1);
    assert_eq!(status(&holder.call(&[b"RELEASE", b"k", token.as_bytes()]).expect("answered")), "RELEASED");
    let reply = holder.call(&[b"CLAIM", b"k", b"CLAIMANT", b"c"]).expect("answered");
    assert_eq!(status(&reply), "GRANTED", "no ghost was granted it");
}

#[test]
fn a_wait_ends_with_its_time_and_holds_back_only_its_own_connection() {
    let cluster = Cluster::alone("interval");
    let mut holder = cluster.client(0);
    claim(&mut holder, b"k");
    let mut parked = cluster.client(0);
    let began = Instant::now();
    parked.send(&[b"CLAIM", b"k", b"CLAIMANT", b"b", b"WAIT", b"300"]).expect("taken");
    parked.send(&[b"ECHO", b"behind"]).expect("taken");
    parked.flush().expect("taken");
    for number in 0..50 {
        assert_eq!(status(&claim(&mut holder, format!("free:{number}").as_bytes())), "GRANTED");
    }
    assert_eq!(status(&parked.recv().expect("answered")), "IN_PROGRESS");
    assert!(began.elapsed() >= Duration::from_millis(300), "it did wait");
    assert_eq!(parked.recv().expect("answered").as_str(), Some("behind"), "replies keep their order");
}
