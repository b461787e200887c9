//! ADVANCE: the order of versions, and that each is a key like any other.

use super::*;
use crate::decide::Gathered;
use crate::entry::Phase;
use crate::policy::Level;
use crate::store::version_key;

fn advance(store: &Store, from: u64, payload: u8, wall_ms: u64) -> (&'static str, Option<Token>, Release) {
    let claim = Claim { key: b"order:7", fingerprint: Some(Fingerprint([payload; 16])), ..Claim::default() };
    let (mut status, mut token) = ("", None);
    let ran = store.advance(&claim, from, Look::First, (wall_ms, None), &mut Scratch::default(), |reply| {
        status = reply.status();
        if let Reply::Granted { token: granted, .. } = reply {
            token = Some(*granted);
        }
    });
    let Ran::Replied(release) = ran.expect("well-formed") else { panic!("answered") };
    (status, token, release)
}

fn complete(store: &Store, version: u64, token: Token, wall_ms: u64) -> Release {
    let key = version_key(b"order:7", version);
    let request = Request::Complete { key: &key, token, outcome: b"state", level: None, durable: false };
    let (status, _, release) = run(store, request, wall_ms);
    assert_eq!(status, "COMPLETED");
    release
}

#[test]
fn a_version_is_claimed_once_the_one_before_is_done() {
    let store = store(1);
    assert_eq!(advance(&store, 1, 1, T0).0, "BEHIND", "nothing is known of version 1");
    let (granted, token, _) = advance(&store, 0, 1, T0);
    assert_eq!(granted, "GRANTED");
    assert_eq!(advance(&store, 1, 1, T0 + 1).0, "IN_PROGRESS", "version 1 is held, and not done");
    let _ = complete(&store, 1, token.expect("granted"), T0 + 2);
    let (granted, token, _) = advance(&store, 1, 2, T0 + 3);
    assert_eq!(granted, "GRANTED");
    assert_eq!(advance(&store, 1, 3, T0 + 3).0, "MISMATCH", "another transition is made from version 1");
    let _ = complete(&store, 2, token.expect("granted"), T0 + 4);
    assert_eq!(advance(&store, 1, 2, T0 + 5).0, "REPLAY", "a retry is answered what the transition did");
    assert_eq!(advance(&store, 1, 3, T0 + 5).0, "MISMATCH");
    assert_eq!(advance(&store, 3, 3, T0 + 5).0, "BEHIND");
}

/// A majority had been asked for version 2 when version 1 died of age: the second look answered BEHIND, and the claim that it
/// should have withdrawn stood in everybody's way until its lease was over.
#[test]
fn what_others_were_asked_for_is_withdrawn_though_the_version_before_has_died() {
    let store = store(1);
    store.gate.set_voice(true);
    let brief =
        Claim { key: b"order:7@1", lease_ms: Some(500), retention_ms: Some(2_000), ..Claim::default() };
    let (_, token, _) = run(&store, Request::Claim(brief), T0);
    let _ = complete(&store, 1, token.expect("granted"), T0 + 1);
    let claim = Claim { key: b"order:7", level: Some(Level::Quorum), ..Claim::default() };
    let look = |look, wall_ms| {
        let mut status = "";
        let ran = store.advance(&claim, 1, look, (wall_ms, None), &mut Scratch::default(), |reply| {
            status = reply.status();
        });
        (ran.expect("well-formed"), status)
    };
    let (Ran::Asks(proposal, _), _) = look(Look::First, T0 + 2) else { panic!("a majority is asked") };
    let missed = Look::Gathered(Gathered { proposal, reached: false });
    assert_eq!(look(missed, T0 + 2_600).1, "UNAVAILABLE");
    let copy = store.inspect(b"order:7@2").expect("it was asked for");
    assert_eq!(copy.entry().attempts[0].phase, Phase::Released);
    assert_eq!(look(Look::First, T0 + 2_600).1, "BEHIND");
}

/// S6: whoever is granted version 2 knows by it that version 1 is done; that must be as durable.
#[test]
fn an_answer_waits_for_the_version_before_it() {
    let store = store_with(1, Policy { durable: Durable::Always, ..Policy::default() });
    let (_, token, release) = advance(&store, 0, 1, T0);
    settle(&store);
    assert!(store.tail().may_release(&release));
    let done = complete(&store, 1, token.expect("granted"), T0 + 2);
    let (status, _, held) = advance(&store, 1, 2, T0 + 3);
    assert_eq!(status, "GRANTED");
    assert!(held.synced >= done.synced);
    let (status, _, behind) = advance(&store, 2, 2, T0 + 3);
    assert_eq!(status, "IN_PROGRESS");
    assert!(!store.tail().may_release(&behind), "it tells of a claim that a crash may undo");
    settle(&store);
    assert!(store.tail().may_release(&behind) && store.tail().may_release(&held));
}
