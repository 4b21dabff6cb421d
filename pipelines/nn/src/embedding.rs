//! Rows of a table by number, and the output head that many models tie to it.
//! On the CPU the table stays in the checkpoint and only the rows that are asked for are read.

use crate::error::{NnError, Result};
use crate::kernels::Isa;
use crate::kernels::elementwise::widen;
use crate::kernels::lanes::StoredAs;
use crate::linear::Linear;
use crate::weights::HostTensor;
use candle_core::{DType, Device, Tensor};

/// An embedding table.
#[derive(Debug, Clone)]
pub struct Embedding {
    table: Table,
    name: String,
    rows: usize,
    width: usize,
}

#[derive(Debug, Clone)]
enum Table {
    Host {
        tensor: HostTensor,
        stored: StoredAs,
        dtype: DType,
    },
    Plain(Tensor),
}

impl Embedding {
    /// A layer over `table` [rows, width]. On the CPU the result is f32, and `dtype` is what the table is kept in, as for
    /// [`Linear::new`]. A quantised table stays as it is, and rows are dequantised when they are asked for.
    ///
    /// # Errors
    /// [`NnError::Input`] when it is no matrix, [`NnError::DType`] for anything but f32, f16 and bf16.
    pub fn new(table: HostTensor, device: &Device, dtype: DType) -> Result<Self> {
        if !device.is_cpu() {
            return Self::plain(table, device, dtype);
        }
        let (rows, width) = shape(&table)?;
        let tensor = match dtype {
            DType::F32 => table,
            _ if table.quantized().is_some() => table,
            _ => table.to_dtype(dtype)?,
        };
        let stored = StoredAs::of_tensor(&tensor)?;
        Ok(Self {
            name: tensor.name().to_owned(),
            table: Table::Host {
                tensor,
                stored,
                dtype,
            },
            rows,
            width,
        })
    }

    /// The same layer as a candle tensor, on any device: what [`new`](Self::new) makes off the CPU.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and [`NnError::Candle`] when the device is out of memory.
    pub fn plain(table: HostTensor, device: &Device, dtype: DType) -> Result<Self> {
        let (rows, width) = shape(&table)?;
        Ok(Self {
            table: Table::Plain(table.to_tensor(device, dtype)?),
            name: table.name().to_owned(),
            rows,
            width,
        })
    }

    /// Rows of the table: the vocabulary.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers in a row: the hidden size.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Bytes of the table, mapped ones included.
    pub fn bytes(&self) -> usize {
        match &self.table {
            Table::Host { tensor, .. } => tensor.bytes().len(),
            Table::Plain(table) => table.elem_count() * table.dtype().size_in_bytes(),
        }
    }

    /// That the table has the rows with these numbers.
    ///
    /// # Errors
    /// [`NnError::Input`] for the first that it does not have.
    pub fn check(&self, ids: &[u32]) -> Result<()> {
        match ids.iter().find(|id| **id as usize >= self.rows) {
            Some(id) => Err(NnError::Input {
                what: "embedding",
                reason: format!("row {id} of `{}`, which has {}", self.name, self.rows),
            }),
            None => Ok(()),
        }
    }

    /// The rows with these numbers: [ids, width].
    ///
    /// # Errors
    /// [`NnError::Input`] for a number that the table does not have.
    pub fn forward(&self, ids: &[u32]) -> Result<Tensor> {
        self.check(ids)?;
        match &self.table {
            Table::Host { tensor, stored, .. } => {
                let isa = Isa::detect();
                let row_bytes = stored.row_bytes(self.width);
                let mut out = vec![0.0; ids.len() * self.width];
                for (id, out) in ids.iter().zip(out.chunks_exact_mut(self.width)) {
                    let start = *id as usize * row_bytes;
                    if let Some(row) = tensor.bytes().get(start..start + row_bytes) {
                        widen(isa, row, *stored, out);
                    }
                }
                Ok(Tensor::from_vec(
                    out,
                    (ids.len(), self.width),
                    &Device::Cpu,
                )?)
            }
            Table::Plain(table) if ids.is_empty() => Ok(table.narrow(0, 0, 0)?),
            Table::Plain(table) => {
                let ids = Tensor::new(ids, table.device())?;
                Ok(table.index_select(&ids, 0)?)
            }
        }
    }

    /// The rows with the numbers in `ids`, u32 [ids] on the table's device, which are not looked at before they are used there: each is
    /// one of the table's.
    ///
    /// # Errors
    /// What the device says.
    pub fn forward_there(&self, ids: &Tensor) -> Result<Tensor> {
        match &self.table {
            Table::Host { .. } => self.forward(&ids.to_vec1::<u32>()?),
            Table::Plain(table) => Ok(table.index_select(ids, 0)?),
        }
    }

    /// The output head of a model with tied embeddings: the same table as a [`Linear`]. On the CPU it shares the bytes.
    ///
    /// # Errors
    /// As for [`Linear::new`].
    pub fn tied_head(&self) -> Result<Linear> {
        match &self.table {
            Table::Host { tensor, dtype, .. } => {
                Linear::new(tensor.clone(), None, &Device::Cpu, *dtype)
            }
            Table::Plain(table) => Linear::over(table.clone()),
        }
    }
}

fn shape(table: &HostTensor) -> Result<(usize, usize)> {
    match table.shape() {
        [rows, width] if *rows > 0 && *width > 0 => Ok((*rows, *width)),
        other => Err(NnError::Input {
            what: "embedding",
            reason: format!(
                "table `{}` of shape {other:?}; [rows, width] is wanted",
                table.name()
            ),
        }),
    }
}
