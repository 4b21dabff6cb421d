//! What PixArt's blocks are conditioned on: one layer for all of them gives six rows of a timestep, and of a picture's size where the model
//! is told it; each block has a table that is added. Mirrors `diffusers` models/normalization.py, `AdaLayerNormSingle`, and
//! models/embeddings.py, `PixArtAlphaCombinedTimestepSizeEmbeddings`. Apart from `conditioning`, where each block has a layer of its own.

use candle_core::{D, Tensor};
use chandler_nn::activation::Activation;
use chandler_nn::lora::AdapterRows;

use super::conditioning::{WAVES, spread};
use crate::embeddings::Embedding;
use crate::error::{ImageError, Result};
use crate::layers::{Loader, Placement};
use crate::lora::{Layer, Projection};
use crate::sequences::exactly;

/// Rows that a block looks at: shift, scale and gate of its attention, and of its feed-forward layer.
const PARTS: usize = 6;

/// What a picture's size is, as the model is told it: height and width in pixels, and their quotient.
pub type PictureSize = [f32; 3];

/// `adaln_single`.
pub(super) struct SingleNorm {
    time: Embedding,
    /// For height and width, and for their quotient.
    size: Option<[Embedding; 2]>,
    linear: Projection,
    width: usize,
    placement: Placement,
}

/// What all blocks of a pass look at beside their sequences.
pub(super) struct Timed<'a> {
    /// [batch, 1, width]: what comes after the last block begins with it.
    pub(super) embedded: Tensor,
    /// [batch, 6, width]
    parts: Tensor,
    /// Which samples go through which adapters.
    pub(super) adapters: &'a AdapterRows,
}

impl SingleNorm {
    pub(super) fn load(at: &Loader<'_>, width: usize, sized: bool) -> Result<Self> {
        let inside = at.at("emb");
        let embedding = |name: &str, outputs: usize| {
            let sizes = (WAVES.width, outputs);
            Embedding::load(&inside.at(name), sizes, None, Activation::Silu)
        };
        Ok(Self {
            time: embedding("timestep_embedder", width)?,
            size: match sized {
                true => Some([
                    embedding("resolution_embedder", width / 3)?,
                    embedding("aspect_ratio_embedder", width / 3)?,
                ]),
                false => None,
            },
            linear: Projection::load(at, "linear", width, PARTS * width)?,
            width,
            placement: at.placement().clone(),
        })
    }

    /// Of one timestep a sample, from 0 to 1000, and a size for each where the model is told one.
    pub(super) fn forward<'a>(
        &self,
        timesteps: &[f32],
        sizes: &[PictureSize],
        adapters: &'a AdapterRows,
    ) -> Result<Timed<'a>> {
        let batch = timesteps.len();
        let told = if self.size.is_some() { batch } else { 0 };
        if sizes.len() != told {
            return Err(ImageError::Input(format!(
                "{} sizes of pictures to {batch} samples; {told} are wanted",
                sizes.len()
            )));
        }
        let waves = spread(timesteps, &self.placement)?;
        let mut embedded = self.time.forward(&waves, None, adapters)?;
        if let Some(embeddings) = &self.size {
            embedded = (embedded + self.size(embeddings, sizes, adapters)?)?;
        }
        let parts = Activation::Silu.forward(&embedded)?;
        let parts = self.linear.forward(&parts, adapters)?;
        Ok(Timed {
            parts: parts.reshape((batch, PARTS, self.width))?,
            embedded: embedded.unsqueeze(1)?,
            adapters,
        })
    }

    /// Height, width and quotient, a third of a row each: [batch, width].
    fn size(
        &self,
        [sides, quotient]: &[Embedding; 2],
        sizes: &[PictureSize],
        adapters: &AdapterRows,
    ) -> Result<Tensor> {
        let batch = sizes.len();
        let rows = |numbers: Vec<f32>, each: usize| -> Result<Tensor> {
            let waves = spread(&numbers, &self.placement)?;
            Ok(waves.reshape((batch, each, WAVES.width))?)
        };
        let both = sizes
            .iter()
            .flat_map(|[height, width, _]| [*height, *width]);
        let both = sides.forward(&rows(both.collect(), 2)?, None, adapters)?;
        let quotients = sizes.iter().map(|[.., quotient]| *quotient);
        let quotients = quotient.forward(&rows(quotients.collect(), 1)?, None, adapters)?;
        let flat = |x: Tensor| x.reshape((batch, ()));
        Ok(Tensor::cat(&[flat(both)?, flat(quotients)?], D::Minus1)?)
    }

    pub(super) fn layers<'s>(&'s mut self, found: &mut Vec<Layer<'s>>) {
        self.time.layers(found);
        for embedding in self.size.iter_mut().flatten() {
            embedding.layers(found);
        }
        found.push(Layer::Linear(&mut self.linear));
    }

    pub(super) fn bytes(&self) -> usize {
        let size: usize = self.size.iter().flatten().map(Embedding::bytes).sum();
        self.time.bytes() + size + self.linear.bytes()
    }
}

/// `scale_shift_table`: rows of a block's own, or of what comes after the last.
pub(super) struct Table<const ROWS: usize>(Tensor);

impl<const ROWS: usize> Table<ROWS> {
    pub(super) fn load(at: &Loader<'_>, width: usize) -> Result<Self> {
        let table = at.tensor("scale_shift_table", &[ROWS, width])?;
        Ok(Self(table.unsqueeze(0)?))
    }

    /// Its rows with `x` [batch, 1 or ROWS, width] added, each [batch, 1, width].
    fn with(&self, x: &Tensor) -> Result<[Tensor; ROWS]> {
        let sum = self.0.broadcast_add(x)?;
        let rows = (0..ROWS).map(|row| Ok(sum.narrow(1, row, 1)?.contiguous()?));
        exactly(rows.collect::<Result<_>>()?)
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.elem_count() * self.0.dtype().size_in_bytes()
    }
}

impl Table<PARTS> {
    /// Shift, scale and gate of a block's attention and of its feed-forward layer.
    pub(super) fn of_block(&self, timed: &Timed<'_>) -> Result<[Tensor; PARTS]> {
        self.with(&timed.parts)
    }
}

impl Table<2> {
    /// Shift and scale after the last block.
    pub(super) fn of_end(&self, timed: &Timed<'_>) -> Result<[Tensor; 2]> {
        self.with(&timed.embedded)
    }
}
