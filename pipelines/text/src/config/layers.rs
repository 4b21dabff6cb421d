//! What config.json says about each layer: its window, its rotary embedding, its scale, its feed-forward layer.
//! Apart from the settings that all layers share because half of the fields here only say which layers they mean.

use chandler_nn::attention::AttentionConfig;
use chandler_nn::rope::{RopeConfig, RopeScaling};

use super::families::{Family, FeedForwardKind, Windows};
use super::raw::{Heads, Raw, cap};
use super::rope_fields::{Lengths, Rope};
use super::{
    ExpertsConfig, Extended, FeedForwardConfig, LayerConfig, MOST_EXPERTS, MOST_POSITIONS,
    MOST_WIDTH, between, field,
};
use crate::error::{Result, TextError};

/// What the layers are read from.
pub(super) struct Reader<'a> {
    pub(super) raw: &'a Raw,
    pub(super) family: &'static Family,
    pub(super) heads: &'a Heads,
    /// `num_hidden_layers`
    pub(super) count: usize,
    /// `max_position_embeddings`
    pub(super) max_position: usize,
}

/// What is read.
pub(super) struct Layers {
    pub(super) layers: Vec<LayerConfig>,
    pub(super) ropes: Vec<RopeConfig>,
    pub(super) max_position: usize,
    pub(super) extended: Option<Extended>,
}

/// One layer, as far as the lists say.
#[derive(Clone, Copy)]
struct Kind {
    windowed: bool,
    rotary: bool,
}

