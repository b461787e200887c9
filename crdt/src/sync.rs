//! The locks and atomics of [`crate::store::Tail`], in one place so that a model checker can stand in.
//!
//! `tests/tail_model.rs` compiles the tail's very source against a module of this name that comes from
//! `shuttle`, and runs it under every schedule that it draws. Here they are those of `std`.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};
