//! What a model's configuration says of the memory that its work takes: sizes of layers and caches, by the kind of model.
//! Read from config.json, from a diffusers repository's folders, or from a GGUF's head; apart from the weights, whose sizes
//! their files tell.

use serde_json::{Map, Value};

use super::PlanError;
use super::gguf::Head;

/// The kinds of models whose work is known, by what it takes.
#[derive(Debug, Clone, PartialEq)]
pub enum Facts {
    /// It writes text.
    Text(Text),
    /// It hears, and decodes what it heard.
    Whisper(Whisper),
    /// It hears, and labels every frame.
    Frames(Frames),
    /// It draws.
    Picture(Picture),
    /// There is no model.
    Mock,
}

/// A decoder's sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The architecture's name.
    pub architecture: String,
    /// Layers.
    pub layers: u64,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads.
    pub kv_heads: u64,
    /// Width of a head.
    pub head_dim: u64,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Numbers that a token takes inside the widest feed-forward layer.
    pub feed_forward: u64,
    /// Rows of the head.
    pub vocab: u64,
    /// Tokens of context.
    pub context: Option<u64>,
    /// Whether its layers look at a window of the context only.
    pub window: Option<u64>,
    /// Whether the head is the table of embeddings.
    pub tied: bool,
}

/// Sizes of an encoder and decoder of speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whisper {
    /// Width of the residual stream.
    pub width: u64,
    /// The decoder's layers.
    pub decoder_layers: u64,
    /// The decoder's heads.
    pub heads: u64,
    /// The encoder's heads.
    pub encoder_heads: u64,
    /// Width of the encoder's feed-forward layers.
    pub feed_forward: u64,
    /// Rows of the head.
    pub vocab: u64,
    /// Frames of a window.
    pub frames: u64,
    /// Tokens of a transcript.
    pub tokens: u64,
    /// The encoder's layers.
    pub encoder_layers: u64,
}

/// Sizes of an encoder of speech alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frames {
    /// Channels of the first convolution, which works on the most frames.
    pub channels: u64,
    /// Its stride, in samples.
    pub stride: u64,
    /// Width of the feed-forward layers.
    pub feed_forward: u64,
}

/// Sizes of a denoiser and an autoencoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// Bytes that a row of the denoiser takes for each element of the latents' plane.
    pub row_bytes: u64,
    /// Pixels of the pictures that it was made for: width and height.
    pub usual: (u64, u64),
    /// Pixels for each side of a latent.
    pub factor: u64,
    /// Channels of the decoder's last level.
    pub decoder: u64,
    /// Whether the autoencoder is computed in f32 where the rest is in f16.
    pub upcast: bool,
}

/// A JSON file's fields, and its name for errors.
pub(super) struct Fields {
    file: String,
    map: Map<String, Value>,
    needs: &'static str,
}

impl Fields {
    pub(super) fn read(file: &str, bytes: &[u8], needs: &'static str) -> Result<Self, PlanError> {
        let parsed = serde_json::from_slice(bytes);
        let map = parsed.map_err(|error| PlanError::malformed(file, error.to_string()))?;
        Ok(Self {
            file: file.to_owned(),
            map,
            needs,
        })
    }

    /// The settings of the text model inside a model of several kinds.
    fn inner(mut self) -> Self {
        if let Some(Value::Object(inner)) = self.map.remove("text_config") {
            let outer = std::mem::replace(&mut self.map, inner);
            for (name, value) in outer {
                self.map.entry(name).or_insert(value);
            }
        }
        self
    }

    /// The first of these fields that is a whole number.
    fn number(&self, names: &[&str]) -> Option<u64> {
        names.iter().find_map(|name| self.map.get(*name)?.as_u64())
    }

    fn need(&self, names: &[&str]) -> Result<u64, PlanError> {
        let missing = || PlanError::Missing {
            file: self.file.clone(),
            field: names.join(" or "),
            needs: self.needs,
        };
        let found = self.number(names).filter(|number| *number > 0);
        found.ok_or_else(missing)
    }

    fn flag(&self, name: &str) -> bool {
        self.map.get(name).and_then(Value::as_bool) == Some(true)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.map.get(name)?.as_str()
    }

    /// The whole numbers of a list.
    fn list(&self, name: &str) -> Vec<u64> {
        let list = self.map.get(name).and_then(Value::as_array);
        let numbers = list.into_iter().flatten().map(Value::as_u64);
        numbers.collect::<Option<_>>().unwrap_or_default()
    }

    /// The architecture that config.json names.
    pub(super) fn architecture(&self) -> Option<&str> {
        let named = self.map.get("architectures").and_then(Value::as_array);
        named
            .and_then(|named| named.first())
            .and_then(Value::as_str)
    }
}

