//! The command parser against golden bytes, random splits and garbage.

use super::super::encode::{Encoder, Proto};
use super::*;
use proptest::prelude::*;

/// What a connection would have seen: commands, and errors with whether they are fatal.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Command(Vec<Vec<u8>>),
    Error(ParseError, bool),
}

fn owned(args: &ArgVec<'_>) -> Vec<Vec<u8>> {
    args.iter().map(|arg| arg.to_vec()).collect()
}

/// Runs a connection over `pieces` as the socket task does, checking what `Parse` promises on the way.
fn run(limits: RespLimits, pieces: &[&[u8]]) -> Vec<Seen> {
    let (mut parser, mut buf, mut seen) = (Parser::new(limits), Vec::new(), Vec::new());
    let mut bytes_wanted = 0;
    for piece in pieces {
        buf.extend_from_slice(piece);
        let mut at = 0;
        loop {
            let rest = &buf[at..];
            let mut args = ArgVec::new();
            let consumed = match parser.parse(rest, &mut args) {
                Parse::Complete { consumed } => {
                    if !args.is_empty() {
                        assert!(rest.len() >= bytes_wanted, "a command was found below the hint");
                        seen.push(Seen::Command(owned(&args)));
                    }
                    consumed
                }
                Parse::Quoted { consumed, command } => {
                    let mut inner = ArgVec::new();
                    let whole = Parser::new(RespLimits::default()).parse(&command, &mut inner);
                    assert_eq!(whole, Parse::Complete { consumed: command.len() });
                    seen.push(Seen::Command(owned(&inner)));
                    consumed
                }
                Parse::Refused { consumed, error } => {
                    assert!(args.is_empty());
                    seen.push(Seen::Error(error, false));
                    consumed
                }
                Parse::Incomplete { bytes_min } => {
                    assert!(bytes_min > rest.len(), "the hint must ask for more than there is");
                    assert!(args.is_empty());
                    bytes_wanted = bytes_min;
                    break;
                }
                Parse::Fatal { error } => {
                    seen.push(Seen::Error(error, true));
                    return seen;
                }
            };
            assert!(consumed > 0 && consumed <= rest.len(), "no progress would loop for ever");
            bytes_wanted = 0;
            at += consumed;
        }
        buf.drain(..at);
    }
    seen
}

fn run_whole(bytes: &[u8]) -> Vec<Seen> {
    run(RespLimits::default(), &[bytes])
}

fn command(words: &[&str]) -> Seen {
    Seen::Command(words.iter().map(|word| word.as_bytes().to_vec()).collect())
}

fn encode(args: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, Proto::Resp2);
    encoder.array(args.len());
    for arg in args {
        encoder.bulk(arg);
    }
    out
}

fn fatal(bytes: &[u8]) -> String {
    match run_whole(bytes).pop() {
        Some(Seen::Error(error, true)) => error.to_string(),
        other => panic!("expected a fatal error, got {other:?}"),
    }
}

#[test]
fn golden_pipeline_of_both_forms() {
    let bytes =
        b"*2\r\n$3\r\nGET\r\n$5\r\npay:1\r\nPING\r\n\r\n*0\r\n*-1\r\n  GET \t k\n*1\r\n$0\r\n\r\n*1\r\n$4\r\na\r\nb\r\n";
    let expected = [
        command(&["GET", "pay:1"]),
        command(&["PING"]),
        command(&["GET", "k"]),
        command(&[""]),
        command(&["a\r\nb"]),
    ];
    assert_eq!(run_whole(bytes), expected);
}

#[test]
fn quoting_follows_redis() {
    let bytes = b"SET \"a b\\x41\\n\\\"\" 'it\\'s \\n' pre\"fix\" \"\"\r\n";
    assert_eq!(run_whole(bytes), [command(&["SET", "a bA\n\"", "it's \\n", "prefix", ""])]);
    for unbalanced in [&b"GET \"k\n"[..], b"GET 'k\n", b"GET \"k\"x\n", b"GET \"k\\\n"] {
        let mut bytes = unbalanced.to_vec();
        bytes.extend_from_slice(b"PING\r\n");
        let expected = [Seen::Error(ParseError::UnbalancedQuotes, false), command(&["PING"])];
        assert_eq!(run_whole(&bytes), expected, "{unbalanced:?}");
    }
}

