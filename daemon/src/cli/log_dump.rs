//! `onced log dump`: what the files of a data folder say, as readable lines or JSON.
//!
//! See `crate::dump`. Here is only how a line looks: absolute times, so that two dumps of one file are the same
//! text; nothing that is empty; everything of a caller's escaped.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::output::{Json, json_line};
use super::{exit, show, time};
use crate::dump::{self, DumpError, Ended, Line, Selection};
use crate::resp::Value;

const EXAMPLES: &str = "  \
  onced log dump /var/lib/onced/*.log
  onced log dump /var/lib/onced/checkpoint /var/lib/onced/*.run --json | jq 'select(.about == \"end\")'
  onced log dump /var/lib/onced/*.log /var/lib/onced/*.run --key pay:1 --values";

/// Look into the files of the log.
#[derive(Debug, clap::Args)]
pub struct LogArgs {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, clap::Subcommand)]
enum LogCommand {
    /// Print segments, runs and manifests; beside a running daemon too
    Dump(DumpArgs),
}

/// Arguments of `onced log dump`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::help(EXAMPLES, &[exit::OK, exit::USAGE, exit::DAMAGED, exit::INTERNAL]))]
pub struct DumpArgs {
    /// Segments (*.log), runs (*.run) or a manifest (checkpoint), known by their first bytes
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Only records and states of this key
    #[arg(long)]
    key: Option<std::ffi::OsString>,
    /// Only records of segments from this number on
    #[arg(long, value_name = "LSN")]
    from: Option<u64>,
    /// Only records of segments up to this number
    #[arg(long, value_name = "LSN")]
    to: Option<u64>,
    /// The bytes of outcomes and notes too, which may be private
    #[arg(long)]
    values: bool,
}

/// Runs `onced log`; 0, or 65 if something is damaged.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(args: LogArgs) -> anyhow::Result<ExitCode> {
    let LogCommand::Dump(args) = args.command;
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = print(args, &mut out).and_then(|code| out.flush().map(|()| code));
    match printed {
        Ok(code) => Ok(ExitCode::from(code)),
        // `| head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error.into()),
    }
}

fn print(args: DumpArgs, out: &mut impl Write) -> io::Result<u8> {
    use std::os::unix::ffi::OsStringExt;
    let key = args.key.map(OsStringExt::into_vec);
    let selection = Selection { key, from: args.from, to: args.to, values: args.values };
    let mut code = exit::OK;
    for file in &args.files {
        let result = dump::dump(file, &selection, &mut |line| {
            out.write_all(&if args.json { json(line) } else { text(&line).into_bytes() })
        });
        match result {
            Ok(Ended::Whole) => {}
            Ok(Ended::Damaged) => code = code.max(exit::DAMAGED),
            Err(DumpError::Sink(error)) => return Err(error),
            Err(error) => {
                // In order with what was printed of the files before.
                out.flush()?;
                eprintln!("onced: {error}");
                code = code.max(if matches!(error, DumpError::Io { .. }) {
                    exit::INTERNAL
                } else {
                    exit::DAMAGED
                });
            }
        }
    }
    Ok(code)
}

fn json(line: Line) -> Vec<u8> {
    let name = |name: &str| Value::Simple(name.to_owned());
    let about = (name("about"), name(line.about));
    let fields = line.fields.into_iter().map(|(field, value)| (name(field), value));
    json_line(&Json(&Value::Map(std::iter::once(about).chain(fields).collect())))
}

/// One line as people read it, or a few.
pub fn text(line: &Line) -> String {
    let field = |name: &str| line.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value);
    let shown = |name: &str| field(name).map_or_else(|| "?".to_owned(), |value| value_text(name, value));
    let rest = |from: usize| pairs(line.fields[from..].iter().map(|(name, value)| (*name, value)));
    match line.about {
        "segment" | "run" | "manifest" => format!("{} {}\n  {}\n", line.about, shown("file"), rest(1)),
        "record" => {
            let number = match field("lsn") {
                Some(Value::Int(lsn)) => format!("#{lsn}"),
                _ => "#?".to_owned(),
            };
            format!("  {:>9}  {number:<9} {}\n", shown("offset"), content(&line.fields[3..]))
        }
        "state" => format!("  {:>9}  {}\n", shown("offset"), content(&line.fields[2..])),
        "group" => format!("  {:>9}  group of {}  {}\n", shown("offset"), shown("of"), rest(1)),
        "damage" => format!("  {:>9}  DAMAGED  {}\n", shown("offset"), rest(1)),
        "end" => format!("  end: {}  {}\n", shown("how"), rest(1)),
        about => format!("  {about}  {}\n", rest(0)),
    }
}

/// A record or state: its words, and each part of an entry on a line of its own.
fn content(fields: &[(&str, Value)]) -> String {
    const INDENT: &str = "\n                           ";
    let (mut words, mut plain, mut parts) = (Vec::new(), Vec::new(), String::new());
    for (name, value) in fields {
        match value {
            Value::Array(items) => {
                let kind = name.trim_end_matches('s');
                for item in items {
                    parts.push_str(&format!("{INDENT}{kind}  {}", map_text(item)));
                }
            }
            Value::Map(_) => parts.push_str(&format!("{INDENT}{name}  {}", map_text(value))),
            value if matches!(*name, "kind" | "origin" | "key") => words.push(value_text(name, value)),
            value => plain.push((*name, value)),
        }
    }
    let plain = pairs(plain.into_iter());
    format!("{}  {plain}", words.join(" ")).trim_end().to_owned() + &parts
}

fn map_text(value: &Value) -> String {
    let Value::Map(fields) = value else { return value_text("", value) };
    pairs(fields.iter().filter_map(|(name, value)| Some((name.as_str()?, value))))
}

fn pairs<'v>(fields: impl Iterator<Item = (&'v str, &'v Value)>) -> String {
    let shown = fields.filter(|(_, value)| !matches!(value, Value::Null | Value::Bool(false)));
    let pair = |(name, value): (&str, &Value)| match value {
        Value::Bool(true) => name.to_owned(),
        value => format!("{name}={}", value_text(name, value)),
    };
    shown.map(pair).collect::<Vec<_>>().join(" ")
}

fn value_text(name: &str, value: &Value) -> String {
    let is_time = name.ends_with("_at") || name.ends_with("_until");
    match value {
        Value::Int(at) if is_time && *at > 0 => time::rfc3339(*at),
        Value::Int(number) => number.to_string(),
        Value::Simple(text) if name == "why" => text.clone(),
        Value::Bulk(bytes) => show::shell_word(bytes),
        other => show::printable(other.as_bytes().unwrap_or_default()),
    }
}
