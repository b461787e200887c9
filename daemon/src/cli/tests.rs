//! The client commands against a scripted daemon on a real socket: what they send, print, and exit with.

use super::client::{ClientCommand, execute};
use super::output::Output;
use super::*;
use crate::resp::{ArgVec, Encoder, Parse, Parser as CommandParser, Proto, RespLimits};
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::{JoinHandle, spawn};

const NOW_MS: i64 = 1_795_220_302_123;

/// A daemon that answers HELLO in `proto` and then one scripted reply a command; it hands back the commands it got.
struct Daemon {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    thread: JoinHandle<Vec<String>>,
}

type Script = fn(&mut Encoder<'_>);

fn daemon(proto: Proto, script: &'static [Script]) -> Daemon {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let socket = dir.path().join("onced.sock");
    let listener = UnixListener::bind(&socket).expect("bind");
    let thread = spawn(move || {
        let mut stream = listener.accept().expect("accept").0;
        let (mut commands, mut buf) = (Vec::new(), Vec::new());
        while commands.len() <= script.len() {
            let mut args = ArgVec::new();
            let Parse::Complete { consumed } =
                CommandParser::new(RespLimits::default()).parse(&buf, &mut args)
            else {
                let mut piece = [0; 4096];
                let read = stream.read(&mut piece).expect("read");
                if read == 0 {
                    break;
                }
                buf.extend_from_slice(&piece[..read]);
                continue;
            };
            let words: Vec<String> =
                args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
            let mut out = Vec::new();
            let mut encoder = Encoder::new(&mut out, proto);
            match commands.len() {
                0 if proto == Proto::Resp2 => encoder.error("NOPROTO unsupported protocol version"),
                0 => {
                    encoder.map(1);
                    encoder.field_bulk("server", b"onced");
                }
                n => script[n - 1](&mut encoder),
            }
            commands.push(words.join(" "));
            buf.drain(..consumed);
            stream.write_all(&out).expect("write");
        }
        commands.split_off(1)
    });
    Daemon { _dir: dir, socket, thread }
}

/// Any client command's arguments as a program of its own.
#[derive(Debug, clap::Parser)]
struct Alone<T: clap::Args> {
    #[command(flatten)]
    args: T,
}

fn parse<T: clap::Args>(words: &[&str]) -> T {
    Alone::<T>::try_parse_from(std::iter::once("onced").chain(words.iter().copied()))
        .expect("valid arguments")
        .args
}

/// Runs one command against a scripted daemon; the output, and what the daemon was asked.
fn ask<T: clap::Args + ClientCommand>(
    proto: Proto,
    script: &'static [Script],
    words: &[&str],
) -> (Output, Vec<String>) {
    let daemon = daemon(proto, script);
    let socket = daemon.socket.display().to_string();
    let command: T = parse(&[words, &["--socket", &socket]].concat());
    let output = execute(&command, NOW_MS);
    (output, daemon.thread.join().expect("the daemon's thread"))
}

fn text(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("text")
}

fn granted(encoder: &mut Encoder<'_>) {
    encoder.map(5);
    encoder.field_status("GRANTED");
    encoder.field_bulk("token", b"00ff");
    encoder.field_int("lease_until", NOW_MS + 29_800);
    encoder.field_bulk("level", b"local");
    encoder.field_int("stale_ms", 0);
}

fn replay(encoder: &mut Encoder<'_>) {
    encoder.map(4);
    encoder.field_status("REPLAY");
    encoder.field_bulk("outcome", b"\x00\xff");
    encoder.field_int("completed_at", NOW_MS - 5_000);
    encoder.field_bulk("region", b"eu");
}

#[test]
fn clap_finds_the_definitions_sound() {
    command().debug_assert();
}

#[test]
fn help_has_examples_and_every_exit_code() {
    let help = command().render_long_help().to_string();
    assert!(help.contains("EXAMPLES"));
    for line in exit::TABLE {
        assert!(help.contains(&format!("{:>2}  {}", line.code, line.name)), "{}", line.name);
    }
    let clients = [
        "claim",
        "complete",
        "renew",
        "release",
        "get",
        "inspect",
        "scan",
        "forget",
        "conflicts",
        "compensate",
    ];
    for client in clients {
        let mut command = command();
        let help = command.find_subcommand_mut(client).expect(client).render_long_help().to_string();
        assert!(
            help.contains("EXAMPLES") && help.contains("EXIT CODES") && help.contains("ONCED_SOCKET"),
            "{client}"
        );
    }
}

#[test]
fn claim_sends_its_options_and_shows_the_grant() {
    let words =
        ["pay:1", "--fingerprint", "000102030405060708090A0B0C0D0E0F", "--lease", "30s", "--retention", "1d"];
    let more = ["--claimant", "w 7", "--wait", "500", "--level", "quorum", "--note", "n", "--durable"];
    let (output, asked) = ask::<claim::ClaimArgs>(Proto::Resp3, &[granted], &[&words[..], &more].concat());
    assert_eq!(
        asked,
        [
            "CLAIM pay:1 FP 000102030405060708090a0b0c0d0e0f LEASE 30000 RETENTION 86400000 WAIT 500 CLAIMANT w 7 LEVEL \
          quorum NOTE n DURABLE"
        ]
    );
    let expected = "GRANTED  pay:1
  token        00ff
  lease until  2026-11-21T00:18:51.923Z (in 29.8 s)
  level        local
  stale ms     0 ms
  Run the operation, then
    onced complete pay:1 00ff OUTCOME
";
    assert_eq!((text(&output), output.code, output.stderr.as_str()), (expected, 0, ""));
}

#[test]
fn both_dialects_print_alike() {
    let three = ask::<claim::ClaimArgs>(Proto::Resp3, &[granted], &["k"]).0;
    assert_eq!(three, ask::<claim::ClaimArgs>(Proto::Resp2, &[granted], &["k"]).0);
    let three = ask::<claim::ClaimArgs>(Proto::Resp3, &[replay], &["k", "--json"]).0;
    assert_eq!(three, ask::<claim::ClaimArgs>(Proto::Resp2, &[replay], &["k", "--json"]).0);
}

#[test]
fn json_is_one_object() {
    let (output, _) = ask::<claim::ClaimArgs>(Proto::Resp3, &[replay], &["k", "--json"]);
    let expected =
        r#"{"status":"REPLAY","outcome":{"hex":"00ff"},"completed_at":1795220297123,"region":"eu"}"#;
    assert_eq!((text(&output), output.code), (format!("{expected}\n").as_str(), exit::REPLAY));
}

#[test]
fn token_only_prints_a_token_or_nothing() {
    let (output, _) = ask::<claim::ClaimArgs>(Proto::Resp3, &[granted], &["k", "--token-only"]);
    assert_eq!((text(&output), output.code), ("00ff\n", 0));
    let (output, _) = ask::<claim::ClaimArgs>(Proto::Resp3, &[replay], &["k", "--token-only"]);
    assert_eq!((text(&output), output.code), ("", exit::REPLAY));
    assert!(output.stderr.starts_with("REPLAY  k\n"), "{}", output.stderr);
}

#[test]
fn each_status_has_its_code_through_the_socket() {
    macro_rules! ends {
        ($args:ty, $words:expr, $($status:literal => $code:expr),*) => {$(
            let script: &'static [Script] = &[|encoder| { encoder.map(1); encoder.field_status($status); }];
            let (output, _) = ask::<$args>(Proto::Resp3, script, $words);
            assert_eq!(output.code, $code, "{}", $status);
            assert!(text(&output).starts_with($status), "{}", text(&output));
        )*};
    }
    ends!(claim::ClaimArgs, &["k"], "GRANTED" => 0, "IN_PROGRESS" => 10, "REPLAY" => 11, "MISMATCH" => 12,
        "UNKNOWN" => 13, "EXPIRED" => 14, "UNAVAILABLE" => 20, "NEW_WORD" => 70);
    ends!(complete::CompleteArgs, &["k", "t", "o"], "COMPLETED" => 0, "CONTESTED" => 16, "SUPERSEDED" => 15,
        "STALE" => 17);
    ends!(renew::RenewArgs, &["k", "t"], "RENEWED" => 0);
    ends!(release::ReleaseArgs, &["k", "t"], "RELEASED" => 0);
    ends!(get::GetArgs, &["k"], "SETTLED" => 0, "HELD" => 10, "FREE" => 18);
    ends!(forget::ForgetArgs, &["k"], "FORGOTTEN" => 0);
    ends!(peer::PeerArgs, &["cut", "us"], "OK" => 0);
}

#[test]
fn errors_go_to_stderr_or_into_the_json() {
    let script: &'static [Script] = &[|encoder| encoder.error("NOPERM FORGET needs the role admin")];
    let (output, _) = ask::<forget::ForgetArgs>(Proto::Resp3, script, &["k"]);
    let expected = "onced: NOPERM FORGET needs the role admin\n";
    assert_eq!((text(&output), output.stderr.as_str(), output.code), ("", expected, exit::PERMISSION));
    let (output, _) = ask::<forget::ForgetArgs>(Proto::Resp3, script, &["k", "--json"]);
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&object["status"], &object["code"]), (&"ERROR".into(), &"NOPERM".into()));
    assert_eq!((output.stderr.as_str(), output.code), ("", exit::PERMISSION));
}

