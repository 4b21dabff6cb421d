//! wav2vec2 and its kin hear samples as they are, brought to mean 0 and variance 1: `zero_mean_unit_var_norm` of
//! transformers' feature_extraction_wav2vec2.py.

/// Added to the variance, so that silence stays finite.
const EPSILON: f64 = 1e-7;

/// Brings one recording to mean 0 and variance 1, in place. Padding comes after it and is 0.
pub fn normalize_samples(samples: &mut [f32]) {
    if samples.is_empty() {
        return;
    }
    let count = samples.len() as f64;
    let mean = samples.iter().map(|s| f64::from(*s)).sum::<f64>() / count;
    let variance = samples
        .iter()
        .map(|s| (f64::from(*s) - mean).powi(2))
        .sum::<f64>()
        / count;
    let scale = (variance + EPSILON).sqrt().recip();
    for sample in samples {
        *sample = ((f64::from(*sample) - mean) * scale) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_nothing_stay_finite() {
        normalize_samples(&mut []);
        let mut silence = [0.25f32; 7];
        normalize_samples(&mut silence);
        assert_eq!(silence, [0.0; 7]);
    }
}
