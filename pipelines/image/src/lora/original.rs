//! What the original code of Stable Diffusion calls a UNet's modules, which kohya's trainer keeps for SDXL: blocks are counted through,
//! each layer and each halving or doubling being one. Mirrors `diffusers` loaders/lora_conversion_utils.py
//! (_maybe_map_sgm_blocks_to_diffusers, _convert_unet_lora_key), the other way round.

/// How many layers the blocks have, which the original's counting goes by.
pub(super) struct Original {
    down: Vec<usize>,
    up: Vec<usize>,
    /// Whether an upward block has transformers, after which its doubling is counted.
    attends: Vec<bool>,
}

impl Original {
    /// Of a UNet with these modules, as diffusers calls them.
    pub(super) fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let mut found = Self {
            down: Vec::new(),
            up: Vec::new(),
            attends: Vec::new(),
        };
        for name in names {
            let parts: Vec<&str> = name.split('.').collect();
            let [side, block, kind, layer, ..] = parts.as_slice() else {
                continue;
            };
            let (Ok(block), Ok(layer)) = (block.parse::<usize>(), layer.parse::<usize>()) else {
                continue;
            };
            match (*side, *kind) {
                ("down_blocks", "resnets") => raise(&mut found.down, block, layer + 1),
                ("up_blocks", "resnets") => raise(&mut found.up, block, layer + 1),
                ("up_blocks", "attentions") => raise(&mut found.attends, block, true),
                _ => {}
            }
        }
        found
    }

    /// The original's path of a module.
    pub(super) fn name(&self, module: &str) -> Option<String> {
        let fixed = match module {
            "conv_in" => "input_blocks.0.0",
            "conv_out" => "out.2",
            "time_embedding.linear_1" => "time_embed.0",
            "time_embedding.linear_2" => "time_embed.2",
            "add_embedding.linear_1" => "label_emb.0.0",
            "add_embedding.linear_2" => "label_emb.0.2",
            _ => return self.in_block(module),
        };
        Some(fixed.to_owned())
    }

    fn in_block(&self, module: &str) -> Option<String> {
        if let Some(inner) = module.strip_prefix("mid_block.") {
            let (number, rest) = match inner.split_once(".0.") {
                Some(("resnets", rest)) => (0, resnet(rest)?),
                Some(("attentions", rest)) => (1, rest),
                _ => (2, resnet(inner.strip_prefix("resnets.1.")?)?),
            };
            return Some(format!("middle_block.{number}.{rest}"));
        }
        let mut parts = module.splitn(5, '.');
        let (side, block) = (parts.next()?, parts.next()?.parse::<usize>().ok()?);
        let (kind, layer) = (parts.next()?, parts.next()?.parse::<usize>().ok()?);
        let rest = parts.next()?;
        let before = |layers: &[usize], each: usize| -> usize {
            layers.iter().take(block).map(|n| n + each).sum()
        };
        let own = |layers: &[usize]| layers.get(block).copied();
        match (side, kind) {
            ("down_blocks", "downsamplers") => {
                let at = before(&self.down, 1) + own(&self.down)? + 1;
                Some(format!("input_blocks.{at}.0.op"))
            }
            ("down_blocks", _) => {
                let at = 1 + before(&self.down, 1) + layer;
                Some(format!("input_blocks.{at}.{}", inner(kind, rest)?))
            }
            ("up_blocks", "upsamplers") => {
                let at = before(&self.up, 0) + own(&self.up)?.checked_sub(1)?;
                let attends = self.attends.get(block).copied().unwrap_or(false);
                let place = if attends { 2 } else { 1 };
                Some(format!("output_blocks.{at}.{place}.conv"))
            }
            ("up_blocks", _) => {
                let at = before(&self.up, 0) + layer;
                Some(format!("output_blocks.{at}.{}", inner(kind, rest)?))
            }
            _ => None,
        }
    }
}

/// A residual block is the first of a layer and a transformer the second.
fn inner(kind: &str, rest: &str) -> Option<String> {
    match kind {
        "resnets" => Some(format!("0.{}", resnet(rest)?)),
        "attentions" => Some(format!("1.{rest}")),
        _ => None,
    }
}

fn resnet(module: &str) -> Option<&'static str> {
    match module {
        "conv1" => Some("in_layers.2"),
        "time_emb_proj" => Some("emb_layers.1"),
        "conv2" => Some("out_layers.3"),
        "conv_shortcut" => Some("skip_connection"),
        _ => None,
    }
}

/// Makes a list's entry at least this.
fn raise<T: Default + Clone + PartialOrd>(list: &mut Vec<T>, at: usize, least: T) {
    if list.len() <= at {
        list.resize(at + 1, T::default());
    }
    if let Some(entry) = list.get_mut(at)
        && *entry < least
    {
        *entry = least;
    }
}
