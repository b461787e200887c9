//! What the acts play on: a client in every region, calls that are timed, and conditions that are waited for.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::cluster::{Cluster, Region};
use super::limits::{LOOK_EVERY, REPLY_MAX, STORY_MAX};
use super::report::{Report, shown};
use crate::resp::{Client, Value};

/// See the module's text.
#[derive(Debug)]
pub struct Stage<'d> {
    /// The daemons.
    pub cluster: &'d Cluster,
    /// What is told.
    pub report: &'d mut Report,
    clients: [Option<Client>; 3],
    deadline: Instant,
}

impl<'d> Stage<'d> {
    /// Starts all regions and waits until they are ready.
    ///
    /// # Errors
    /// One does not start.
    pub fn open(cluster: &'d Cluster, report: &'d mut Report) -> anyhow::Result<Self> {
        let began = Instant::now();
        for region in Region::ALL {
            let pid = cluster.start(region)?;
            let (socket, address) = (cluster.socket(region), cluster.address(region));
            report.line_of_region(region.name(), pid, &socket.display().to_string(), &address);
        }
        let deadline = report.started() + STORY_MAX;
        let mut stage = Self { cluster, report, clients: [None, None, None], deadline };
        for region in Region::ALL {
            stage.clients[region as usize] = Some(cluster.wait_ready(region)?);
        }
        for region in Region::ALL {
            let linked = stage.until(REPLY_MAX, |stage| Ok(stage.links(region)? == 2))?;
            linked.with_context(|| format!("{} is not linked to both peers", region.name()))?;
        }
        stage.report.say(&format!("ready, and linked by mutual TLS, after {}", shown(began.elapsed())));
        Ok(stage)
    }

    /// A further connection to a region.
    ///
    /// # Errors
    /// It does not answer.
    pub fn client(&self, region: Region) -> anyhow::Result<Client> {
        let mut client = Client::connect(self.cluster.socket(region), REPLY_MAX)?;
        client.hello3()?;
        Ok(client)
    }

    /// The connection to use for a region from now on.
    pub fn set_client(&mut self, region: Region, client: Client) {
        self.clients[region as usize] = Some(client);
    }

    /// Sends one command and waits for its reply.
    ///
    /// # Errors
    /// No reply, or an error reply: the demo sends nothing malformed.
    pub fn call(&mut self, region: Region, words: &[&[u8]]) -> anyhow::Result<Value> {
        if self.clients[region as usize].is_none() {
            self.clients[region as usize] = Some(self.client(region)?);
        }
        let client = self.clients[region as usize].as_mut().context("connected just now")?;
        let replied = client.call(words);
        if replied.is_err() {
            // Its replies may be out of step: the next call connects anew.
            self.clients[region as usize] = None;
        }
        let named = || format!("{} to {}", String::from_utf8_lossy(&words.join(&b' ')), region.name());
        match replied.with_context(named)? {
            Value::Error(error) => bail!("{}: {error}", named()),
            reply => Ok(reply),
        }
    }

    /// As [`Stage::call`], with what it took; both are told.
    ///
    /// # Errors
    /// As [`Stage::call`].
    pub fn tell(
        &mut self,
        region: Region,
        words: &[&[u8]],
        more: &[&str],
    ) -> anyhow::Result<(Value, Duration)> {
        let began = Instant::now();
        let reply = self.call(region, words)?;
        let took = began.elapsed();
        let command: Vec<_> = words.iter().map(|word| shortened(word)).collect();
        let told = more
            .iter()
            .filter_map(|name| Some(format!(" {name}={}", shortened(field(&reply, name)?.as_bytes()))));
        self.report.say(&format!(
            "{}> {:<62} {}{}  {}",
            region.name(),
            command.join(" "),
            reply.status().unwrap_or("?"),
            told.collect::<String>(),
            shown(took),
        ));
        Ok((reply, took))
    }

    /// Waits until `condition` holds; what it took, `None` if it does not hold within `limit` or the story's time.
    ///
    /// # Errors
    /// The condition cannot be looked at.
    pub fn until(
        &mut self,
        limit: Duration,
        mut condition: impl FnMut(&mut Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Option<Duration>> {
        let began = Instant::now();
        let deadline = (began + limit).min(self.deadline);
        loop {
            if condition(self)? {
                return Ok(Some(began.elapsed()));
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Links of a region that are up.
    ///
    /// # Errors
    /// As [`Stage::call`].
    pub fn links(&mut self, region: Region) -> anyhow::Result<usize> {
        let peers = self.call(region, &[b"PEERS"])?;
        let peers = peers.field("peers").and_then(Value::as_array).unwrap_or_default();
        Ok(peers.iter().filter(|peer| text(peer, "state") == "linked").count())
    }

    /// Waits until all regions have the same digest; what it took.
    ///
    /// # Errors
    /// As [`Stage::call`].
    pub fn agreed(&mut self, limit: Duration) -> anyhow::Result<Option<(Duration, String)>> {
        let mut digest = String::new();
        let took = self.until(limit, |stage| {
            let [eu, us, ap] = Region::ALL.map(|region| stage.call(region, &[b"STATUS", b"DIGEST"]));
            let [eu, us, ap] = [text(&eu?, "digest"), text(&us?, "digest"), text(&ap?, "digest")];
            let same = eu == us && us == ap && !eu.is_empty();
            // Its beginning tells two states apart well enough for the eye.
            digest = eu.chars().take(8).collect();
            Ok(same)
        })?;
        Ok(took.map(|took| (took, digest)))
    }
}

/// A field as text, empty where it is missing.
pub fn text(reply: &Value, name: &str) -> String {
    field(reply, name).unwrap_or_default()
}

fn field(reply: &Value, name: &str) -> Option<String> {
    let value = reply.field(name)?;
    if value.is_null() {
        return Some("null".to_owned());
    }
    value.as_str().map(str::to_owned).or_else(|| value.as_int().map(|int| int.to_string()))
}

/// Long hex (tokens, fingerprints) by its beginning: the story is read, not pasted.
fn shortened(word: &[u8]) -> String {
    let word = String::from_utf8_lossy(word);
    let hex = word.len() > 24 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex { format!("{}…", &word[..8]) } else { word.into_owned() }
}

/// The middle one, and the one that 99 of 100 do not exceed.
pub fn median_and_p99(latencies: &mut [Duration]) -> (Duration, Duration) {
    latencies.sort_unstable();
    let at = |part: usize| latencies.get(latencies.len() * part / 100).copied().unwrap_or_default();
    (at(50), at(99))
}
