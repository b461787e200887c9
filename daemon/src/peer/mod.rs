//! The peers: certificates, transport, and the thread that moves frames for `crdt::node` (S7).

pub mod ca;
pub mod certificates;
mod gauges;
pub mod limits;
mod link;
pub mod mesh;
mod protocol;
mod refusals;
pub mod tls;
pub mod transport_config;
