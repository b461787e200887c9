# Every recipe is one plain line that works without just.

# formatting, lints, rustdoc, dependencies
check:
    scripts/check

# every test of the workspace, e.g. `just test -p crdt`
test *ARGS:
    scripts/test {{ARGS}}

# three regions on this machine, a real partition, the same winner everywhere
demo *ARGS:
    cargo run --release --bin onced -- demo {{ARGS}}

# redis and onced side by side as a table of ratios: `just bench quick` takes under 3 minutes
bench *ARGS:
    cargo run --release --bin bench -- {{ARGS}}

# the simulator over many seeds; a violation prints its seed and the command that replays it
sim SEEDS="2000":
    cargo run --release --bin onced-sim -- swarm --seeds {{SEEDS}}

# what replication costs and how fast it heals, over links with a delay: `just links full`; needs root and namespaces
links *ARGS:
    cargo run --release --bin links -- {{ARGS}}

# every decoder on mutated bytes, a bounded time each: `just fuzz --seconds 600 --target folder`
fuzz *ARGS:
    cargo run --release --bin fuzz -- {{ARGS}}

# what finding k differences among n keys costs: `just compare --keys 1000000`; 650 bytes of memory a key
compare *ARGS:
    cargo run --release --bin compare -- {{ARGS}}

# the power cut 200 times under three regions on ext4 images; needs root and loop devices
nightly *ARGS="--cuts 200":
    cargo run --release --bin power-cut -- {{ARGS}}

# what CI runs, on this machine
ci:
    .ci/run
