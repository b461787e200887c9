//! Golden bytes of every reply shape in both dialects, and the integer writer against the standard library.

use super::super::value::{ReplyReader, Value};
use super::*;
use proptest::prelude::*;

fn bytes(proto: Proto, write: impl FnOnce(&mut Encoder<'_>)) -> String {
    let mut out = Vec::new();
    write(&mut Encoder::new(&mut out, proto));
    String::from_utf8(out).expect("these tests write ASCII")
}

fn granted(encoder: &mut Encoder<'_>) {
    encoder.map(4);
    encoder.field_status("GRANTED");
    encoder.field_bulk("token", b"00ff");
    encoder.field_int("lease_until", 1_790_000_000_000);
    encoder.field_bool("contested", true);
}

#[test]
fn golden_native_reply() {
    let tail = "$6\r\nstatus\r\n$7\r\nGRANTED\r\n$5\r\ntoken\r\n$4\r\n00ff\r\n$11\r\nlease_until\r\n:1790000000000\r\n\
                $9\r\ncontested\r\n";
    assert_eq!(bytes(Proto::Resp2, granted), format!("*8\r\n{tail}:1\r\n"));
    assert_eq!(bytes(Proto::Resp3, granted), format!("%4\r\n{tail}#t\r\n"));
}

#[test]
fn golden_scalars() {
    let all = |encoder: &mut Encoder<'_>| {
        encoder.null();
        encoder.bool(false);
        encoder.ok();
        encoder.simple("PO\r\nNG");
        encoder.int(-42);
        encoder.array(12);
        encoder.map(7);
        encoder.bulk(b"");
        encoder.field_bulk_or_null("o", None);
    };
    let common = "+OK\r\n+PO  NG\r\n:-42\r\n*12\r\n";
    assert_eq!(bytes(Proto::Resp2, all), format!("$-1\r\n:0\r\n{common}*14\r\n$0\r\n\r\n$1\r\no\r\n$-1\r\n"));
    assert_eq!(bytes(Proto::Resp3, all), format!("_\r\n#f\r\n{common}%7\r\n$0\r\n\r\n$1\r\no\r\n_\r\n"));
}

#[test]
fn errors_stay_on_one_line() {
    let text = bytes(Proto::Resp2, |encoder| encoder.error(format_args!("BADARG {}", "a\r\n+OK\r\nb")));
    assert_eq!(text, "-BADARG a  +OK  b\r\n");
}

#[test]
fn unknown_command_is_redis_verbatim() {
    let write = |args: &[&[u8]]| bytes(Proto::Resp2, |encoder| encoder.unknown_command(args));
    assert_eq!(write(&[b"FOO"]), "-ERR unknown command 'FOO', with args beginning with: \r\n");
    assert_eq!(
        write(&[b"foo", b"bar", b"b\r\nz"]),
        "-ERR unknown command 'foo', with args beginning with: 'bar' 'b  z' \r\n"
    );
    let long = vec![b'x'; 500];
    let text = write(&[&long, &long, &long]);
    let (name, quoted) = ("x".repeat(128), "x".repeat(128));
    assert_eq!(text, format!("-ERR unknown command '{name}', with args beginning with: '{quoted}' \r\n"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn integers_are_those_of_the_standard_library(value in any::<i64>(), shift in 0u32..64) {
        for value in [value, value >> shift, i64::MIN, i64::MAX, 0, 9, 10, 99, 100] {
            prop_assert_eq!(bytes(Proto::Resp2, |encoder| encoder.int(value)), format!(":{value}\r\n"));
        }
    }

    #[test]
    fn fields_read_back_alike_in_both_dialects(
        token in prop::collection::vec(any::<u8>(), 0..100),
        number in any::<i64>(),
        flag in any::<bool>(),
    ) {
        for proto in [Proto::Resp2, Proto::Resp3] {
            let mut out = Vec::new();
            let mut encoder = Encoder::new(&mut out, proto);
            encoder.map(5);
            encoder.field_status("OK");
            encoder.field_bulk("token", &token);
            encoder.field_int("number", number);
            encoder.field_bool("flag", flag);
            encoder.field_null("nothing");
            let progress = ReplyReader::new().read(&out).expect("the encoder writes RESP");
            prop_assert_eq!(progress.consumed, out.len());
            let value = progress.value.expect("the reply is whole");
            prop_assert_eq!(value.status(), Some("OK"));
            prop_assert_eq!(value.field("token").and_then(Value::as_bytes), Some(&token[..]));
            prop_assert_eq!(value.field("number").and_then(Value::as_int), Some(number));
            prop_assert_eq!(value.field("flag").and_then(Value::as_bool), Some(flag));
            prop_assert!(value.field("nothing").is_some_and(Value::is_null));
            prop_assert!(value.field("absent").is_none());
        }
    }
}
