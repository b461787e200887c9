//! Exit codes: one number for each answer, so that a script can branch without reading text.
//!
//! Zero means "what was asked for is so"; 10..=19 are answers about the key that are not errors of anybody; 20 and 21
//! are worth a retry; from 64 on it is sysexits.h. The numbers are an interface: append, never renumber. The table
//! is the only place that explains them; `--help` and the README print it.

use crate::log::OpenError;
use crate::mend::MendError;
use crate::resp::ClientError;
use std::fmt::Write as _;

/// Granted, completed, renewed, released, forgotten, settled, issued, ok.
pub const OK: u8 = 0;
/// IN_PROGRESS; for `get`: HELD.
pub const IN_PROGRESS: u8 = 10;
/// REPLAY.
pub const REPLAY: u8 = 11;
/// MISMATCH.
pub const MISMATCH: u8 = 12;
/// UNKNOWN.
pub const UNKNOWN: u8 = 13;
/// EXPIRED.
pub const EXPIRED: u8 = 14;
/// SUPERSEDED.
pub const SUPERSEDED: u8 = 15;
/// CONTESTED.
pub const CONTESTED: u8 = 16;
/// STALE.
pub const STALE: u8 = 17;
/// FREE; NOT_LISTED.
pub const FREE: u8 = 18;
/// BEHIND.
pub const BEHIND: u8 = 19;
/// UNAVAILABLE.
pub const UNAVAILABLE: u8 = 20;
/// The daemon could not be reached, or its reply was lost.
pub const UNREACHABLE: u8 = 21;
/// Wrong arguments.
pub const USAGE: u8 = 64;
/// A file is damaged, or not of this version.
pub const DAMAGED: u8 = 65;
/// A reply nobody understands, a failure of the daemon or of this program.
pub const INTERNAL: u8 = 70;
/// A daemon runs on the data folder.
pub const IN_USE: u8 = 75;
/// The role is missing, or the socket's file permissions forbid it.
pub const PERMISSION: u8 = 77;

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The process's exit code.
    pub code: u8,
    /// The statuses it stands for, or a word for what is no status.
    pub name: &'static str,
    /// What it means to a caller.
    pub meaning: &'static str,
}

const fn exit(code: u8, name: &'static str, meaning: &'static str) -> Exit {
    Exit { code, name, meaning }
}

/// Every exit code of the client commands, in order.
pub const TABLE: [Exit; 18] = [
    exit(OK, "GRANTED COMPLETED RENEWED RELEASED FORGOTTEN SETTLED COMPENSATED ISSUED OK", "done as asked"),
    exit(IN_PROGRESS, "IN_PROGRESS HELD", "somebody runs the operation now; ask again later"),
    exit(REPLAY, "REPLAY", "done before; the outcome is in the answer, do not run it"),
    exit(MISMATCH, "MISMATCH", "the key stands for another payload; a caller's bug"),
    exit(UNKNOWN, "UNKNOWN", "its holder vanished; somebody must find out what happened"),
    exit(EXPIRED, "EXPIRED", "the key is older than its retention; never run it"),
    exit(SUPERSEDED, "SUPERSEDED", "another claim won; stop, or compensate what was done"),
    exit(CONTESTED, "CONTESTED", "recorded, but another claim is live: both may have run"),
    exit(STALE, "STALE", "the token is not valid (any more) for this key"),
    exit(FREE, "FREE NOT_LISTED", "nothing is known of the key, or of such a loser"),
    exit(BEHIND, "BEHIND", "the version to advance from is not known to be done here"),
    exit(UNAVAILABLE, "UNAVAILABLE", "cannot answer now and nothing was granted; retry later"),
    exit(UNREACHABLE, "unreachable", "no daemon at the socket, or no reply in time"),
    exit(USAGE, "REFUSED usage", "wrong arguments or configuration; nothing was changed"),
    exit(DAMAGED, "damaged", "a file is damaged, or of another version; what to do is said"),
    exit(INTERNAL, "internal", "unexpected reply or failure; see the daemon's log"),
    exit(IN_USE, "in use", "a daemon runs on that data folder: stop it first"),
    exit(PERMISSION, "permission", "role missing, or the socket is not yours to open"),
];

