//! The reply reader: golden bytes of both dialects, random values in random pieces, bounds, garbage.

use super::*;
use proptest::prelude::*;

/// Reads all replies out of `pieces`, as the client does.
fn read(pieces: &[&[u8]]) -> Result<Vec<Value>, ReplyError> {
    let (mut reader, mut buf, mut values) = (ReplyReader::new(), Vec::new(), Vec::new());
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            let progress = reader.read(&buf)?;
            buf.drain(..progress.consumed);
            match progress.value {
                Some(value) => values.push(value),
                None => {
                    assert!(progress.bytes_min > buf.len(), "the hint must ask for more than there is");
                    break;
                }
            }
        }
    }
    Ok(values)
}

fn read_one(bytes: &[u8]) -> Result<Value, ReplyError> {
    read(&[bytes]).map(|mut values| {
        assert_eq!(values.len(), 1, "exactly one reply in {bytes:?}");
        values.remove(0)
    })
}

/// Writes a value the way a RESP3 server would.
fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Simple(text) => out.extend_from_slice(format!("+{text}\r\n").as_bytes()),
        Value::Error(text) => out.extend_from_slice(format!("-{text}\r\n").as_bytes()),
        Value::Int(n) => out.extend_from_slice(format!(":{n}\r\n").as_bytes()),
        Value::Double(n) => out.extend_from_slice(format!(",{n}\r\n").as_bytes()),
        Value::Bool(b) => out.extend_from_slice(if *b { b"#t\r\n" } else { b"#f\r\n" }),
        Value::Null => out.extend_from_slice(b"_\r\n"),
        Value::Bulk(bytes) => {
            out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        }
        Value::Array(items) => {
            out.extend_from_slice(format!("*{}\r\n", items.len()).as_bytes());
            items.iter().for_each(|item| write(item, out));
        }
        Value::Map(pairs) => {
            out.extend_from_slice(format!("%{}\r\n", pairs.len()).as_bytes());
            pairs.iter().for_each(|(key, value)| {
                write(key, out);
                write(value, out);
            });
        }
    }
}

#[test]
fn golden_values() {
    let text = |text: &str| Value::Simple(text.to_owned());
    let cases: [(&[u8], Value); 17] = [
        (b"+OK\r\n", text("OK")),
        (b"-NOPERM no\r\n", Value::Error("NOPERM no".to_owned())),
        (b":-7\r\n", Value::Int(-7)),
        (b"$3\r\na\r\n\r\n", Value::Bulk(b"a\r\n".to_vec())),
        (b"$-1\r\n", Value::Null),
        (b"*-1\r\n", Value::Null),
        (b"_\r\n", Value::Null),
        (b"#t\r\n", Value::Bool(true)),
        (b",1.5\r\n", Value::Double(1.5)),
        (b"(123456789012345678901\r\n", text("123456789012345678901")),
        (b"!5\r\nERR x\r\n", Value::Error("ERR x".to_owned())),
        (b"=5\r\ntxt:a\r\n", Value::Bulk(b"a".to_vec())),
        (b"*0\r\n", Value::Array(vec![])),
        (b"%1\r\n+a\r\n*1\r\n:1\r\n", Value::Map(vec![(text("a"), Value::Array(vec![Value::Int(1)]))])),
        (b"~1\r\n:1\r\n", Value::Array(vec![Value::Int(1)])),
        (b"|1\r\n+ttl\r\n:3\r\n+OK\r\n", text("OK")),
        (b"*2\r\n|1\r\n+ttl\r\n:3\r\n+a\r\n|0\r\n+b\r\n", Value::Array(vec![text("a"), text("b")])),
    ];
    for (bytes, expected) in cases {
        assert_eq!(read_one(bytes), Ok(expected), "{}", bytes.escape_ascii());
    }
}

#[test]
fn broken_replies_are_errors() {
    assert_eq!(read(&[b"HTTP/1.1 400\r\n"]), Err(ReplyError::UnknownType(b'H')));
    for bytes in [&b":x\r\n"[..], b"#y\r\n", b"_x\r\n", b"$-2\r\n", b"*-2\r\n", b"%-1\r\n", b"$x\r\n"] {
        assert!(matches!(read(&[bytes]), Err(ReplyError::Malformed(_))), "{}", bytes.escape_ascii());
    }
    for bytes in [&b"+a\n"[..], b"$1\r\nabc", b"+\xff\r\n", b"=2\r\nab\r\n"] {
        assert_eq!(read(&[bytes]), Err(ReplyError::Text), "{}", bytes.escape_ascii());
    }
}

#[test]
fn bounds_hold() {
    let deep = b"*1\r\n".repeat(10_000);
    assert_eq!(read(&[&deep]), Err(ReplyError::TooLarge { what: "nesting", max: REPLY_DEPTH_MAX }));
    assert!(matches!(read(&[b"*99999999\r\n"]), Err(ReplyError::TooLarge { what: "values", .. })));
    assert!(matches!(read(&[b"$9999999\r\n"]), Err(ReplyError::TooLarge { .. })));
    assert!(matches!(read(&[&vec![b'+'; REPLY_LINE_BYTES_MAX]]), Err(ReplyError::TooLarge { .. })));
    let mut wide = b"*70\r\n".to_vec();
    for _ in 0..70 {
        wide.extend_from_slice(format!("${BULK_BYTES_MAX}\r\n").as_bytes());
        wide.extend_from_slice(&vec![b'x'; BULK_BYTES_MAX]);
        wide.extend_from_slice(b"\r\n");
    }
    assert!(matches!(read(&[&wide]), Err(ReplyError::TooLarge { what: "bytes", .. })));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        "[ -~]{0,12}".prop_map(Value::Simple),
        "[A-Z]{1,6} [ -~]{0,12}".prop_map(Value::Error),
        any::<i64>().prop_map(Value::Int),
        prop::collection::vec(any::<u8>(), 0..30).prop_map(Value::Bulk),
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-1e9..1e9).prop_map(Value::Double),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((inner.clone(), inner), 0..4).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn values_survive_any_split(values in prop::collection::vec(value(), 1..4), piece in 1usize..40) {
        let mut bytes = Vec::new();
        values.iter().for_each(|value| write(value, &mut bytes));
        let pieces: Vec<&[u8]> = bytes.chunks(piece).collect();
        prop_assert_eq!(read(&pieces), Ok(values));
    }

    #[test]
    fn garbage_never_panics(
        kind in prop::sample::select(&b"+-:$*_#,(!=%~>|x"[..]),
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"0123\r\n*$%"[..])], 0..300),
    ) {
        let mut input = vec![kind];
        input.extend(bytes);
        // `read` asserts progress; only that it returns matters here.
        if let Ok(values) = read(&[&input]) {
            prop_assert!(values.len() <= input.len());
        }
    }
}
