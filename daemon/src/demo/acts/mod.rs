//! The story, act by act. Each act prints what it does, checks what must hold, and leaves all regions up and linked
//! for the next one. An act that cannot go on is a check that failed; the others are played all the same, unless
//! time is up.

mod crash;
mod everyday;
mod latency;
mod partition;
mod stop;

use super::stage::Stage;

type Act = fn(&mut Stage<'_>) -> anyhow::Result<()>;

/// Plays all acts; the last one stops the regions unless they are to stay up.
pub fn play(stage: &mut Stage<'_>, keep: bool) {
    let acts: [(&str, Act); 8] = [
        ("Claim here, replay there", everyday::claim_and_replay),
        ("How fast", latency::measure),
        ("A lost reply, asked again", everyday::lost_reply),
        ("The same key for another payload", everyday::mismatch),
        ("A duplicate that waits", everyday::wait),
        ("kill -9 under load", crash::kill_and_recover),
        ("A partition: both sides run the same operation", partition::cut_and_heal),
        ("SIGTERM drains", if keep { stop::one } else { stop::all }),
    ];
    for (title, act) in acts {
        stage.report.step(title);
        if let Err(error) = act(stage) {
            stage.cluster.processes().leave_if_over();
            stage.report.broken(&error);
        }
    }
}
