//! y = x·Wᵀ + b.
//! On the CPU the weight stays where and as the checkpoint has it, mapped file and half precision included, and the kernel
//! widens it in registers; elsewhere it is a candle tensor.

use crate::error::{NnError, Result};
use crate::host::with_f32;
use crate::kernels::Isa;
use crate::kernels::lanes::StoredAs;
use crate::kernels::matmul::{Matrix, Product, multiply};
use crate::weights::HostTensor;
use candle_core::{DType, Device, Tensor};

/// A linear layer.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Weight,
    inputs: usize,
    outputs: usize,
}

#[derive(Debug, Clone)]
enum Weight {
    Host(HostWeight),
    Plain {
        /// [out, in]
        weight: Tensor,
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

impl Linear {
    /// A layer over `weight`, of shape [out, in], and `bias`, one number per output.
    ///
    /// On the CPU activations are f32 whatever `dtype` says; `dtype` is what the weight is kept in: f32 keeps it as it is
    /// stored (f16 and bf16 lose nothing by it), a half dtype converts other weights to it, once. A quantised weight stays
    /// as it is whatever `dtype` says; the kernel unpacks it in registers, to the numbers that dequantising gives, or multiplies
    /// bytes where the tensor asks for it ([`Activations`](crate::weights::Activations)).
    ///
    /// Elsewhere a quantised weight is dequantised to `dtype` once: there is no quantised kernel for CUDA.
    ///
    /// # Errors
    /// [`NnError::Shape`] when the shapes do not fit, [`NnError::DType`] for anything but f32, f16 and bf16.
    pub fn new(
        weight: HostTensor,
        bias: Option<HostTensor>,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        if !device.is_cpu() {
            return Self::plain(weight, bias, device, dtype);
        }
        let (outputs, inputs) = shape(&weight, bias.as_ref())?;
        let tensor = match dtype {
            DType::F32 => weight,
            _ if weight.quantized().is_some() => weight,
            _ => weight.to_dtype(dtype)?,
        };
        let stored = StoredAs::of_tensor(&tensor)?;
        let bias = bias.map(|bias| bias.to_f32()).transpose()?;
        Ok(Self {
            weight: Weight::Host(HostWeight {
                tensor,
                stored,
                bias,
            }),
            inputs,
            outputs,
        })
    }

    /// The same layer in candle tensors, on any device: what [`new`](Self::new) makes off the CPU.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and [`NnError::Candle`] when the device is out of memory.
    pub fn plain(
        weight: HostTensor,
        bias: Option<HostTensor>,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        let (outputs, inputs) = shape(&weight, bias.as_ref())?;
        let bias = bias.map(|bias| bias.to_tensor(device, dtype)).transpose()?;
        let weight = weight.to_tensor(device, dtype)?;
        Ok(Self {
            weight: Weight::Plain { weight, bias },
            inputs,
            outputs,
        })
    }

    /// A layer over a matrix [out, in] that is on a device already.
    pub(crate) fn over(weight: Tensor) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        Ok(Self {
            weight: Weight::Plain { weight, bias: None },
            inputs,
            outputs,
        })
    }

    /// Whether it is computed by candle, and so takes activations of its weight's dtype.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.weight, Weight::Plain { .. })
    }

    /// Numbers in a row of the input.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Numbers in a row of the output.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Bytes that the weight and the bias take, mapped ones included.
    pub fn bytes(&self) -> usize {
        match &self.weight {
            Weight::Host(host) => {
                host.tensor.bytes().len() + host.bias.as_ref().map_or(0, |bias| 4 * bias.len())
            }
            Weight::Plain { weight, bias } => {
                let bytes = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
                bytes(weight) + bias.as_ref().map_or(0, bytes)
            }
        }
    }

    /// `x` [rows, in] to [rows, out]. On the CPU a row's result has the same bits whatever other rows there are.
    ///
    /// # Errors
    /// [`NnError::Input`] when `x` has another width, dtype or device.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.weight {
            Weight::Host(_) => {
                let mut outs = Self::forward_many(&[self], x)?;
                outs.pop().ok_or_else(|| input("no layer".to_owned()))
            }
            Weight::Plain { weight, bias } => {
                self.check(x)?;
                let y = x.matmul(&weight.t()?)?;
                Ok(match bias {
                    Some(bias) => y.broadcast_add(bias)?,
                    None => y,
                })
            }
        }
    }

    /// Several layers of one `x`, as query, key and value are, in one fork and join.
    ///
    /// # Errors
    /// As for [`forward`](Self::forward).
    pub fn forward_many(layers: &[&Self], x: &Tensor) -> Result<Vec<Tensor>> {
        Self::forward_many_on(Isa::detect(), layers, x)
    }

    pub(crate) fn forward_many_on(isa: Isa, layers: &[&Self], x: &Tensor) -> Result<Vec<Tensor>> {
        let hosts: Option<Vec<Matrix<'_>>> = layers.iter().map(|layer| layer.matrix()).collect();
        let Some(matrices) = hosts else {
            return layers.iter().map(|layer| layer.forward(x)).collect();
        };
        for layer in layers {
            layer.check(x)?;
        }
        let rows = x.dim(0)?;
        let mut outs: Vec<Vec<f32>> = matrices
            .iter()
            .map(|matrix| vec![0.0; rows * matrix.rows])
            .collect();
        with_f32(x, "linear", |x| {
            let mut products: Vec<Product<'_>> = matrices
                .iter()
                .zip(&mut outs)
                .map(|(matrix, out)| Product {
                    matrix: *matrix,
                    out,
                })
                .collect();
            multiply(isa, x, rows, &mut products);
            Ok(())
        })?;
        outs.into_iter()
            .zip(layers)
            .map(|(out, layer)| Ok(Tensor::from_vec(out, (rows, layer.outputs), &Device::Cpu)?))
            .collect()
    }

    fn matrix(&self) -> Option<Matrix<'_>> {
        match &self.weight {
            Weight::Host(host) => Some(Matrix {
                bytes: host.tensor.bytes(),
                stored: host.stored,
                rows: self.outputs,
                columns: self.inputs,
                bias: host.bias.as_deref(),
                activations: host.tensor.activations(),
            }),
            Weight::Plain { .. } => None,
        }
    }

    fn check(&self, x: &Tensor) -> Result<()> {
        match x.dims() {
            [_, width] if *width == self.inputs => Ok(()),
            dims => Err(input(format!(
                "input of shape {dims:?} to a layer of {} inputs; [rows, {}] is wanted",
                self.inputs, self.inputs
            ))),
        }
    }
}

/// [out, in] of a weight, with a bias that fits.
fn shape(weight: &HostTensor, bias: Option<&HostTensor>) -> Result<(usize, usize)> {
    let (outputs, inputs) = match weight.shape() {
        [outputs, inputs] if *outputs > 0 && *inputs > 0 => (*outputs, *inputs),
        other => {
            return Err(input(format!(
                "weight `{}` of shape {other:?}; [out, in] is wanted",
                weight.name()
            )));
        }
    };
    if let Some(bias) = bias {
        bias.expect_shape(&[outputs])?;
    }
    Ok((outputs, inputs))
}

fn input(reason: String) -> NnError {
    NnError::Input {
        what: "linear",
        reason,
    }
}
