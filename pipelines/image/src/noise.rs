//! Standard normal noise for latents, which depends on (seed, picture of the request, draw, element) and on nothing else: the same
//! alone, in any batch, and after a request was suspended. Apart from the schedulers, which only ask for it.

use std::f64::consts::TAU;

use chandler_core::random::Stream;

/// Lane 0 of a stream is for uniform numbers; the draws begin after it.
const FIRST_LANE: u32 = 1;

/// The noise of one picture, and how many draws of it were made. A clone goes on with the same numbers.
///
/// Draw `d` of a picture is lane `1 + d` of the stream of (seed, picture). Elements `4b` to `4b + 3` come from that lane's block `b` of
/// four words, by Box and Muller: words 0 and 1 are the radius and the angle of the first two (cosine, sine), words 2 and 3 of the
/// others. The 32 bits of the radius end the tails at ±6.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noise {
    stream: Stream,
    draws: u32,
}

impl Noise {
    /// The noise of a request's picture, which no draw was made of.
    pub fn new(seed: u64, picture: u32) -> Self {
        Self {
            stream: Stream::new(seed, picture),
            draws: 0,
        }
    }

    /// Fills a slice with the next draw.
    pub fn fill(&mut self, into: &mut [f32]) {
        self.draw(self.draws, into);
        self.draws = self.draws.wrapping_add(1);
    }

    /// Fills a slice with a draw of a number, whatever was drawn before. A longer slice begins with the same numbers.
    pub fn draw(&self, draw: u32, into: &mut [f32]) {
        let lane = draw.wrapping_add(FIRST_LANE);
        for (block, chunk) in (0u64..).zip(into.chunks_mut(4)) {
            let [a, b, c, d] = self.stream.words(block, lane);
            let (first, second) = normal_pair(a, b);
            let (third, fourth) = normal_pair(c, d);
            for (value, normal) in chunk.iter_mut().zip([first, second, third, fourth]) {
                *value = normal as f32;
            }
        }
    }

    /// The draws that were made with [`Noise::fill`].
    pub fn draws(&self) -> u32 {
        self.draws
    }
}

/// Two independent normal numbers (Box and Muller, 1958). The radius' uniform number is never zero.
fn normal_pair(radius: u32, angle: u32) -> (f64, f64) {
    let scale = 1.0 / (1u64 << 32) as f64;
    let uniform = (f64::from(radius) + 1.0) * scale;
    let radius = (-2.0 * uniform.ln()).sqrt();
    let (sine, cosine) = (TAU * f64::from(angle) * scale).sin_cos();
    (radius * cosine, radius * sine)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: usize = 200_000;

    fn draw(seed: u64, picture: u32, draw: u32, count: usize) -> Vec<f32> {
        let mut values = vec![0.0; count];
        Noise::new(seed, picture).draw(draw, &mut values);
        values
    }

    fn mean(values: impl Iterator<Item = f64>) -> f64 {
        values.sum::<f64>() / COUNT as f64
    }

    #[test]
    fn moments_are_those_of_the_normal_distribution() {
        for seed in [0, 1, u64::MAX] {
            let values = draw(seed, 0, 0, COUNT);
            let moment = |power: i32| mean(values.iter().map(|x| f64::from(*x).powi(power)));
            // Five standard errors of each: the variance of xⁿ over the count.
            let within = |power: i32, expected: f64, variance: f64| {
                let allowed = 5.0 * (variance / COUNT as f64).sqrt();
                let found = moment(power);
                assert!(
                    (found - expected).abs() < allowed,
                    "moment {power} of {seed}: {found}"
                );
            };
            within(1, 0.0, 1.0);
            within(2, 1.0, 2.0);
            within(3, 0.0, 15.0);
            within(4, 3.0, 96.0);
        }
    }

    #[test]
    fn each_tenth_holds_a_tenth() {
        // Quantiles of the standard normal distribution at 0.1, 0.2, … 0.9.
        let quantiles = [
            -1.281_552, -0.841_621, -0.524_401, -0.253_347, 0.0, 0.253_347, 0.524_401, 0.841_621,
            1.281_552,
        ];
        let values = draw(7, 3, 2, COUNT);
        let mut counts = [0u32; 10];
        for value in &values {
            counts[quantiles.partition_point(|quantile| quantile < value)] += 1;
        }
        let expected = COUNT as f64 / 10.0;
        let distances = counts
            .iter()
            .map(|count| (f64::from(*count) - expected).powi(2) / expected);
        // Chi-squared of 9 degrees of freedom is above 33.7 once in ten thousand times.
        let chi_squared: f64 = distances.sum();
        assert!(chi_squared < 33.7, "{chi_squared}");
        let far = values.iter().filter(|value| value.abs() > 4.0).count();
        assert!((2..30).contains(&far), "{far} of 12.7 beyond four");
    }

    #[test]
    fn neighbours_draws_pictures_and_seeds_are_independent() {
        let base = draw(7, 0, 0, COUNT);
        let shifted = |by: usize| {
            base.iter()
                .cycle()
                .skip(by)
                .take(COUNT)
                .copied()
                .collect::<Vec<f32>>()
        };
        let others = [
            ("next", shifted(1)),
            ("second next", shifted(2)),
            ("next block", shifted(4)),
            ("next draw", draw(7, 0, 1, COUNT)),
            ("next picture", draw(7, 1, 0, COUNT)),
            ("next seed", draw(8, 0, 0, COUNT)),
        ];
        for (what, other) in others {
            let products = |power: i32| {
                let pairs = base.iter().zip(&other);
                mean(pairs.map(|(a, b)| f64::from(*a).powi(power) * f64::from(*b).powi(power)))
            };
            let allowed = 5.0 / (COUNT as f64).sqrt();
            assert!(products(1).abs() < allowed, "{what}: {}", products(1));
            // The sizes too, which the two numbers of a pair share a radius in.
            assert!(
                (products(2) - 1.0).abs() < 3.0 * allowed,
                "{what}: {}",
                products(2)
            );
        }
    }

    #[test]
    fn a_number_depends_on_its_place_and_on_nothing_else() {
        let long = draw(5, 2, 9, 1000);
        for count in [0, 1, 3, 4, 5, 999] {
            assert_eq!(draw(5, 2, 9, count), long[..count]);
        }
        let mut noise = Noise::new(5, 2);
        let mut values = vec![0.0; 1000];
        for _ in 0..9 {
            noise.fill(&mut values);
        }
        let mut suspended = noise;
        suspended.fill(&mut values);
        assert_eq!(values, long);
        assert_eq!((noise.draws(), suspended.draws()), (9, 10));
        noise.fill(&mut values);
        assert_eq!(values, long);
    }

    #[test]
    fn the_extreme_words_make_numbers() {
        let (cosine, sine) = normal_pair(0, 0);
        assert!((cosine - 6.66).abs() < 0.01 && sine == 0.0);
        let (cosine, sine) = normal_pair(u32::MAX, u32::MAX);
        assert!(cosine.abs() == 0.0 && sine.abs() == 0.0);
    }
}
