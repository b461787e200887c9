//! What the demo tells: lines for people as things happen, or one JSON object at the end.
//!
//! A check is a sentence and whether it held; a figure is a name and a number. Both are kept, so that the summary and
//! the JSON say the same as the story did. Colours only on a terminal.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json, json};

use super::cluster::{Cluster, Region};

/// One step of the story.
#[derive(Debug, Default)]
struct Step {
    title: String,
    checks: Vec<(String, bool)>,
    figures: Map<String, Json>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Report {
    steps: Vec<Step>,
    json: bool,
    colour: bool,
    started: Instant,
}

impl Report {
    /// An empty one.
    pub fn new(json: bool) -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { steps: Vec::new(), json, colour, started: Instant::now() }
    }

    /// When the demo began.
    pub fn started(&self) -> Instant {
        self.started
    }

    fn line(&self, text: &str) {
        if !self.json {
            // A reader that went away (`| head`) is no reason to fail.
            let _ = writeln!(std::io::stdout(), "{text}");
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The first lines.
    pub fn opening(&self, cluster: &Cluster) {
        self.line(&self.paint("1", "onced demo: three regions, real processes, real QUIC, real faults"));
        self.line(&format!(
            "  everything is under {}; the regions share this machine, so no distance slows a link",
            cluster.folder().display()
        ));
    }

    /// A region that has been started.
    pub fn line_of_region(&self, name: &str, pid: u32, socket: &str, address: &str) {
        self.line(&format!("  {name}  pid {pid}, socket {socket}, QUIC on udp {address}"));
    }

    /// Begins a step.
    pub fn step(&mut self, title: &str) {
        self.steps.push(Step { title: title.to_owned(), ..Step::default() });
        self.line(&format!("\n{}", self.paint("1", &format!("{}  {title}", self.steps.len()))));
    }

    /// A line of the story.
    pub fn say(&self, text: &str) {
        self.line(&format!("   {text}"));
    }

    /// A check and whether it held; the answer is passed on.
    pub fn check(&mut self, sentence: &str, held: bool) -> bool {
        let mark = if held { self.paint("32", "✓") } else { self.paint("1;31", "✗") };
        self.line(&format!("   {mark} {sentence}"));
        if let Some(step) = self.steps.last_mut() {
            step.checks.push((sentence.to_owned(), held));
        }
        held
    }

    /// A number for the JSON; its unit is the end of its name.
    pub fn figure(&mut self, name: &str, value: f64) {
        if let Some(step) = self.steps.last_mut() {
            step.figures.insert(name.to_owned(), json!((value * 1000.0).round() / 1000.0));
        }
    }

    /// The step could not go on: a check that did not hold.
    pub fn broken(&mut self, error: &anyhow::Error) {
        if self.steps.is_empty() {
            self.step("Start");
        }
        self.check(&format!("the step cannot go on: {error:#}"), false);
    }

    /// The lines of `--keep`.
    pub fn staying(&self, cluster: &Cluster) {
        let [eu, us, ap] = Region::ALL.map(|region| cluster.socket(region).display().to_string());
        self.line(&format!("\n{}", self.paint("1", "The three regions stay up. Try, in another terminal:")));
        let program = std::env::current_exe().map_or("onced".to_owned(), |path| path.display().to_string());
        for line in [
            format!("alias onced={program}; export ONCED_SOCKET={eu}"),
            "onced claim pay:42 --claimant me && onced get pay:42".to_owned(),
            format!("onced claim pay:42 --claimant somebody-else --socket {us}"),
            format!("redis-cli -s {ap} GET pay:42"),
            format!("redis-cli -s {eu} CLAIM pay:43 CLAIMANT a WAIT 500"),
            "onced peer cut us && onced peers".to_owned(),
            "onced peer heal us; onced conflicts; onced status".to_owned(),
        ] {
            self.line(&format!("     {line}"));
        }
        self.line("\n   Enter or Ctrl-C stops them.");
        if self.json {
            // Scripts need the sockets while the demo is up; the report comes at the end.
            let _ = writeln!(std::io::stderr(), "{}", json!({"sockets": {"eu": eu, "us": us, "ap": ap}}));
        }
    }

    /// The summary; true if every check held.
    pub fn closing(&self, cluster: &Cluster) -> bool {
        let checks: Vec<_> = self.steps.iter().flat_map(|step| &step.checks).collect();
        let failed: Vec<_> = checks.iter().filter(|(_, held)| !held).map(|(sentence, _)| sentence).collect();
        let took = seconds(self.started.elapsed());
        // No check at all would be nothing shown.
        let held = failed.is_empty() && !checks.is_empty();
        if self.json {
            let _ = writeln!(std::io::stdout(), "{}", self.as_json(held, cluster));
            return held;
        }
        let count = checks.len();
        if held {
            let text = format!("All {count} checks held, in {took}.");
            self.line(&format!("\n{}", self.paint("1;32", &text)));
        } else {
            let text = format!("{} of {count} checks did NOT hold, in {took}:", failed.len());
            self.line(&format!("\n{}", self.paint("1;31", &text)));
            failed.iter().for_each(|sentence| self.line(&format!("   ✗ {sentence}")));
            let logs = Region::ALL.map(|region| cluster.log(region).display().to_string());
            self.line(&format!("The daemons' logs: {}", logs.join(" ")));
        }
        held
    }

    fn as_json(&self, held: bool, cluster: &Cluster) -> Json {
        let check = |(sentence, held): &(String, bool)| json!({"check": sentence, "held": held});
        let steps: Vec<_> = self
            .steps
            .iter()
            .map(|step| {
                let checks: Vec<_> = step.checks.iter().map(check).collect();
                json!({"title": step.title, "checks": checks, "figures": step.figures})
            })
            .collect();
        let took_ms = self.started.elapsed().as_millis() as u64;
        json!({"held": held, "took_ms": took_ms, "folder": cluster.folder().display().to_string(), "steps": steps})
    }
}

/// A duration as people read it: µs below a millisecond, ms below ten seconds.
pub fn shown(duration: Duration) -> String {
    let us = duration.as_secs_f64() * 1e6;
    match us {
        _ if us < 1_000.0 => format!("{us:.0} µs"),
        _ if us < 100_000.0 => format!("{:.1} ms", us / 1e3),
        _ if us < 10_000_000.0 => format!("{:.0} ms", us / 1e3),
        _ => seconds(duration),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
