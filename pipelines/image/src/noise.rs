//! Noise of the standard normal distribution, from numbers that depend on (seed, draw, element) and on nothing else: a picture has the
//! same noise alone and in any company, on any device. Box and Muller, "A Note on the Generation of Random Normal Deviates" (1958).
//! `tests/fixtures/noise.py` is the same in Python.

use chandler_core::random::Stream;

/// Draws of a picture. The scheduler has as many as it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draw {
    /// What a picture begins with.
    Initial,
    /// The spread of the latents of the picture to begin with.
    Start,
    /// The spread of the latents of the picture outside its mask.
    Masked,
    /// The scheduler's n-th fresh noise.
    Fresh(u32),
    /// What a refiner takes away again of a drawing that was finished.
    Refined,
}

impl Draw {
    fn number(self) -> u32 {
        match self {
            Self::Initial => 0,
            Self::Start => 1,
            Self::Masked => 2,
            Self::Fresh(n) => 3u32.saturating_add(n),
            Self::Refined => u32::MAX,
        }
    }
}

/// Fills `out` with a draw's numbers: four from each block of the stream, whose position is the block's number and whose lane is the
/// draw's.
pub fn fill(stream: &Stream, draw: Draw, out: &mut [f32]) {
    let lane = draw.number();
    for (block, out) in out.chunks_mut(4).enumerate() {
        let [a, b, c, d] = stream.words(block as u64, lane);
        let ([a, b], [c, d]) = (pair(a, b), pair(c, d));
        for (to, from) in out.iter_mut().zip([a, b, c, d]) {
            *to = from as f32;
        }
    }
}

/// Two normal numbers of two words, which stand for the middles of 2³² parts of the unit interval.
fn pair(a: u32, b: u32) -> [f64; 2] {
    let unit = |word: u32| (f64::from(word) + 0.5) / 4_294_967_296.0;
    let radius = (-2.0 * unit(a).ln()).sqrt();
    let angle = std::f64::consts::TAU * unit(b);
    [radius * angle.cos(), radius * angle.sin()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(seed: u64, draw: Draw, len: usize) -> Vec<f32> {
        let mut out = vec![0.0; len];
        fill(&Stream::new(seed, 0), draw, &mut out);
        out
    }

    #[test]
    fn noise_has_the_moments_of_the_normal_distribution() {
        let x = draw(7, Draw::Initial, 200_001);
        let mean = |f: &dyn Fn(f64) -> f64| {
            x.iter().map(|x| f(f64::from(*x))).sum::<f64>() / x.len() as f64
        };
        for (power, expected, slack) in [
            (1, 0.0, 0.01),
            (2, 1.0, 0.02),
            (3, 0.0, 0.05),
            (4, 3.0, 0.15),
        ] {
            let found = mean(&|x| x.powi(power));
            assert!((found - expected).abs() < slack, "{power}: {found}");
        }
        let beyond = x.iter().filter(|x| x.abs() > 1.959_964).count() as f64 / x.len() as f64;
        assert!((beyond - 0.05).abs() < 0.003, "{beyond}");
        let neighbours: f64 = x.windows(2).map(|w| f64::from(w[0] * w[1])).sum();
        assert!((neighbours / x.len() as f64).abs() < 0.01);
    }

    #[test]
    fn numbers_are_those_of_the_script() {
        // `normal` of tests/fixtures/noise.py.
        let close = |found: Vec<f32>, expected: &[f32]| {
            let pairs = found.iter().zip(expected);
            assert!(
                pairs.clone().all(|(a, b)| (a - b).abs() < 1e-6),
                "{found:?}"
            );
        };
        let six = [
            0.000_291_567_65,
            -0.304_846_97,
            1.788_757_3,
            1.067_872_5,
            0.376_403_5,
            -1.287_011_7,
        ];
        close(draw(7, Draw::Initial, 6), &six);
        let other = draw((5 << 32) + 9, Draw::Fresh(0), 3);
        close(other, &[2.955_17, -0.535_733_7, 1.308_261_8]);
    }

    #[test]
    fn draws_and_seeds_differ_and_lengths_do_not_matter() {
        assert_eq!(draw(1, Draw::Initial, 7), draw(1, Draw::Initial, 64)[..7]);
        assert_ne!(draw(1, Draw::Initial, 8), draw(1, Draw::Start, 8));
        assert_ne!(draw(1, Draw::Fresh(0), 8), draw(1, Draw::Fresh(1), 8));
        assert_ne!(draw(1, Draw::Initial, 8), draw(2, Draw::Initial, 8));
    }
}
