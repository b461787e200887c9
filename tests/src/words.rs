//! Replies as tests compare them.

use daemon::resp::Value;

/// The status; of an error reply, its first word with the `-`.
pub fn status(reply: &Value) -> String {
    match reply {
        Value::Error(text) => format!("-{}", text.split(' ').next().unwrap_or_default()),
        reply => reply.status().unwrap_or("no status").to_owned(),
    }
}

/// A field as text; `null` for null.
///
/// # Panics
/// It is missing.
pub fn field(reply: &Value, name: &str) -> String {
    let value = reply.field(name).unwrap_or_else(|| panic!("no field {name} in {reply:?}"));
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        value => value
            .as_str()
            .map(str::to_owned)
            .or_else(|| value.as_int().map(|int| int.to_string()))
            .unwrap_or_else(|| panic!("{name} is no text in {reply:?}")),
    }
}

/// A field as a number.
///
/// # Panics
/// It is missing, or none.
pub fn int(reply: &Value, name: &str) -> i64 {
    let value = reply.field(name).and_then(Value::as_int);
    value.unwrap_or_else(|| panic!("no number {name} in {reply:?}"))
}
