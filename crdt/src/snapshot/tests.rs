//! Checkpoints and what a start makes of them.
//!
//! [`folder`] is a data folder in memory; [`equality`] holds that manifest, runs and the rest of the log say
//! what the whole log says and what the living store holds; [`rot`] flips bits of all of it and cuts it short;
//! [`runs`] looks at the files on their own, and at when they may go.

mod equality;
mod exact;
pub(crate) mod folder;
mod region;
mod rot;
mod runs;
