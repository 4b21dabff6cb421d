//! Convolution over time, as speech models begin with: torch's Conv1d with the channels last.
//! On the CPU it is a gathering of windows and the shared matrix product over the weight as it is stored; elsewhere it is cuDNN's
//! by way of `cuda`, or candle's.

use crate::cuda::{self, Convolution};
use crate::error::{NnError, Result};
use crate::host::with_f32;
use crate::linear::Linear;
use crate::weights::HostTensor;
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

/// Numbers of gathered windows at a time: 8 MiB, which is read again at once and is little beside a model.
const GATHERED: usize = 1 << 21;
/// Rows of the product at a time, at most: as many as its kernel takes in one pass.
const MOST_ROWS: usize = 768;

/// How a convolution goes over its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv1dConfig {
    /// From one window to the next.
    pub stride: usize,
    /// Zeros put before the first and after the last input.
    pub padding: usize,
    /// Parts that inputs and outputs are cut into, each part of the outputs seeing its own part of the inputs.
    pub groups: usize,
}

/// A convolution over time.
#[derive(Debug, Clone)]
pub struct Conv1d {
    config: Conv1dConfig,
    kernel: usize,
    inputs: usize,
    outputs: usize,
    weight: Weight,
}

#[derive(Debug, Clone)]
enum Weight {
    /// A layer [outputs / groups, inputs / groups · kernel] for each group.
    Host(Vec<Linear>),
    /// [outputs, inputs / groups, kernel], and the bias.
    Plain(Tensor, Option<Tensor>),
}

impl Conv1d {
    /// A convolution with `weight` [outputs, inputs / groups, kernel] and `bias`, one number per output. The weight is kept as it
    /// is stored, as [`Linear::new`] does.
    ///
    /// # Errors
    /// [`NnError::Input`] for another shape, a stride of 0 or groups that do not divide the outputs; as [`Linear::new`].
    pub fn new(
        weight: HostTensor,
        bias: Option<HostTensor>,
        config: Conv1dConfig,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        if !device.is_cpu() {
            return Self::plain(weight, bias, config, device, dtype);
        }
        let [outputs, inputs, kernel] = shape(&weight, config)?;
        let flat = weight.reshaped(vec![outputs, inputs * kernel])?;
        let part = outputs / config.groups;
        let layers = (0..config.groups)
            .map(|group| {
                let rows = |tensor: &HostTensor| tensor.rows(group * part, part);
                let bias = bias.as_ref().map(rows).transpose()?;
                Linear::new(rows(&flat)?, bias, device, dtype)
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            config,
            kernel,
            inputs: inputs * config.groups,
            outputs,
            weight: Weight::Host(layers),
        })
    }

    /// The same in candle tensors, on any device: what [`new`](Self::new) makes off the CPU.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and [`NnError::Candle`] when the device is out of memory.
    pub fn plain(
        weight: HostTensor,
        bias: Option<HostTensor>,
        config: Conv1dConfig,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        let [outputs, inputs, kernel] = shape(&weight, config)?;
        if let Some(bias) = &bias {
            bias.expect_shape(&[outputs])?;
        }
        let bias = bias.map(|bias| bias.to_tensor(device, dtype)).transpose()?;
        Ok(Self {
            config,
            kernel,
            inputs: inputs * config.groups,
            outputs,
            weight: Weight::Plain(weight.to_tensor(device, dtype)?, bias),
        })
    }

    /// Windows that fit `time` inputs; none when there are fewer inputs than the kernel is long.
    pub fn windows(&self, time: usize) -> usize {
        let padded = time + 2 * self.config.padding;
        match padded.checked_sub(self.kernel) {
            Some(rest) => rest / self.config.stride + 1,
            None => 0,
        }
    }

    /// Channels of the output.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Bytes of weight and bias, mapped ones included.
    pub fn bytes(&self) -> usize {
        let size = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
        match &self.weight {
            Weight::Host(layers) => layers.iter().map(Linear::bytes).sum(),
            Weight::Plain(weight, bias) => size(weight) + bias.as_ref().map_or(0, size),
        }
    }

