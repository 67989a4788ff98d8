//! Which algorithms count, judged at a date that is part of the program.

use std::time::{Duration, UNIX_EPOCH};

use sequoia_openpgp::policy::{AsymmetricAlgorithm, StandardPolicy};

/// 2026-11-01T00:00:00Z, in seconds since the epoch: the day whose knowledge
/// of broken algorithms is applied to every signature, whatever time it claims.
///
/// The library has a table of the dates after which an algorithm is refused
/// (SHA-1 in signatures over data: 2013; RSA below 2048 bits: 2014) and looks
/// up *its own* date in it, by default the system's. Pinning that date takes
/// the clock out; it moves only with a release of this program.
pub const POLICY_DATE: u64 = 1_793_491_200;

/// The policy for data signatures and for what binds the keys.
pub(crate) fn pinned() -> StandardPolicy<'static> {
    let mut policy = StandardPolicy::at(UNIX_EPOCH + Duration::from_secs(POLICY_DATE));
    // A nonce that repeats gives the key away, and nobody needs DSA any more.
    for weak in [
        AsymmetricAlgorithm::DSA1024,
        AsymmetricAlgorithm::DSA2048,
        AsymmetricAlgorithm::DSA3072,
        AsymmetricAlgorithm::DSA4096,
    ] {
        policy.reject_asymmetric_algo(weak);
    }
    policy
}
