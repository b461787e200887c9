//! Arguments of the native commands -> checked requests. Option words come in any order and case; each at
//! most once; anything else is an error that names the word.

use crdt::ids::Fingerprint;
use crdt::issued;
use crdt::policy::Level;
use crdt::request::{Claim, Request, Resolution};
use crdt::token::Token;

/// Why arguments are not a request; the text of a `-BADARG` error.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadArgs {
    /// Too few or too many.
    #[error("{command} takes: {usage}")]
    Usage {
        /// The command.
        command: &'static str,
        /// What to send.
        usage: &'static str,
    },
    /// A word that is no option of this command.
    #[error("unknown option {word:?}; {command} takes: {usage}")]
    Option {
        /// As sent.
        word: String,
        /// The command.
        command: &'static str,
        /// What to send.
        usage: &'static str,
    },
    /// An option without its value, or twice.
    #[error("{0} stands twice, or without a value")]
    Value(&'static str),
    /// Not a whole number.
    #[error("{option} takes whole milliseconds (or a count), not {found:?}")]
    Number {
        /// Which option.
        option: &'static str,
        /// As sent.
        found: String,
    },
    /// Not 32 hex digits.
    #[error("FP takes 32 hex digits (a 128-bit digest of the payload), not {0:?}")]
    Fingerprint(String),
    /// Not a token.
    #[error("the token is not one that CLAIM answers: 106 hex digits, as they were sent")]
    Token,
    /// Versions follow each other.
    #[error("ADVANCE goes from a version to the next one, not from {0} to {1}")]
    Versions(u64, u64),
    /// Not a namespace.
    #[error("{0:?} is no namespace: what stands before a key's first colon, at most {max} bytes", max = issued::NAMESPACE_BYTES_MAX)]
    Namespace(String),
    /// No such level.
    #[error("LEVEL takes local, home or quorum, not {0:?}")]
    Level(String),
}

const CLAIM: &str = "CLAIM key [FP hex32] [LEASE ms] [RETENTION ms] [CLAIMANT id] [WAIT ms] [LEVEL local|home|quorum] \
                     [NOTE bytes] [DURABLE]";
const ADVANCE: &str = "ADVANCE key FROM n TO n+1, and what CLAIM takes";
const COMPLETE: &str = "COMPLETE key token outcome [LEVEL local|home|quorum] [DURABLE]";
const RENEW: &str = "RENEW key token [LEASE ms] [LEVEL local|home|quorum] [DURABLE]";
const RELEASE: &str = "RELEASE key token [LEVEL local|home] [DURABLE]";
const RESOLVE: &str = "RESOLVE key COMPLETE outcome, or RESOLVE key RELEASE";

/// Walks the option words after the fixed arguments.
struct Words<'w, 'b> {
    words: &'w [&'b [u8]],
    command: &'static str,
    usage: &'static str,
}

impl<'b> Words<'_, 'b> {
    fn next(&mut self) -> Option<&'b [u8]> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    fn value(&mut self, option: &'static str, taken: bool) -> Result<&'b [u8], BadArgs> {
        if taken {
            return Err(BadArgs::Value(option));
        }
        self.next().ok_or(BadArgs::Value(option))
    }

    fn number(&mut self, option: &'static str, taken: bool) -> Result<u64, BadArgs> {
        number(option, self.value(option, taken)?)
    }

    fn unknown(&self, word: &[u8]) -> BadArgs {
        BadArgs::Option { word: shown(word), command: self.command, usage: self.usage }
    }
}

/// A whole number without sign.
pub fn number(option: &'static str, text: &[u8]) -> Result<u64, BadArgs> {
    let bad = || BadArgs::Number { option, found: shown(text) };
    if text.is_empty() || text.len() > 19 {
        return Err(bad());
    }
    text.iter().try_fold(0u64, |value, byte| {
        byte.is_ascii_digit().then(|| value * 10 + u64::from(byte - b'0')).ok_or_else(bad)
    })
}

/// `CLAIM …`; `args[0]` is the command's name, here and below.
pub fn claim<'b>(args: &[&'b [u8]]) -> Result<Request<'b>, BadArgs> {
    let usage = BadArgs::Usage { command: "CLAIM", usage: CLAIM };
    let [_, key, words @ ..] = args else { return Err(usage) };
    wishes(key, Words { words, command: "CLAIM", usage: CLAIM }).map(Request::Claim)
}

