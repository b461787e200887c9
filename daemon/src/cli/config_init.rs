//! `onced config init`: writes a commented configuration that passes `onced check-config`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::config::template::{self, Filling, PeerArgument};
use crate::config::{CLUSTER_NAME_DEFAULT, Config, Surroundings, is_host_and_port, is_region_name};

/// Make a configuration.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  onced config init --region eu --id 1 --output onced.toml")]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Write a commented configuration for one region.
    Init(ConfigInitArgs),
}

/// Arguments of `onced config init`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  onced config init                                   one region, to standard output
  onced config init --region eu --id 1 --output onced.toml
  onced config init --region eu --id 1 --peer us=2@us.example.net:4646 --peer ap=3@ap.example.net:4646 \\
      --output /etc/onced/onced.toml

A file that is there is never overwritten.")]
pub struct ConfigInitArgs {
    /// This region's name.
    #[arg(long, value_name = "NAME", default_value = "local")]
    region: String,
    /// This region's number.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    id: u16,
    /// Another region, as NAME=ID@HOST:PORT; may be given several times.
    #[arg(long, value_name = "NAME=ID@HOST:PORT", value_parser = parse_peer)]
    peer: Vec<PeerArgument>,
    /// The cluster's name.
    #[arg(long, default_value = CLUSTER_NAME_DEFAULT)]
    cluster: String,
    /// Folder for log and identity.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/onced")]
    data_dir: String,
    /// The Unix socket's path.
    #[arg(long, value_name = "PATH", default_value = "/run/onced/onced.sock")]
    socket: String,
    /// UDP address of QUIC; used when there are peers.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:4646")]
    listen: String,
    /// Where to write; standard output if not given.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// `us=2@host:4646`.
fn parse_peer(text: &str) -> Result<PeerArgument, String> {
    let parts = text.split_once('=').and_then(|(name, rest)| {
        let (id, address) = rest.split_once('@')?;
        let id: u16 = id.parse().ok().filter(|id| *id > 0)?;
        (is_region_name(name) && is_host_and_port(address)).then(|| PeerArgument {
            name: name.to_owned(),
            id,
            address: address.to_owned(),
        })
    });
    parts.ok_or_else(|| "expected NAME=ID@HOST:PORT, such as us=2@us.example.net:4646".to_owned())
}

/// Runs `onced config`; exits 0 when the file is written, 64 when the arguments contradict each other.
///
/// # Errors
/// When the file is there already or cannot be written.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every command takes its arguments by value, as main has them"
)]
pub fn run(args: ConfigArgs) -> anyhow::Result<ExitCode> {
    let ConfigCommand::Init(args) = &args.command;
    let text = template::render(&Filling {
        region: &args.region,
        id: args.id,
        cluster: &args.cluster,
        data_dir: &args.data_dir,
        socket: &args.socket,
        listen: &args.listen,
        peers: &args.peer,
    });
    let target = args.output.as_deref().unwrap_or(Path::new("onced.toml"));
    // The text is checked before it is written: this command must not make files that check-config refuses.
    if let Err(error) = Config::parse("these arguments give", &text, &Surroundings::of_this_host(target)) {
        for problem in error.problems() {
            eprintln!("onced config init: {}", problem.message);
        }
        return Ok(ExitCode::from(super::exit::USAGE));
    }
    let Some(path) = &args.output else {
        print!("{text}");
        return Ok(ExitCode::SUCCESS);
    };
    write_new(path, &text)?;
    println!("wrote {}", path.display());
    if !args.peer.is_empty() {
        println!("next: make the secret and the certificates as its comments say");
    }
    println!("next: onced check-config {}", path.display());
    Ok(ExitCode::SUCCESS)
}

fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o644).open(path).with_context(|| {
            format!(
                "{} cannot be made; choose another --output, or move what is there away first",
                path.display()
            )
        })?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("{} could not be written whole; remove it and try again", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_name_id_and_address() {
        let peer = parse_peer("us=2@us.example.net:4646").unwrap();
        assert_eq!((peer.name.as_str(), peer.id, peer.address.as_str()), ("us", 2, "us.example.net:4646"));
        assert!(parse_peer("us=2@[::1]:4646").is_ok());
        for wrong in ["us", "us=2", "us=0@h:1", "US=2@h:1", "us=2@h", "us=2@h:0", "us=70000@h:1"] {
            assert!(parse_peer(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_that_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("onced.toml");
        write_new(&path, "a").unwrap();
        let refusal = write_new(&path, "b").unwrap_err().to_string();
        assert!(refusal.ends_with("choose another --output, or move what is there away first"), "{refusal}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a");
    }
}