#[test]
fn lost_sync_is_fatal_with_redis_texts() {
    assert_eq!(fatal(b"*1\r\n*1\r\n"), "ERR Protocol error: expected '$', got '*'");
    assert_eq!(fatal(b"*x\r\n"), "ERR Protocol error: invalid multibulk length");
    assert_eq!(fatal(b"*99999999999\r\n"), "ERR Protocol error: invalid multibulk length");
    assert_eq!(fatal(b"*99999999999999999999999\r\n"), "ERR Protocol error: invalid multibulk length");
    assert_eq!(fatal(b"*1111111111111111111111111111"), "ERR Protocol error: invalid multibulk length");
    assert_eq!(fatal(b"*01\r\n"), "ERR Protocol error: invalid multibulk length");
    assert_eq!(fatal(b"*1\r\n$-1\r\n"), "ERR Protocol error: invalid bulk length");
    assert_eq!(fatal(b"*1\r\n$\r\n"), "ERR Protocol error: invalid bulk length");
    assert_eq!(fatal(b"*1\r\n$9999999999\r\n"), "ERR Protocol error: invalid bulk length");
    assert_eq!(fatal(b"*1\r\n$3\r\nPINGS\r\n"), "ERR Protocol error: expected CRLF after an argument");
    assert_eq!(fatal(&vec![b'a'; 70_000]), "ERR Protocol error: too big inline request");
}

#[test]
fn nested_arrays_of_40_kb_neither_recurse_nor_wait() {
    let bytes = b"*1\r\n".repeat(10_000);
    assert_eq!(run_whole(&bytes), [Seen::Error(ParseError::ExpectedBulk { got: b'*' }, true)]);
}

#[test]
fn refused_commands_leave_the_connection_in_step() {
    let limits = RespLimits { args_max: 3, bulk_bytes_max: 10, command_bytes_max: 40, inline_bytes_max: 20 };
    let mut bytes = Vec::new();
    bytes.extend(encode(&[b"SET".to_vec(), vec![b'\n'; 11], b"*9\r\n$1\r\n".to_vec()]));
    bytes.extend(encode(&vec![b"$0\r\n".to_vec(); 5]));
    bytes.extend(encode(&vec![vec![b'x'; 10]; 3]));
    bytes.extend(encode(&[b"GET".to_vec(), vec![b'x'; 11]]));
    bytes.extend_from_slice(b"a b c d\r\nPING\r\n");
    let expected = [
        Seen::Error(ParseError::BulkTooLarge { position: 2, bytes: 11, max: 10 }, false),
        Seen::Error(ParseError::TooManyArgs { count: 5, max: 3 }, false),
        Seen::Error(ParseError::CommandTooLarge { max: 40 }, false),
        Seen::Error(ParseError::BulkTooLarge { position: 2, bytes: 11, max: 10 }, false),
        Seen::Error(ParseError::TooManyArgs { count: 4, max: 3 }, false),
        command(&["PING"]),
    ];
    assert_eq!(run(limits, &[&bytes]), expected);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(run(limits, &single), expected, "byte by byte");
}

#[test]
fn a_refused_command_cannot_be_endless() {
    // 3 x 300 MiB announced, in a command of too many arguments: past the 512 MiB we read over.
    let mut bytes = b"*100\r\n".to_vec();
    bytes.extend_from_slice(b"$314572800\r\n");
    let mut parser = Parser::new(RespLimits::default());
    let mut args = ArgVec::new();
    assert!(matches!(parser.parse(&bytes, &mut args), Parse::Refused { consumed: 6, .. }));
    assert!(matches!(parser.parse(&bytes[6..], &mut args), Parse::Complete { consumed: 12 }));
    let chunk = vec![0u8; 1 << 20];
    for _ in 0..300 {
        assert_eq!(parser.parse(&chunk, &mut args), Parse::Complete { consumed: 1 << 20 });
    }
    let next = parser.parse(b"\r\n$314572800\r\n", &mut args);
    assert_eq!(next, Parse::Fatal { error: ParseError::InvalidBulkLength });
}

