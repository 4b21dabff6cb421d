//! Half the height and width, and twice. Mirrors `diffusers` models/downsampling.py (Downsample2D with a convolution) and
//! models/upsampling.py (Upsample2D with a convolution).

use candle_core::Tensor;
use chandler_nn::conv2d::{Conv2d, Conv2dConfig, Padding};

use crate::error::Result;
use crate::layers::Loader;

/// The convolution `name`.conv that goes two pixels at a time. With a padding of 0 there is still a row of zeros below and a column
/// to the right, as autoencoders have it.
pub(crate) fn load_down(
    loader: &Loader<'_>,
    name: &str,
    channels: usize,
    padding: usize,
) -> Result<Conv2d> {
    let padding = match padding {
        0 => Padding {
            bottom: 1,
            right: 1,
            ..Padding::default()
        },
        padding => Padding::all(padding),
    };
    let config = Conv2dConfig { stride: 2, padding };
    loader
        .at(name)
        .conv("conv", (channels, channels, 3), config)
}

/// The convolution `name`.conv after each pixel was repeated.
pub(crate) fn load_up(loader: &Loader<'_>, name: &str, channels: usize) -> Result<Conv2d> {
    loader
        .at(name)
        .conv("conv", (channels, channels, 3), Conv2dConfig::same(3))
}

/// `x` [batch, channels, ..] with each pixel repeated to `height` and `width`, and `conv` over that. A UNet whose picture did not
/// halve evenly goes back to the odd size, and some pixels are repeated once.
pub(crate) fn up(conv: &Conv2d, x: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
    let (_, _, rows, columns) = x.dims4()?;
    match (height, width) == (2 * rows, 2 * columns) {
        true => Ok(conv.forward_upscaled(x)?),
        false => Ok(conv.forward(&x.upsample_nearest2d(height, width)?)?),
    }
}
