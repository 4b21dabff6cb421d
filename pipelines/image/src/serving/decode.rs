//! From latents to a picture, piece by piece, and previews of what is there so far.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use chandler_core::{Drawn, Event, Events, Preview, Recipe, RequestId, Usage};

use super::drawing::{Drawing, ImagePrepared, Stage};
use super::pipeline::Model;
use crate::error::Result;
use crate::pixels;

/// Latents a side of which a preview is made, at most: its pixels are as many as the autoencoder makes of them.
const PREVIEW_SIDE: usize = 32;

/// Decodes the next piece of a picture; the last one hands it out, and with the last picture ends the request.
pub(super) fn decode(
    model: &Model,
    (id, request): (RequestId, &mut ImagePrepared),
    index: usize,
    events: &mut Events,
) -> Result<()> {
    let asked = Arc::clone(&request.asked);
    let Some(drawing) = request.drawings.get_mut(index) else {
        return Ok(());
    };
    let Stage::Decoding(decoding) = &mut drawing.stage else {
        return Ok(());
    };
    let decoding = match decoding {
        Some(decoding) => decoding,
        None => {
            let begun = model
                .coder
                .decoding(drawing.latents.clone(), asked.latent)?;
            decoding.insert(begun)
        }
    };
    let Some(picture) = model.coder.decode(decoding)? else {
        return Ok(());
    };
    let rgb = pixels::to_rgb8(&host(&picture)?);
    drawing.latents = Vec::new();
    match model.checker {
        Some(_) => drawing.stage = Stage::Checking(rgb),
        None => hand_out((id, request), index, (rgb, false), events),
    }
    Ok(())
}

/// Has the safety checker look at a finished picture, and hands it out: all black if it shows what it should not.
pub(super) fn check(
    model: &Model,
    (id, request): (RequestId, &mut ImagePrepared),
    index: usize,
    events: &mut Events,
) -> Result<()> {
    let size = request.asked.size;
    let Some(drawing) = request.drawings.get_mut(index) else {
        return Ok(());
    };
    let (Some(checker), Stage::Checking(rgb)) = (&model.checker, &mut drawing.stage) else {
        return Ok(());
    };
    let flagged = checker.flags(rgb, size)?;
    let mut rgb = std::mem::take(rgb);
    if flagged {
        rgb.fill(0);
    }
    hand_out((id, request), index, (rgb, flagged), events);
    Ok(())
}

/// A picture is finished; with the last one of a request, so is that.
fn hand_out(
    (id, request): (RequestId, &mut ImagePrepared),
    index: usize,
    (rgb, flagged): (Vec<u8>, bool),
    events: &mut Events,
) {
    let asked = Arc::clone(&request.asked);
    let Some(drawing) = request.drawings.get_mut(index) else {
        return;
    };
    drawing.stage = Stage::Done;
    let recipe = Recipe {
        seed: drawing.seed,
        flagged,
        ..asked.recipe.clone()
    };
    let drawn = Drawn {
        index: drawing.index,
        width: asked.size.width,
        height: asked.size.height,
        rgb: rgb.into(),
        recipe,
    };
    events.push(id, Event::Drawn(Box::new(drawn)));
    if request.is_done() {
        let usage = Usage {
            prompt_tokens: asked.tokens,
            images: request.drawings.len() as u32,
            ..Usage::default()
        };
        events.push(id, Event::Done(usage));
    }
}

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
    let (latents, [_, rows, columns]) = shrunk(latents, latent);
    let mut small = model.coder.decoding(latents, [latent[0], rows, columns])?;
    let Some(picture) = model.coder.decode(&mut small)? else {
        return Ok(());
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

fn host(picture: &Tensor) -> Result<Vec<f32>> {
    let picture = picture.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
    Ok(picture.flatten_all()?.to_vec1()?)
}

/// Means of squares of latents, of which no side is longer than a preview's.
fn shrunk(latents: Vec<f32>, [channels, rows, columns]: [usize; 3]) -> (Vec<f32>, [usize; 3]) {
    let by = rows.max(columns).div_ceil(PREVIEW_SIDE);
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
        let (small, shape) = shrunk(latents.clone(), [2, 66, 34]);
        assert_eq!(shape, [2, 22, 11]);
        let expected: f32 = [0, 1, 2, 34, 35, 36, 68, 69, 70].iter().sum::<i32>() as f32 / 9.0;
        assert_eq!(small[0], expected);
        // A strip stays small: what is large is decoded in tiles, and a preview is in one piece.
        let (small, shape) = shrunk(vec![2.0; 23 * 768], [1, 23, 768]);
        assert_eq!((shape, small), ([1, 1, 32], vec![2.0; 32]));
        let (same, shape) = shrunk(latents[..20].to_vec(), [1, 4, 5]);
        assert_eq!((same.len(), shape), (20, [1, 4, 5]));
    }
}
