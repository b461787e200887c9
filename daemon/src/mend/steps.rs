//! The places where a command that changes a folder may be ended by whatever ends processes.

use std::cell::Cell;
use std::io;

/// Counts the changes of a folder. Tests end a command before each of them in turn.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    left: Option<Cell<u32>>,
}

impl Steps {
    /// Ends as if the process were killed after so many changes.
    #[cfg(test)]
    pub(crate) fn ending_after(count: u32) -> Self {
        Self { left: Some(Cell::new(count)) }
    }

    /// To be called before each change.
    pub(crate) fn next(&self) -> io::Result<()> {
        let Some(left) = &self.left else { return Ok(()) };
        let Some(next) = left.get().checked_sub(1) else {
            return Err(io::Error::other("ended here by a test"));
        };
        left.set(next);
        Ok(())
    }
}