#[test]
fn a_missing_daemon_has_its_own_code() {
    let command: get::GetArgs = parse(&["k", "--socket", "/nonexistent/onced.sock"]);
    let output = execute(&command, NOW_MS);
    assert_eq!(output.code, exit::UNREACHABLE);
    assert!(output.stderr.contains("is `onced serve` running?"), "{}", output.stderr);
}

#[test]
fn outcomes_come_from_argument_or_file_and_go_out_raw() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("outcome");
    std::fs::write(&file, "from a file").expect("write");
    let file = file.display().to_string();
    let completed: &'static [Script] = &[|encoder| {
        encoder.map(1);
        encoder.field_status("COMPLETED");
    }];
    let (_, asked) =
        ask::<complete::CompleteArgs>(Proto::Resp3, completed, &["k", "t", "--outcome-file", &file]);
    assert_eq!(asked, ["COMPLETE k t from a file"]);
    let (_, asked) = ask::<complete::CompleteArgs>(Proto::Resp3, completed, &["k", "t", "", "--durable"]);
    assert_eq!(asked, ["COMPLETE k t  DURABLE"]);
    assert!(
        Alone::<complete::CompleteArgs>::try_parse_from(["onced", "k", "t"]).is_err(),
        "an outcome is needed"
    );

    let settled: &'static [Script] = &[|encoder| {
        encoder.map(2);
        encoder.field_status("SETTLED");
        encoder.field_bulk("outcome", b"\x00raw");
    }];
    let (output, _) = ask::<get::GetArgs>(Proto::Resp3, settled, &["k", "--outcome-only"]);
    assert_eq!(output.stdout, b"\x00raw");
}

