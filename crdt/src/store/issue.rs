//! TOKEN (S4.9): a key that nobody has, made of a fresh stamp.
//!
//! Nothing is written: a stamp is not issued twice, whatever crashes (S2), and every region knows the key by its tag.

use super::Store;
use crate::ids::ClaimId;
use crate::issued;
use crate::request::Reason;

impl Store {
    /// A fresh key of `namespace`, which is at most [`issued::NAMESPACE_BYTES_MAX`] long and has no colon.
    ///
    /// # Errors
    /// The clock cannot be relied on: the key would carry a wrong time.
    pub fn issue_key(&self, namespace: &[u8], wall_ms: u64) -> Result<Vec<u8>, Reason> {
        if self.distrusts_clock(wall_ms) {
            return Err(Reason::Clock);
        }
        let stamp = self.clock.tick(wall_ms);
        if !self.below_ceiling(stamp.ms()) {
            return Err(Reason::Clock);
        }
        let id = ClaimId { stamp, region: self.config.region, incarnation: self.config.incarnation };
        Ok(issued::issue(&self.config.keys, namespace, id))
    }
}
