//! Keys derived from what an operation is about: the same operation, told by whoever and however its JSON is written, has the same
//! key.
//!
//! The canonical form is a JSON object of `operation`, and of `principal`, `window` and `payload` where they are given, written by
//! RFC 8785 (JSON Canonicalization Scheme): members sorted, no white space, numbers as ECMAScript writes them. The key is the
//! namespace, a colon, and the SHA-256 of those bytes in hex: any language with an RFC 8785 library derives the same one.
//!
//! Where two payloads that differ could become one key, nothing is derived: a member that stands twice, a number that a double
//! does not hold exactly.
//!
//! Must never: read a clock; who calls says when.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, json};

/// 2^53 - 1: up to there a double holds every whole number.
const EXACT_MAX: u64 = (1 << 53) - 1;

/// What an operation is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// The key's namespace; empty for that of keys without a colon.
    pub namespace: &'a str,
    /// What is done, e.g. `charge`.
    pub operation: &'a str,
    /// On whose behalf: without it, equal requests of two customers are one operation.
    pub principal: Option<&'a str>,
    /// JSON.
    pub payload: Option<&'a [u8]>,
    /// After so many seconds, counted from the Unix epoch, the same request is a new operation.
    pub window: Option<Window>,
}

/// A window of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Its length, in seconds; not 0.
    pub seconds: u64,
    /// A moment in it, Unix seconds.
    pub at: u64,
}

/// A derived key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Derived {
    /// The key.
    pub key: String,
    /// What it is the digest of.
    pub canonical: String,
}

/// Why nothing is derived.
#[derive(Debug, thiserror::Error)]
pub enum DeriveError {
    /// It is not JSON, or not JSON that has one canonical form; with line and column.
    #[error("the payload: {0}")]
    Payload(serde_json::Error),
    /// It would be in another namespace than was said.
    #[error("a namespace has no colon: {0:?}")]
    Namespace(String),
    /// Nothing can be derived from nothing.
    #[error("the operation is empty; name what is done, such as charge")]
    Operation,
    /// It could not be written.
    #[error("cannot be written canonically: {0}")]
    Canonical(serde_json::Error),
}

/// The key of the operation.
///
/// # Errors
/// See [`DeriveError`]: each says what to change.
pub fn derive(about: &About<'_>) -> Result<Derived, DeriveError> {
    if about.namespace.contains(':') {
        return Err(DeriveError::Namespace(about.namespace.to_owned()));
    }
    if about.operation.is_empty() {
        return Err(DeriveError::Operation);
    }
    let mut form = Map::new();
    form.insert("operation".to_owned(), about.operation.into());
    if let Some(principal) = about.principal {
        form.insert("principal".to_owned(), principal.into());
    }
    if let Some(Window { seconds, at }) = about.window {
        let from = at - at % seconds.max(1);
        form.insert("window".to_owned(), json!({"from": from, "seconds": seconds}));
    }
    if let Some(payload) = about.payload {
        let Exact(payload) = serde_json::from_slice(payload).map_err(DeriveError::Payload)?;
        form.insert("payload".to_owned(), payload);
    }
    let canonical =
        serde_json_canonicalizer::to_string(&Value::Object(form)).map_err(DeriveError::Canonical)?;
    let hash = digest(&SHA256, canonical.as_bytes());
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let colon = if about.namespace.is_empty() { "" } else { ":" };
    Ok(Derived { key: format!("{}{colon}{hex}", about.namespace), canonical })
}

/// JSON in which nothing is lost by a double or by a member that stands twice (RFC 7493).
struct Exact(Value);

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ExactVisitor).map(Self)
    }
}

struct ExactVisitor;

fn inexact<E: de::Error>(number: impl fmt::Display) -> E {
    E::custom(format_args!(
        "{number} is beyond what a double holds exactly (9007199254740991): another number would have the same key; \
         write it as a string"
    ))
}

