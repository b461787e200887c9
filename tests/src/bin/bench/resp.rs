//! As much of RESP2 and RESP3 as a load generator needs: where a value ends, and one field of a flat array.
//!
//! Written for speed and not for trust: it reads what a server started by this very program sent. It still never
//! recurses, so that a broken reply is an error here and not a stack overflow. It must never become the parser of
//! the product: that one bounds every length and lives in the daemon.

use anyhow::{Result, bail};

/// Values that may be open at once in one reply: an INSPECT nests three deep, a thousand elements is plenty.
const PENDING_MAX: u64 = 1_000_000;
/// Digits of a length, its sign and the end of its line: no reply to the bench needs a gigabyte.
const LENGTH_DIGITS_MAX: usize = 12;

/// Length in bytes of the first whole value of `input`, or None while its end has not arrived.
///
/// A payload is jumped over, never looked at: the driver reads replies of 250 bytes and more at a million a second.
///
/// # Errors
/// Bytes that are not RESP.
pub fn value_len(input: &[u8]) -> Result<Option<usize>> {
    let mut at = 0;
    let mut pending = 1u64;
    while pending > 0 {
        let Some(kind) = input.get(at) else { return Ok(None) };
        pending -= 1;
        at = match kind {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => match line_end(input, at) {
                Some(end) => end,
                None => return Ok(None),
            },
            b'$' | b'=' | b'!' => match length(input, at)? {
                Some((Some(len), end)) => end + len as usize + 2,
                Some((None, end)) => end,
                None => return Ok(None),
            },
            b'*' | b'~' | b'>' | b'%' => match length(input, at)? {
                Some((count, end)) => {
                    pending += count.unwrap_or(0) * if *kind == b'%' { 2 } else { 1 };
                    end
                }
                None => return Ok(None),
            },
            other => bail!("not RESP: a value starts with byte 0x{other:02x}"),
        };
        if pending > PENDING_MAX {
            bail!("not RESP: {pending} values pending in one reply");
        }
    }
    Ok((at <= input.len()).then_some(at))
}

/// The field `name` of a reply made of names and values: a RESP2 flat array or a RESP3 map.
pub fn field<'a>(reply: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut at = line_end(reply, 0)?;
    while at < reply.len() {
        let (found, value_at) = scalar(reply, at)?;
        if found == name {
            return scalar(reply, value_at).map(|(value, _)| value);
        }
        at = value_at + value_len(&reply[value_at..]).ok()??;
    }
    None
}

/// The scalar at `at`, and where the next value begins.
fn scalar(input: &[u8], at: usize) -> Option<(&[u8], usize)> {
    if *input.get(at)? != b'$' {
        let end = line_end(input, at)?;
        return Some((&input[at + 1..end - 2], end));
    }
    match length(input, at).ok()?? {
        (None, end) => Some((&[], end)),
        (Some(len), end) => Some((input.get(end..end + len as usize)?, end + len as usize + 2)),
    }
}

/// Index just behind the `\r\n` that ends the line starting at `at`.
fn line_end(input: &[u8], at: usize) -> Option<usize> {
    let rest = input.get(at + 1..)?;
    let newline = rest.iter().position(|byte| *byte == b'\n')?;
    (newline > 0).then_some(at + 1 + newline + 1)
}

/// The length behind the type byte at `at` and where its line ends; None while the line is not whole. The length
/// itself is None for the null of RESP2 (`-1`).
fn length(input: &[u8], at: usize) -> Result<Option<(Option<u64>, usize)>> {
    let mut value = 0u64;
    for (index, byte) in input.iter().enumerate().skip(at + 1).take(LENGTH_DIGITS_MAX) {
        match byte {
            b'0'..=b'9' => value = value * 10 + u64::from(byte - b'0'),
            b'-' => return Ok((input.len() >= index + 4).then_some((None, index + 4))),
            b'\r' => return Ok((input.len() >= index + 2).then_some((Some(value), index + 2))),
            other => bail!("not RESP: a length with byte 0x{other:02x}"),
        }
    }
    if input.len() > at + LENGTH_DIGITS_MAX {
        bail!("not RESP: a length of more than {LENGTH_DIGITS_MAX} digits");
    }
    Ok(None)
}

/// Appends one command as RESP.
pub fn push_command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_where_its_last_part_does() {
        for whole in [
            &b"+OK\r\n"[..],
            b"$-1\r\n",
            b"$3\r\nabc\r\n",
            b"*2\r\n$1\r\na\r\n:1\r\n",
            b"%1\r\n+a\r\n*1\r\n+b\r\n",
            b"*0\r\n",
        ] {
            let mut input = whole.to_vec();
            input.extend_from_slice(b"+NEXT\r\n");
            assert_eq!(value_len(&input).unwrap(), Some(whole.len()));
            for cut in 0..whole.len() {
                assert_eq!(value_len(&whole[..cut]).unwrap(), None, "cut at {cut} of {whole:?}");
            }
        }
        assert!(value_len(b"?\r\n").is_err());
        assert!(value_len(b"$1x\r\n").is_err());
        assert!(value_len(b"$99999999999999\r\n").is_err());
    }

    #[test]
    fn a_field_is_found_behind_nested_values() {
        let reply = b"*6\r\n$6\r\nstatus\r\n+GRANTED\r\n+list\r\n*1\r\n:1\r\n$5\r\ntoken\r\n$2\r\nab\r\n";
        assert_eq!(field(reply, b"status"), Some(&b"GRANTED"[..]));
        assert_eq!(field(reply, b"token"), Some(&b"ab"[..]));
        assert_eq!(field(reply, b"none"), None);
    }
}
