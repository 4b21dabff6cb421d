//! Linear layers over sequences, [batch, rows, width], which `nn` has over rows alone.
//! Apart because text encoders and transformers both are made of them.

use candle_core::Tensor;
use chandler_nn::linear::Linear;

use crate::error::{ImageError, Result};

/// The layer over the last dimension of `x`, of whatever rank.
pub(crate) fn linear(layer: &Linear, x: &Tensor) -> Result<Tensor> {
    let outs = linears(&[layer], x)?;
    first(outs)
}

/// Several layers of one `x`, in one fork and join.
pub(crate) fn linears(layers: &[&Linear], x: &Tensor) -> Result<Vec<Tensor>> {
    over_rows(x, |rows| Ok(Linear::forward_many(layers, rows)?))
}

/// Layers of rows over the last dimension of `x`, of whatever rank.
pub(crate) fn over_rows(
    x: &Tensor,
    layers: impl Fn(&Tensor) -> Result<Vec<Tensor>>,
) -> Result<Vec<Tensor>> {
    let Some((width, before)) = x.dims().split_last() else {
        return Err(ImageError::Input(
            "a scalar to a linear layer; rows are wanted".to_owned(),
        ));
    };
    let rows = x.reshape((before.iter().product::<usize>(), *width))?;
    let outs = layers(&rows)?.into_iter().map(|out| {
        let mut shape = before.to_vec();
        shape.push(out.dim(1)?);
        Ok(out.reshape(shape)?)
    });
    outs.collect()
}

/// The only tensor of a list.
pub(crate) fn first(tensors: Vec<Tensor>) -> Result<Tensor> {
    tensors
        .into_iter()
        .next()
        .ok_or_else(|| ImageError::Input("no layer".to_owned()))
}

/// As many tensors as are wanted: query, key and value of [`linears`].
pub(crate) fn exactly<const N: usize>(tensors: Vec<Tensor>) -> Result<[Tensor; N]> {
    let found = tensors.len();
    tensors
        .try_into()
        .map_err(|_| ImageError::Input(format!("{found} tensors where {N} are wanted")))
}
