//! Clients that people have: the `redis` crate, redis-cli, redis-py; in RESP2 and RESP3. Each claims, completes and
//! reads back; what a client's own handshake sends must be answered, too.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use redis::{ConnectionLike as _, RedisResult, Value};
use tests::{Cluster, skip};

const PAYLOAD: &str = "000102030405060708090a0b0c0d0e0f";

/// A reply's field, of a map or of a flat array.
fn field<'v>(reply: &'v Value, name: &str) -> &'v Value {
    let named = |value: &Value| matches!(value, Value::BulkString(bytes) if bytes == name.as_bytes());
    match reply {
        Value::Map(pairs) => pairs.iter().find(|(key, _)| named(key)).map(|(_, value)| value),
        Value::Array(items) => items.chunks(2).find(|pair| named(&pair[0])).map(|pair| &pair[1]),
        _ => None,
    }
    .unwrap_or_else(|| panic!("no {name} in {reply:?}"))
}

fn text(value: &Value) -> String {
    redis::from_redis_value_ref(value).unwrap_or_else(|error| panic!("{error}: {value:?}"))
}

fn through_the_redis_crate(protocol: &str) {
    let cluster = Cluster::alone("interval");
    let address = format!("unix://{}?{protocol}", cluster.socket(0).display());
    let mut connection = redis::Client::open(address)
        .and_then(|client| client.get_connection())
        .expect("its handshake is answered");
    let claim = |claimant: &str| {
        let mut command = redis::cmd("CLAIM");
        command.arg("pay:1").arg("FP").arg(PAYLOAD).arg("CLAIMANT").arg(claimant);
        command
    };
    let granted: Value = claim("a").query(&mut connection).expect("answered");
    assert_eq!(matches!(granted, Value::Map(_)), protocol == "protocol=resp3", "{granted:?}");
    assert_eq!(text(field(&granted, "status")), "GRANTED");
    let token = text(field(&granted, "token"));
    let other: Value = claim("b").query(&mut connection).expect("answered");
    assert_eq!(text(field(&other, "status")), "IN_PROGRESS");
    let outcome: &[u8] = b"\x00binary\r\n\xff";
    let mut complete = redis::cmd("COMPLETE");
    complete.arg("pay:1").arg(token).arg(outcome);
    let completed: Value = complete.query(&mut connection).expect("answered");
    assert_eq!(text(field(&completed, "status")), "COMPLETED");
    let got: Value = redis::cmd("GET").arg("pay:1").query(&mut connection).expect("answered");
    assert_eq!(*field(&got, "outcome"), Value::BulkString(outcome.to_vec()));
    // Its own pipelines and its own check of a connection.
    let mut pipeline = redis::pipe();
    for number in 0..100 {
        pipeline.cmd("CLAIM").arg(format!("pipe:{number}"));
    }
    let replies: Vec<Value> = pipeline.query(&mut connection).expect("answered");
    assert!(replies.len() == 100 && replies.iter().all(|reply| text(field(reply, "status")) == "GRANTED"));
    assert!(connection.check_connection());
    // Errors arrive as errors, and the connection lives on.
    let unknown: RedisResult<Value> = redis::cmd("SET").arg("a").arg("b").query(&mut connection);
    assert!(unknown.expect_err("no such command").to_string().contains("unknown command 'SET'"));
    let bad: RedisResult<Value> =
        redis::cmd("CLAIM").arg("k").arg("LEASE").arg("soon").query(&mut connection);
    assert_eq!(bad.expect_err("malformed").code(), Some("BADARG"));
    assert!(connection.check_connection());
}

#[test]
fn the_redis_crate_in_resp2() {
    through_the_redis_crate("protocol=resp2");
}

#[test]
fn the_redis_crate_in_resp3() {
    through_the_redis_crate("protocol=resp3");
}

/// Whether a program is there and says so by exit code 0.
fn present(program: &str, words: &[&str]) -> bool {
    let output = Command::new(program).args(words).stdin(Stdio::null()).output();
    output.is_ok_and(|output| output.status.success())
}