impl Reader<'_> {
    pub(super) fn read(&self) -> Result<Layers> {
        let kinds = self.kinds()?;
        let (ropes, indices) = self.ropes(&kinds, false)?;
        let layers = kinds
            .iter()
            .zip(indices)
            .enumerate()
            .map(|(index, (kind, rope))| {
                Ok(LayerConfig {
                    attention: self.attention(index, kind)?,
                    rope,
                    feed_forward: self.feed_forward(index)?,
                })
            })
            .collect::<Result<_>>()?;
        let (long_ropes, _) = self.ropes(&kinds, true)?;
        let trained = longrope_length(&ropes).filter(|trained| *trained < self.max_position);
        let extended = trained.map(|_| Extended {
            max_position: self.max_position,
            ropes: long_ropes,
        });
        Ok(Layers {
            max_position: trained.unwrap_or_else(|| window(self.max_position, &ropes)),
            layers,
            ropes,
            extended,
        })
    }

    fn kinds(&self) -> Result<Vec<Kind>> {
        let rotary = self.rotary()?;
        let windowed = self.windowed(&rotary)?;
        let kinds = windowed.into_iter().zip(rotary);
        Ok(kinds
            .map(|(windowed, rotary)| Kind { windowed, rotary })
            .collect())
    }

    fn each<T>(&self, what: impl FnMut(usize) -> T) -> Vec<T> {
        (0..self.count).map(what).collect()
    }

    /// A list of config.json with an entry for each layer.
    fn per_layer<'v, T>(&self, name: &str, list: &'v [T]) -> Result<&'v [T]> {
        if list.len() == self.count {
            return Ok(list);
        }
        Err(TextError::config(
            field(name),
            format!("{} entries for {} layers", list.len(), self.count),
        ))
    }

    /// Which layers rotate queries and keys: `no_rope_layers` has a 1 for those that do.
    fn rotary(&self) -> Result<Vec<bool>> {
        if self.family.names.positions.is_some() {
            return Ok(vec![false; self.count]);
        }
        if let Some(list) = &self.raw.no_rope_layers {
            let list = self.per_layer("no_rope_layers", list)?;
            return Ok(list.iter().map(|has_rope| *has_rope != 0).collect());
        }
        let Some(interval) = self.raw.no_rope_layer_interval else {
            return Ok(vec![true; self.count]);
        };
        let interval = between("no_rope_layer_interval", interval, MOST_POSITIONS)?;
        Ok(self.each(|layer| !(layer + 1).is_multiple_of(interval)))
    }

    /// Which layers see a window only.
    fn windowed(&self, rotary: &[bool]) -> Result<Vec<bool>> {
        let raw = self.raw;
        let named = self.named_windows()?;
        let asked = self.window()?.is_some();
        let rule = match self.family.windows {
            Windows::Never => vec![false; self.count],
            Windows::Everywhere | Windows::Named => vec![asked; self.count],
            Windows::FromMaxWindowLayers => {
                let first = raw.max_window_layers.unwrap_or(0);
                self.each(|layer| asked && layer >= first)
            }
            Windows::Pattern => {
                let pattern = raw.sliding_window_pattern.unwrap_or(1);
                let pattern = between("sliding_window_pattern", pattern, MOST_POSITIONS)?;
                self.each(|layer| !(layer + 1).is_multiple_of(pattern))
            }
            Windows::WithoutRope => rotary.iter().map(|has_rope| asked && !has_rope).collect(),
        };
        let looks_at_names = !matches!(self.family.windows, Windows::Never | Windows::Everywhere);
        let windowed = match named {
            Some(named) if looks_at_names => named,
            Some(named) if named != rule => {
                return Err(TextError::config(
                    field("layer_types"),
                    format!(
                        "{} is not read for {}, whose layers all see the same",
                        if named.contains(&true) {
                            "sliding_attention"
                        } else {
                            "full_attention"
                        },
                        self.family.architecture
                    ),
                ));
            }
            _ => rule,
        };
        if windowed.contains(&true) && !asked {
            return Err(TextError::config(
                field("sliding_window"),
                "there are layers of sliding_attention, which need it (and use_sliding_window, where there is one)",
            ));
        }
        Ok(windowed)
    }

    /// `layer_types`, when it is there.
    fn named_windows(&self) -> Result<Option<Vec<bool>>> {
        let Some(names) = &self.raw.layer_types else {
            return Ok(None);
        };
        let names = self.per_layer("layer_types", names)?;
        let windowed = names.iter().map(|name| match name.as_str() {
            "full_attention" => Ok(false),
            "sliding_attention" => Ok(true),
            other => Err(TextError::config(
                field("layer_types"),
                format!("{other} is not supported; full_attention and sliding_attention are"),
            )),
        });
        windowed.collect::<Result<_>>().map(Some)
    }

    fn window(&self) -> Result<Option<usize>> {
        let on = self.raw.use_sliding_window.unwrap_or(true);
        let window = self.raw.sliding_window.filter(|_| on);
        window
            .map(|window| between("sliding_window", window, MOST_POSITIONS))
            .transpose()
    }

    fn attention(&self, layer: usize, kind: &Kind) -> Result<AttentionConfig> {
        let raw = self.raw;
        let plain = AttentionConfig::causal(self.heads.head_dim);
        let scale = match raw.query_pre_attn_scalar {
            _ if raw.scale_attn_weights == Some(false) => 1.0,
            None => plain.scale,
            Some(scalar) if scalar > 0.0 && scalar.is_finite() => scalar.powf(-0.5) as f32,
            Some(scalar) => {
                return Err(TextError::config(
                    field("query_pre_attn_scalar"),
                    format!("{scalar} is not a positive number"),
                ));
            }
        };
        let divisor = match raw.scale_attn_by_inverse_layer_idx {
            Some(true) => (layer + 1) as f32,
            _ => 1.0,
        };
        Ok(AttentionConfig {
            scale: scale / divisor,
            window: self.window()?.filter(|_| kind.windowed),
            softcap: cap("attn_logit_softcapping", raw.attn_logit_softcapping)?,
        })
    }

    fn feed_forward(&self, layer: usize) -> Result<FeedForwardConfig> {
        let raw = self.raw;
        let width = |plain| raw.feed_forward_width(plain);
        let step = between(
            "decoder_sparse_step",
            raw.decoder_sparse_step.unwrap_or(1),
            MOST_POSITIONS,
        )?;
        let dense = raw.mlp_only_layers.as_deref().unwrap_or_default();
        let sparse = raw.num_experts != Some(0)
            && (layer + 1).is_multiple_of(step)
            && !dense.contains(&layer);
        match self.family.feed_forward {
            FeedForwardKind::Plain => Ok(FeedForwardConfig::Plain {
                width: width(true)?,
            }),
            FeedForwardKind::Experts if sparse => self.experts().map(FeedForwardConfig::Experts),
            FeedForwardKind::Gated | FeedForwardKind::Experts => Ok(FeedForwardConfig::Gated {
                width: width(false)?,
            }),
        }
    }

    fn experts(&self) -> Result<ExpertsConfig> {
        let raw = self.raw;
        let missing = |name: &str| TextError::config(field(name), "a model of experts needs it");
        let count = raw.num_experts.ok_or_else(|| missing("num_experts"))?;
        let count = between("num_experts", count, MOST_EXPERTS)?;
        let per_token = raw
            .num_experts_per_tok
            .ok_or_else(|| missing("num_experts_per_tok"))?;
        let width = match raw.moe_intermediate_size {
            Some(width) => between("moe_intermediate_size", width, MOST_WIDTH * 4)?,
            None => raw.feed_forward_width(false)?,
        };
        Ok(ExpertsConfig {
            width,
            count,
            per_token: between("num_experts_per_tok", per_token, count)?,
            normalised: raw.norm_topk_prob.unwrap_or(false),
        })
    }

    /// The rotary embeddings that there are, and which of them each layer has.
    fn ropes(&self, kinds: &[Kind], long: bool) -> Result<(Vec<RopeConfig>, Vec<Option<usize>>)> {
        let mut ropes: Vec<RopeConfig> = Vec::new();
        let mut indices = Vec::new();
        for kind in kinds {
            if !kind.rotary {
                indices.push(None);
                continue;
            }
            let rope = self.rope(kind.windowed, long)?;
            let known = ropes.iter().position(|other| *other == rope);
            indices.push(Some(known.unwrap_or(ropes.len())));
            if known.is_none() {
                ropes.push(rope);
            }
        }
        Ok((ropes, indices))
    }

    fn rope(&self, windowed: bool, long: bool) -> Result<RopeConfig> {
        let raw = self.raw;
        let written = raw.rope_parameters.as_ref().or(raw.rope_scaling.as_ref());
        // Gemma 3's local layers have a base of their own, and the scaling is not theirs.
        let local = raw.rope_local_base_freq.filter(|_| windowed);
        let rope = Rope::read(written, windowed, local.is_some())?;
        let theta = rope
            .rope_theta
            .or(local)
            .or(raw.rope_theta)
            .unwrap_or(10_000.0);
        if !(theta > 0.0 && theta.is_finite()) {
            return Err(TextError::config(
                field("rope_theta"),
                format!("{theta} is not a positive number"),
            ));
        }
        let partial = rope
            .partial_rotary_factor
            .or(raw.partial_rotary_factor)
            .unwrap_or(1.0);
        if !(partial > 0.0 && partial <= 1.0) {
            return Err(TextError::config(
                field("partial_rotary_factor"),
                format!("{partial} is not above 0 and at most 1"),
            ));
        }
        let head_dim = self.heads.head_dim;
        let rotary_dim = (head_dim as f64 * partial) as usize;
        if rotary_dim == 0 || !rotary_dim.is_multiple_of(2) {
            return Err(TextError::config(
                field("head_dim"),
                format!(
                    "{rotary_dim} of {head_dim} would be rotated; rotary embeddings turn pairs"
                ),
            ));
        }
        let lengths = Lengths {
            max_position: self.max_position,
            trained: raw.original_max_position_embeddings,
            long,
            rotary_dim,
        };
        Ok(RopeConfig {
            head_dim,
            rotary_dim,
            theta,
            scaling: rope.scaling(&lengths)?,
            interleaved: raw.rope_interleave.unwrap_or(false),
        })
    }
}

/// The length up to which a longrope model's short factors are meant.
fn longrope_length(ropes: &[RopeConfig]) -> Option<usize> {
    ropes.iter().find_map(|rope| match rope.scaling {
        RopeScaling::LongRope {
            original_max_position,
            ..
        } => Some(original_max_position),
        _ => None,
    })
}

/// Tokens of context: dynamic scaling is the one kind whose `max_position_embeddings` is the trained length alone.
fn window(max_position: usize, ropes: &[RopeConfig]) -> usize {
    let dynamic = ropes.iter().find_map(|rope| match rope.scaling {
        RopeScaling::Dynamic { factor, .. } => Some(factor),
        _ => None,
    });
    match dynamic {
        Some(factor) => ((max_position as f64 * factor) as usize).min(MOST_POSITIONS),
        None => max_position,
    }
}