#[test]
fn the_hint_names_the_end_of_a_large_argument() {
    let mut parser = Parser::new(RespLimits::default());
    let mut args = ArgVec::new();
    let head = b"*2\r\n$3\r\nGET\r\n$65536\r\n";
    let expected = Parse::Incomplete { bytes_min: head.len() + 65_536 + 2 };
    assert_eq!(parser.parse(head, &mut args), expected);
}

#[test]
fn arguments_outlive_the_vector_they_came_in() {
    let buf = b"*1\r\n$1\r\na\r\n*1\r\n$1\r\nb\r\n".to_vec();
    let mut parser = Parser::new(RespLimits::default());
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut args = ArgVec::new();
    for at in [0, 11] {
        assert_eq!(parser.parse(&buf[at..], &mut args), Parse::Complete { consumed: 11 });
        kept.extend(args.as_slice());
    }
    assert_eq!(kept, [b"a", b"b"]);
}

#[test]
fn every_error_names_its_code() {
    let refused = ParseError::BulkTooLarge { position: 4, bytes: 2_000_000, max: 1_048_576 }.to_string();
    assert!(refused.starts_with("TOOBIG argument 4 has 2000000 bytes"), "{refused}");
    assert!(ParseError::UnbalancedQuotes.to_string().starts_with("BADARG "));
}

prop_compose! {
    fn arg()(bytes in prop::collection::vec(any::<u8>(), 0..40)) -> Vec<u8> { bytes }
}

/// Pieces of a stream that looks like RESP often enough to get deep into the parser.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(arg(), 1..5).prop_map(|args| encode(&args)),
        1 => Just(b"*1\r\n".to_vec()),
        1 => Just(b"$3\r\nabc\r\n".to_vec()),
        1 => Just(b"$-1\r\n".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        1 => "[ -~]{0,20}\r\n".prop_map(String::into_bytes),
        1 => (any::<i64>()).prop_map(|n| format!("*{n}\r\n").into_bytes()),
        1 => (any::<i64>()).prop_map(|n| format!("*1\r\n${n}\r\n").into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ]
}

fn cut(bytes: &[u8], mut at: Vec<usize>) -> Vec<&[u8]> {
    at.iter_mut().for_each(|cut| *cut %= bytes.len() + 1);
    at.push(0);
    at.push(bytes.len());
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn commands_survive_the_round_trip(commands in prop::collection::vec(prop::collection::vec(arg(), 1..=32), 1..6)) {
        let bytes: Vec<u8> = commands.iter().flat_map(|args| encode(args)).collect();
        let expected: Vec<Seen> = commands.into_iter().map(Seen::Command).collect();
        prop_assert_eq!(run_whole(&bytes), expected);
    }

    #[test]
    fn any_split_gives_the_same_commands(
        fragments in prop::collection::vec(fragment(), 1..10),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
        small in any::<bool>(),
    ) {
        let tight = RespLimits { args_max: 2, bulk_bytes_max: 16, command_bytes_max: 48, inline_bytes_max: 16 };
        let limits = if small { tight } else { RespLimits::default() };
        let bytes = fragments.concat();
        let whole = run(limits, &[&bytes]);
        prop_assert_eq!(run(limits, &cut(&bytes, cuts)), whole.clone());
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(run(limits, &single), whole);
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        // `run` asserts progress and hints; what garbage means is of no interest.
        let seen = run_whole(&bytes);
        prop_assert!(seen.len() <= bytes.len());
    }

    #[test]
    fn quoted_words_come_back(words in prop::collection::vec(arg(), 1..8)) {
        let mut line = Vec::new();
        for word in &words {
            line.push(b'"');
            word.iter().for_each(|byte| line.extend_from_slice(format!("\\x{byte:02x}").as_bytes()));
            line.extend_from_slice(b"\" ");
        }
        line.push(b'\n');
        prop_assert_eq!(run_whole(&line), vec![Seen::Command(words)]);
    }
}
