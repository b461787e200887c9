//! The Redis wire protocol, RESP2 and RESP3, both ends of it.
//!
//! Our own codec and not a crate: it is the hot path (every claim passes through [`parse`] and [`encode`] once), and
//! the crates at hand recurse on input (40 KB of `*1\r\n` aborts the process) and know no bounds. Four parts:
//!
//! - [`parse`]: commands out of a connection's read buffer; zero-copy, never recursive, every length bounded.
//! - [`encode`]: replies appended to a connection's write buffer in the dialect the client chose.
//! - [`value`]: replies read back, incrementally; used by the client only.
//! - [`client`]: a small blocking client for the command line, the demo, tests and the bench.
//!
//! Nothing in here knows what a command means; it must stay free of the core's types, and it must never panic on
//! bytes from outside.

pub mod client;
pub mod encode;
mod inline;
pub mod limits;
pub mod parse;
pub mod value;

pub use client::{Client, ClientError};
pub use encode::{Encoder, Proto};
pub use limits::RespLimits;
pub use parse::{ArgVec, Parse, ParseError, Parser};
pub use value::Value;
