//! Random numbers that depend on (seed, position) and on nothing else, so that a request draws the same
//! ones alone, in any batch, and after it was suspended and resumed.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A seed that no other request has: the standard library's hasher keys come from the system's randomness.
pub fn fresh_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A counter-based stream: `Philox4x32-10` of Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    key: [u32; 2],
    row: u32,
}

impl Stream {
    /// The stream of one row of a request.
    pub fn new(seed: u64, row: u32) -> Self {
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            row,
        }
    }

    /// Four words at a position; every (position, lane) is a block of its own.
    pub fn words(&self, position: u64, lane: u32) -> [u32; 4] {
        let counter = [position as u32, (position >> 32) as u32, self.row, lane];
        philox(counter, self.key)
    }

    /// A number in [0, 1) with 53 bits, the one for this position.
    pub fn uniform(&self, position: u64) -> f64 {
        let [a, b, ..] = self.words(position, 0);
        let bits = (u64::from(a) << 21) ^ (u64::from(b) >> 11);
        bits as f64 / (1u64 << 53) as f64
    }
}

fn philox(mut c: [u32; 4], mut k: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let p0 = u64::from(c[0]) * 0xD251_1F53;
        let p1 = u64::from(c[2]) * 0xCD9E_8D57;
        c = [
            (p1 >> 32) as u32 ^ c[1] ^ k[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ c[3] ^ k[1],
            p0 as u32,
        ];
        k = [
            k[0].wrapping_add(0x9E37_79B9),
            k[1].wrapping_add(0xBB67_AE85),
        ];
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_known_answers_of_random123() {
        // Random123's kat_vectors, philox4x32 10.
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
    }

    #[test]
    fn uniform_numbers_fill_the_unit_interval() {
        let stream = Stream::new(7, 0);
        let draws: Vec<f64> = (0..10_000).map(|i| stream.uniform(i)).collect();
        assert!(draws.iter().all(|x| (0.0..1.0).contains(x)));
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        assert!((mean - 0.5).abs() < 0.02, "mean {mean}");
        assert_ne!(stream.uniform(3), Stream::new(7, 1).uniform(3));
    }
}
