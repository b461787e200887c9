//! Commands that every Redis client sends before its own: PING, HELLO, AUTH, CLIENT, SELECT, COMMAND, INFO,
//! ECHO, QUIT, RESET, CONFIG GET. Enough for clients to feel at home; the rest is an unknown command.

use super::args::{is, number, shown};
use super::limits::CLIENT_NAME_BYTES_MAX;
use crate::resp::encode::{Encoder, Proto};

/// What a connection has said of itself.
#[derive(Debug)]
pub struct Session {
    /// Unique in this process.
    pub id: u64,
    /// RESP2 until HELLO 3.
    pub proto: Proto,
    name: Vec<u8>,
}

/// What a session command leaves to the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handled {
    /// Answered.
    Yes,
    /// Answered; to be closed once the replies are out.
    Close,
    /// Not a session command.
    No,
}

impl Session {
    /// A fresh connection.
    pub fn new(id: u64) -> Self {
        Self { id, proto: Proto::Resp2, name: Vec::new() }
    }

    /// Answers `args` if it is a session command. `info` writes INFO's text.
    pub fn handle(
        &mut self,
        args: &[&[u8]],
        out: &mut Encoder<'_>,
        info: impl FnOnce() -> String,
    ) -> Handled {
        let Some(&command) = args.first() else { return Handled::No };
        if is(command, b"PING") {
            match args {
                [_] => out.simple("PONG"),
                [_, message] => out.bulk(message),
                _ => wrong_number(out, "ping"),
            }
        } else if is(command, b"HELLO") {
            self.hello(args, out);
        } else if is(command, b"ECHO") {
            match args {
                [_, message] => out.bulk(message),
                _ => wrong_number(out, "echo"),
            }
        } else if is(command, b"AUTH") {
            out.error(
                "ERR onced has no passwords: the socket's file mode and the caller's uid and gid decide; \
                 remove the password from the client's settings",
            );
        } else if is(command, b"SELECT") {
            match args {
                [_, b"0"] => out.ok(),
                [_, _] => {
                    out.error("ERR DB index is out of range: onced has one database, 0; use namespaces");
                }
                _ => wrong_number(out, "select"),
            }
        } else if is(command, b"CLIENT") {
            self.client(args, out);
        } else if is(command, b"COMMAND") {
            match args.get(1) {
                Some(word) if is(word, b"COUNT") => out.int(0),
                _ => out.array(0),
            }
        } else if is(command, b"CONFIG") {
            match args.get(1) {
                Some(word) if is(word, b"GET") => out.map(0),
                _ => out.error("ERR onced is configured by its file; see onced check-config"),
            }
        } else if is(command, b"INFO") {
            out.bulk(info().as_bytes());
        } else if is(command, b"QUIT") {
            out.ok();
            return Handled::Close;
        } else if is(command, b"RESET") {
            self.proto = Proto::Resp2;
            self.name.clear();
            out.simple("RESET");
        } else {
            return Handled::No;
        }
        Handled::Yes
    }

    fn hello(&mut self, args: &[&[u8]], out: &mut Encoder<'_>) {
        let proto = match args.get(1) {
            None => self.proto,
            Some(&version) => match number("HELLO", version) {
                Ok(2) => Proto::Resp2,
                Ok(3) => Proto::Resp3,
                _ => return out.error("NOPROTO unsupported protocol version: send HELLO 2 or HELLO 3"),
            },
        };
        let mut rest = args.get(2..).unwrap_or_default();
        let mut name = None;
        while let Some((word, after)) = rest.split_first() {
            match after {
                [wanted, after @ ..] if is(word, b"SETNAME") => {
                    name = Some(*wanted);
                    rest = after;
                }
                [_, _, after @ ..] if is(word, b"AUTH") => rest = after,
                _ => return out.error(format_args!("ERR Syntax error in HELLO option '{}'", shown(word))),
            }
        }
        if let Some(name) = name
            && !self.set_name(name)
        {
            return out.error(NAME_ERROR);
        }
        self.proto = proto;
        out.set_proto(proto);
        out.map(7);
        out.field_bulk("server", b"onced");
        out.field_bulk("version", env!("CARGO_PKG_VERSION").as_bytes());
        out.field_int("proto", if proto == Proto::Resp3 { 3 } else { 2 });
        out.field_uint("id", self.id);
        out.field_bulk("mode", b"standalone");
        out.field_bulk("role", b"master");
        out.field_array("modules", 0);
    }

    fn client(&mut self, args: &[&[u8]], out: &mut Encoder<'_>) {
        match args {
            [_, word, name] if is(word, b"SETNAME") => {
                if self.set_name(name) {
                    out.ok();
                } else {
                    out.error(NAME_ERROR);
                }
            }
            [_, word] if is(word, b"GETNAME") => match self.name.as_slice() {
                [] => out.null(),
                name => out.bulk(name),
            },
            [_, word] if is(word, b"ID") => out.int(self.id as i64),
            [_, word, _, _] if is(word, b"SETINFO") => out.ok(),
            [_, word, ..] if is(word, b"NO-EVICT") || is(word, b"NO-TOUCH") => out.ok(),
            [_, word, ..] => {
                out.error(format_args!(
                    "ERR unknown subcommand '{}'. Try CLIENT ID or SETNAME.",
                    shown(word)
                ));
            }
            _ => wrong_number(out, "client"),
        }
    }

    fn set_name(&mut self, name: &[u8]) -> bool {
        let good =
            name.len() <= CLIENT_NAME_BYTES_MAX && name.iter().all(|byte| (b'!'..=b'~').contains(byte));
        if good {
            self.name = name.to_vec();
        }
        good
    }
}

const NAME_ERROR: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

fn wrong_number(out: &mut Encoder<'_>, command: &str) {
    out.error(format_args!("ERR wrong number of arguments for '{command}' command"));
}