    /// `x` [batch, time, inputs] to [batch, windows, outputs]. On the CPU what one of the batch gives has the same bits whatever
    /// else is in the batch.
    ///
    /// # Errors
    /// [`NnError::Input`] when `x` has another shape, dtype or device, or is shorter than the kernel.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, time, windows) = self.check(x)?;
        match &self.weight {
            Weight::Host(layers) => {
                let out = with_f32(x, "convolution", |x| self.on_host(layers, x, time))?;
                Ok(Tensor::from_vec(
                    out,
                    (batch, windows, self.outputs),
                    &Device::Cpu,
                )?)
            }
            Weight::Plain(weight, bias) => self.in_candle((weight, bias.as_ref()), x),
        }
    }

    fn in_candle(&self, (weight, bias): (&Tensor, Option<&Tensor>), x: &Tensor) -> Result<Tensor> {
        let Conv1dConfig {
            stride,
            padding,
            groups,
        } = self.config;
        let x = x.transpose(1, 2)?.contiguous()?;
        // Time is the width of planes of height 1.
        let over = Convolution {
            stride: [1, stride],
            padding: [0, padding],
            groups,
        };
        let y = match cuda::convolve(&x.unsqueeze(2)?, &weight.unsqueeze(2)?, &over)? {
            Some(y) => y.squeeze(2)?,
            None => x.conv1d(weight, padding, stride, 1, groups)?,
        };
        let added = cuda::add_to_planes(&y, bias, None)?;
        let y = y.transpose(1, 2)?.contiguous()?;
        Ok(match bias {
            Some(bias) if !added => y.broadcast_add(bias)?,
            _ => y,
        })
    }

    fn check(&self, x: &Tensor) -> Result<(usize, usize, usize)> {
        let (batch, time, inputs) = x.dims3()?;
        let windows = self.windows(time);
        if inputs != self.inputs || windows == 0 {
            return Err(input(format!(
                "input of shape {:?} to {} channels and a kernel of {}",
                x.dims(),
                self.inputs,
                self.kernel
            )));
        }
        Ok((batch, time, windows))
    }

    fn on_host(&self, layers: &[Linear], x: &[f32], time: usize) -> Result<Vec<f32>> {
        let windows = self.windows(time);
        let part = self.outputs / self.config.groups;
        let width = self.inputs / self.config.groups * self.kernel;
        let at_once = (GATHERED / width.max(1)).clamp(1, MOST_ROWS).min(windows);
        let batch = x.len() / (time * self.inputs);
        let mut out = Vec::with_capacity(batch * windows * self.outputs);
        for one in x.chunks_exact(time * self.inputs) {
            for start in (0..windows).step_by(at_once) {
                let rows = at_once.min(windows - start);
                let first = out.len();
                out.resize(first + rows * self.outputs, 0.0);
                for (group, layer) in layers.iter().enumerate() {
                    let gathered = self.gather(one, group, start..start + rows);
                    let gathered = Tensor::from_vec(gathered, (rows, width), &Device::Cpu)?;
                    let made = layer.forward(&gathered)?;
                    with_f32(&made, "convolution", |made| {
                        let to = out.get_mut(first..).unwrap_or_default();
                        scatter(made, part, to, (group * part, self.outputs));
                        Ok(())
                    })?;
                }
            }
        }
        Ok(out)
    }

    /// Some windows of one input [time, inputs], as the weight's rows lie: [windows, channels of the group, kernel].
    fn gather(&self, x: &[f32], group: usize, windows: std::ops::Range<usize>) -> Vec<f32> {
        let channels = self.inputs / self.config.groups;
        let width = channels * self.kernel;
        let mut gathered = vec![0.0; windows.len() * width];
        let rows = gathered.par_chunks_exact_mut(width).enumerate();
        rows.for_each(|(row, gathered)| {
            let first = (windows.start + row) * self.config.stride;
            for k in 0..self.kernel {
                let Some(at) = (first + k).checked_sub(self.config.padding) else {
                    continue;
                };
                let start = at * self.inputs + group * channels;
                let Some(from) = x.get(start..start + channels) else {
                    break;
                };
                for (to, from) in gathered.iter_mut().skip(k).step_by(self.kernel).zip(from) {
                    *to = *from;
                }
            }
        });
        gathered
    }
}

