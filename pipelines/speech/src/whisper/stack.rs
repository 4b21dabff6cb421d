//! What the layers of Whisper's encoder and decoder have in common: the residual stream with its pending addition, and the
//! feed-forward part.

use candle_core::Tensor;
use chandler_nn::activation::Activation;
use chandler_nn::linear::Linear;
use chandler_nn::norm::Norm;

use crate::error::Result;
use crate::layers::Loader;

/// torch's LayerNorm, which Whisper leaves as it is.
pub(super) const EPS: f64 = 1e-5;

/// The residual stream, and what the last part adds to it: kept apart so that a norm can do the addition on its way.
#[derive(Clone)]
pub(super) struct Stream {
    pub(super) residual: Tensor,
    pub(super) update: Option<Tensor>,
}

impl Stream {
    pub(super) fn new(x: Tensor) -> Self {
        Self {
            residual: x,
            update: None,
        }
    }

    /// The sum, and what the next part reads of it.
    pub(super) fn enter(self, norm: &Norm) -> Result<(Tensor, Tensor)> {
        match self.update {
            Some(update) => Ok(norm.forward_residual(&update, &self.residual)?),
            None => {
                let normed = norm.forward(&self.residual)?;
                Ok((self.residual, normed))
            }
        }
    }

    pub(super) fn into_sum(self) -> Result<Tensor> {
        match self.update {
            Some(update) => Ok((self.residual + update)?),
            None => Ok(self.residual),
        }
    }

    /// The same of some rows.
    pub(super) fn rows(&self, rows: &Tensor) -> Result<Self> {
        let update = self.update.as_ref();
        Ok(Self {
            residual: self.residual.index_select(rows, 0)?,
            update: update.map(|u| u.index_select(rows, 0)).transpose()?,
        })
    }
}

/// A norm, two linear layers, and the activation between them.
pub(super) struct FeedForward {
    norm: Norm,
    up: Linear,
    down: Linear,
    activation: Activation,
}

impl FeedForward {
    /// `fc1` [width of the inside, width] and `fc2`, with `final_layer_norm` before them, below `base`.
    pub(super) fn load(
        loader: &Loader<'_>,
        base: &str,
        [inside, width]: [usize; 2],
        activation: Activation,
    ) -> Result<Self> {
        Ok(Self {
            norm: loader.norm(&format!("{base}.final_layer_norm"), width, EPS)?,
            up: loader.linear(&format!("{base}.fc1"), [inside, width], true)?,
            down: loader.linear(&format!("{base}.fc2"), [width, inside], true)?,
            activation,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.norm.bytes() + self.up.bytes() + self.down.bytes()
    }

    pub(super) fn forward(&self, stream: Stream) -> Result<Stream> {
        let (residual, x) = stream.enter(&self.norm)?;
        let x = self.activation.forward(&self.up.forward(&x)?)?;
        Ok(Stream {
            residual,
            update: Some(self.down.forward(&x)?),
        })
    }
}
