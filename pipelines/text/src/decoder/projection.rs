//! The one place where a layer's linear projections are run on an input.
//! Apart so that what goes beside a projection, such as a low-rank adapter, is added here and nowhere else.

use candle_core::Tensor;
use chandler_nn::linear::Linear;

use crate::error::Result;

/// Several projections of one input, in one fork and join: [rows, in] to [rows, out] each.
///
/// # Errors
/// When the input has another width.
pub(super) fn project<const N: usize>(layers: [&Linear; N], x: &Tensor) -> Result<[Tensor; N]> {
    let outs = Linear::forward_many(&layers, x)?;
    outs.try_into().map_err(|outs: Vec<Tensor>| {
        candle_core::Error::msg(format!("{N} projections gave {} tensors", outs.len())).into()
    })
}