fn redis_cli(socket: &Path, words: &[&str]) -> String {
    let output =
        Command::new("redis-cli").arg("-s").arg(socket).args(words).output().expect("it was there before");
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn redis_cli_claims_completes_and_reads() {
    if !present("redis-cli", &["--version"]) {
        return skip(
            "redis_cli_claims_completes_and_reads",
            "redis-cli is not installed (Debian: redis-tools)",
        );
    }
    let cluster = Cluster::alone("interval");
    let socket = cluster.socket(0);
    for (key, dialect) in [("pay:2", "-2"), ("pay:3", "-3")] {
        let cli = |words: &[&str]| redis_cli(&socket, &[&[dialect][..], words].concat());
        let granted = cli(&["CLAIM", key, "FP", PAYLOAD, "CLAIMANT", "a"]);
        assert!(granted.contains("GRANTED"), "{granted}");
        // Piped output has one value a line: what follows the name `token`.
        let json = cli(&["--json", "CLAIM", key, "FP", PAYLOAD, "CLAIMANT", "a"]);
        let token = token_of(&json);
        assert!(cli(&["CLAIM", key, "FP", PAYLOAD, "CLAIMANT", "b"]).contains("IN_PROGRESS"));
        assert!(cli(&["COMPLETE", key, &token, "done 1"]).contains("COMPLETED"));
        assert!(cli(&["GET", key]).contains("done 1"));
        assert!(cli(&["CLAIM", key, "FP", &PAYLOAD.replace('0', "1")]).contains("MISMATCH"));
        assert!(cli(&["STATUS"]).contains("region"));
    }
    // Typed in, as a person would: inline quoting is redis-cli's own.
    let mut shell = Command::new("redis-cli");
    shell.arg("-s").arg(&socket).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = shell.spawn().expect("it was there before");
    let typed = b"CLAIM pay:typed NOTE \"two words\"\nGET pay:typed\nNOSUCH a b\nPING\n";
    shell.stdin.take().expect("piped").write_all(typed).expect("it reads");
    let said = shell.wait_with_output().expect("it ends with its input").stdout;
    let said = String::from_utf8_lossy(&said);
    for expected in ["GRANTED", "two words", "ERR unknown command 'NOSUCH'", "PONG"] {
        assert!(said.contains(expected), "{expected} is missing from {said}");
    }
}

/// The token, whether redis-cli made an object or an array of the reply.
fn token_of(json: &str) -> String {
    let reply: serde_json::Value =
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    let items = reply.as_array().map(Vec::as_slice).unwrap_or_default();
    let flat = items.chunks(2).find(|pair| pair[0] == "token").map(|pair| &pair[1]);
    let token = flat.unwrap_or(&reply["token"]).as_str();
    token.unwrap_or_else(|| panic!("no token in {json}")).to_owned()
}

const PYTHON: &str = r#"
import sys, redis
for protocol in (2, 3):
    r = redis.Redis(unix_socket_path=sys.argv[1], protocol=protocol, client_name="py")
    def ask(*words):
        reply = r.execute_command(*words)
        if isinstance(reply, list):
            reply = dict(zip(reply[::2], reply[1::2]))
        return reply
    key = f"py:{protocol}"
    granted = ask("CLAIM", key, "CLAIMANT", "a", "NOTE", b"\x00\xff")
    assert granted[b"status"] == b"GRANTED", granted
    assert ask("CLAIM", key, "CLAIMANT", "b")[b"status"] == b"IN_PROGRESS"
    assert ask("COMPLETE", key, granted[b"token"], b"\x00done\r\n")[b"status"] == b"COMPLETED"
    got = ask("CLAIM", key, "CLAIMANT", "b")
    assert got[b"status"] == b"REPLAY" and got[b"outcome"] == b"\x00done\r\n", got
    p = r.pipeline(transaction=False)
    for n in range(50):
        p.execute_command("CLAIM", f"{key}.{n}")
    assert len(p.execute()) == 50
    try:
        r.execute_command("CLAIM", "k", "TTL", "5")
        raise SystemExit("no error for a malformed claim")
    except redis.ResponseError as error:
        assert "BADARG" in str(error), error
    assert r.ping()
print("fine", redis.__version__)
"#;

#[test]
fn redis_py_claims_completes_and_reads() {
    if !present("python3", &["-c", "import redis"]) {
        return skip(
            "redis_py_claims_completes_and_reads",
            "python3 cannot import redis (pip install redis)",
        );
    }
    let cluster = Cluster::alone("interval");
    let output = Command::new("python3").arg("-c").arg(PYTHON).arg(cluster.socket(0)).output();
    let output = output.expect("it was there before");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("fine"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