impl<'de> Visitor<'de> for ExactVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        if value > EXACT_MAX { Err(inexact(value)) } else { Ok(value.into()) }
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        if value.unsigned_abs() > EXACT_MAX { Err(inexact(value)) } else { Ok(value.into()) }
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        // A whole number too long for 64 bits comes here as well.
        let number = Number::from_f64(value).filter(|_| value.abs() <= EXACT_MAX as f64);
        number.map(Value::Number).ok_or_else(|| inexact(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Exact(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some((name, Exact(value))) = members.next_entry::<String, Exact>()? {
            if all.contains_key(&name) {
                return Err(de::Error::custom(format_args!(
                    "the member {name:?} stands twice; which of them counts?"
                )));
            }
            all.insert(name, value);
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(payload: &str) -> Result<Derived, DeriveError> {
        derive(&About {
            namespace: "pay",
            operation: "charge",
            payload: Some(payload.as_bytes()),
            ..About::default()
        })
    }

    /// The example of RFC 8785 3.2.2, but for its 1E30.
    #[test]
    fn a_payload_has_the_form_of_rfc_8785() {
        let payload = r#"{ "numbers": [333333333.33333329, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false] }"#;
        let form = r#"{"literals":[null,true,false],"numbers":[333333333.3333333,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}"#;
        let derived = of(payload).expect("JSON");
        assert_eq!(derived.canonical, format!("{{\"operation\":\"charge\",\"payload\":{form}}}"));
    }

    #[test]
    fn the_same_operation_has_the_same_key_however_it_is_written() {
        let key = |payload| of(payload).expect("JSON").key;
        assert_eq!(key(r#"{"amount": 10.0, "to": "b\u0061r"}"#), key("{\n \"to\":\"bar\",\"amount\":1e1 }"));
        assert_ne!(key(r#"{"amount":10}"#), key(r#"{"amount":"10"}"#));
        assert_ne!(key(r#"[1,2]"#), key(r#"[2,1]"#));
        // What `printf '{"operation":"charge","payload":{"amount":10}}' | sha256sum` prints.
        let known = "pay:1dace868e908a788205f0896731395460cf603e5ba847c5eb4df32bb99cb06a6";
        assert_eq!(key(r#"{"amount":10}"#), known);
    }

    #[test]
    fn principal_window_and_namespace_tell_operations_apart() {
        let about = About { namespace: "pay", operation: "charge", payload: Some(b"{}"), ..About::default() };
        let window = |at| Some(Window { seconds: 300, at });
        let all = [
            about,
            About { operation: "refund", ..about },
            About { principal: Some("c1"), ..about },
            About { principal: Some("c2"), ..about },
            About { payload: None, ..about },
            About { window: window(1_799_999_999), ..about },
            About { window: window(1_800_000_000), ..about },
            About { namespace: "", ..about },
        ];
        let keys: std::collections::BTreeSet<String> =
            all.iter().map(|about| derive(about).expect("JSON").key).collect();
        assert_eq!(keys.len(), all.len());
        let same = |at| derive(&About { window: window(at), ..about }).expect("JSON");
        assert_eq!(same(1_800_000_000), same(1_800_000_299));
        assert!(same(1_800_000_299).canonical.ends_with(r#""window":{"from":1800000000,"seconds":300}}"#));
    }

    /// Two payments of 9007199254740992 and ...993 cents would have been one operation.
    #[test]
    fn what_could_make_two_payloads_one_is_refused_with_its_place() {
        let error = |payload: &str| of(payload).expect_err("refused").to_string();
        assert!(error(r#"{"a":9007199254740993}"#).contains("write it as a string at line 1 column"));
        assert!(error("[-9007199254740992]").contains("write it as a string"));
        assert!(error("[100000000000000000001]").contains("write it as a string"));
        assert!(error("{\"a\":1,\n\"a\":2}").contains("\"a\" stands twice; which of them counts? at line 2"));
        assert!(error("{\"a\":1").starts_with("the payload: EOF while parsing"));
        assert!(error("{} {}").contains("trailing characters"));
        let colon = About { namespace: "pay:eu", operation: "charge", ..About::default() };
        assert!(derive(&colon).expect_err("refused").to_string().starts_with("a namespace has no colon"));
        assert!(derive(&About { operation: "", ..colon }).is_err());
    }
}
