//! Previews of what is there so far of a picture, decoded by a tiny autoencoder where there is one beside the model. Apart from `decode`,
//! whose pictures are the answer.

use candle_core::{Device, Tensor};
use chandler_core::{Event, Events, Preview, RequestId};
use chandler_nn::fields::Fields;
use chandler_nn::weights::Snapshot;

use super::decode::host;
use super::drawing::Drawing;
use super::pipeline::Model;
use super::plan::Plan;
use crate::autoencoder::{AutoencoderTiny, Scaling, TinyConfig};
use crate::error::{ImageError, Result};
use crate::layers::{Loader, Placement};
use crate::pixels;

/// Latents a side of which a preview is made by the model's own autoencoder, at most: it takes as long for them as for a picture.
const OWN_SIDE: usize = 32;
/// The same for a tiny one, which is some fifty times as quick: previews of 512 pixels a side, of models with eight to a latent.
const TINY_SIDE: usize = 64;
/// Where a tiny autoencoder lies beside a model.
const FOLDER: &str = "taesd";
const CONFIG: &str = "config.json";

/// A tiny autoencoder.
pub(super) struct Tiny {
    model: AutoencoderTiny,
    scaling: Scaling,
}

impl Tiny {
    /// The one that the settings name, or that lies beside the model.
    ///
    /// # Errors
    /// Names the field or tensor at fault, or in what it does not go with the model.
    pub(super) fn load(
        named: Option<&Snapshot>,
        (model, plan): (&Snapshot, &Plan),
        placement: &Placement,
    ) -> Result<Option<Self>> {
        let beside = model.part(FOLDER);
        let snapshot = match named {
            Some(named) => named,
            None if Fields::read(&beside, CONFIG)?.is_some() => &beside,
            None => return Ok(None),
        };
        let one = || {
            let config = TinyConfig::read(snapshot, CONFIG)?;
            let (own, wanted) = (config.latent_channels, plan.vae.latent_channels);
            if own != wanted || config.out_channels != COLOURS {
                return Err(ImageError::Input(format!(
                    "its latents have {own} channels and its pictures {}; {wanted} and {COLOURS} go with this model",
                    config.out_channels
                )));
            }
            let weights = snapshot.part_weights()?;
            let loader = Loader::new(weights.as_ref(), placement);
            Ok(Some(Self {
                model: AutoencoderTiny::load(&loader, &config)?,
                scaling: config.scaling,
            }))
        };
        one().map_err(|error| ImageError::Input(format!("preview: {error}")))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.model.bytes()
    }

    /// A picture of latents as the denoiser has them.
    fn decode(&self, latents: Vec<f32>, [channels, rows, columns]: [usize; 3]) -> Result<Tensor> {
        let shape = (1, channels, rows, columns);
        let latents = Tensor::from_vec(latents, shape, &Device::Cpu)?;
        self.model.decode(&self.scaling.from_model(&latents)?)
    }
}

/// Channels of a picture.
const COLOURS: usize = 3;

/// Shows what is there so far of a picture. It is taken out before it is decoded: one whose decoding fails is not tried again, since the
/// picture itself goes on without it, and would fail the same way each time it was put back.
pub(super) fn preview(
    model: &Model,
    (id, drawing): (RequestId, &mut Drawing),
    latent: [usize; 3],
    events: &mut Events,
) -> Result<()> {
    let Some((step, latents)) = drawing.preview.take() else {
        return Ok(());
    };
    let side = model.tiny.as_ref().map_or(OWN_SIDE, |_| TINY_SIDE);
    let (latents, shape) = shrunk((latents, latent), side);
    let picture = match &model.tiny {
        Some(tiny) => tiny.decode(latents, shape)?,
        None => {
            let mut pieces = model.coder.decoding(latents, shape)?;
            match model.coder.decode(&mut pieces)? {
                Some(picture) => picture,
                None => return Ok(()),
            }
        }
    };
    let (_, _, height, width) = picture.dims4()?;
    let rgb = pixels::to_rgb8(&host(&picture)?);
    let preview = Preview {
        index: drawing.index,
        step,
        width: width as u32,
        height: height as u32,
        rgb: rgb.into(),
    };
    events.push(id, Event::Preview(Box::new(preview)));
    Ok(())
}

/// Means of squares of latents, of which no side is longer than `most`.
fn shrunk(
    (latents, [channels, rows, columns]): (Vec<f32>, [usize; 3]),
    most: usize,
) -> (Vec<f32>, [usize; 3]) {
    let by = rows.max(columns).div_ceil(most);
    if by <= 1 {
        return (latents, [channels, rows, columns]);
    }
    // A side that is shorter than a square is one square long, of what there is.
    let (out_rows, out_columns) = ((rows / by).max(1), (columns / by).max(1));
    let at = |channel: usize, row: usize, column: usize| {
        let (row, column) = (row.min(rows - 1), column.min(columns - 1));
        let place = (channel * rows + row) * columns + column;
        latents.get(place).copied().unwrap_or(0.0)
    };
    let mut out = Vec::with_capacity(channels * out_rows * out_columns);
    for channel in 0..channels {
        for row in 0..out_rows {
            for column in 0..out_columns {
                let square =
                    (0..by * by).map(|n| at(channel, row * by + n / by, column * by + n % by));
                out.push(square.sum::<f32>() / (by * by) as f32);
            }
        }
    }
    (out, [channels, out_rows, out_columns])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latents_of_a_preview_are_means() {
        let latents: Vec<f32> = (0..2 * 66 * 34).map(|n| n as f32).collect();
        let (small, shape) = shrunk((latents.clone(), [2, 66, 34]), OWN_SIDE);
        assert_eq!(shape, [2, 22, 11]);
        let expected: f32 = [0, 1, 2, 34, 35, 36, 68, 69, 70].iter().sum::<i32>() as f32 / 9.0;
        assert_eq!(small[0], expected);
        // A strip stays small: what is large is decoded in tiles, and a preview is in one piece.
        let (small, shape) = shrunk((vec![2.0; 23 * 768], [1, 23, 768]), OWN_SIDE);
        assert_eq!((shape, small), ([1, 1, 32], vec![2.0; 32]));
        let (same, shape) = shrunk((latents[..20].to_vec(), [1, 4, 5]), OWN_SIDE);
        assert_eq!((same.len(), shape), (20, [1, 4, 5]));
    }
}