#[test]
fn a_payload_file_gives_the_fingerprint() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("payload");
    std::fs::write(&file, "").expect("write");
    let (_, asked) = ask::<claim::ClaimArgs>(
        Proto::Resp3,
        &[granted],
        &["k", "--payload-file", &file.display().to_string()],
    );
    // The published BLAKE3 of the empty input begins with these 16 bytes.
    assert_eq!(asked, ["CLAIM k FP af1349b9f5f9a1a6a0404dea36dcc949"]);
    for bad in ["00", "zz0102030405060708090a0b0c0d0e0f"] {
        let parsed = Alone::<claim::ClaimArgs>::try_parse_from(["onced", "k", "--fingerprint", bad]);
        assert!(parsed.is_err_and(|error| error.to_string().contains("32 hex digits")));
    }
}

fn key_row(encoder: &mut Encoder<'_>, key: &str) {
    encoder.map(4);
    encoder.field_bulk("key", key.as_bytes());
    encoder.field_bulk("state", b"settled");
    encoder.field_bulk("region", b"eu");
    encoder.field_int("expires_at", NOW_MS + 3_600_000);
}

fn scan_page(encoder: &mut Encoder<'_>, cursor: &str, keys: &[&str]) {
    encoder.map(3);
    encoder.field_status("OK");
    encoder.field_bulk("cursor", cursor.as_bytes());
    encoder.field_array("keys", keys.len());
    keys.iter().for_each(|key| key_row(encoder, key));
}

