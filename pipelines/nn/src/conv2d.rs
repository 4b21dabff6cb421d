//! Convolution over pictures and latents: torch's Conv2d, [batch, channels, height, width].
//! Apart from `conv`, which goes over time with the channels last.

use crate::error::{NnError, Result};
use crate::weights::HostTensor;
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
}

/// A convolution over height and width.
#[derive(Debug, Clone)]
pub struct Conv2d {
    config: Conv2dConfig,
    kernel: [usize; 2],
    inputs: usize,
    outputs: usize,
    /// [outputs, inputs, height, width]
    weight: Tensor,
    /// [1, outputs, 1, 1]
    bias: Option<Tensor>,
}

impl Conv2d {
    /// A convolution with `weight` [outputs, inputs, height, width] and `bias`, one number per output.
    ///
    /// # Errors
    /// [`NnError::Input`] for another shape or a stride of 0; [`NnError::Candle`] when the device is out of memory.
    pub fn new(
        weight: HostTensor,
        bias: Option<HostTensor>,
        config: Conv2dConfig,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        let [outputs, inputs, height, width] = shape(&weight, config)?;
        if let Some(bias) = &bias {
            bias.expect_shape(&[outputs])?;
        }
        let bias = bias
            .map(|bias| {
                bias.to_tensor(device, dtype)?
                    .reshape((1, outputs, 1, 1))
                    .map_err(NnError::from)
            })
            .transpose()?;
        Ok(Self {
            config,
            kernel: [height, width],
            inputs,
            outputs,
            weight: weight.to_tensor(device, dtype)?,
            bias,
        })
    }

    /// Channels of the input.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Channels of the output.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Bytes of weight and bias.
    pub fn bytes(&self) -> usize {
        let size = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
        size(&self.weight) + self.bias.as_ref().map_or(0, size)
    }

    /// `x` [batch, inputs, height, width] to [batch, outputs, rows of windows, columns of windows]. On the CPU what one of the
    /// batch gives has the same bits whatever else is in the batch.
    ///
    /// # Errors
    /// [`NnError::Input`] when `x` has another shape or is smaller than the kernel.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.check(x)?;
        let Padding {
            top,
            bottom,
            left,
            right,
        } = self.config.padding;
        let stride = self.config.stride;
        let y = if top == bottom && left == right && top == left {
            x.conv2d(&self.weight, top, stride, 1, 1)?
        } else {
            let padded = x.pad_with_zeros(2, top, bottom)?;
            let padded = padded.pad_with_zeros(3, left, right)?;
            padded.conv2d(&self.weight, 0, stride, 1, 1)?
        };
        Ok(match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        })
    }

    /// What [`forward`](Self::forward) gives of `x`, with `residual` of the output's shape added.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and for a residual of another shape.
    pub fn forward_added(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        Ok((self.forward(x)? + residual)?)
    }

    fn check(&self, x: &Tensor) -> Result<()> {
        let (_, inputs, height, width) = x.dims4()?;
        let Padding {
            top,
            bottom,
            left,
            right,
        } = self.config.padding;
        let [kernel_height, kernel_width] = self.kernel;
        let fits = height + top + bottom >= kernel_height && width + left + right >= kernel_width;
        if inputs != self.inputs || !fits {
            return Err(input(format!(
                "input of shape {:?} to {} channels and a kernel of {kernel_height}×{kernel_width}",
                x.dims(),
                self.inputs,
            )));
        }
        Ok(())
    }
}

fn shape(weight: &HostTensor, config: Conv2dConfig) -> Result<[usize; 4]> {
    match weight.shape() {
        [outputs, inputs, height, width]
            if *outputs > 0 && *inputs > 0 && *height > 0 && *width > 0 && config.stride > 0 =>
        {
            Ok([*outputs, *inputs, *height, *width])
        }
        other => Err(input(format!(
            "weight `{}` of shape {other:?} with {config:?}; [outputs, inputs, height, width] is wanted",
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
