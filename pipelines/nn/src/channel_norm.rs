//! A norm of each channel over time: torch's GroupNorm with as many groups as channels, as wav2vec2's first convolution has it.
//! Apart from `norm`, whose rows are normed each by itself.

use crate::error::{NnError, Result};
use crate::host::with_f32;
use crate::weights::HostTensor;
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

/// Rows that are added up before their sums are: what order numbers are added in depends on their place alone.
const ROWS: usize = 512;

/// The norm.
#[derive(Debug, Clone)]
pub struct ChannelNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f64,
}

impl ChannelNorm {
    /// A norm with `weight` and `bias`, a number for each channel.
    ///
    /// # Errors
    /// [`NnError::Input`] when the weight is no vector, [`NnError::Shape`] when the bias is another.
    pub fn new(weight: &HostTensor, bias: &HostTensor, eps: f64) -> Result<Self> {
        let [channels] = weight.shape() else {
            return Err(input(format!(
                "weight `{}` of shape {:?}; [channels] is wanted",
                weight.name(),
                weight.shape()
            )));
        };
        bias.expect_shape(&[*channels])?;
        Ok(Self {
            weight: weight.to_f32()?,
            bias: bias.to_f32()?,
            eps,
        })
    }

    /// Bytes of weight and bias.
    pub fn bytes(&self) -> usize {
        2 * self.weight.len() * size_of::<f32>()
    }

    /// `x` [time, channels], each channel less its mean over its deviation, times the weight and plus the bias.
    ///
    /// # Errors
    /// [`NnError::Input`] when `x` has another shape, no row, or is on the CPU and not f32.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (time, channels) = x.dims2()?;
        if channels != self.weight.len() || time == 0 {
            return Err(input(format!(
                "input of shape {:?} to {} channels",
                x.dims(),
                self.weight.len()
            )));
        }
        if !x.device().is_cpu() {
            return self.plain(x);
        }
        let out = with_f32(x, "channel norm", |x| Ok(self.on_host(x, time)))?;
        Ok(Tensor::from_vec(out, (time, channels), &Device::Cpu)?)
    }

    fn on_host(&self, x: &[f32], time: usize) -> Vec<f32> {
        let channels = self.weight.len();
        let sums = |term: &(dyn Fn(usize, f64) -> f64 + Sync)| -> Vec<f64> {
            let parts: Vec<Vec<f64>> = x
                .par_chunks(ROWS * channels)
                .map(|rows| {
                    let mut sums = vec![0.0; channels];
                    for row in rows.chunks_exact(channels) {
                        for (channel, (sum, x)) in sums.iter_mut().zip(row).enumerate() {
                            *sum += term(channel, f64::from(*x));
                        }
                    }
                    sums
                })
                .collect();
            let mut all = vec![0.0; channels];
            for part in parts {
                all.iter_mut()
                    .zip(part)
                    .for_each(|(all, part)| *all += part);
            }
            all.iter_mut().for_each(|sum| *sum /= time as f64);
            all
        };
        let means = sums(&|_, x| x);
        let variances = sums(&|channel, x| (x - means[channel]).powi(2));
        let scales: Vec<f32> = variances
            .iter()
            .zip(&self.weight)
            .map(|(variance, weight)| (f64::from(*weight) / (variance + self.eps).sqrt()) as f32)
            .collect();
        let mut out = x.to_vec();
        out.par_chunks_mut(ROWS * channels).for_each(|rows| {
            for row in rows.chunks_exact_mut(channels) {
                for (channel, x) in row.iter_mut().enumerate() {
                    let centred = (f64::from(*x) - means[channel]) as f32;
                    *x = centred * scales[channel] + self.bias[channel];
                }
            }
        });
        out
    }

    /// In candle operations, on any device.
    fn plain(&self, x: &Tensor) -> Result<Tensor> {
        let (dtype, device) = (x.dtype(), x.device());
        let x = x.to_dtype(DType::F32)?;
        let vector = |numbers: &[f32]| Tensor::new(numbers, device);
        let centred = x.broadcast_sub(&x.mean_keepdim(0)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(0)? + self.eps)?.sqrt()?;
        let normed = centred.broadcast_div(&deviation)?;
        let y = normed.broadcast_mul(&vector(&self.weight)?)?;
        Ok(y.broadcast_add(&vector(&self.bias)?)?.to_dtype(dtype)?)
    }
}

fn input(reason: String) -> NnError {
    NnError::Input {
        what: "channel norm",
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_normed_as_in_candle_operations_and_in_any_length() {
        let vector = |numbers: &[f32]| {
            let bytes = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            HostTensor::from_bytes("w", DType::F32, vec![numbers.len()], bytes).unwrap()
        };
        let norm =
            ChannelNorm::new(&vector(&[0.5, -2.0, 1.5]), &vector(&[0.1, 0.0, -3.0]), 1e-5).unwrap();
        for time in [1, 7, ROWS * 3 + 5] {
            let numbers: Vec<f32> = (0..time * 3)
                .map(|i| (i as f32 * 0.7).sin() * 9.0 + 4.0)
                .collect();
            let x = Tensor::from_vec(numbers, (time, 3), &Device::Cpu).unwrap();
            let flat = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let (found, expected) = (
                flat(norm.forward(&x).unwrap()),
                flat(norm.plain(&x).unwrap()),
            );
            for (a, b) in found.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-4, "{time}: {a}, {b}");
            }
        }
        assert!(
            norm.forward(&Tensor::zeros((2, 4), DType::F32, &Device::Cpu).unwrap())
                .is_err()
        );
    }
}
