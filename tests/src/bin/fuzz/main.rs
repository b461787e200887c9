//! `fuzz`: runs the fuzz targets on stable Rust for a bounded time.
//!
//! Each target runs in a process of its own, whose memory is bounded by the system: an input that wants more, overflows
//! the stack or hangs ends that process and not the run. The child notes each input before it tries it, so that whatever
//! ends it leaves the input behind.

mod child;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant, SystemTime};

use tests::fuzz::{TARGETS, Target, target};

const USAGE: &str = "\
mutates good bytes of every format that onced reads, and looks whether a decoder breaks a promise.

usage: fuzz [--seconds N] [--seed N] [--target NAME]... [--save FOLDER]
       fuzz --replay NAME FILE
       fuzz --list

  --seconds N    for each target (default: 20)
  --seed N       of the mutations (default: the clock)
  --target NAME  only these; see --list
  --save FOLDER  where an input that fails is left (default: fuzz-failures)

Exit code 0 if every target kept its promises, 1 if not, 2 for a wrong command line.";

/// A target that takes so much longer than it was given hangs.
const GRACE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let texts: Vec<&str> = words.iter().map(String::as_str).collect();
    match texts.as_slice() {
        ["--child", name, seed, seconds, current] => child::run(name, seed, seconds, Path::new(current)),
        ["--replay", name, file] => replay(name, Path::new(file)),
        ["--list"] => {
            TARGETS.iter().for_each(|target| println!("{}", target.name));
            ExitCode::SUCCESS
        }
        ["--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        rest => match Options::parse(rest) {
            Ok(options) => options.run(),
            Err(what) => {
                eprintln!("fuzz: {what}; see fuzz --help");
                ExitCode::from(2)
            }
        },
    }
}

fn replay(name: &str, file: &Path) -> ExitCode {
    let (Some(target), Ok(bytes)) = (target(name), std::fs::read(file)) else {
        eprintln!("fuzz: there is no target {name}, or {} cannot be read", file.display());
        return ExitCode::from(2);
    };
    let seen = (target.run)(&bytes);
    println!("{name} takes the {} bytes of {}: {seen:016x}", bytes.len(), file.display());
    ExitCode::SUCCESS
}

struct Options {
    seconds: u64,
    seed: u64,
    targets: Vec<&'static Target>,
    save: PathBuf,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_micros() as u64);
        let mut options =
            Self { seconds: 20, seed: now, targets: Vec::new(), save: PathBuf::from("fuzz-failures") };
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let value = rest.next().ok_or_else(|| format!("`{word}` is unknown or lacks its value"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{word} takes a number, not `{value}`"));
            match *word {
                "--seconds" => options.seconds = number()?,
                "--seed" => options.seed = number()?,
                "--save" => options.save = PathBuf::from(value),
                "--target" => {
                    options.targets.push(target(value).ok_or_else(|| format!("no target `{value}`"))?);
                }
                _ => return Err(format!("`{word}` is unknown")),
            }
        }
        if options.targets.is_empty() {
            options.targets = TARGETS.iter().collect();
        }
        Ok(options)
    }

    fn run(&self) -> ExitCode {
        println!("fuzz: seed {}, {} s a target", self.seed, self.seconds);
        let failed = self.targets.iter().filter(|target| !self.fuzz(target)).count();
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// One target in a process of its own; whether it kept its promises.
    fn fuzz(&self, target: &Target) -> bool {
        let scratch = tests::fuzz::folder::scratch();
        let current = scratch.path().join("current");
        let own = std::env::current_exe().expect("a program knows its own file");
        let mut command = Command::new(own);
        command.args(["--child", target.name, &self.seed.to_string(), &self.seconds.to_string()]);
        // What the target leaves behind goes with this folder.
        command.arg(&current).env("RUST_BACKTRACE", "0");
        let mut child = command.spawn().expect("this program can be started again");
        let ended = wait(&mut child, Duration::from_secs(self.seconds) + GRACE);
        let what = match ended {
            Some(status) if status.success() => return true,
            Some(status) => format!("ended with {status}"),
            None => "hangs".to_owned(),
        };
        let input = child::noted(&current);
        let name = format!("{}-{:08x}", target.name, crc32c::crc32c(&input));
        let path = self.save.join(name);
        let saved = std::fs::create_dir_all(&self.save).and_then(|()| std::fs::write(&path, &input));
        println!("fuzz: {} {what}; seed {}, {} bytes", target.name, self.seed, input.len());
        match saved {
            Ok(()) => println!("fuzz: replay it with: fuzz --replay {} {}", target.name, path.display()),
            Err(error) => println!("fuzz: its input cannot be saved to {}: {error}", path.display()),
        }
        false
    }
}

/// How the child ended; `None` if it had to be killed.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let began = Instant::now();
    while began.elapsed() < limit {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => panic!("the child cannot be waited for: {error}"),
        }
    }
    // Errors say that it has just ended.
    let _ = child.kill();
    let _ = child.wait();
    None
}
