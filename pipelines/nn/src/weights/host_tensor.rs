//! One tensor as it lies in the checkpoint: a name, a dtype, a shape and a range of bytes that somebody keeps alive.
//! Apart from where it came from (`directory`, `embedded`) and from how numbers are converted (`convert`).

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Shape, Tensor};
use half::{bf16, f16};
use memmap2::Mmap;

use super::quantized::{QuantType, StoredType};
use super::{Activations, convert, dequantize};
use crate::cuda;
use crate::error::{NnError, Result};
use crate::parking::Roster;

/// Checkpoints are little-endian, and bytes are handed to candle as they are.
#[cfg(target_endian = "big")]
compile_error!("weights are read in place, which needs a little-endian machine");

/// What keeps a tensor's bytes alive.
#[derive(Clone)]
pub(super) enum Backing {
    /// A file mapped read-only.
    Mapped(Arc<Mmap>),
    /// Bytes compiled into the binary.
    Static(&'static [u8]),
    /// Bytes in memory: converted, or arrived over a network.
    Owned(Arc<Vec<u8>>),
}

impl Backing {
    /// All the bytes, of which a tensor is a range.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// One tensor as it lies in the checkpoint, on the host: dtype or block format, shape and bytes (of a mapped file, static or
/// owned). Cheap to clone: the bytes are shared.
#[derive(Clone)]
pub struct HostTensor {
    name: Arc<str>,
    stored: StoredType,
    shape: Arc<[usize]>,
    backing: Backing,
    /// Inside `backing`; exactly as long as `stored` needs for the shape. Both are checked by every constructor.
    range: Range<usize>,
    /// What layers multiply it with, where it is quantised.
    activations: Activations,
    /// Where it is listed when it is brought to a device.
    roster: Option<Roster>,
}

impl HostTensor {
    /// A tensor over a range of shared bytes, in a plain dtype or a block format.
    ///
    /// # Errors
    /// [`NnError::TensorBytes`] when the range is not inside the backing or not what shape and dtype need,
    /// [`NnError::Blocks`] when the rows of a block format are no whole blocks.
    pub(super) fn over(
        name: impl Into<Arc<str>>,
        stored: impl Into<StoredType>,
        shape: impl Into<Arc<[usize]>>,
        backing: Backing,
        range: Range<usize>,
    ) -> Result<Self> {
        let (name, stored, shape) = (name.into(), stored.into(), shape.into());
        if let StoredType::Quant(kind) = stored {
            // A scalar is a row of one.
            let columns = shape.last().copied().unwrap_or(1);
            if kind.byte_len(columns).is_none() {
                return Err(NnError::Blocks {
                    name: name.to_string(),
                    kind: kind.name(),
                    columns,
                    block: kind.block_len(),
                });
            }
        }
        let found = backing.bytes().get(range.clone()).map_or(0, <[u8]>::len);
        if stored.byte_len(&shape) != Some(found) {
            return Err(NnError::TensorBytes {
                name: name.to_string(),
                dtype: stored.name().to_owned(),
                shape: shape.to_vec(),
                found,
            });
        }
        Ok(Self {
            name,
            stored,
            shape,
            backing,
            range,
            activations: Activations::default(),
            roster: None,
        })
    }

    /// The same tensor, which layers multiply with `activations` where it is quantised. Its rows and its other shapes say the same.
    #[must_use]
    pub fn with_activations(mut self, activations: Activations) -> Self {
        self.activations = activations;
        self
    }

    /// What layers multiply it with, where it is quantised.
    pub(crate) fn activations(&self) -> Activations {
        self.activations
    }

    /// The same tensor, which is listed when it is brought to a device. What is made of it says the same.
    #[must_use]
    pub fn with_roster(mut self, roster: Option<Roster>) -> Self {
        self.roster = roster;
        self
    }

    /// Where it is listed when it is brought to a device.
    pub fn roster(&self) -> Option<&Roster> {
        self.roster.as_ref()
    }

