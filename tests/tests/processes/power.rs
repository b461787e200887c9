//! The power goes, again and again: at `always` nothing that was acknowledged is lost, at `interval` at most the
//! stated window (INV-7, S6). See `tests::power`; `just nightly` cuts 200 times.

use tests::power;

const CUTS: usize = 20;

#[test]
fn twenty_power_cuts_lose_nothing_at_always_and_at_most_the_window_at_interval() {
    const NAME: &str = "twenty_power_cuts_lose_nothing_at_always_and_at_most_the_window_at_interval";
    let seed = power::load::now_us();
    println!("seed {seed}");
    match power::run(CUTS, seed, |_| true) {
        Ok(tally) => {
            println!("{tally}");
            assert!(tally.is_telling(), "the run has shown too little: {tally}");
        }
        Err(lack) => tests::skip::tell(&lack, NAME),
    }
}
