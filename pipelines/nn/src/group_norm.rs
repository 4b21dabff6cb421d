//! Norms over groups of channels of a picture: torch's GroupNorm on [batch, channels, height, width].
//! On the CPU it is a kernel that goes twice over a group, activation included; elsewhere it is candle's operations. Apart from
//! `channel_norm`, which goes over time with the channels last and a group for each channel.

use crate::activation::Activation;
use crate::cuda;
use crate::error::{NnError, Result};
use crate::host::{with_f32, written};
use crate::kernels::{Isa, group_norm as kernel};
use crate::weights::HostTensor;
use candle_core::{D, DType, Device, Tensor};

/// The norm.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    groups: usize,
    channels: usize,
    eps: f64,
    gain: Gain,
}

#[derive(Debug, Clone)]
enum Gain {
    /// Weight and bias.
    Host(Vec<f32>, Vec<f32>),
    /// The same, each [1, channels, 1, 1].
    Plain(Tensor, Tensor),
}

/// Parts that channels are cut into, and what is added to each part's variance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Groups {
    /// How many; they divide the channels.
    pub count: usize,
    /// Added to the variance.
    pub eps: f64,
}

impl GroupNorm {
    /// A norm with `weight` and `bias`, a number for each channel. Sums are in f32 or wider whatever the dtype.
    ///
    /// # Errors
    /// [`NnError::Input`] for groups that do not divide the channels, [`NnError::Shape`] when the bias has another shape.
    pub fn new(
        (weight, bias): (HostTensor, HostTensor),
        groups: Groups,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        if !device.is_cpu() {
            return Self::plain((weight, bias), groups, device, dtype);
        }
        let channels = channels(&weight, &bias, groups)?;
        let gain = Gain::Host(weight.to_f32()?, bias.to_f32()?);
        Ok(Self::over(channels, groups, gain))
    }

    /// The same in candle tensors, on any device: what [`new`](Self::new) makes off the CPU.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and [`NnError::Candle`] when the device is out of memory.
    pub fn plain(
        (weight, bias): (HostTensor, HostTensor),
        groups: Groups,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        let channels = channels(&weight, &bias, groups)?;
        let on_device = |tensor: HostTensor| -> Result<Tensor> {
            Ok(tensor
                .to_tensor(device, dtype)?
                .reshape((1, channels, 1, 1))?)
        };
        let gain = Gain::Plain(on_device(weight)?, on_device(bias)?);
        Ok(Self::over(channels, groups, gain))
    }

    fn over(channels: usize, groups: Groups, gain: Gain) -> Self {
        Self {
            groups: groups.count,
            channels,
            eps: groups.eps,
            gain,
        }
    }

    /// Bytes of weight and bias.
    pub fn bytes(&self) -> usize {
        match &self.gain {
            Gain::Host(weight, bias) => size_of_val(&weight[..]) + size_of_val(&bias[..]),
            Gain::Plain(weight, _) => 2 * self.channels * weight.dtype().size_in_bytes(),
        }
    }

    /// `x` [batch, channels, height, width] normed, and `activation` over the result. On the CPU what one of the batch gives has
    /// the same bits whatever else is in the batch.
    ///
    /// # Errors
    /// [`NnError::Input`] when `x` has other channels; on the CPU, when it is not f32.
    pub fn forward(&self, x: &Tensor, activation: Option<Activation>) -> Result<Tensor> {
        let (_, channels, _, _) = x.dims4()?;
        if channels != self.channels {
            return Err(input(format!(
                "input of shape {:?} to {} channels",
                x.dims(),
                self.channels
            )));
        }
        match &self.gain {
            Gain::Host(weight, bias) => self.on_host(Isa::detect(), (weight, bias), x, activation),
            Gain::Plain(weight, bias) => self.in_candle((weight, bias), x, activation),
        }
    }

    fn on_host(
        &self,
        isa: Isa,
        (weight, bias): (&[f32], &[f32]),
        x: &Tensor,
        activation: Option<Activation>,
    ) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let numbers = with_f32(x, "group norm", |x| {
            let norm = kernel::GroupNorm {
                x,
                plane: height * width,
                groups: self.groups,
                weight,
                bias,
                eps: self.eps,
                activation: activation.map(Activation::curve),
            };
            let norm = |out| {
                // SAFETY: `forward` has seen the channels, the constructor that groups divide them; `out` is as long as x.
                unsafe { kernel::group_norm(isa, &norm, out) };
                Ok(())
            };
            // SAFETY: groups of all samples are all numbers.
            unsafe { written(x.len(), norm) }
        })?;
        Ok(Tensor::from_vec(numbers, x.shape(), &Device::Cpu)?)
    }

    fn in_candle(
        &self,
        (weight, bias): (&Tensor, &Tensor),
        x: &Tensor,
        activation: Option<Activation>,
    ) -> Result<Tensor> {
        let groups = (self.groups, self.eps as f32);
        if let Some(out) = cuda::group_norm(x, (weight, bias), groups, activation)? {
            return Ok(out);
        }
        let (batch, channels, height, width) = x.dims4()?;
        let dtype = x.dtype();
        let grouped = x.to_dtype(DType::F32)?.reshape((batch, self.groups, ()))?;
        let centred = grouped.broadcast_sub(&grouped.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = centred.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        let normed = normed
            .reshape((batch, channels, height, width))?
            .to_dtype(dtype)?;
        let y = normed.broadcast_mul(weight)?.broadcast_add(bias)?;
        match activation {
            Some(activation) => activation.forward(&y),
            None => Ok(y),
        }
    }
}