/// Reads config.json.
///
/// # Errors
/// [`PlanError`], which names the field that is missing, or the kind that is not known.
pub(super) fn of_config(fields: Fields) -> Result<Facts, PlanError> {
    let name = fields.architecture().unwrap_or_default().to_owned();
    if name == "WhisperForConditionalGeneration" {
        return whisper(&fields).map(Facts::Whisper);
    }
    if name.ends_with("ForCTC") {
        let first = |name| fields.list(name).first().copied();
        return Ok(Facts::Frames(Frames {
            // transformers' defaults for Wav2Vec2Config.
            channels: first("conv_dim").unwrap_or(512),
            stride: first("conv_stride").unwrap_or(5),
            feed_forward: fields.need(&["intermediate_size"])?,
        }));
    }
    if !(name.ends_with("ForCausalLM")
        || name.ends_with("LMHeadModel")
        || name.ends_with("ForConditionalGeneration") && fields.map.contains_key("text_config"))
    {
        return Err(PlanError::UnknownKind {
            what: format!("architecture {name:?} in {}", fields.file),
            known: "known are …ForCausalLM, GPT2LMHeadModel, WhisperForConditionalGeneration, …ForCTC and diffusers' Stable Diffusion, \
                    Flux and PixArt pipelines",
        });
    }
    text(fields.inner(), name).map(Facts::Text)
}

fn text(fields: Fields, architecture: String) -> Result<Text, PlanError> {
    let heads = fields.need(&["num_attention_heads", "n_head"])?;
    let hidden = fields.need(&["hidden_size", "n_embd"])?;
    let plain = architecture.starts_with("GPT2");
    let inner = fields.number(&["intermediate_size", "n_inner"]);
    let width = match plain {
        true => inner.unwrap_or(4 * hidden),
        false => fields.need(&["intermediate_size", "moe_intermediate_size"])?,
    };
    let per_token = fields.number(&["num_experts_per_tok"]);
    // What a layer of experts takes for a token, and what a layer without takes: a model may have both.
    let expert = fields.number(&["moe_intermediate_size"]).unwrap_or(width);
    let feed_forward = match (per_token, plain) {
        (Some(per_token), _) => 3 * (expert * per_token).max(width),
        (None, true) => 2 * width,
        (None, false) => 3 * width,
    };
    let scaled = ["rope_scaling", "rope_parameters"]
        .iter()
        .any(|name| is_longrope(fields.map.get(*name)));
    let longest = fields.number(&["max_position_embeddings", "n_positions"]);
    let trained = fields.number(&["original_max_position_embeddings"]);
    Ok(Text {
        layers: fields.need(&["num_hidden_layers", "n_layer"])?,
        kv_heads: fields.number(&["num_key_value_heads"]).unwrap_or(heads),
        head_dim: fields.number(&["head_dim"]).unwrap_or(hidden / heads),
        vocab: fields.need(&["vocab_size"])?,
        context: trained.filter(|_| scaled).or(longest),
        window: fields.number(&["sliding_window"]),
        tied: fields.flag("tie_word_embeddings") || plain,
        architecture,
        heads,
        hidden,
        feed_forward,
    })
}

fn is_longrope(value: Option<&Value>) -> bool {
    let kind = |name| value?.get(name)?.as_str();
    [kind("type"), kind("rope_type")].contains(&Some("longrope"))
}

fn whisper(fields: &Fields) -> Result<Whisper, PlanError> {
    Ok(Whisper {
        width: fields.need(&["d_model"])?,
        decoder_layers: fields.need(&["decoder_layers"])?,
        encoder_layers: fields.need(&["encoder_layers"])?,
        heads: fields.need(&["decoder_attention_heads"])?,
        encoder_heads: fields.need(&["encoder_attention_heads"])?,
        feed_forward: fields.need(&["encoder_ffn_dim"])?,
        vocab: fields.need(&["vocab_size"])?,
        frames: fields.need(&["max_source_positions"])?,
        tokens: fields.need(&["max_target_positions"])?,
    })
}

