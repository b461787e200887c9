//! Keys that carry their own time (S4.1 EXPIRED): UUIDv7, with the tag of an issued key or without, and ULID after the last `:`.

use crate::issued;
use crate::policy::KeyTime;

/// When the key says it was made, Unix milliseconds; `None` where it says nothing readable.
pub(super) fn born_ms(key: &[u8], kind: KeyTime) -> Option<u64> {
    let id = || key.rsplit(|&byte| byte == b':').next();
    match kind {
        KeyTime::None => None,
        KeyTime::UuidV7 => uuid_v7_ms(issued::untagged(id()?)),
        KeyTime::Ulid => ulid_ms(id()?),
    }
}

/// RFC 9562 5.7: the first 48 bits, in the text form of 36 characters with version digit 7.
fn uuid_v7_ms(id: &[u8]) -> Option<u64> {
    if id.len() != 36 || id[8] != b'-' || id[13] != b'-' || id[14] != b'7' {
        return None;
    }
    let digits = id[..8].iter().chain(&id[9..13]);
    digits.copied().try_fold(0u64, |ms, digit| Some(ms << 4 | u64::from(crate::ids::hex_digit(digit)?)))
}

/// The first 10 of 26 Crockford base-32 digits are 48 bits of milliseconds.
fn ulid_ms(id: &[u8]) -> Option<u64> {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    if id.len() != 26 || id[0] > b'7' {
        return None;
    }
    id[..10].iter().try_fold(0u64, |ms, digit| {
        let value = DIGITS.iter().position(|known| *known == digit.to_ascii_uppercase())?;
        Some(ms << 5 | value as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_time_of_published_examples() {
        // RFC 9562 A.6: 2022-02-22T19:22:22.00Z.
        let uuid = b"pay:017F22E2-79B0-7CC3-98C4-DC0C0C07398F";
        assert_eq!(born_ms(uuid, KeyTime::UuidV7), Some(1_645_557_742_000));
        assert_eq!(born_ms(b"o:01ARZ3NDEKTSV4RRFFQ69G5FAV", KeyTime::Ulid), Some(1_469_922_850_259));
    }

    #[test]
    fn says_nothing_of_keys_in_another_form() {
        assert_eq!(born_ms(b"pay:1", KeyTime::UuidV7), None);
        assert_eq!(born_ms(b"pay:017F22E2-79B0-4CC3-98C4-DC0C0C07398F", KeyTime::UuidV7), None);
        assert_eq!(born_ms(b"pay:1", KeyTime::Ulid), None);
        assert_eq!(born_ms(b"pay:017F22E2-79B0-7CC3-98C4-DC0C0C07398F", KeyTime::None), None);
    }
}
