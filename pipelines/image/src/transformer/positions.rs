//! Where a token is: FLUX's rotation by three axes, SD 3's table of sines cut to the picture, and PixArt's stretched over it.
//! Mirrors `diffusers` transformer_flux.py, `FluxPosEmbed`, and models/embeddings.py, `PatchEmbed`.

use std::cell::RefCell;

use candle_core::{Device, Tensor};
use chandler_nn::rope::Rotation;

use crate::error::{ImageError, Result};
use crate::layers::{Loader, Placement};

const THETA: f64 = 10_000.0;

/// The rotation of `tokens`, each at a place on every axis, for `batch` samples alike. `axes` are the numbers of a head that turn
/// with each axis; angles are in f64, as in the reference.
pub(super) fn rotation(
    axes: &[usize; 3],
    tokens: &[[f32; 3]],
    batch: usize,
    device: &Device,
) -> Result<Rotation> {
    let head_dim: usize = axes.iter().sum();
    let pairs = head_dim / 2;
    let capacity = batch * tokens.len() * pairs;
    let (mut cos, mut sin) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
    let frequencies = axes.map(|dim| -> Vec<f64> {
        let power = |pair: usize| THETA.powf((2 * pair) as f64 / dim as f64);
        (0..dim / 2).map(|pair| 1.0 / power(pair)).collect()
    });
    for token in tokens {
        for (frequencies, place) in frequencies.iter().zip(token) {
            for frequency in frequencies {
                let (s, c) = (f64::from(*place) * frequency).sin_cos();
                cos.push(c as f32);
                sin.push(s as f32);
            }
        }
    }
    let (cos, sin) = (cos.repeat(batch), sin.repeat(batch));
    Ok(Rotation::of_pairs(head_dim, (cos, sin), device)?)
}

/// SD 3's table: a row for each place of a square as large as the largest picture.
pub(super) struct PositionTable {
    /// [side, side, width], in the activations' dtype.
    table: Tensor,
    side: usize,
}

/// What a table has where a checkpoint has none.
pub(super) struct TableShape {
    /// `pos_embed_max_size`: places along each side.
    pub(super) side: usize,
    /// Width of a row.
    pub(super) width: usize,
    /// Places along a side of the pictures that the model was made for.
    pub(super) base: usize,
}

impl PositionTable {
    /// The table `pos_embed` of a checkpoint, which diffusers saves; computed where it is missing.
    pub(super) fn load(at: &Loader<'_>, shape: &TableShape) -> Result<Self> {
        const NAME: &str = "pos_embed";
        let TableShape { side, width, .. } = *shape;
        let table = match at.has(NAME) {
            true => at.tensor(NAME, &[1, side * side, width])?,
            false => {
                let step = side as f32 / shape.base as f32;
                let places: Vec<f32> = (0..side).map(|place| place as f32 / step).collect();
                let numbers = sines((&places, &places), width);
                let placement = at.placement();
                let table = Tensor::from_vec(numbers, (side * side, width), &placement.device)?;
                let table = table.to_dtype(placement.activations())?;
                if let Some(roster) = &placement.roster {
                    roster.list(&table);
                }
                table
            }
        };
        Ok(Self {
            table: table.reshape((side, side, width))?,
            side,
        })
    }

    /// The middle of the table, for a picture of `rows` × `columns` places: [1, rows · columns, width].
    pub(super) fn middle(&self, rows: usize, columns: usize) -> Result<Tensor> {
        if rows > self.side || columns > self.side {
            return Err(ImageError::Input(format!(
                "a picture of {rows} × {columns} patches; the model has places for {0} × {0}",
                self.side
            )));
        }
        let (top, left) = ((self.side - rows) / 2, (self.side - columns) / 2);
        let middle = self.table.narrow(0, top, rows)?.narrow(1, left, columns)?;
        Ok(middle.contiguous()?.reshape((1, rows * columns, ()))?)
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.elem_count() * self.table.dtype().size_in_bytes()
    }
}

/// Where PixArt's tokens are: as many places as the picture has, over the square that the model was made for.
pub(super) struct Grid {
    /// Places along a side of the pictures that the model was made for.
    pub(super) base: usize,
    /// What places are divided by.
    pub(super) scale: f32,
    /// Width of a row.
    pub(super) width: usize,
}

/// PixArt's positions. Those of the last picture's size are kept: they are the same at every step.
pub(super) struct Stretched {
    grid: Grid,
    last: RefCell<Option<((usize, usize), Tensor)>>,
}

impl Stretched {
    pub(super) fn new(grid: Grid) -> Self {
        Self {
            grid,
            last: RefCell::new(None),
        }
    }

    /// For a picture of `rows` × `columns` places, [1, rows · columns, width]: `PatchEmbed.forward` without a largest size.
    pub(super) fn over(&self, size: (usize, usize), placement: &Placement) -> Result<Tensor> {
        let mut last = self.last.borrow_mut();
        match last.as_ref() {
            Some((of, found)) if *of == size => Ok(found.clone()),
            _ => {
                let made = stretched(&self.grid, size, placement)?;
                *last = Some((size, made.clone()));
                Ok(made)
            }
        }
    }
}

fn stretched(
    grid: &Grid,
    (rows, columns): (usize, usize),
    placement: &Placement,
) -> Result<Tensor> {
    let places = |count: usize| -> Vec<f32> {
        let step = count as f32 / grid.base as f32;
        let place = |place: usize| place as f32 / step / grid.scale;
        (0..count).map(place).collect()
    };
    let numbers = sines((&places(rows), &places(columns)), grid.width);
    let table = Tensor::from_vec(numbers, (1, rows * columns, grid.width), &placement.device)?;
    Ok(table.to_dtype(placement.activations())?)
}

/// `get_2d_sincos_pos_embed`: of each place the column's sines and cosines, then the row's.
fn sines((rows, columns): (&[f32], &[f32]), width: usize) -> Vec<f32> {
    let quarter = width / 4;
    let along = |place: &f32| -> Vec<f32> {
        let angle = |n: usize| f64::from(*place) / THETA.powf(n as f64 / quarter as f64);
        let sines = (0..quarter).map(|n| angle(n).sin() as f32);
        sines
            .chain((0..quarter).map(|n| angle(n).cos() as f32))
            .collect()
    };
    let columns: Vec<Vec<f32>> = columns.iter().map(along).collect();
    let mut table = Vec::with_capacity(rows.len() * columns.len() * width);
    for row in rows.iter().map(along) {
        for column in &columns {
            table.extend_from_slice(column);
            table.extend_from_slice(&row);
        }
    }
    table
}
