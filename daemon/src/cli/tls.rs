//! `onced tls init-ca` and `onced tls issue`: certificates for regions in two commands.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, Subcommand};

use crate::config::CLUSTER_NAME_DEFAULT;
use crate::peer::ca;

/// Make the private CA and the regions' certificates.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  onced tls init-ca --out ca
  onced tls issue --ca ca --region eu --out tls
  onced tls issue --ca ca --all eu,us,ap --out tls --cluster shop

Keep the CA's folder off the regions' machines; a region needs ca.pem, NAME.pem and NAME.key.
The identity in a certificate is the URI onced://CLUSTER/region/NAME: --cluster must equal cluster.name in the
configuration. To rotate the CA: make a second one, append its ca.pem to every region's ca.pem, reissue all
certificates from it, then remove the first from ca.pem.")]
pub struct TlsArgs {
    #[command(subcommand)]
    command: TlsCommand,
}

#[derive(Subcommand, Debug)]
enum TlsCommand {
    /// Make a new CA: ca.pem and ca.key.
    InitCa(InitCaArgs),
    /// Issue a region's certificate: NAME.pem and NAME.key, with a copy of ca.pem beside them.
    Issue(IssueArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  onced tls init-ca --out ca --name \"Shop onced CA\"")]
struct InitCaArgs {
    /// Folder for ca.pem and ca.key; made if missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What people see as the CA's name.
    #[arg(long, default_value = "onced CA")]
    name: String,
    /// Days until it ends.
    #[arg(long, default_value_t = ca::CA_DAYS_DEFAULT)]
    days: u32,
    /// Replace a CA that is there; certificates it issued stop working once its ca.pem is gone.
    #[arg(long)]
    force: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  onced tls issue --ca ca --region eu --out tls
  onced tls issue --ca ca --all eu,us,ap --out tls --days 90")]
struct IssueArgs {
    /// The CA's folder.
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// The region's name; give it again for more than one.
    #[arg(long, value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
    region: Vec<String>,
    /// Several regions, separated by commas.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    all: Vec<String>,
    /// The cluster's name, as cluster.name in the configuration.
    #[arg(long, default_value = CLUSTER_NAME_DEFAULT)]
    cluster: String,
    /// Folder for the certificates; made if missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Days until they end.
    #[arg(long, default_value_t = ca::REGION_DAYS_DEFAULT)]
    days: u32,
    /// Replace certificates that are there.
    #[arg(long)]
    force: bool,
}

/// Runs `onced tls`; exits 0 when all files are written.
///
/// # Errors
/// What could not be made or written, with what to do.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every command takes its arguments by value, as main has them"
)]
pub fn run(args: TlsArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        TlsCommand::InitCa(args) => init_ca(args)?,
        TlsCommand::Issue(args) => issue(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn init_ca(args: &InitCaArgs) -> Result<(), ca::CaError> {
    let made = ca::create_ca(&args.name, args.days, SystemTime::now())?;
    let [cert, key] = ca::write_ca(&args.out, &made, args.force)?;
    println!("wrote {} (give it to every region)", cert.display());
    println!("wrote {} (keep it secret and off the regions' machines)", key.display());
    println!("next: onced tls issue --ca {} --region NAME --out DIR", args.out.display());
    Ok(())
}

fn issue(args: &IssueArgs) -> Result<(), ca::CaError> {
    let authority = ca::read_ca(&args.ca)?;
    let names: Vec<_> = args.region.iter().chain(&args.all).collect();
    // All are made before any is written: a wrong name in the list leaves nothing half done.
    let now = SystemTime::now();
    let pairs = names
        .iter()
        .map(|name| ca::issue(&authority, &args.cluster, name, args.days, now))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(taken) = names
        .iter()
        .map(|name| args.out.join(format!("{name}.key")))
        .find(|path| !args.force && path.exists())
    {
        return Err(ca::CaError::Exists(taken));
    }
    for (name, pair) in names.iter().zip(&pairs) {
        let [cert, key] = ca::write_region(&args.out, name, pair, args.force)?;
        println!("wrote {} ({})", cert.display(), ca::region_uri(&args.cluster, name));
        println!("wrote {} (secret)", key.display());
    }
    let copy = ca::copy_ca_cert(&args.out, &authority)?;
    report_ca(&copy, &authority);
    Ok(())
}

/// Says when the ca.pem beside the certificates does not hold the CA that signed them.
fn report_ca(copy: &Path, authority: &ca::Pair) {
    let text = std::fs::read_to_string(copy).unwrap_or_default();
    if text.contains(authority.cert_pem.trim()) {
        println!("      {} holds the CA that signed them", copy.display());
    } else {
        println!(
            "note: {} was there and does not hold this CA; append the CA's {} to it in every region",
            copy.display(),
            ca::CA_CERT_FILE
        );
    }
}