/// The code of a reply's status; a status this program does not know is [`INTERNAL`].
pub fn of_status(status: &str) -> u8 {
    // Statuses are the upper-case words of the table; what is no status is in lower case.
    let line = TABLE.iter().find(|line| line.name.split(' ').any(|name| name == status));
    line.map_or(INTERNAL, |line| line.code)
}

/// The code of an error reply (`CODE text`).
pub fn of_error_reply(text: &str) -> u8 {
    match text.split(' ').next() {
        Some("BADARG" | "TOOBIG") => USAGE,
        Some("NOPERM" | "NOAUTH") => PERMISSION,
        _ => INTERNAL,
    }
}

/// The code of a call without a reply.
pub fn of_client_error(error: &ClientError) -> u8 {
    match error {
        ClientError::PermissionDenied { .. } => PERMISSION,
        ClientError::Protocol(_) => INTERNAL,
        _ => UNREACHABLE,
    }
}

/// The code of a data folder that cannot be opened.
pub fn of_open_error(error: &OpenError) -> u8 {
    match error {
        OpenError::Locked(_) => IN_USE,
        OpenError::Damage(_) | OpenError::Restoring(_) => DAMAGED,
        _ => INTERNAL,
    }
}

/// The code of a data folder that is not mended.
pub fn of_mend_error(error: &MendError) -> u8 {
    match error {
        MendError::Open(error) => of_open_error(error),
        MendError::Io { .. } => INTERNAL,
        _ => USAGE,
    }
}

/// The code of an error that ended the program: that of its cause where it has one, else [`INTERNAL`].
pub fn of_error(error: &anyhow::Error) -> u8 {
    let known = error.chain().find_map(|cause| {
        let client = cause.downcast_ref::<ClientError>().map(of_client_error);
        let open = || cause.downcast_ref::<OpenError>().map(of_open_error);
        client.or_else(open).or_else(|| cause.downcast_ref::<MendError>().map(of_mend_error))
    });
    known.unwrap_or(INTERNAL)
}

/// The end of a command's help: its examples, then the lines of the table that matter to it.
pub fn help(examples: &str, codes: &[u8]) -> String {
    let mut text = format!("EXAMPLES\n{examples}\n\nEXIT CODES\n");
    for line in TABLE.iter().filter(|line| codes.contains(&line.code)) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:>2}  {}: {}", line.code, line.name, line.meaning);
    }
    text.truncate(text.trim_end().len());
    text
}

/// [`help`] with the whole table.
pub fn help_all(examples: &str) -> String {
    help(examples, &TABLE.map(|line| line.code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_the_contract_has_its_code() {
        let zero = ["GRANTED", "COMPLETED", "RENEWED", "RELEASED", "FORGOTTEN", "SETTLED", "OK"];
        let rest = [("IN_PROGRESS", 10), ("HELD", 10), ("REPLAY", 11), ("MISMATCH", 12), ("UNKNOWN", 13)];
        let more = [("EXPIRED", 14), ("SUPERSEDED", 15), ("CONTESTED", 16), ("STALE", 17), ("FREE", 18)];
        assert!(zero.iter().all(|status| of_status(status) == 0));
        for (status, code) in rest.into_iter().chain(more).chain([("UNAVAILABLE", 20)]) {
            assert_eq!(of_status(status), code, "{status}");
        }
        assert_eq!((of_status("GRANT"), of_status("")), (70, 70));
    }

    #[test]
    fn codes_are_distinct_and_in_order() {
        assert!(TABLE.windows(2).all(|pair| pair[0].code < pair[1].code));
    }

    #[test]
    fn errors_have_codes() {
        assert_eq!(of_error_reply("BADARG FP wants 32 hex digits"), USAGE);
        assert_eq!(of_error_reply("NOPERM admin only"), PERMISSION);
        assert_eq!(of_error_reply("ERR unknown command 'CLAIM'"), INTERNAL);
        assert_eq!(of_client_error(&ClientError::Closed), UNREACHABLE);
    }
}