/// Reads a GGUF's head.
///
/// # Errors
/// [`PlanError::Missing`] with the key.
pub(super) fn of_gguf(file: &str, head: &Head) -> Result<Facts, PlanError> {
    let missing = |field: String| PlanError::Missing {
        file: file.to_owned(),
        field,
        needs: "the cache",
    };
    let Some(family) = head.texts.get("general.architecture") else {
        return Err(missing("general.architecture".to_owned()));
    };
    let number = |name: &str| head.numbers.get(&format!("{family}.{name}")).copied();
    let need = |name: &str| number(name).ok_or_else(|| missing(format!("{family}.{name}")));
    let (heads, hidden) = (need("attention.head_count")?, need("embedding_length")?);
    let table = head
        .tensors
        .iter()
        .find(|one| one.name == "token_embd.weight");
    let rows = table.and_then(|table| table.shape.first().copied());
    let tokens = head.numbers.get("tokenizer.ggml.tokens").copied();
    let experts = number("expert_used_count").unwrap_or(1);
    Ok(Facts::Text(Text {
        architecture: family.clone(),
        layers: need("block_count")?,
        kv_heads: number("attention.head_count_kv").unwrap_or(heads),
        head_dim: number("attention.key_length").unwrap_or(hidden / heads.max(1)),
        feed_forward: 3 * experts * need("feed_forward_length")?,
        vocab: rows
            .or(tokens)
            .ok_or_else(|| missing("tokenizer.ggml.tokens".to_owned()))?,
        context: number("context_length"),
        window: number("attention.sliding_window"),
        tied: !head.tensors.iter().any(|one| one.name == "output.weight"),
        heads,
        hidden,
    }))
}

/// Bytes that a row of a UNet takes for each element of the latents' plane, at a first level of 320 channels; as in the pipeline
/// (pipelines/image, families/unet.rs), which was measured against it.
const UNET_ROW: (u64, u64) = (4 * 6000, 320);
/// Numbers that a row takes for each token, in widths of the residual stream, by what the class's name begins with; as in
/// families/stable_diffusion_3.rs, flux.rs and pixart.rs.
const SD3_WIDTHS: u64 = 16;
const WIDTHS: [(&str, u64); 2] = [("Flux", 18), ("PixArt", 14)];
const PIXART: &str = "PixArtTransformer2DModel";
/// Latents for a token, along a side.
const PATCH: u64 = 2;
/// The side in latents of pictures of a UNet that does not say (Stable Diffusion 1), and of Flux.
const UNET_SIDE: u64 = 64;
const FLUX_SIDE: u64 = 128;

/// What a row takes of a UNet whose first level has so many channels.
pub(super) fn unet_row(channels: u64) -> u64 {
    (UNET_ROW.0 * channels).div_ceil(UNET_ROW.1)
}

/// What a row takes of a transformer of this width.
pub(super) fn transformer_row(class: &str, width: u64) -> u64 {
    let found = WIDTHS.iter().find(|(name, _)| class.starts_with(name));
    let widths = found.map_or(SD3_WIDTHS, |(_, widths)| *widths);
    (4 * widths * width).div_ceil(PATCH * PATCH)
}

/// Reads the configurations of a denoiser and an autoencoder.
///
/// # Errors
/// [`PlanError`] with what is missing or not known.
pub(super) fn of_diffusers(denoiser: &Fields, vae: &Fields) -> Result<Picture, PlanError> {
    let levels = vae.list("block_out_channels");
    let Some(decoder) = levels.first().copied() else {
        return Err(PlanError::Missing {
            file: vae.file.clone(),
            field: "block_out_channels".to_owned(),
            needs: vae.needs,
        });
    };
    let factor = 1 << (levels.len() - 1).min(16);
    let class = match (denoiser.text("_class_name"), denoiser.text("norm_type")) {
        // What PixArt was a part of when its checkpoints were published.
        (Some("Transformer2DModel"), Some("ada_norm_single")) => PIXART,
        (class, _) => class.unwrap_or_default(),
    };
    let sizes = denoiser.list("sample_size");
    let (row_bytes, side) = match class {
        "UNet2DConditionModel" => {
            let channels = denoiser.list("block_out_channels");
            // diffusers' default.
            (
                unet_row(channels.first().copied().unwrap_or(320)),
                UNET_SIDE,
            )
        }
        "SD3Transformer2DModel" | "FluxTransformer2DModel" | PIXART => {
            let heads = denoiser.need(&["num_attention_heads"])?;
            let width = heads * denoiser.need(&["attention_head_dim"])?;
            (transformer_row(class, width), FLUX_SIDE)
        }
        other => {
            return Err(PlanError::UnknownKind {
                what: format!("denoiser {other:?} in {}", denoiser.file),
                known: "UNet2DConditionModel, SD3Transformer2DModel, FluxTransformer2DModel and PixArtTransformer2DModel are",
            });
        }
    };
    let one = match class.starts_with("Flux") {
        true => FLUX_SIDE,
        false => denoiser.number(&["sample_size"]).unwrap_or(side),
    };
    // As JSON has it, [rows, columns].
    let (high, wide) = match sizes.as_slice() {
        [high, wide] => (*high, *wide),
        _ => (one, one),
    };
    Ok(Picture {
        row_bytes,
        usual: (wide * factor, high * factor),
        factor,
        decoder,
        upcast: vae.flag("force_upcast"),
    })
}