    /// Lists a tensor that was made of it on a device.
    pub(crate) fn list(&self, tensor: &Tensor) {
        if let Some(roster) = &self.roster {
            roster.list(tensor);
        }
    }

    /// This one as a part of another, or in another shape.
    fn of(self, whole: &Self) -> Self {
        self.with_activations(whole.activations)
            .with_roster(whole.roster.clone())
    }

    /// A tensor over bytes of its own, little-endian and row-major, in a plain dtype or a block format.
    ///
    /// # Errors
    /// [`NnError::TensorBytes`] when `bytes` is not as long as shape and dtype say, [`NnError::Blocks`] when the rows of a
    /// block format are no whole blocks.
    pub fn from_bytes(
        name: impl Into<String>,
        stored: impl Into<StoredType>,
        shape: Vec<usize>,
        bytes: Vec<u8>,
    ) -> Result<Self> {
        let range = 0..bytes.len();
        let backing = Backing::Owned(Arc::new(bytes));
        Self::over(name.into(), stored, shape, backing, range)
    }

    /// The name in the checkpoint, as in `model.layers.0.self_attn.q_proj.weight`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the numbers lie in [`bytes`](Self::bytes).
    pub fn stored(&self) -> StoredType {
        self.stored
    }

    /// The block format, when it has one.
    pub fn quantized(&self) -> Option<QuantType> {
        match self.stored {
            StoredType::Plain(_) => None,
            StoredType::Quant(kind) => Some(kind),
        }
    }

    /// The dtype of the numbers; of a block format f32, which all its numbers are dequantised to, by definition.
    pub fn dtype(&self) -> DType {
        match self.stored {
            StoredType::Plain(dtype) => dtype,
            StoredType::Quant(_) => DType::F32,
        }
    }

    /// The shape, row-major; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How many numbers it holds.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The bytes, little-endian and row-major, as [`stored`](Self::stored) says. They may be unaligned for the dtype: a checkpoint promises nothing.
    pub fn bytes(&self) -> &[u8] {
        // The constructors have checked the range; an empty slice is unreachable and better than a panic.
        self.backing.bytes().get(self.range.clone()).unwrap_or(&[])
    }

    /// Whether the bytes are a mapped file's: the first touch of a page may read from the disk.
    pub fn is_mapped(&self) -> bool {
        matches!(self.backing, Backing::Mapped(_))
    }

    /// A tensor on `device` in `dtype`. Equal dtypes are copied as they are, whatever they are; others are converted
    /// among f32, f16 and bf16, on the CPU by all threads and elsewhere by the device. A block format is dequantised.
    ///
    /// # Errors
    /// [`NnError::DType`] for a conversion from or to anything else, [`NnError::Candle`] when the device is out of memory.
    pub fn to_tensor(&self, device: &Device, dtype: DType) -> Result<Tensor> {
        let tensor = self.brought_to(device, dtype)?;
        self.list(&tensor);
        Ok(tensor)
    }

    fn brought_to(&self, device: &Device, dtype: DType) -> Result<Tensor> {
        let shape = &*self.shape;
        if self.stored == StoredType::Plain(dtype) {
            return self.as_stored(device);
        }
        self.expect_float(self.dtype())?;
        self.expect_float(dtype)?;
        if self.quantized().is_some() {
            let numbers = Tensor::from_vec(self.to_f32()?, shape, &Device::Cpu)?;
            return Ok(numbers.to_dtype(dtype)?.to_device(device)?);
        }
        if !device.is_cpu() {
            return Ok(self.as_stored(device)?.to_dtype(dtype)?);
        }
        // Typed vectors, so that candle takes them over without another copy.
        let elements = self.elements();
        let tensor = match dtype {
            DType::F16 => {
                let mut numbers: Vec<f16> = bytemuck::zeroed_vec(elements);
                self.convert_into(dtype, bytemuck::cast_slice_mut(&mut numbers))?;
                Tensor::from_vec(numbers, shape, device)?
            }
            DType::BF16 => {
                let mut numbers: Vec<bf16> = bytemuck::zeroed_vec(elements);
                self.convert_into(dtype, bytemuck::cast_slice_mut(&mut numbers))?;
                Tensor::from_vec(numbers, shape, device)?
            }
            _ => {
                let mut numbers: Vec<f32> = bytemuck::zeroed_vec(elements);
                self.convert_into(dtype, bytemuck::cast_slice_mut(&mut numbers))?;
                Tensor::from_vec(numbers, shape, device)?
            }
        };
        Ok(tensor)
    }

