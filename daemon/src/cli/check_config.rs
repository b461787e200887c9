//! `onced check-config FILE`: what was understood, and whether the files it names would work.
//!
//! Reads only; makes nothing, binds nothing, dials nobody, so it is safe beside a running daemon. Exit codes: 0
//! when `onced serve` would get past its configuration, 64 otherwise. Warnings do not change the code.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::json;

use super::exit;
use crate::config::{Access, ClusterSecret, Config, NamespacePolicy, Who, units};
use crate::peer::certificates::EXPIRY_WARNING;
use crate::peer::tls::TlsIdentity;

/// Arguments of `onced check-config`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  onced check-config /etc/onced/onced.toml
  onced check-config onced.toml --json | jq .findings

Exit codes: 0 good (warnings included), 64 wrong.
Run it as the daemon's user, so that file permissions are seen as the daemon sees them.")]
pub struct CheckConfigArgs {
    /// The configuration.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Machine-readable output.
    #[arg(long)]
    json: bool,
}

/// How a file or folder was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Good,
    Warning,
    Wrong,
}

/// One look at something outside the configuration.
struct Finding {
    verdict: Verdict,
    text: String,
}

/// Runs `onced check-config`.
///
/// # Errors
/// Only when standard output cannot be written.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every command takes its arguments by value, as main has them"
)]
pub fn run(args: CheckConfigArgs) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let config = match Config::load(&args.file) {
        Ok(config) => config,
        Err(error) if args.json => {
            let report = json!({ "ok": false, "error": error.to_string(), "problems": error.problems() });
            writeln!(out, "{report:#}")?;
            return Ok(ExitCode::from(exit::USAGE));
        }
        Err(error) => {
            eprintln!("{error}");
            let count = error.problems().len();
            if count > 1 {
                eprintln!("{count} errors");
            }
            return Ok(ExitCode::from(exit::USAGE));
        }
    };
    let findings = look_at_files(&config, SystemTime::now());
    let ok = findings.iter().all(|finding| finding.verdict != Verdict::Wrong);
    if args.json {
        let findings: Vec<_> = findings
            .iter()
            .map(|finding| json!({ "verdict": word(finding.verdict), "text": finding.text }))
            .collect();
        writeln!(out, "{:#}", json!({ "ok": ok, "config": config, "findings": findings }))?;
    } else {
        out.write_all(summary(&args.file, &config, &findings).as_bytes())?;
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::from(exit::USAGE) })
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "ok",
        Verdict::Warning => "warning",
        Verdict::Wrong => "wrong",
    }
}

/// Secret, certificates and folders.
fn look_at_files(config: &Config, now: SystemTime) -> Vec<Finding> {
    let mut findings = vec![secret(config)];
    if let Some(files) = &config.tls {
        findings.push(match TlsIdentity::load(files, &config.cluster.name, &config.region.name, now) {
            Ok(identity) => certificate(config, &identity, now),
            Err(error) => Finding { verdict: Verdict::Wrong, text: error.to_string() },
        });
    }
    findings.push(folder("data_dir", &config.region.data_dir));
    if let Some(parent) = config.socket.path.parent() {
        findings.push(folder("socket folder", parent));
    }
    findings
}

fn secret(config: &Config) -> Finding {
    let file = &config.cluster.secret_file;
    if config.cluster.secret_may_be_created && !file.exists() {
        let text = format!("secret {} will be made at the first start", file.display());
        return Finding { verdict: Verdict::Good, text };
    }
    match ClusterSecret::read(file) {
        Ok(_) => Finding { verdict: Verdict::Good, text: format!("secret {} is usable", file.display()) },
        Err(error) => Finding { verdict: Verdict::Wrong, text: error.to_string() },
    }
}

fn certificate(config: &Config, identity: &TlsIdentity, now: SystemTime) -> Finding {
    let left = identity.not_after.duration_since(now).unwrap_or(Duration::ZERO);
    let days = left.as_secs() / 86_400;
    let (region, cas) = (&config.region.name, identity.cas);
    let fits = format!(
        "certificate is region {region:?}'s, belongs to its key, is signed by one of {cas} trusted CA(s), \
         ends in {days} days"
    );
    if left < EXPIRY_WARNING {
        let text = format!(
            "{fits}; renew it now with: onced tls issue --ca DIR --region {region} --out DIR --force"
        );
        return Finding { verdict: Verdict::Warning, text };
    }
    Finding { verdict: Verdict::Good, text: fits }
}

