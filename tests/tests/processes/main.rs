//! Whole processes under test. One binary for all of it: each would link the whole daemon's library again, and the
//! tests run beside each other within one process, so that a machine of two cores is used and not flooded.

mod advance;
mod backup;
mod clients;
mod cluster;
mod crash;
mod demo;
mod disk;
mod golden;
mod histories;
mod home;
mod hostile;
mod issued;
mod links;
mod losers;
mod memory;
mod power;
mod quorum;
mod real;
mod reload;
mod repair;
mod resolve;
mod socket;
mod stop;
mod tls;
mod waiters;