#[test]
fn scan_merges_pages_into_one_table() {
    let script: &'static [Script] = &[
        |encoder| scan_page(encoder, "17", &["pay:1"]),
        |encoder| scan_page(encoder, "0", &["pay:two\x1b[2J"]),
    ];
    let (output, asked) = ask::<scan::ScanArgs>(Proto::Resp3, script, &["--prefix", "pay:"]);
    assert_eq!(asked, ["SCAN 0 PREFIX pay: COUNT 500", "SCAN 17 PREFIX pay: COUNT 500"]);
    let expected = "2 keys
  KEY               STATE    REGION  EXPIRES AT
  pay:1             settled  eu      in 1 h 0 min
  pay:two\\u{1b}[2J  settled  eu      in 1 h 0 min
";
    assert_eq!((text(&output), output.code), (expected, 0));
}

#[test]
fn scan_stops_at_its_limit_and_says_how_to_go_on() {
    let script: &'static [Script] = &[|encoder| scan_page(encoder, "17", &["pay:1"])];
    let (output, asked) = ask::<scan::ScanArgs>(Proto::Resp3, script, &["--limit", "1"]);
    assert_eq!(asked, ["SCAN 0 COUNT 1"]);
    assert!(text(&output).ends_with("go on with --cursor 17\n"), "{}", text(&output));
}

#[test]
fn inspect_lists_attempts_in_either_dialect() {
    let script: &'static [Script] = &[|encoder| {
        encoder.map(4);
        encoder.field_status("OK");
        encoder.field_bulk("state", b"held");
        encoder.field_array("attempts", 1);
        encoder.map(2);
        encoder.field_bulk("claim_id", b"0000-1-1");
        encoder.field_int("lease_until", NOW_MS - 1_000);
        encoder.field_array("outcomes", 0);
    }];
    let expected = "OK  k
  state  held
  attempts (1)
  CLAIM ID  LEASE UNTIL
  0000-1-1  1.0 s ago
  outcomes (0)
";
    for proto in [Proto::Resp2, Proto::Resp3] {
        let (output, _) = ask::<inspect::InspectArgs>(proto, script, &["k"]);
        assert_eq!(text(&output), expected, "{proto:?}");
    }
}

#[test]
fn status_and_readiness() {
    let script: &'static [Script] = &[|encoder| {
        encoder.map(6);
        encoder.field_status("OK");
        encoder.field_bulk("region", b"eu");
        encoder.field_bool("ready", false);
        encoder.field_bulk("reason", b"catching_up");
        encoder.field_int("uptime_ms", 1_500);
        encoder.field_int("memory_bytes", 2_097_152);
    }];
    let (output, _) = ask::<status::StatusArgs>(Proto::Resp3, script, &[]);
    assert_eq!(text(&output), "NOT READY (catching_up)  region eu, up 1.5 s\n  memory bytes  2.0 MiB\n");
    assert_eq!(output.code, 0);
    assert_eq!(ask::<status::StatusArgs>(Proto::Resp2, script, &["--ready"]).0.code, exit::UNAVAILABLE);
}

#[test]
fn status_says_what_is_near_its_bound() {
    let script: &'static [Script] = &[|encoder| {
        encoder.map(4);
        encoder.field_status("OK");
        encoder.field_bool("ready", true);
        encoder.field_bulk("memory_pressure", b"near");
        encoder.field_array("namespaces", 1);
        encoder.map(3);
        encoder.field_bulk("namespace", b"mail");
        encoder.field_int("keys", 10);
        encoder.field_bulk("pressure", b"full");
    }];
    let expected = "READY  region ?, up ?
MEMORY is used to 80 %: beyond 100 % new claims are refused; raise [memory] max_memory or shorten retention
NAMESPACE mail HAS REACHED ITS QUOTA: its new claims are refused until its keys expire; raise its max_keys or max_bytes
  memory pressure  near
  namespaces (1)
  NAMESPACE  KEYS  PRESSURE
  mail       10    full
