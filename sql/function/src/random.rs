//! `random()`: after `setseed` the sequence PostgreSQL 15 gives for the same seed, else the operating system's entropy.
//!
//! The generator is xoroshiro128**, its state filled by SplitMix64 (Blackman, Vigna: "Scrambled linear pseudorandom
//! number generators").

/// A number in [0, 1).
pub fn unseeded_random() -> f64 {
    rand::random::<f64>()
}

/// The generator after `setseed`.
#[derive(Clone, Debug)]
pub struct SeededRandom([u64; 2]);

impl SeededRandom {
    /// From a seed in [-1, 1].
    pub fn new(seed: f64) -> SeededRandom {
        let mut state = ((((1_u64 << 52) - 1) as f64) * seed) as i64 as u64;
        let mut split = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        };
        SeededRandom([split(), split()])
    }

    /// The next number in [0, 1).
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> f64 {
        let [first, second] = self.0;
        let drawn = first.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let mixed = first ^ second;
        self.0 = [first.rotate_left(24) ^ mixed ^ (mixed << 16), mixed.rotate_left(37)];
        (drawn >> 12) as f64 / (1_u64 << 52) as f64
    }
}

#[cfg(test)]
mod tests {
    /// What PostgreSQL 15 draws after `setseed(0.5)`.
    #[test]
    fn seeded_numbers_are_postgresqls() {
        let mut random = super::SeededRandom::new(0.5);
        assert_eq!((random.next(), random.next()), (0.9851677175347999, 0.825301858027981));
    }
}
