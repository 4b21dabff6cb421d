//! config.json of a safety checker: the sizes of its vision tower, checked. Mirrors `transformers`
//! models/clip/configuration_clip.py, `CLIPConfig` and `CLIPVisionConfig`.

use chandler_nn::fields::Fields;
use serde_json::Value;

use crate::error::Result;
use crate::text_encoder::clip_config::{LayerSizes, MOST_LAYERS, MOST_WIDTH};

/// Sizes past these are a damaged or hostile file.
const MOST_SIDE: usize = 1 << 12;
const MOST_PATCHES: usize = 1 << 16;

/// What `CLIPConfig` and `CLIPVisionConfig` have for what is not written.
const DEFAULT_PROJECTION: usize = 512;
const DEFAULTS: [(&str, usize); 6] = [
    ("hidden_size", 768),
    ("intermediate_size", 3072),
    ("num_hidden_layers", 12),
    ("num_attention_heads", 12),
    ("image_size", 224),
    ("patch_size", 32),
];

/// The sizes of CLIP's vision tower.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VisionConfig {
    pub(super) layer: LayerSizes,
    /// Layers.
    pub layers: usize,
    /// Pixels a side of what it looks at.
    pub side: usize,
    /// Pixels a side of a patch.
    pub patch: usize,
}

/// The sizes of a safety checker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SafetyConfig {
    /// Of its vision tower.
    pub vision: VisionConfig,
    /// Width in which pictures and concepts are compared.
    pub projection: usize,
}

impl SafetyConfig {
    /// Reads the fields of a config.json.
    ///
    /// # Errors
    /// Names the field that is absurd or asks for something that is not supported.
    pub fn of(fields: &Fields) -> Result<Self> {
        let mut vision = serde_json::Map::new();
        for (name, value) in DEFAULTS {
            vision.insert(name.to_owned(), value.into());
        }
        // Configurations of transformers 4 hold what differs from the defaults under the second name, too, and it wins.
        for name in ["vision_config", "vision_config_dict"] {
            match fields.get(name) {
                Some(Value::Object(given)) => vision.extend(given.clone()),
                None | Some(Value::Null) => {}
                Some(other) => {
                    let message = format!("{other} is no object");
                    return Err(fields.fault(name, message).into());
                }
            }
        }
        let vision = Fields::of("safety_checker/config.json: vision_config", vision.into());
        Ok(Self {
            vision: VisionConfig::of(&vision)?,
            projection: fields
                .size("projection_dim", MOST_WIDTH)?
                .unwrap_or(DEFAULT_PROJECTION),
        })
    }
}

impl VisionConfig {
    fn of(fields: &Fields) -> Result<Self> {
        let side = fields.needed_size("image_size", MOST_SIDE)?;
        let patch = fields.needed_size("patch_size", MOST_SIDE)?;
        if let Some(channels) = fields.size("num_channels", MOST_WIDTH)?
            && channels != 3
        {
            let message = format!("{channels} is not supported; 3 is");
            return Err(fields.fault("num_channels", message).into());
        }
        let a_side = side / patch;
        if a_side == 0 || a_side * a_side > MOST_PATCHES {
            let message = format!("{patch} makes {a_side} patches a side of {side} pixels");
            return Err(fields.fault("patch_size", message).into());
        }
        Ok(Self {
            layer: LayerSizes::read(fields)?,
            layers: fields.needed_size("num_hidden_layers", MOST_LAYERS)?,
            side,
            patch,
        })
    }

    /// Patches, and the token before them.
    pub(super) fn positions(&self) -> usize {
        let a_side = self.side / self.patch;
        a_side * a_side + 1
    }
}
