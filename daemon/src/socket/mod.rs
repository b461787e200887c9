//! The Unix socket: RESP2/RESP3 for the services beside the daemon (S4, S8).
//!
//! A connection is served by one task of one thread from read to write; no operation hops anywhere. Each
//! thread has a runtime of its own, so nothing migrates between cores.

mod args;
mod connection;
mod digest;
pub mod limits;
mod live;
mod losers;
mod native;
mod reply;
mod server;
mod session;
mod show;

pub use live::Live;
pub use native::MeshCommand;
pub use reply::RegionNames;
pub use server::{BindError, Listening, Server, Shared, bind};