/// Puts rows of `part` numbers into rows of `width` numbers, from their number `start` on.
fn scatter(made: &[f32], part: usize, out: &mut [f32], (start, width): (usize, usize)) {
    for (from, to) in made.chunks_exact(part).zip(out.chunks_exact_mut(width)) {
        if let Some(to) = to.get_mut(start..start + part) {
            to.copy_from_slice(from);
        }
    }
}

fn shape(weight: &HostTensor, config: Conv1dConfig) -> Result<[usize; 3]> {
    match weight.shape() {
        [outputs, inputs, kernel]
            if *outputs > 0
                && *inputs > 0
                && *kernel > 0
                && config.stride > 0
                && config.groups > 0
                && outputs % config.groups == 0 =>
        {
            Ok([*outputs, *inputs, *kernel])
        }
        other => Err(input(format!(
            "weight `{}` of shape {other:?} with {config:?}; [outputs, inputs / groups, kernel] is wanted",
            weight.name()
        ))),
    }
}

fn input(reason: String) -> NnError {
    NnError::Input {
        what: "convolution",
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(len: usize) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * 12.9898).sin()).collect()
    }

    fn host(shape: &[usize]) -> HostTensor {
        let bytes = numbers(shape.iter().product())
            .into_iter()
            .flat_map(f32::to_le_bytes)
            .collect();
        HostTensor::from_bytes("w", DType::F32, shape.to_vec(), bytes).unwrap()
    }

    #[test]
    fn gathered_windows_give_what_candles_convolution_gives() {
        // [channels, outputs, kernel], stride, padding, groups, time: Whisper's two, wav2vec2's first, and its grouped one.
        let cases = [
            ([5, 7, 3], 1, 1, 1, 23),
            ([7, 9, 3], 2, 1, 1, 22),
            ([1, 6, 10], 5, 0, 1, 1031),
            ([12, 8, 16], 1, 8, 4, 9),
            ([3, 4, 2], 2, 0, 1, 5000),
        ];
        for ([channels, outputs, kernel], stride, padding, groups, time) in cases {
            let config = Conv1dConfig {
                stride,
                padding,
                groups,
            };
            let weight = host(&[outputs, channels / groups, kernel]);
            let bias = Some(host(&[outputs]));
            let ours = Conv1d::new(
                weight.clone(),
                bias.clone(),
                config,
                &Device::Cpu,
                DType::F32,
            )
            .unwrap();
            let plain = Conv1d::plain(weight, bias, config, &Device::Cpu, DType::F32).unwrap();
            let x = numbers(2 * time * channels);
            let x = Tensor::from_vec(x, (2, time, channels), &Device::Cpu).unwrap();
            let found = ours.forward(&x).unwrap();
            assert_eq!(found.dims(), [2, ours.windows(time), outputs]);
            let expected = plain.forward(&x).unwrap();
            let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let (found, expected) = (flat(&found), flat(&expected));
            let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
            for (a, b) in found.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-5 * largest, "{config:?}: {a}, {b}");
            }
            let second = ours.forward(&x.narrow(0, 1, 1).unwrap()).unwrap();
            assert_eq!(flat(&second), found[found.len() / 2..]);
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let config = Conv1dConfig {
            stride: 1,
            padding: 0,
            groups: 3,
        };
        let make = |config| Conv1d::new(host(&[4, 2, 3]), None, config, &Device::Cpu, DType::F32);
        assert!(make(config).is_err(), "3 groups of 4 outputs");
        let config = Conv1dConfig {
            groups: 2,
            ..config
        };
        let conv = make(config).unwrap();
        let x =
            |time, channels| Tensor::zeros((1, time, channels), DType::F32, &Device::Cpu).unwrap();
        assert!(conv.forward(&x(3, 4)).is_ok());
        assert!(conv.forward(&x(2, 4)).is_err(), "shorter than the kernel");
        assert!(conv.forward(&x(3, 2)).is_err(), "too few channels");
    }
}
