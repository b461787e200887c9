//! What a client command leaves behind: bytes for stdout and stderr, and an exit code; and the JSON form of a reply.
//!
//! JSON is one object on one line, the fields in the order of the reply. Bytes that are not UTF-8 become
//! `{"hex":"00ff…"}`: hex and not base64, because fingerprints, tokens and digests are hex everywhere else here.
//! Commands return an [`Output`] instead of printing, so that tests see what a person would.

use crate::resp::Value;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

/// The result of one command.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// For pipes and eyes.
    pub stdout: Vec<u8>,
    /// For eyes only.
    pub stderr: String,
    /// See `exit.rs`.
    pub code: u8,
}

impl Output {
    /// Writes both streams. A reader that went away (`| head`) is no error.
    ///
    /// # Errors
    /// A stream cannot be written, the disk behind it is full for one.
    pub fn emit(&self) -> io::Result<ExitCode> {
        let written = io::stdout().lock().write_all(&self.stdout).and_then(|()| io::stdout().lock().flush());
        // Nobody can be told that stderr is closed.
        let _ = io::stderr().lock().write_all(self.stderr.as_bytes());
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(ExitCode::from(self.code)),
        }
    }
}

/// One line of JSON with its newline.
pub fn json_line(value: &impl Serialize) -> Vec<u8> {
    // Serialising to memory fails only for maps with keys that are not strings; `Json` makes all of them strings.
    let mut line =
        serde_json::to_vec(value).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}").into_bytes());
    line.push(b'\n');
    line
}

/// A reply as JSON.
#[derive(Debug)]
pub struct Json<'a>(pub &'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(flag) => serializer.serialize_bool(*flag),
            Value::Int(number) => serializer.serialize_i64(*number),
            Value::Double(number) => serializer.serialize_f64(*number),
            Value::Simple(text) => serializer.serialize_str(text),
            Value::Error(text) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("error", text)?;
                map.end()
            }
            Value::Bulk(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => serializer.serialize_str(text),
                Err(_) => {
                    let mut map = serializer.serialize_map(Some(1))?;
                    map.serialize_entry("hex", &hex(bytes))?;
                    map.end()
                }
            },
            Value::Array(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| seq.serialize_element(&Json(item)))?;
                seq.end()
            }
            Value::Map(pairs) => {
                let mut map = serializer.serialize_map(Some(pairs.len()))?;
                pairs.iter().try_for_each(|(key, value)| map.serialize_entry(&name(key), &Json(value)))?;
                map.end()
            }
        }
    }
}

fn name(key: &Value) -> String {
    match key {
        Value::Int(number) => number.to_string(),
        other => String::from_utf8_lossy(other.as_bytes().unwrap_or_default()).into_owned(),
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_order_and_bytes() {
        let text = |text: &str| Value::Simple(text.to_owned());
        let reply = Value::Map(vec![
            (text("status"), Value::Bulk(b"REPLAY".to_vec())),
            (text("outcome"), Value::Bulk(vec![0, 0xff])),
            (
                text("a"),
                Value::Array(vec![Value::Null, Value::Bool(true), Value::Int(-1), Value::Double(0.5)]),
            ),
            (Value::Int(7), Value::Bulk("é\n\"".into())),
        ]);
        let line = String::from_utf8(json_line(&Json(&reply))).expect("JSON is UTF-8");
        let expected = r#"{"status":"REPLAY","outcome":{"hex":"00ff"},"a":[null,true,-1,0.5],"7":"é\n\""}"#;
        assert_eq!(line, format!("{expected}\n"));
    }
}
