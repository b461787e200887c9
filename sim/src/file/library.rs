//! Scenarios that ship with the simulator: what teams ask about first, each a file to begin one's own with.

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// What it is called on the command line.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
}

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        /// All of them, by name.
        pub const ALL: &[Shipped] =
            &[$(Shipped { name: $name, text: include_str!(concat!("../../scenarios/", $name, ".toml")) }),*];
    };
}

shipped!(
    "active-active",
    "add-region",
    "asymmetric-cut",
    "bad-day",
    "bounded-staleness",
    "bridge",
    "clock-ahead",
    "disk-full",
    "drifting-clocks",
    "far-cuts",
    "flapping-link",
    "frozen-process",
    "long-lossy-links",
    "lost-reply",
    "old-backup",
    "power-loss-interval",
    "region-outage",
    "retention-boundary",
    "retire-region",
    "retry-storm",
    "rolling-restart",
    "rolling-upgrade",
    "short-cuts",
    "silent-links",
    "standard",
    "swizzle",
    "wiped-disk",
    "wrong-payload",
    "zombie-worker",
);

/// The one that is called so.
pub fn find(name: &str) -> Option<&'static Shipped> {
    ALL.iter().find(|scenario| scenario.name == name)
}