fn channels(weight: &HostTensor, bias: &HostTensor, groups: Groups) -> Result<usize> {
    let channels = match weight.shape() {
        [channels] if *channels > 0 && groups.count > 0 && channels % groups.count == 0 => {
            *channels
        }
        other => {
            return Err(input(format!(
                "weight `{}` of shape {other:?} in {} groups; [channels] is wanted, in groups that divide them",
                weight.name(),
                groups.count
            )));
        }
    };
    bias.expect_shape(&[channels])?;
    Ok(channels)
}

fn input(reason: String) -> NnError {
    NnError::Input {
        what: "group norm",
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(len: usize, seed: f32) -> Vec<f32> {
        (0..len)
            .map(|i| (i as f32 * 12.9898 + seed).sin())
            .collect()
    }

    fn host(len: usize, seed: f32) -> HostTensor {
        let bytes = numbers(len, seed).into_iter().flat_map(f32::to_le_bytes);
        HostTensor::from_bytes("w", DType::F32, vec![len], bytes.collect()).unwrap()
    }

    fn on(isa: Isa, norm: &GroupNorm, x: &Tensor, activation: Option<Activation>) -> Vec<f32> {
        let Gain::Host(weight, bias) = &norm.gain else {
            panic!("a norm on the CPU is the kernel's")
        };
        flat(&norm.on_host(isa, (weight, bias), x, activation).unwrap())
    }

    fn flat(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// A norm by both ways, and three samples far from zero.
    fn case(channels: usize, count: usize, size: (usize, usize)) -> (GroupNorm, GroupNorm, Tensor) {
        let groups = Groups { count, eps: 1e-5 };
        let gain = || (host(channels, 1.0), host(channels, 2.0));
        let (cpu, f32) = (Device::Cpu, DType::F32);
        let ours = GroupNorm::new(gain(), groups, &cpu, f32).unwrap();
        let plain = GroupNorm::plain(gain(), groups, &cpu, f32).unwrap();
        let x = numbers(3 * channels * size.0 * size.1, 3.0);
        let x = x.into_iter().map(|x| 3.0 * x + 2.0).collect::<Vec<_>>();
        let x = Tensor::from_vec(x, (3, channels, size.0, size.1), &cpu).unwrap();
        (ours, plain, x)
    }

    const CASES: [(usize, usize, (usize, usize)); 6] = [
        (6, 3, (5, 7)),
        (8, 8, (1, 1)),
        (8, 1, (3, 3)),
        (4, 2, (64, 33)),
        (2, 2, (100, 131)),
        (64, 32, (4, 4)),
    ];

    #[test]
    fn the_kernel_gives_what_candles_operations_give() {
        for (channels, groups, size) in CASES {
            let (ours, plain, x) = case(channels, groups, size);
            for activation in [None, Some(Activation::Silu), Some(Activation::Gelu)] {
                let expected = flat(&plain.forward(&x, activation).unwrap());
                assert_eq!(ours.forward(&x, activation).unwrap().dims(), x.dims());
                for isa in Isa::all_available() {
                    let found = on(isa, &ours, &x, activation);
                    for (a, b) in found.iter().zip(&expected) {
                        let what = format!("{isa:?} {channels} {groups} {size:?} {activation:?}");
                        assert!((a - b).abs() < 5e-6, "{what}: {a}, {b}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_sample_has_the_same_bits_alone_and_in_company() {
        for (channels, groups, size) in CASES {
            let (ours, _, x) = case(channels, groups, size);
            for isa in Isa::all_available() {
                let all = on(isa, &ours, &x, Some(Activation::Silu));
                let second = x.narrow(0, 1, 1).unwrap();
                let alone = on(isa, &ours, &second, Some(Activation::Silu));
                assert_eq!(alone, all[alone.len()..2 * alone.len()], "{isa:?}");
            }
        }
    }

    /// Half a million numbers about 1000 with a deviation of 1/√2: sums of squares in f32 would lose it.
    #[test]
    fn a_mean_far_from_zero_costs_no_digits() {
        let (ours, _, _) = case(2, 1, (1, 1));
        let x: Vec<f32> = numbers(1 << 19, 0.0).iter().map(|x| x + 1000.0).collect();
        let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / x.len() as f64;
        let squares: f64 = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum();
        let scale = 1.0 / (squares / x.len() as f64 + 1e-5).sqrt();
        let (weight, bias) = (numbers(2, 1.0), numbers(2, 2.0));
        let picture = Tensor::from_slice(&x, (1, 2, 512, 512), &Device::Cpu).unwrap();
        for isa in Isa::all_available() {
            let found = on(isa, &ours, &picture, None);
            for (i, (x, y)) in x.iter().zip(&found).enumerate().step_by(97) {
                let channel = i / (512 * 512);
                let expected = (f64::from(*x) - mean) * scale * f64::from(weight[channel])
                    + f64::from(bias[channel]);
                // The mean itself is rounded to a unit in the last place of 1000.
                assert!(
                    (f64::from(*y) - expected).abs() < 1e-4,
                    "{isa:?} {y} {expected}"
                );
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let groups = |count| Groups { count, eps: 1e-5 };
        let make = |count| {
            let gain = (host(6, 1.0), host(6, 2.0));
            GroupNorm::new(gain, groups(count), &Device::Cpu, DType::F32)
        };
        assert!(make(4).is_err() && make(0).is_err());
        let norm = make(3).unwrap();
        let x = |channels| Tensor::zeros((1, channels, 2, 2), DType::F32, &Device::Cpu).unwrap();
        assert!(norm.forward(&x(6), None).is_ok());
        assert!(norm.forward(&x(5), None).is_err());
        assert!(
            norm.forward(&x(6).to_dtype(DType::F16).unwrap(), None)
                .is_err()
        );
    }
}
