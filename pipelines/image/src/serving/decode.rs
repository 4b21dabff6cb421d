//! From latents to a picture, piece by piece. Apart from `preview`, which is in no hurry to be right.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use chandler_core::{Drawn, Event, Events, Recipe, RequestId, Usage};

use super::drawing::{ImagePrepared, Stage};
use super::pipeline::Model;
use crate::error::Result;
use crate::pixels;

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
        None => hand_out((id, request), index, (rgb, false), events)?,
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
    hand_out((id, request), index, (rgb, flagged), events)
}

/// A picture is finished; with the last one of a request, so is that.
fn hand_out(
    (id, request): (RequestId, &mut ImagePrepared),
    index: usize,
    (rgb, flagged): (Vec<u8>, bool),
    events: &mut Events,
) -> Result<()> {
    let asked = Arc::clone(&request.asked);
    let part = request.start.as_ref().and_then(|start| start.part.as_ref());
    let (rgb, size) = match part {
        Some(part) => (part.put_back(rgb, asked.size)?, part.size()),
        None => (rgb, asked.size),
    };
    let Some(drawing) = request.drawings.get_mut(index) else {
        return Ok(());
    };
    drawing.stage = Stage::Done;
    let recipe = Recipe {
        seed: drawing.seed,
        flagged,
        ..asked.recipe.clone()
    };
    let drawn = Drawn {
        index: drawing.index,
        width: size.width,
        height: size.height,
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
    Ok(())
}

/// A picture's numbers on the host.
pub(super) fn host(picture: &Tensor) -> Result<Vec<f32>> {
    let picture = picture.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
    Ok(picture.flatten_all()?.to_vec1()?)
}
