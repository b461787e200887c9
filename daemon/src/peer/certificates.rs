//! When the certificates in use end: for STATUS, for a gauge, and once a day in the log while one is near its end.
//!
//! An expired certificate stops no link that is up, and every one that is to be made: nothing is noticed until the
//! next restart of a peer. So whoever runs a region hears of it a month before.

use std::time::{Duration, SystemTime};

use metrics::gauge;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate that ends sooner is worth a warning: thirty days.
pub const EXPIRY_WARNING: Duration = Duration::from_secs(30 * DAY_SECONDS);
/// Between two such warnings.
const WARN_EVERY: Duration = Duration::from_secs(DAY_SECONDS);
const DAY_SECONDS: u64 = 86_400;
/// What this region's own certificate is called beside its CAs.
pub const OWN: &str = "region";

/// One certificate in use: this region's own, or a CA's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// [`OWN`], or `ca-1`, `ca-2`, … in the order of the CA file.
    pub role: String,
    /// Whom it names, for people.
    pub subject: String,
    /// First 8 bytes of its blake3, in hex: the same certificate has the same.
    pub fingerprint: String,
    /// When it ends.
    pub not_after: SystemTime,
}

impl Certificate {
    /// What people want to know of a certificate; one that cannot be parsed ended long ago.
    pub(super) fn new(role: String, der: &CertificateDer<'_>) -> Self {
        let parsed = X509Certificate::from_der(der).ok().map(|(_, parsed)| parsed);
        let end_s =
            parsed.as_ref().and_then(|parsed| u64::try_from(parsed.validity().not_after.timestamp()).ok());
        let subject = parsed.as_ref().map(|parsed| parsed.subject().to_string()).unwrap_or_default();
        let fingerprint = blake3::hash(der).to_hex()[..16].to_owned();
        let not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(end_s.unwrap_or_default());
        Self { role, subject, fingerprint, not_after }
    }

    /// Its end, Unix milliseconds.
    pub fn not_after_ms(&self) -> u64 {
        self.not_after.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    /// Whole days until its end.
    pub fn days_left(&self, now: SystemTime) -> u64 {
        self.not_after.duration_since(now).unwrap_or_default().as_secs() / DAY_SECONDS
    }

    /// What to do about it, if it ends within [`EXPIRY_WARNING`].
    pub fn advice(&self, now: SystemTime) -> Option<String> {
        if self.not_after.duration_since(now).unwrap_or_default() >= EXPIRY_WARNING {
            return None;
        }
        let (what, days) = (self.what(), self.days_left(now));
        let todo = if self.role == OWN {
            "renew it with: onced tls issue, then: onced reload"
        } else {
            "add a new CA to tls.ca_file in every region, issue certificates by it, then remove the old one, each \
             with: onced reload"
        };
        if self.not_after <= now {
            return Some(format!("{what} has expired: no new link can be made with it; {todo}"));
        }
        Some(format!("{what} ends in {days} days, and no new link can be made with it then; {todo}"))
    }

    fn what(&self) -> String {
        let whose = if self.role == OWN { "this region's certificate" } else { "a trusted CA's certificate" };
        format!("{whose} ({}, {})", self.subject, self.fingerprint)
    }
}

/// What another set of certificates changes, for people.
pub fn differences(before: &[Certificate], after: &[Certificate], now: SystemTime) -> Vec<String> {
    let has = |set: &[Certificate], one: &Certificate| {
        set.iter()
            .any(|other| other.fingerprint == one.fingerprint && (other.role == OWN) == (one.role == OWN))
    };
    let taken = after.iter().filter(|one| !has(before, one));
    let taken = taken.map(|one| format!("{}: in use, ends in {} days", one.what(), one.days_left(now)));
    let left = before.iter().filter(|one| !has(after, one));
    taken.chain(left.map(|one| format!("{}: no longer in use", one.what()))).collect()
}

/// Sets the gauges to `after`; those of `before` that are no more become NaN, which no alert compares with.
pub fn set_gauges(before: &[Certificate], after: &[Certificate]) {
    let name = "onced_certificate_not_after_seconds";
    for gone in before.iter().filter(|one| !after.iter().any(|other| other.role == one.role)) {
        gauge!(name, "certificate" => gone.role.clone()).set(f64::NAN);
    }
    for one in after {
        gauge!(name, "certificate" => one.role.clone()).set((one.not_after_ms() / 1_000) as f64);
    }
}

/// Says once a day which certificates are near their end.
#[derive(Debug, Default)]
pub struct ExpiryWatch {
    said: Option<SystemTime>,
}

impl ExpiryWatch {
    /// The warnings due at `now`. May be called as often as one likes; a clock put back starts a new day.
    pub fn due(&mut self, certificates: &[Certificate], now: SystemTime) -> Vec<String> {
        let rests =
            self.said.is_some_and(|said| now.duration_since(said).is_ok_and(|since| since < WARN_EVERY));
        if rests {
            return Vec::new();
        }
        let warnings: Vec<_> = certificates.iter().filter_map(|one| one.advice(now)).collect();
        if !warnings.is_empty() {
            self.said = Some(now);
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(DAY_SECONDS);

    fn certificate(role: &str, fingerprint: &str, not_after: SystemTime) -> Certificate {
        let (subject, fingerprint) = (format!("CN={role}"), fingerprint.to_owned());
        Certificate { role: role.to_owned(), subject, fingerprint, not_after }
    }

    #[test]
    fn a_certificate_near_its_end_is_said_once_a_day() {
        let now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let own = certificate(OWN, "aa", now + 30 * DAY);
        let ca = certificate("ca-1", "bb", now + 400 * DAY);
        let set = [own, ca];
        let mut watch = ExpiryWatch::default();
        assert_eq!(watch.due(&set, now), Vec::<String>::new(), "thirty days are left");
        let said = watch.due(&set, now + Duration::from_secs(1));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("this region's certificate (CN=region, aa) ends in 29 days"), "{said:?}");
        assert!(said[0].contains("onced tls issue, then: onced reload"), "{said:?}");
        assert!(watch.due(&set, now + DAY).is_empty());
        assert_eq!(watch.due(&set, now + DAY + Duration::from_secs(1)).len(), 1);
        let late = watch.due(&set, now + 371 * DAY);
        assert!(late[0].contains("has expired") && late[1].contains("a trusted CA's"), "{late:?}");
        assert_eq!(watch.due(&set, now + 370 * DAY).len(), 1, "the clock was put back");
    }

    #[test]
    fn differences_name_what_comes_and_goes() {
        let now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let (own, ca) = (certificate(OWN, "aa", now + DAY), certificate("ca-1", "bb", now + DAY));
        let before = [own.clone(), ca.clone()];
        assert!(differences(&before, &before, now).is_empty());
        let moved = Certificate { role: "ca-2".to_owned(), ..ca };
        let new_ca = certificate("ca-1", "cc", now + 9 * DAY);
        assert_eq!(
            differences(&before, &[own, new_ca, moved], now),
            ["a trusted CA's certificate (CN=ca-1, cc): in use, ends in 9 days"]
        );
        let renewed = certificate(OWN, "dd", now + 2 * DAY);
        assert_eq!(
            differences(&before, &[renewed, before[1].clone()], now),
            [
                "this region's certificate (CN=region, dd): in use, ends in 2 days",
                "this region's certificate (CN=region, aa): no longer in use"
            ]
        );
    }
}
