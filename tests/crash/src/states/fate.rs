//! What of the unflushed writes reached the medium, by a seed.

use super::Kind;
use crate::chance::Chance;

/// What reached the medium of a write that no flush had covered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Nothing.
    Lost,
    /// All of it.
    Kept,
    /// These of its sectors, counted from its first: at least one, not all.
    Torn(Vec<bool>),
}

impl Kind {
    /// What becomes of writes that may arrive in so many pieces each, in their
    /// order.
    pub(crate) fn fates(self, sectors: &[usize]) -> Vec<Fate> {
        let mut fates = vec![Fate::Kept; sectors.len()];
        match self {
            Self::Prefix => {}
            Self::Subset(seed) => {
                let mut chance = Chance::new(seed);
                lose_some(&mut fates, &mut chance, 1);
            }
            Self::Torn(seed) => {
                let mut chance = Chance::new(seed);
                lose_some(&mut fates, &mut chance, 0);
                tear_some(&mut fates, sectors, &mut chance);
            }
        }
        fates
    }
}

/// Few lost or few kept finds what random halves don't: a single write that had
/// to come before another. At least so many are lost, as far as there are any.
fn lose_some(fates: &mut [Fate], chance: &mut Chance, least: usize) {
    let count = fates.len();
    let style = chance.below(4);
    if count == 0 || (style == 0 && least == 0) {
        return;
    }
    match style {
        0 => fates[chance.below(count)] = Fate::Lost,
        // The last ones survive less often than the first ones.
        1 => {
            let kept = chance.below(count);
            for (index, fate) in fates.iter_mut().enumerate().skip(kept) {
                if chance.below(count) <= index {
                    *fate = Fate::Lost;
                }
            }
        }
        2 => {
            let kept = chance.below(count);
            fates.fill(Fate::Lost);
            fates[kept] = Fate::Kept;
        }
        _ => {
            for fate in fates.iter_mut() {
                if chance.below(2) == 0 {
                    *fate = Fate::Lost;
                }
            }
        }
    }
    let lost = fates.iter().filter(|fate| **fate == Fate::Lost).count();
    if lost < least {
        fates[chance.below(count)] = Fate::Lost;
    }
}

/// Tears one to three of those that are kept; one that was lost if there is none.
fn tear_some(fates: &mut [Fate], sectors: &[usize], chance: &mut Chance) {
    let divisible = |index: &usize| sectors[*index] > 1;
    let mut candidates: Vec<_> = (0..fates.len()).filter(divisible).collect();
    if candidates.iter().any(|index| fates[*index] == Fate::Kept) {
        candidates.retain(|index| fates[*index] == Fate::Kept);
    }
    for _ in 0..=chance.below(3) {
        if candidates.is_empty() {
            return;
        }
        let index = candidates.swap_remove(chance.below(candidates.len()));
        fates[index] = Fate::Torn(tear(sectors[index], chance));
    }
}

/// Which sectors of a write stay: the first ones, the last ones, or any.
fn tear(count: usize, chance: &mut Chance) -> Vec<bool> {
    let cut = 1 + chance.below(count - 1);
    let mut stays: Vec<_> = match chance.below(3) {
        0 => (0..count).map(|sector| sector < cut).collect(),
        1 => (0..count).map(|sector| sector >= cut).collect(),
        _ => (0..count).map(|_| chance.below(2) == 0).collect(),
    };
    // All or none would be no tear.
    if stays.iter().all(|stay| *stay == stays[0]) {
        let flipped = chance.below(count);
        stays[flipped] = !stays[flipped];
    }
    stays
}
