//! Convolution over pictures and latents: torch's Conv2d, [batch, channels, height, width].
//! On the CPU it is the kernel of `kernels::convolve` over the weight as it is stored; elsewhere it is cuDNN's by way of `cuda`, or
//! candle's. Apart from `conv`, which goes over time with the channels last.

use crate::cuda::{self, Convolution};
use crate::error::{NnError, Result};
use crate::host::{with_f32, written};
use crate::kernels::Isa;
use crate::kernels::convolve::convolve;
use crate::kernels::filters::Filters;
use crate::kernels::lanes::StoredAs;
use crate::kernels::windows::Windows;
use crate::weights::{HostTensor, StoredType};
use candle_core::{DType, Device, Tensor};

/// How a convolution goes over its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// From one window to the next, both ways.
    pub stride: usize,
    /// Zeros put around the input.
    pub padding: Padding,
}

impl Conv2dConfig {
    /// Stride 1 and the padding that keeps height and width, for a kernel of odd side `kernel`.
    pub fn same(kernel: usize) -> Self {
        Self {
            stride: 1,
            padding: Padding::all(kernel / 2),
        }
    }
}

/// Zeros put around an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the left.
    pub left: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// The same on all sides.
    pub fn all(zeros: usize) -> Self {
        Self {
            top: zeros,
            bottom: zeros,
            left: zeros,
            right: zeros,
        }
    }

    /// What opposite sides have both (rows and columns of each side), which a convolution adds by itself, and what one of them has more.
    fn split(self) -> ([usize; 2], Self) {
        let (rows, columns) = (self.top.min(self.bottom), self.left.min(self.right));
        let rest = Self {
            top: self.top - rows,
            bottom: self.bottom - rows,
            left: self.left - columns,
            right: self.right - columns,
        };
        ([rows, columns], rest)
    }

    fn around(self, x: &Tensor) -> Result<Tensor> {
        let x = x.pad_with_zeros(2, self.top, self.bottom)?;
        Ok(x.pad_with_zeros(3, self.left, self.right)?)
    }
}

/// A convolution over height and width.
#[derive(Debug, Clone)]
pub struct Conv2d {
    config: Conv2dConfig,
    kernel: [usize; 2],
    inputs: usize,
    outputs: usize,
    weight: Weight,
}

#[derive(Debug, Clone)]
enum Weight {
    Host(HostWeight),
    Plain {
        /// [outputs, inputs, height, width]
        weight: Tensor,
        /// [1, outputs, 1, 1]
        bias: Option<Tensor>,
    },
}

/// What the kernel reads.
#[derive(Debug, Clone)]
struct HostWeight {
    tensor: HostTensor,
    stored: StoredAs,
    bias: Option<Vec<f32>>,
}

/// What is convolved: `x`, every pixel of it seen four times or once, and what is added to the result.
#[derive(Clone, Copy)]
struct Input<'a> {
    x: &'a Tensor,
    doubled: bool,
    residual: Option<&'a Tensor>,
}

impl Conv2d {
    /// A convolution with `weight` [outputs, inputs, height, width] and `bias`, one number per output.
    ///
    /// On the CPU the weight is kept as it is stored, mapped file and half precision included, unless `dtype` is a half dtype and
    /// another than that; a weight in a block format is dequantised to `dtype`, since its blocks go across windows.
    ///
    /// # Errors
    /// [`NnError::Input`] for another shape or a stride of 0; [`NnError::DType`] for anything but floats; [`NnError::Candle`] when
    /// the device is out of memory.
    pub fn new(
        weight: HostTensor,
        bias: Option<HostTensor>,
        config: Conv2dConfig,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        if !device.is_cpu() {
            return Self::plain(weight, bias, config, device, dtype);
        }
        let shape = shape(&weight, bias.as_ref(), config)?;
        let tensor = match (weight.stored(), dtype) {
            (StoredType::Plain(DType::F16 | DType::BF16), DType::F32) => weight,
            _ => weight.to_dtype(dtype)?,
        };
        let weight = HostWeight {
            stored: StoredAs::of_tensor(&tensor)?,
            tensor,
            bias: bias.map(|bias| bias.to_f32()).transpose()?,
        };
        Ok(Self::over(config, shape, Weight::Host(weight)))
    }

