//! Latents as a sequence. FLUX's: each 2×2 square of a picture's latents is one token, after `diffusers` pipeline_flux.py, `_pack_latents`,
//! `_unpack_latents` and `_prepare_latent_image_ids`. Stable Diffusion 3's and PixArt's on their way out, `unpatchify` of their models.
//! Apart from the models, which know sequences alone.

use candle_core::Tensor;

use crate::error::{ImageError, Result};

/// `latents` [batch, channels, height, width] as tokens [batch, height/2 · width/2, 4 · channels].
///
/// # Errors
/// [`ImageError::Input`] when height or width is odd.
pub fn pack(latents: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = latents.dims4()?;
    if !height.is_multiple_of(2) || !width.is_multiple_of(2) {
        return Err(ImageError::Input(format!(
            "latents of {height} × {width}; even numbers are wanted"
        )));
    }
    let (rows, columns) = (height / 2, width / 2);
    let squares = latents.reshape(&[batch, channels, rows, 2, columns, 2])?;
    let squares = squares.permute([0, 2, 4, 1, 3, 5].as_slice())?;
    Ok(squares.reshape((batch, rows * columns, channels * 4))?)
}

/// Tokens [batch, rows · columns, 4 · channels] as latents [batch, channels, 2 · rows, 2 · columns].
///
/// # Errors
/// [`ImageError::Input`] when there are not as many tokens, or their width is no multiple of 4.
pub fn unpack(tokens: &Tensor, (rows, columns): (usize, usize)) -> Result<Tensor> {
    let (batch, count, width) = tokens.dims3()?;
    if count != rows * columns || !width.is_multiple_of(4) {
        return Err(ImageError::Input(format!(
            "tokens of shape {:?} as {rows} × {columns} squares of 4 numbers a channel",
            tokens.dims()
        )));
    }
    let channels = width / 4;
    let squares = tokens.reshape(&[batch, rows, columns, channels, 2, 2])?;
    let squares = squares.permute([0, 3, 1, 4, 2, 5].as_slice())?;
    Ok(squares.reshape((batch, channels, 2 * rows, 2 * columns))?)
}

/// Where the tokens of a picture of `rows` × `columns` squares are, in [`pack`]'s order: 0, row, column.
pub fn positions(rows: usize, columns: usize) -> Vec<[f32; 3]> {
    let of_row = |row| (0..columns).map(move |column| [0.0, row as f32, column as f32]);
    (0..rows).flat_map(of_row).collect()
}

/// Tokens [batch, rows · columns, patch² · channels], of which each is a square of `patch` × `patch`, as latents [batch, channels,
/// rows · patch, columns · patch].
pub(super) fn unpatch(
    tokens: &Tensor,
    (rows, columns): (usize, usize),
    (patch, channels): (usize, usize),
) -> Result<Tensor> {
    let (batch, _, _) = tokens.dims3()?;
    let squares = tokens.reshape(&[batch, rows, columns, patch, patch, channels])?;
    let squares = squares.permute([0, 5, 1, 3, 2, 4].as_slice())?;
    Ok(squares.reshape((batch, channels, rows * patch, columns * patch))?)
}