    /// A tensor of the bytes as they are.
    fn as_stored(&self, device: &Device) -> Result<Tensor> {
        let (dtype, shape) = (self.dtype(), Shape::from(&*self.shape));
        match cuda::upload(self.bytes(), dtype, &shape, device)? {
            Some(tensor) => Ok(tensor),
            None => Ok(Tensor::from_raw_buffer(
                self.bytes(),
                dtype,
                &self.shape,
                device,
            )?),
        }
    }

    /// Itself when it has this dtype already, else a converted copy in memory, made by all threads. Rounds to nearest, ties to
    /// even, as candle and torch do. A block format is dequantised, for f32 too.
    ///
    /// # Errors
    /// [`NnError::DType`] when either dtype is none of f32, f16 and bf16.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        if self.stored == StoredType::Plain(dtype) {
            return Ok(self.clone());
        }
        self.expect_float(dtype)?;
        let mut bytes: Vec<u8> = bytemuck::zeroed_vec(self.elements() * dtype.size_in_bytes());
        self.convert_into(dtype, &mut bytes)?;
        let range = 0..bytes.len();
        Self::over(
            self.name.clone(),
            dtype,
            self.shape.clone(),
            Backing::Owned(Arc::new(bytes)),
            range,
        )
        .map(|converted| converted.with_roster(self.roster.clone()))
    }