    /// The same in candle tensors, on any device: what [`new`](Self::new) makes off the CPU.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn plain(
        weight: HostTensor,
        bias: Option<HostTensor>,
        config: Conv2dConfig,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        let shape = shape(&weight, bias.as_ref(), config)?;
        let bias = bias
            .map(|bias| {
                bias.to_tensor(device, dtype)?
                    .reshape((1, (), 1, 1))
                    .map_err(NnError::from)
            })
            .transpose()?;
        let weight = weight.to_tensor(device, dtype)?;
        Ok(Self::over(config, shape, Weight::Plain { weight, bias }))
    }

    fn over(config: Conv2dConfig, shape: [usize; 4], weight: Weight) -> Self {
        let [outputs, inputs, height, width] = shape;
        Self {
            config,
            kernel: [height, width],
            inputs,
            outputs,
            weight,
        }
    }

    /// How it goes over its input.
    pub fn config(&self) -> Conv2dConfig {
        self.config
    }

    /// Height and width of its windows.
    pub fn kernel(&self) -> [usize; 2] {
        self.kernel
    }

    /// Channels of the input.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Channels of the output.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Bytes of weight and bias, mapped ones included.
    pub fn bytes(&self) -> usize {
        match &self.weight {
            Weight::Host(host) => {
                host.tensor.bytes().len() + host.bias.as_ref().map_or(0, |bias| 4 * bias.len())
            }
            Weight::Plain { weight, bias } => {
                let size = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
                size(weight) + bias.as_ref().map_or(0, size)
            }
        }
    }

    /// `x` [batch, inputs, height, width] to [batch, outputs, rows of windows, columns of windows]. On the CPU what one of the
    /// batch gives has the same bits whatever else is in the batch.
    ///
    /// # Errors
    /// [`NnError::Input`] when `x` has another shape or is smaller than the kernel; on the CPU, when it is not f32.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(Input {
            x,
            doubled: false,
            residual: None,
        })
    }

    /// What [`forward`](Self::forward) gives of `x`, with `residual` of the output's shape added.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and for a residual of another shape.
    pub fn forward_added(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.run(Input {
            x,
            doubled: false,
            residual: Some(residual),
        })
    }

    /// What [`forward`](Self::forward) gives of `x` enlarged to twice its height and width, each pixel becoming four of its value:
    /// torch's `interpolate(scale_factor=2, mode="nearest")` before a convolution. On the CPU the enlarged picture is in no memory.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_upscaled(&self, x: &Tensor) -> Result<Tensor> {
        self.run(Input {
            x,
            doubled: true,
            residual: None,
        })
    }

    fn run(&self, input: Input<'_>) -> Result<Tensor> {
        let out = self.check(input)?;
        match &self.weight {
            Weight::Host(weight) => self.on_host(Isa::detect(), weight, input, out),
            Weight::Plain { weight, bias } => self.in_candle((weight, bias.as_ref()), input),
        }
    }

    /// [batch, outputs, rows of windows, columns of windows].
    fn check(&self, given: Input<'_>) -> Result<[usize; 4]> {
        let (batch, inputs, height, width) = given.x.dims4()?;
        let times = if given.doubled { 2 } else { 1 };
        let Padding {
            top,
            bottom,
            left,
            right,
        } = self.config.padding;
        let windows = |size: usize, around: usize, kernel: usize| {
            let rest = (size * times + around).checked_sub(kernel)?;
            (size > 0).then_some(rest / self.config.stride + 1)
        };
        let [kernel_height, kernel_width] = self.kernel;
        let rows = windows(height, top + bottom, kernel_height);
        let columns = windows(width, left + right, kernel_width);
        let (Some(rows), Some(columns), true) = (rows, columns, inputs == self.inputs) else {
            return Err(input(format!(
                "input of shape {:?} to {} channels and a kernel of {kernel_height}×{kernel_width}",
                given.x.dims(),
                self.inputs,
            )));
        };
        let out = [batch, self.outputs, rows, columns];
        match given.residual {
            Some(residual) if residual.dims() != out => Err(input(format!(
                "residual of shape {:?} to an output of {out:?}",
                residual.dims()
            ))),
            _ => Ok(out),
        }
    }

    fn on_host(
        &self,
        isa: Isa,
        weight: &HostWeight,
        given: Input<'_>,
        out: [usize; 4],
    ) -> Result<Tensor> {
        let (_, channels, height, width) = given.x.dims4()?;
        let run = |x: &[f32], residual: Option<&[f32]>| {
            let windows = Windows {
                x,
                channels,
                height,
                width,
                kernel: self.kernel,
                stride: self.config.stride,
                padding: self.config.padding,
                doubled: given.doubled,
                out: [out[2], out[3]],
            };
            windows.check()?;
            let filters = Filters {
                bytes: weight.tensor.bytes(),
                stored: weight.stored,
                outputs: self.outputs,
                bias: weight.bias.as_deref(),
                residual,
            };
            let len = out.iter().product();
            // SAFETY: `check` has seen that shapes fit, and `with_f32` hands out all numbers; the kernel writes every number.
            unsafe { written(len, |out| convolve(isa, &windows, &filters, out)) }
        };
        let numbers = with_f32(given.x, "convolution", |x| match given.residual {
            Some(residual) => with_f32(residual, "convolution", |r| run(x, Some(r))),
            None => run(x, None),
        })?;
        Ok(Tensor::from_vec(numbers, &out, &Device::Cpu)?)
    }

    fn in_candle(
        &self,
        (weight, bias): (&Tensor, Option<&Tensor>),
        given: Input<'_>,
    ) -> Result<Tensor> {
        let (_, _, height, width) = given.x.dims4()?;
        let x = match given.doubled {
            true => given.x.upsample_nearest2d(2 * height, 2 * width)?,
            false => given.x.clone(),
        };
        let (padding, rest) = self.config.padding.split();
        let x = rest.around(&x)?;
        let stride = self.config.stride;
        let over = Convolution {
            stride: [stride; 2],
            padding,
            groups: 1,
        };
        let y = match (cuda::convolve(&x, weight, &over)?, padding) {
            (Some(y), _) => y,
            (None, [rows, columns]) if rows == columns => x.conv2d(weight, rows, stride, 1, 1)?,
            (None, [rows, columns]) => {
                let both = Padding {
                    top: rows,
                    bottom: rows,
                    left: columns,
                    right: columns,
                };
                both.around(&x)?.conv2d(weight, 0, stride, 1, 1)?
            }
        };
        if cuda::add_to_planes(&y, bias, given.residual)? {
            return Ok(y);
        }
        let y = match bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        Ok(match given.residual {
            Some(residual) => (y + residual)?,
            None => y,
        })
    }
}

fn shape(
    weight: &HostTensor,
    bias: Option<&HostTensor>,
    config: Conv2dConfig,
) -> Result<[usize; 4]> {
    let shape = match weight.shape() {
        [outputs, inputs, height, width]
            if *outputs > 0 && *inputs > 0 && *height > 0 && *width > 0 && config.stride > 0 =>
        {
            [*outputs, *inputs, *height, *width]
        }
        other => {
            return Err(input(format!(
                "weight `{}` of shape {other:?} with {config:?}; [outputs, inputs, height, width] is wanted",
                weight.name()
            )));
        }
    };
    if let Some(bias) = bias {
        bias.expect_shape(&[shape[0]])?;
    }
    Ok(shape)
}

fn input(reason: String) -> NnError {
    NnError::Input {
        what: "convolution",
        reason,
    }
}

#[cfg(test)]
mod tests;
