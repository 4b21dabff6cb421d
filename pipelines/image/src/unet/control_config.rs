//! config.json of a ControlNet: a UNet's half, and the picture of conditions. Mirrors `diffusers`
//! models/controlnets/controlnet.py (ControlNetModel.__init__).

use chandler_nn::fields::Fields;
use chandler_nn::weights::Snapshot;
use serde_json::json;

use super::block_fields::Blocks;
use super::config::{ContractingConfig, MOST_BLOCKS, MOST_CHANNELS, needed};
use crate::config_fields::{only, sizes};
use crate::error::Result;

/// The class's name in config.json.
pub const CLASS: &str = "ControlNetModel";

/// What a ControlNet is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct ControlNetConfig {
    /// The half of a UNet.
    pub contracting: ContractingConfig,
    /// Channels of the picture of conditions.
    pub conditioning_channels: usize,
    /// Channels on its way down to the latents' size; between two of them height and width are halved.
    pub embedding_channels: Vec<usize>,
    /// Whether its channels are blue, green, red to the model, while requests say red, green, blue.
    pub is_bgr: bool,
}

impl ControlNetConfig {
    /// Reads a snapshot's `file`, such as `config.json`.
    ///
    /// # Errors
    /// Names the field that is missing, absurd or asks for something that is not supported.
    pub fn read(snapshot: &Snapshot, file: &str) -> Result<Self> {
        Self::of(&needed(snapshot, file)?)
    }

    /// The same of fields that were read already.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn of(fields: &Fields) -> Result<Self> {
        only(fields, "_class_name", &json!(CLASS))?;
        // Means over the picture are what one model of 2023 wants, and its own pipeline.
        only(fields, "global_pool_conditions", &json!(false))?;
        let order = "controlnet_conditioning_channel_order";
        let is_bgr = match fields.text(order)?.unwrap_or("rgb") {
            "rgb" => false,
            "bgr" => true,
            other => {
                let message = format!("`{other}` is not supported; rgb and bgr are");
                return Err(fields.fault(order, message).into());
            }
        };
        let mut contracting = ContractingConfig::of(fields, &Blocks::of(fields)?)?;
        // What a UNet has and a ControlNet's class does not.
        contracting.conv_in_kernel = 3;
        contracting.time.condition = None;
        let channels = fields.size("conditioning_channels", MOST_CHANNELS)?;
        Ok(Self {
            contracting,
            conditioning_channels: channels.unwrap_or(3),
            embedding_channels: sizes(
                fields,
                "conditioning_embedding_out_channels",
                &[16, 32, 96, 256],
                (MOST_BLOCKS, MOST_CHANNELS),
            )?,
            is_bgr,
        })
    }

    /// Pixels of a latent's side, to this model: what a picture of conditions has for each.
    pub fn pixels(&self) -> usize {
        1 << self.embedding_channels.len().saturating_sub(1)
    }
}