";
    for proto in [Proto::Resp2, Proto::Resp3] {
        let (output, _) = ask::<status::StatusArgs>(proto, script, &[]);
        assert_eq!(text(&output), expected, "{proto:?}");
    }
}

/// STATUS had listed when certificates end, and `onced status` showed the date among thirty lines: it was read when links
/// could no longer be made.
#[test]
fn status_advises_about_a_certificate_near_its_end() {
    let script: &'static [Script] = &[|encoder| {
        encoder.map(3);
        encoder.field_status("OK");
        encoder.field_bool("ready", true);
        encoder.field_array("certificates", 2);
        for (role, expires_at) in [("region", 86_400_000), ("ca-1", 7_258_118_400_000)] {
            encoder.map(4);
            encoder.field_bulk("certificate", role.as_bytes());
            encoder.field_bulk("subject", b"CN=eu");
            encoder.field_bulk("fingerprint", b"00112233aabbccdd");
            encoder.field_int("expires_at", expires_at);
        }
    }];
    for proto in [Proto::Resp2, Proto::Resp3] {
        let (output, _) = ask::<status::StatusArgs>(proto, script, &[]);
        let advice: Vec<_> = text(&output).lines().filter(|line| line.starts_with("CERTIFICATE")).collect();
        let expected = "CERTIFICATE: this region's certificate (CN=eu, 00112233aabbccdd) has expired: no new link can be made \
                        with it; renew it with: onced tls issue, then: onced reload";
        assert_eq!(advice, [expected], "the CA's ends in 2200");
    }
}

#[test]
fn peers_are_a_table() {
    let script: &'static [Script] = &[|encoder| {
        encoder.map(2);
        encoder.field_status("OK");
        encoder.field_array("peers", 1);
        encoder.map(4);
        encoder.field_bulk("region", b"us");
        encoder.field_bulk("state", b"linked");
        encoder.field_int("rtt_ms", 85);
        encoder.field_int("offset_ms", -3);
    }];
    let (output, asked) = ask::<peers::PeersArgs>(Proto::Resp3, script, &[]);
    assert_eq!(asked, ["PEERS"]);
    let row = text(&output).lines().nth(1).expect("a row");
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["us", "linked", "-", "85", "ms", "-3", "ms", "-", "-", "-", "-", "-", "-", "-"]);
}

#[test]
fn compensate_names_the_claim_and_says_what_else_to_do() {
    let script: &'static [Script] = &[|encoder| {
        encoder.map(3);
        encoder.field_status("NOT_LISTED");
        encoder.field_bulk("reason", b"wins");
        encoder.field_bulk("advice", b"do not undo it");
    }];
    let words = &["pay:1", "018bcfe56800002a-3-1", "--region", "us", "--durable"];
    let (output, asked) = ask::<compensate::CompensateArgs>(Proto::Resp3, script, words);
    assert_eq!(asked, ["COMPENSATE pay:1 018bcfe56800002a-3-1 REGION us DURABLE"]);
    assert_eq!(output.code, exit::FREE);
    assert_eq!(text(&output), "NOT_LISTED  pay:1\n  reason  wins\n  do not undo it\n");
}

#[test]
fn conflicts_ask_by_namespace_or_for_now() {
    let script: &'static [Script] = &[|encoder| {
        encoder.map(3);
        encoder.field_status("OK");
        encoder.field_bulk("cursor", b"0");
        encoder.field_array("conflicts", 1);
        encoder.map(3);
        encoder.field_bulk("key", b"pay:1");
        encoder.field_bulk("loser_region", b"us");
        encoder.field_bool("compensated", false);
    }];
    let (output, asked) = ask::<conflicts::ConflictsArgs>(Proto::Resp3, script, &["--namespace", "pay"]);
    assert_eq!(asked, ["CONFLICTS NAMESPACE pay CURSOR 0 COUNT 500"]);
    assert!(text(&output).starts_with("1 conflict\n  KEY "), "{}", text(&output));
    let (output, asked) = ask::<conflicts::ConflictsArgs>(Proto::Resp3, script, &["--contested"]);
    assert_eq!(asked, ["CONFLICTS CONTESTED"]);
    assert!(text(&output).contains("KEY    LOSER REGION  COMPENSATED"), "{}", text(&output));
}
