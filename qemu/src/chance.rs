//! Choices that look random and are the same for the same seed, on every host
//! and in every release: the numbers of `SplitMix64` (Steele, Lea and Flood,
//! "Fast splittable pseudorandom number generators", 2014).

/// A stream of choices.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The stream number `stream` of `seed`: streams have nothing in common, so
    /// that each cut of a run draws from one of its own.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut first = Self(seed);
        Self(first.number() ^ Self(stream).number())
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 when there is none.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX);
        let number = self.number().checked_rem(end).unwrap_or(0);
        usize::try_from(number).unwrap_or(0)
    }

    /// True so many times in a hundred.
    pub fn per_cent(&mut self, times: usize) -> bool {
        self.below(100) < times
    }

    /// One of `all`; none when it is empty.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_stream_for_ever() {
        // The first numbers of the reference implementation for seed 0.
        let mut plain = Chance(0);
        assert_eq!(plain.number(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(plain.number(), 0x6e78_9e6a_a1b9_65f4);
        let drawn = |seed, stream| Chance::new(seed, stream).number();
        assert_eq!(drawn(7, 1), drawn(7, 1));
        assert_ne!(drawn(7, 1), drawn(7, 2));
        assert_ne!(drawn(7, 1), drawn(8, 1));
    }

    #[test]
    fn choices_stay_in_their_bounds() {
        let mut chance = Chance::new(1, 1);
        let seen: std::collections::BTreeSet<usize> = (0..200).map(|_| chance.below(5)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(chance.below(0), 0);
        assert_eq!(chance.pick::<u8>(&[]), None);
        let often = (0..1000).filter(|_| chance.per_cent(30)).count();
        assert!((200..400).contains(&often), "{often}");
    }
}