/// `ADVANCE …`: the claim as it is wished for of the machine's key, and the version to advance from.
pub fn advance<'b>(args: &[&'b [u8]]) -> Result<(Claim<'b>, u64), BadArgs> {
    let [_, key, from_word, from, to_word, to, words @ ..] = args else {
        return Err(BadArgs::Usage { command: "ADVANCE", usage: ADVANCE });
    };
    if !is(from_word, b"FROM") || !is(to_word, b"TO") {
        return Err(BadArgs::Usage { command: "ADVANCE", usage: ADVANCE });
    }
    let (from, to) = (number("FROM", from)?, number("TO", to)?);
    if from.checked_add(1) != Some(to) {
        return Err(BadArgs::Versions(from, to));
    }
    Ok((wishes(key, Words { words, command: "ADVANCE", usage: ADVANCE })?, from))
}

/// What CLAIM and ADVANCE may say of the claim of `key`.
fn wishes<'b>(key: &'b [u8], mut words: Words<'_, 'b>) -> Result<Claim<'b>, BadArgs> {
    let mut claim = Claim { key, ..Claim::default() };
    let (mut claimant, mut note, mut wait) = (None, None, None);
    while let Some(word) = words.next() {
        if is(word, b"FP") {
            let hex = words.value("FP", claim.fingerprint.is_some())?;
            let parsed = Fingerprint::from_hex(hex).ok_or_else(|| BadArgs::Fingerprint(shown(hex)))?;
            claim.fingerprint = Some(parsed);
        } else if is(word, b"LEASE") {
            claim.lease_ms = Some(words.number("LEASE", claim.lease_ms.is_some())?);
        } else if is(word, b"RETENTION") {
            claim.retention_ms = Some(words.number("RETENTION", claim.retention_ms.is_some())?);
        } else if is(word, b"CLAIMANT") {
            claimant = Some(words.value("CLAIMANT", claimant.is_some())?);
        } else if is(word, b"WAIT") {
            wait = Some(words.number("WAIT", wait.is_some())?);
        } else if is(word, b"LEVEL") {
            claim.level = Some(level(words.value("LEVEL", claim.level.is_some())?)?);
        } else if is(word, b"NOTE") {
            note = Some(words.value("NOTE", note.is_some())?);
        } else if is(word, b"DURABLE") {
            claim.durable = true;
        } else {
            return Err(words.unknown(word));
        }
    }
    claim.claimant = claimant.unwrap_or_default();
    claim.note = note.unwrap_or_default();
    claim.wait_ms = wait.unwrap_or_default();
    Ok(claim)
}

/// `COMPLETE …`
pub fn complete<'b>(args: &[&'b [u8]]) -> Result<Request<'b>, BadArgs> {
    let [_, key, text, outcome, words @ ..] = args else {
        return Err(BadArgs::Usage { command: "COMPLETE", usage: COMPLETE });
    };
    let (asked, durable) = level_and_durable(Words { words, command: "COMPLETE", usage: COMPLETE })?;
    Ok(Request::Complete { key, token: token(text)?, outcome, level: asked, durable })
}

/// The only options of COMPLETE and RELEASE.
fn level_and_durable(mut words: Words<'_, '_>) -> Result<(Option<Level>, bool), BadArgs> {
    let (mut asked, mut durable) = (None, false);
    while let Some(word) = words.next() {
        if is(word, b"LEVEL") {
            asked = Some(level(words.value("LEVEL", asked.is_some())?)?);
        } else if is(word, b"DURABLE") {
            durable = true;
        } else {
            return Err(words.unknown(word));
        }
    }
    Ok((asked, durable))
}

/// `RENEW …`
pub fn renew<'b>(args: &[&'b [u8]]) -> Result<Request<'b>, BadArgs> {
    let [_, key, text, words @ ..] = args else {
        return Err(BadArgs::Usage { command: "RENEW", usage: RENEW });
    };
    let mut words = Words { words, command: "RENEW", usage: RENEW };
    let (mut lease_ms, mut asked, mut durable) = (None, None, false);
    while let Some(word) = words.next() {
        if is(word, b"LEASE") {
            lease_ms = Some(words.number("LEASE", lease_ms.is_some())?);
        } else if is(word, b"LEVEL") {
            asked = Some(level(words.value("LEVEL", asked.is_some())?)?);
        } else if is(word, b"DURABLE") {
            durable = true;
        } else {
            return Err(words.unknown(word));
        }
    }
    Ok(Request::Renew { key, token: token(text)?, lease_ms, level: asked, durable })
}

