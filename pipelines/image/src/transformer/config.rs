//! What the configurations of all transformers say in the same words, and bounds on it. Apart so that both check alike.

use chandler_nn::fields::Fields;

use crate::error::Result;

/// Sizes past these are a damaged or hostile file; the largest model in use (FLUX: 3072 wide, 57 layers) is a tenth of them or less.
pub(super) const MOST_WIDTH: usize = 1 << 15;
pub(super) const MOST_LAYERS: usize = 1 << 9;
pub(super) const MOST_CHANNELS: usize = 1 << 12;
pub(super) const MOST_PATCH: usize = 16;

/// Heads, and how wide one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// How many.
    pub count: usize,
    /// Width of each.
    pub dim: usize,
}

impl Heads {
    /// `num_attention_heads` and `attention_head_dim`, with what diffusers has where they are not written.
    pub(super) fn read(fields: &Fields, default: Self) -> Result<Self> {
        const DIM: &str = "attention_head_dim";
        let count = fields.size("num_attention_heads", MOST_WIDTH)?;
        let heads = Self {
            count: count.unwrap_or(default.count),
            dim: fields.size(DIM, MOST_WIDTH)?.unwrap_or(default.dim),
        };
        if heads.count * heads.dim > MOST_WIDTH {
            let message = format!(
                "{} heads of {} are wider together than {MOST_WIDTH}",
                heads.count, heads.dim
            );
            return Err(fields.fault(DIM, message).into());
        }
        Ok(heads)
    }

    /// Width of all together: of the residual stream.
    pub fn width(self) -> usize {
        self.count * self.dim
    }
}

/// A list of whole numbers below `below`; nothing when it is not written.
pub(super) fn numbers(fields: &Fields, name: &str, below: usize) -> Result<Option<Vec<usize>>> {
    let Some(value) = fields.get(name) else {
        return Ok(None);
    };
    let number = |value: &serde_json::Value| {
        let number = usize::try_from(value.as_u64()?).ok()?;
        (number < below).then_some(number)
    };
    let listed = value
        .as_array()
        .filter(|listed| listed.len() <= below)
        .and_then(|listed| listed.iter().map(number).collect::<Option<Vec<usize>>>());
    match listed {
        Some(listed) => Ok(Some(listed)),
        None => {
            let message = format!("{value} is no list of whole numbers below {below}");
            Err(fields.fault(name, message).into())
        }
    }
}
