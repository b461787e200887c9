//! The line that says what is being measured: overwritten on a terminal, silent elsewhere but for one line a figure.
//!
//! On standard error, so that the table and the JSON on standard output stay clean. Must never slow a run down: it
//! speaks between runs only.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Says what is going on.
pub struct Progress {
    terminal: bool,
    begun: Instant,
    figure: String,
}

impl Progress {
    /// Looks at what standard error is.
    pub fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), begun: Instant::now(), figure: String::new() }
    }

    /// A new step. `text` is `figure: detail`; off a terminal only a change of figure is printed.
    pub fn say(&mut self, text: &str) {
        let seconds = self.begun.elapsed().as_secs();
        let figure = text.split(':').next().unwrap_or_default();
        if self.terminal {
            eprint!("\r\x1b[2K[{seconds:>4} s] {text}");
            // A progress line that cannot be shown is no reason to stop measuring.
            let _ = std::io::stderr().flush();
        } else if figure != self.figure {
            eprintln!("[{seconds:>4} s] {figure}");
        }
        self.figure = figure.to_string();
    }

    /// Removes the line.
    pub fn clear(&self) {
        if self.terminal {
            eprint!("\r\x1b[2K");
        }
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }
}
