//! Rows of a pass drawn where their logits are: by a kernel on a GPU, so that a token and not a row of logits is read back, and the next
//! pass can be given it before it is read. Apart from the rules, which are in `sampling`.

use candle_core::{DType, Device, Tensor};

use super::{History, Sampler};
use crate::cuda;
use crate::error::{NnError, Result};

/// What decides about one token.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    /// The row of the logits that it is drawn from.
    pub row: usize,
    /// The settings.
    pub sampler: &'a Sampler,
    /// What was said before, as far as it is known here; not looked at where the sampler needs none.
    pub history: &'a History,
    /// Which of the tokens drawn before, if one, was said since.
    pub last: Option<usize>,
    /// Tokens that cannot be drawn.
    pub forbidden: &'a [u32],
    /// In [0, 1).
    pub uniform: f64,
}

/// Tokens on the device of their logits, and on their way to the host.
#[derive(Debug)]
pub struct Drawn {
    tokens: Tensor,
    reading: Option<cuda::Reading>,
}

impl Drawn {
    /// The tokens, u32 [draws].
    pub fn tokens(&self) -> &Tensor {
        &self.tokens
    }

    /// Waits for them; for nothing that was launched after they were drawn.
    ///
    /// # Errors
    /// What the device says of all that was launched before.
    pub fn read(self) -> Result<Vec<u32>> {
        match self.reading {
            Some(reading) => reading.wait(),
            None => Ok(self.tokens.to_vec1()?),
        }
    }
}

/// Draws a token for each of `draws` from `logits` [rows, vocabulary]; `before`, u32, are the tokens that [`Draw::last`] numbers.
/// Where no kernel can, the logits are read and it is done here, with the same result but for the rounding of probabilities.
///
/// # Errors
/// [`NnError::Input`] for a row or a token that is not there; what the device says.
pub fn draw(logits: &Tensor, draws: &[Draw<'_>], before: Option<&Tensor>) -> Result<Drawn> {
    let (rows, vocabulary) = logits.dims2()?;
    let known = before.map_or(0, Tensor::elem_count);
    let fits = |draw: &Draw<'_>| draw.row < rows && draw.last.is_none_or(|last| last < known);
    if vocabulary == 0 || !draws.iter().all(fits) {
        return Err(NnError::Input {
            what: "sampling",
            reason: format!(
                "draws from rows {:?} of {rows} with {vocabulary} numbers each, after tokens {:?} of {known}",
                draws.iter().map(|draw| draw.row).collect::<Vec<_>>(),
                draws
                    .iter()
                    .filter_map(|draw| draw.last)
                    .collect::<Vec<_>>(),
            ),
        });
    }
    if let Some(tokens) = cuda::draw(logits, draws, before)? {
        let reading = cuda::Reading::begin(&tokens)?;
        return Ok(Drawn { tokens, reading });
    }
    let tokens = Tensor::new(on_host(logits, draws, before)?, logits.device())?;
    Ok(Drawn {
        tokens,
        reading: None,
    })
}

fn on_host(logits: &Tensor, draws: &[Draw<'_>], before: Option<&Tensor>) -> Result<Vec<u32>> {
    let rows: Vec<Vec<f32>> = logits
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F32)?
        .to_vec2()?;
    let before: Vec<u32> = match before {
        Some(tokens) if draws.iter().any(|draw| draw.last.is_some()) => tokens.to_vec1()?,
        _ => Vec::new(),
    };
    let one = |draw: &Draw<'_>| {
        let mut logits = rows.get(draw.row).cloned().unwrap_or_default();
        match draw.last.and_then(|last| before.get(last)) {
            Some(last) if draw.sampler.needs_history() => {
                let mut history = draw.history.clone();
                history.push(*last);
                draw.sampler.adjust(&mut logits, &history, draw.forbidden);
            }
            _ => draw
                .sampler
                .adjust(&mut logits, draw.history, draw.forbidden),
        }
        draw.sampler.choose(&logits, draw.uniform)
    };
    Ok(draws.iter().map(one).collect())
}
