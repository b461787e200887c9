//! Requests as commands of the socket.

use crate::oracle::ask::Ask;
use crate::worker::Sent;

/// The words of a request; `token` finds the text of a token by its number.
pub fn words<'t>(key: &str, sent: &Sent, token: impl Fn(usize) -> &'t Vec<u8>) -> Vec<Vec<u8>> {
    let name: &[u8] = match sent.ask {
        Ask::Claim { .. } => b"CLAIM",
        Ask::Complete { .. } => b"COMPLETE",
        Ask::Renew { .. } => b"RENEW",
        Ask::Release { .. } => b"RELEASE",
        Ask::Get => b"GET",
        Ask::Forget => b"FORGET",
        Ask::Resolve { .. } => b"RESOLVE",
    };
    let mut words = vec![name.to_vec(), key.as_bytes().to_vec()];
    let mut option = |name: &str, value: String| words.extend([name.as_bytes().to_vec(), value.into_bytes()]);
    match &sent.ask {
        Ask::Claim { fingerprint, claimant, lease, retention, wait } => {
            option("LEASE", lease.to_string());
            option("RETENTION", retention.to_string());
            if let Some(fingerprint) = fingerprint {
                option("FP", format!("{:032x}", u128::from_be_bytes(*fingerprint)));
            }
            if *wait > 0 {
                option("WAIT", wait.to_string());
            }
            if !claimant.is_empty() {
                words.extend([b"CLAIMANT".to_vec(), claimant.clone()]);
            }
        }
        Ask::Complete { token: fact, bytes } => {
            words.extend([shown(sent, fact.forged, token), bytes.clone()]);
        }
        Ask::Renew { token: fact, lease } => {
            words.push(shown(sent, fact.forged, token));
            words.extend([b"LEASE".to_vec(), lease.to_string().into_bytes()]);
        }
        Ask::Release { token: fact } => words.push(shown(sent, fact.forged, token)),
        Ask::Resolve { bytes: Some(bytes) } => words.extend([b"COMPLETE".to_vec(), bytes.clone()]),
        Ask::Resolve { bytes: None } => words.push(b"RELEASE".to_vec()),
        Ask::Get | Ask::Forget => {}
    }
    if sent.durable && !matches!(sent.ask, Ask::Get | Ask::Forget | Ask::Resolve { .. }) {
        words.push(b"DURABLE".to_vec());
    }
    words
}

/// The token's text; its last digit is another one if the service lies.
fn shown<'t>(sent: &Sent, forged: bool, token: impl Fn(usize) -> &'t Vec<u8>) -> Vec<u8> {
    let mut text = sent.token.map(|number| token(number).clone()).unwrap_or_default();
    if let Some(last) = text.last_mut().filter(|_| forged) {
        *last = if *last == b'0' { b'1' } else { b'0' };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::ask::TokenFact;
    use crate::oracle::facts::ClaimName;

    fn said(ask: Ask, durable: bool) -> String {
        let sent = Sent { region: 0, key: 0, ask, token: Some(0), durable };
        let words = words("pay:1", &sent, |_| const { &Vec::new() });
        words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_claim_says_all_that_was_drawn_and_no_more() {
        let claim = |claimant: &str, fingerprint, wait| Ask::Claim {
            fingerprint,
            claimant: claimant.into(),
            lease: 5,
            retention: 9,
            wait,
        };
        assert_eq!(said(claim("", None, 0), false), "CLAIM pay:1 LEASE 5 RETENTION 9");
        let full =
            "CLAIM pay:1 LEASE 5 RETENTION 9 FP 07070707070707070707070707070707 WAIT 3 CLAIMANT me DURABLE";
        assert_eq!(said(claim("me", Some([7; 16]), 3), true), full);
        assert_eq!(said(Ask::Get, true), "GET pay:1");
    }

    #[test]
    fn a_forged_token_differs_in_its_last_digit() {
        let claim = ClaimName { stamp: 1, region: 1, incarnation: 1 };
        let fact = |forged| TokenFact { claim, fingerprint: None, expires_at: 1, forged };
        let text = b"ab0".to_vec();
        let last = |forged| {
            let sent = Sent {
                region: 0,
                key: 0,
                ask: Ask::Release { token: fact(forged) },
                token: Some(0),
                durable: false,
            };
            words("k", &sent, |_| &text).pop()
        };
        assert_eq!((last(false), last(true)), (Some(b"ab0".to_vec()), Some(b"ab1".to_vec())));
    }
}