    /// The numbers as f32, for what is small and kept wide: norms, biases, positions. A block format is dequantised, to the
    /// bit as the `gguf` package does it.
    ///
    /// # Errors
    /// [`NnError::DType`] when it is none of f32, f16, bf16 and a block format.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        self.expect_float(self.dtype())?;
        let mut numbers: Vec<f32> = bytemuck::zeroed_vec(self.elements());
        match self.stored {
            StoredType::Quant(kind) => dequantize::dequantize(kind, self.bytes(), &mut numbers),
            StoredType::Plain(_) => {
                self.convert_into(DType::F32, bytemuck::cast_slice_mut(&mut numbers))?;
            }
        }
        Ok(numbers)
    }

    /// `len` rows along dimension 0, from row `start`; shares the bytes.
    ///
    /// # Errors
    /// [`NnError::Rows`] when there are not that many, or the tensor is a scalar.
    pub fn rows(&self, start: usize, len: usize) -> Result<Self> {
        let have = self.shape.first().copied().unwrap_or(0);
        let end = start.checked_add(len).filter(|end| *end <= have);
        let (Some(end), false) = (end, self.shape.is_empty()) else {
            return Err(NnError::Rows {
                name: self.name.to_string(),
                start,
                len,
                have,
            });
        };
        // A tensor with no rows has no bytes, and then both ends are 0.
        let row_bytes = self.range.len().checked_div(have).unwrap_or(0);
        let mut shape = self.shape.to_vec();
        if let Some(first) = shape.first_mut() {
            *first = len;
        }
        let range = self.range.start + start * row_bytes..self.range.start + end * row_bytes;
        let rows = Self::over(
            self.name.clone(),
            self.stored,
            shape,
            self.backing.clone(),
            range,
        )?;
        Ok(rows.of(self))
    }

    /// The tensor at `index` of dimension 0, without that dimension: one expert of many. Shares the bytes.
    ///
    /// # Errors
    /// [`NnError::Rows`] when there is none, or the tensor is a scalar.
    pub fn at(&self, index: usize) -> Result<Self> {
        let one = self.rows(index, 1)?;
        let shape = one.shape.get(1..).unwrap_or_default().to_vec();
        one.reshaped(shape)
    }

    /// The same numbers in another shape; shares the bytes. A block format keeps whole blocks in a row.
    ///
    /// # Errors
    /// [`NnError::TensorBytes`] when the shape is for another number of numbers, [`NnError::Blocks`] when its rows are no whole
    /// blocks.
    pub fn reshaped(&self, shape: impl Into<Arc<[usize]>>) -> Result<Self> {
        let reshaped = Self::over(
            self.name.clone(),
            self.stored,
            shape,
            self.backing.clone(),
            self.range.clone(),
        )?;
        Ok(reshaped.of(self))
    }

    /// A matrix with rows and columns exchanged, copied: for layers that are stored [in, out]. A quantised one becomes f32,
    /// since its blocks lie along the rows.
    ///
    /// # Errors
    /// [`NnError::Input`] when it is no matrix, [`NnError::DType`] when it is none of f32, f16 and bf16.
    pub fn transposed(&self) -> Result<Self> {
        self.expect_float(self.dtype())?;
        if self.quantized().is_some() {
            return self.to_dtype(DType::F32)?.transposed();
        }
        let [rows, columns] = *self.shape else {
            return Err(NnError::Input {
                what: "a matrix to be transposed",
                reason: format!("`{}` has shape {:?}", self.name, self.shape),
            });
        };
        let size = self.dtype().size_in_bytes();
        let mut bytes = Vec::with_capacity(self.range.len());
        let elements = || self.bytes().chunks_exact(size);
        for column in 0..columns {
            for element in elements().skip(column).step_by(columns) {
                bytes.extend_from_slice(element);
            }
        }
        let (range, backing) = (0..bytes.len(), Backing::Owned(Arc::new(bytes)));
        Self::over(
            self.name.clone(),
            self.stored,
            vec![columns, rows],
            backing,
            range,
        )
        .map(|transposed| transposed.with_roster(self.roster.clone()))
    }

    /// Says that the shape is what the model's configuration asks for.
    ///
    /// # Errors
    /// [`NnError::Shape`] with both shapes.
    pub fn expect_shape(&self, expected: &[usize]) -> Result<()> {
        if *self.shape == *expected {
            return Ok(());
        }
        Err(NnError::Shape {
            name: self.name.to_string(),
            found: self.shape.to_vec(),
            expected: expected.to_vec(),
        })
    }

    fn expect_float(&self, dtype: DType) -> Result<()> {
        match dtype {
            DType::F32 | DType::F16 | DType::BF16 => Ok(()),
            other => Err(NnError::DType {
                name: self.name.to_string(),
                found: other.as_str().to_owned(),
            }),
        }
    }

    fn convert_into(&self, dtype: DType, out: &mut [u8]) -> Result<()> {
        self.expect_float(self.dtype())?;
        self.expect_float(dtype)?;
        match self.stored {
            StoredType::Plain(from) => convert::floats(self.bytes(), from, out, dtype),
            StoredType::Quant(kind) => {
                let mut numbers: Vec<f32> = bytemuck::zeroed_vec(self.elements());
                dequantize::dequantize(kind, self.bytes(), &mut numbers);
                convert::floats(bytemuck::cast_slice(&numbers), DType::F32, out, dtype);
            }
        }
        Ok(())
    }
}

impl fmt::Debug for HostTensor {
    /// Name, dtype and shape, without the numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "HostTensor({} {} {:?}, {})",
            self.name,
            self.stored.name(),
            self.shape,
            match self.backing {
                Backing::Mapped(_) => "mapped",
                Backing::Static(_) => "static",
                Backing::Owned(_) => "owned",
            }
        )
    }
}