/// Missing folders are only a warning: the systemd unit makes them.
fn folder(what: &str, path: &Path) -> Finding {
    let shown = path.display();
    let (verdict, text) = match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => (Verdict::Good, format!("{what} {shown} exists")),
        Ok(_) => {
            (Verdict::Wrong, format!("{what} {shown} is no folder; move the file away or name another path"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (
            Verdict::Warning,
            format!("{what} {shown} does not exist yet; make it, or let systemd's unit make it"),
        ),
        Err(error) => (Verdict::Wrong, format!("{what} {shown}: {error}; run this as the daemon's user")),
    };
    Finding { verdict, text }
}

/// The readable form.
fn summary(file: &Path, config: &Config, findings: &[Finding]) -> String {
    let mut lines = vec![format!("{}: understood as", file.display())];
    let mut say = |what: &str, value: String| lines.push(format!("  {what:<10} {value}"));
    say(
        "cluster",
        format!(
            "{}, membership {}, max_drift {}",
            config.cluster,
            config.cluster.membership,
            units::duration(config.cluster.max_drift_ms)
        ),
    );
    let listen = config.region.listen.map_or_else(|| "no QUIC".to_owned(), |at| format!("QUIC at {at}"));
    say("region", format!("{} (id {}), {listen}", config.region.name, config.region.id));
    for peer in &config.peers {
        say("peer", format!("{} (id {}) at {}", peer.name, peer.id, peer.address));
    }
    if config.peers.is_empty() {
        say("peers", "none: this region stands alone".to_owned());
    }
    say("data_dir", config.region.data_dir.display().to_string());
    let socket = &config.socket;
    let group = socket.gid.map_or_else(String::new, |gid| format!(", gid {gid}"));
    say(
        "socket",
        format!(
            "{}, mode {:04o}{group}, {} threads, {} connections at most",
            socket.path.display(),
            socket.mode,
            socket.threads,
            socket.max_connections
        ),
    );
    for rule in access_lines(&socket.access) {
        say("access", rule);
    }
    let log = &config.log;
    say(
        "log",
        format!(
            "synced every {}, segments of {}, reserve of {}, ring of {}, {} kept for peers",
            units::duration(log.sync_interval_ms),
            units::bytes(log.segment_bytes),
            units::bytes(log.reserve_bytes),
            units::bytes(log.ring_bytes),
            units::bytes(log.keep_bytes)
        ),
    );
    say("memory", memory(config));
    say(
        "metrics",
        config.metrics_listen.map_or_else(|| "off".to_owned(), |at| format!("http://{at}/metrics")),
    );
    lines.push(String::new());
    lines.extend(policy_table(config));
    lines.push(String::new());
    lines.extend(config.warnings.iter().map(|warning| format!("  warning  {warning}")));
    lines.extend(findings.iter().map(|finding| format!("  {:<8} {}", word(finding.verdict), finding.text)));
    lines.join("\n") + "\n"
}

fn memory(config: &Config) -> String {
    let policies = config.policies.named.values().chain([&config.policies.defaults]);
    let reserved: u64 = policies.filter_map(|policy| policy.max_bytes).sum();
    let reserved =
        if reserved == 0 { String::new() } else { format!(", {} of it reserved", units::bytes(reserved)) };
    format!("{} at most{reserved}", units::bytes(config.max_memory_bytes))
}

fn access_lines(access: &Access) -> Vec<String> {
    let line = |rule: &crate::config::AccessRule| {
        let who = match rule.who {
            Who::Uid(uid) => format!("uid {uid}"),
            Who::Gid(gid) => format!("gid {gid}"),
            Who::Anybody => "everybody else".to_owned(),
        };
        let role = format!("{:?}", rule.role).to_lowercase();
        let note = if access.is_default { " (default)" } else { "" };
        format!("{who}: {role} in {}{note}", rule.namespaces.join(", "))
    };
    access.rules.iter().map(line).collect()
}

/// One row a namespace, columns as wide as their content.
fn policy_table(config: &Config) -> Vec<String> {
    let head = [
        "namespace",
        "retention",
        "lease",
        "level",
        "home",
        "fallback",
        "durable",
        "on_lease_end",
        "max_outcome",
        "key_time",
        "keys",
        "max_keys",
        "max_bytes",
    ];
    let row = |name: &str, policy: &NamespacePolicy| {
        [
            name.to_owned(),
            units::duration(policy.retention_ms),
            units::duration(policy.lease_ms),
            format!("{:?}", policy.level).to_lowercase(),
            policy.home.as_ref().map_or_else(|| "-".to_owned(), |home| home.name.clone()),
            format!("{:?}", policy.fallback).to_lowercase(),
            format!("{:?}", policy.durable).to_lowercase(),
            format!("{:?}", policy.on_lease_end).to_lowercase(),
            units::bytes(policy.max_outcome_bytes),
            format!("{:?}", policy.key_time).to_lowercase(),
            format!("{:?}", policy.keys).to_lowercase(),
            policy.max_keys.map_or_else(|| "-".to_owned(), |keys| keys.to_string()),
            policy.max_bytes.map_or_else(|| "-".to_owned(), units::bytes),
        ]
    };
    let mut rows = vec![head.map(str::to_owned), row("(others)", &config.policies.defaults)];
    rows.extend(config.policies.named.iter().map(|(name, policy)| row(&format!("{name:?}"), policy)));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let render = |row: &[String; 13]| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        format!("  {}", cells.join("  ").trim_end())
    };
    rows.iter().map(render).collect()
}