/// `RELEASE …`
pub fn release<'b>(args: &[&'b [u8]]) -> Result<Request<'b>, BadArgs> {
    let [_, key, text, words @ ..] = args else {
        return Err(BadArgs::Usage { command: "RELEASE", usage: RELEASE });
    };
    let (asked, durable) = level_and_durable(Words { words, command: "RELEASE", usage: RELEASE })?;
    Ok(Request::Release { key, token: token(text)?, level: asked, durable })
}

/// `RESOLVE …`
pub fn resolve<'b>(args: &[&'b [u8]]) -> Result<Request<'b>, BadArgs> {
    match args {
        [_, key, word, outcome] if is(word, b"COMPLETE") => {
            Ok(Request::Resolve { key, how: Resolution::Complete(outcome) })
        }
        [_, key, word] if is(word, b"RELEASE") => Ok(Request::Resolve { key, how: Resolution::Release }),
        _ => Err(BadArgs::Usage { command: "RESOLVE", usage: RESOLVE }),
    }
}

/// The namespace of `TOKEN`.
pub fn namespace<'b>(args: &[&'b [u8]]) -> Result<&'b [u8], BadArgs> {
    match args {
        [_, name] if name.contains(&b':') || name.len() > issued::NAMESPACE_BYTES_MAX => {
            Err(BadArgs::Namespace(shown(name)))
        }
        [_, name] => Ok(name),
        _ => Err(BadArgs::Usage { command: "TOKEN", usage: "TOKEN namespace" }),
    }
}

/// The one key of `GET`, `INSPECT`, `FORGET`.
pub fn one_key<'b>(
    args: &[&'b [u8]],
    command: &'static str,
    usage: &'static str,
) -> Result<&'b [u8], BadArgs> {
    match args {
        [_, key] => Ok(key),
        _ => Err(BadArgs::Usage { command, usage }),
    }
}

/// Whether `word` is `upper`, in any case.
#[inline]
pub fn is(word: &[u8], upper: &[u8]) -> bool {
    // Words mostly come as they are written here: one comparison a byte.
    let same = |(byte, letter): (&u8, &u8)| byte == letter || byte.eq_ignore_ascii_case(letter);
    word.len() == upper.len() && word.iter().zip(upper).all(same)
}

/// Bytes of a client as text for an error, shortened.
pub fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned()
}

fn token(text: &[u8]) -> Result<Token, BadArgs> {
    Token::from_text(text).ok_or(BadArgs::Token)
}

fn level(word: &[u8]) -> Result<Level, BadArgs> {
    let levels = [Level::Local, Level::Home, Level::Quorum];
    let named = levels.into_iter().find(|level| is(word, level.name().as_bytes()));
    named.ok_or_else(|| BadArgs::Level(shown(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&[u8]> {
        text.split(' ').map(str::as_bytes).collect()
    }

    #[test]
    fn options_come_in_any_order_and_case() {
        let text = "claim k wait 500 Fp 000102030405060708090a0b0c0d0e0f durable LEASE 30000 claimant id \
                    retention 86400000 level LOCAL note hi";
        let Ok(Request::Claim(claim)) = claim(&words(text)) else { panic!("well-formed") };
        assert_eq!((claim.key, claim.claimant, claim.note), (&b"k"[..], &b"id"[..], &b"hi"[..]));
        assert_eq!(
            (claim.lease_ms, claim.retention_ms, claim.wait_ms),
            (Some(30_000), Some(86_400_000), 500)
        );
        assert!(claim.durable && claim.fingerprint.is_some() && claim.level == Some(Level::Local));
    }

    #[test]
    fn malformed_arguments_say_what_is_wrong() {
        let error = |text: &str| claim(&words(text)).expect_err("malformed").to_string();
        assert!(error("CLAIM").starts_with("CLAIM takes: CLAIM key"));
        assert!(error("CLAIM k TTL 5").starts_with("unknown option \"TTL\""));
        assert_eq!(error("CLAIM k LEASE"), "LEASE stands twice, or without a value");
        assert_eq!(error("CLAIM k WAIT 0 WAIT 0"), "WAIT stands twice, or without a value");
        assert!(error("CLAIM k LEASE -5").contains("\"-5\""));
        assert!(error("CLAIM k LEASE 99999999999999999999").starts_with("LEASE takes whole"));
        assert!(error("CLAIM k FP 00").starts_with("FP takes 32 hex digits"));
        assert!(error("CLAIM k LEVEL global").starts_with("LEVEL takes"));
        assert_eq!(complete(&words("COMPLETE k nope x")).expect_err("bad token"), BadArgs::Token);
    }
}
