//! The mel filter bank, from its formula: Slaney's scale (linear below 1 kHz, logarithmic above) and area
//! normalisation, as `mel_filter_bank` of transformers' audio_utils.py and librosa's `filters.mel` make it. Kept sparse:
//! a filter of 80 covers some 5 of the 201 bins.

/// Where Whisper's filters end whatever the rate is (`max_frequency` in feature_extraction_whisper.py).
const TOP: f64 = 8000.0;
/// Where the scale turns from linear to logarithmic, and its steps.
const BREAK_HERTZ: f64 = 1000.0;
const BREAK_MEL: f64 = 15.0;

/// One filter per mel bin: the first frequency bin that it weighs, and its weights from there on.
#[derive(Debug, Clone)]
pub(super) struct Filters {
    rows: Vec<(usize, Vec<f64>)>,
}

impl Filters {
    /// For `bins` mel bins over a transform of `n_fft` samples at `rate`.
    pub(super) fn new(bins: usize, n_fft: usize, rate: u32) -> Self {
        let frequencies = 1 + n_fft / 2;
        // linspace(0, rate // 2, frequencies)
        let top = f64::from(rate / 2);
        let hertz = |k: usize| top * k as f64 / (frequencies - 1).max(1) as f64;
        let top_mel = to_mel(TOP);
        let edges: Vec<f64> = (0..bins + 2)
            .map(|m| to_hertz(top_mel * m as f64 / (bins + 1) as f64))
            .collect();
        let row = |edges: &[f64]| {
            let [left, centre, right] = edges else {
                return (0, Vec::new());
            };
            let area = 2.0 / (right - left);
            let weight = |k: usize| {
                let rising = (hertz(k) - left) / (centre - left);
                let falling = (right - hertz(k)) / (right - centre);
                rising.min(falling).max(0.0) * area
            };
            let weighed = |k: &usize| weight(*k) > 0.0;
            let first = (0..frequencies).find(weighed).unwrap_or(0);
            (
                first,
                (first..frequencies)
                    .map(weight)
                    .take_while(|w| *w > 0.0)
                    .collect(),
            )
        };
        Self {
            rows: edges.windows(3).map(row).collect(),
        }
    }

    /// The energy in each mel bin, of the power in each frequency bin.
    pub(super) fn apply<'a>(&'a self, power: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
        self.rows.iter().map(|(first, weights)| {
            let bins = power.get(*first..).unwrap_or_default();
            weights.iter().zip(bins).map(|(w, p)| w * p).sum()
        })
    }
}

fn to_mel(hertz: f64) -> f64 {
    if hertz < BREAK_HERTZ {
        3.0 * hertz / 200.0
    } else {
        BREAK_MEL + (hertz / BREAK_HERTZ).ln() * (27.0 / 6.4f64.ln())
    }
}

fn to_hertz(mel: f64) -> f64 {
    if mel < BREAK_MEL {
        200.0 * mel / 3.0
    } else {
        BREAK_HERTZ * ((6.4f64.ln() / 27.0) * (mel - BREAK_MEL)).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_and_its_inverse_agree() {
        for hertz in [0.0, 440.0, 999.9, 1000.0, 4321.0, 8000.0] {
            assert!((to_hertz(to_mel(hertz)) - hertz).abs() < 1e-9);
        }
    }

    #[test]
    fn the_filters_cover_every_bin_between_the_first_and_the_last_edge() {
        let filters = Filters::new(80, 400, 16_000);
        let mut covered = [false; 201];
        for (first, weights) in &filters.rows {
            assert!(!weights.is_empty());
            covered[*first..first + weights.len()].fill(true);
        }
        assert!(covered[1..200].iter().all(|c| *c));
    }
}
