//! Which rows of a batch go through which adapters, and with what weight. Apart from the layers, which differ in what a row of
//! theirs is: a token, all pixels of a picture, a picture itself.

use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::error::{NnError, Result};

/// Which rows of a pass go through which adapters. A layer may have several rows for each that is listed here, the same number
/// for all: the pixels of a picture, of which only the picture is listed.
#[derive(Debug, Clone, Default)]
pub struct AdapterRows {
    /// Each row's adapters by number, with their weights; empty when no row has one.
    of_row: Vec<Vec<(u32, f32)>>,
    groups: Vec<Group>,
}

/// The rows of one adapter.
#[derive(Debug, Clone)]
pub(super) struct Group {
    adapter: usize,
    /// Of the whole pass.
    count: usize,
    /// Numbers of its rows, u32; none when it has all of them.
    rows: Option<Tensor>,
    /// Of each of its rows, [rows, 1] in f32; none when all are 1.
    weights: Option<Tensor>,
}

impl AdapterRows {
    /// From each span's rows, which follow one another from row 0 on, and adapter, which counts in full.
    ///
    /// # Errors
    /// What the device says.
    pub fn new(
        spans: impl Iterator<Item = (Range<usize>, Option<u32>)>,
        device: &Device,
    ) -> Result<Self> {
        let of_row = spans
            .flat_map(|(rows, adapter)| rows.map(move |_| adapter))
            .map(|adapter| adapter.map(|adapter| (adapter, 1.0)).into_iter().collect())
            .collect();
        Self::weighted(of_row, device)
    }

    /// From each row's adapters and their weights. A row's adapters act in the order of their numbers, whatever order they are
    /// given in, and each is there once.
    ///
    /// # Errors
    /// What the device says.
    pub fn weighted(of_row: Vec<Vec<(u32, f32)>>, device: &Device) -> Result<Self> {
        let mut adapters: Vec<u32> = of_row
            .iter()
            .flatten()
            .map(|(adapter, _)| *adapter)
            .collect();
        adapters.sort_unstable();
        adapters.dedup();
        if adapters.is_empty() {
            return Ok(Self::default());
        }
        let groups = adapters
            .into_iter()
            .map(|adapter| Group::new(adapter, &of_row, device))
            .collect::<Result<_>>()?;
        Ok(Self { groups, of_row })
    }

    /// The same for some of the rows: those that a model goes on with.
    ///
    /// # Errors
    /// What the device says.
    pub fn select(&self, rows: &[u32], device: &Device) -> Result<Self> {
        if self.groups.is_empty() {
            return Ok(Self::default());
        }
        let of = |row: &u32| self.of_row.get(*row as usize).cloned().unwrap_or_default();
        Self::weighted(rows.iter().map(of).collect(), device)
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }
}

impl Group {
    fn new(adapter: u32, of_row: &[Vec<(u32, f32)>], device: &Device) -> Result<Self> {
        let (rows, weights): (Vec<u32>, Vec<f32>) = (0u32..)
            .zip(of_row)
            .filter_map(|(row, of)| {
                let (_, weight) = of.iter().find(|(number, _)| *number == adapter)?;
                Some((row, *weight))
            })
            .unzip();
        let all = rows.len() == of_row.len();
        let plain = weights.iter().all(|weight| *weight == 1.0);
        let shape = (weights.len(), 1);
        Ok(Self {
            adapter: adapter as usize,
            count: of_row.len(),
            rows: (!all).then(|| Tensor::new(rows, device)).transpose()?,
            weights: (!plain)
                .then(|| Tensor::from_vec(weights, shape, device))
                .transpose()?,
        })
    }

    /// The adapter's number.
    pub(super) fn adapter(&self) -> usize {
        self.adapter
    }

    /// Its rows of `x`, whose first dimension is the pass's rows, or as many times more as a layer has for each.
    pub(super) fn rows_of(&self, x: &Tensor) -> Result<Tensor> {
        let Some(rows) = &self.rows else {
            return Ok(x.clone());
        };
        let chosen = self.by_row(x, self.count)?.index_select(rows, 0)?;
        let mut shape = x.dims().to_vec();
        if let Some(first) = shape.first_mut() {
            *first = *first / self.count * rows.elem_count();
        }
        Ok(chosen.reshape(shape)?)
    }

    /// What was made of its rows, each times its weight.
    pub(super) fn weighed(&self, of_rows: Tensor) -> Result<Tensor> {
        let Some(weights) = &self.weights else {
            return Ok(of_rows);
        };
        let by_row = self.by_row(&of_rows, weights.dim(0)?)?;
        let weighed = by_row.broadcast_mul(&weights.to_dtype(of_rows.dtype())?)?;
        Ok(weighed.reshape(of_rows.shape())?)
    }

    /// `out`, of all rows, with `update`, of its rows, added to those. The others keep their bits.
    pub(super) fn add(&self, out: &Tensor, update: &Tensor) -> Result<Tensor> {
        let Some(rows) = &self.rows else {
            return Ok((out + update)?);
        };
        let (by_row, update) = (
            self.by_row(out, self.count)?,
            self.by_row(update, rows.elem_count())?,
        );
        Ok(by_row.index_add(rows, &update, 0)?.reshape(out.shape())?)
    }

    /// `x` as a matrix of `rows` rows.
    fn by_row(&self, x: &Tensor, rows: usize) -> Result<Tensor> {
        let first = x.dims().first().copied().unwrap_or(0);
        if rows == 0 || !first.is_multiple_of(rows) {
            return Err(NnError::Input {
                what: "adapters",
                reason: format!(
                    "{rows} rows with adapters beside a tensor of shape {:?}; a multiple of them is wanted",
                    x.dims()
                ),
            });
        }
        Ok(x.reshape((rows, ()))?)
    }
}
