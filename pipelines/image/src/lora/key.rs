//! What a tensor of an adapter's file is called: which part of the pipeline, which module of it, and what of the pair. Every trainer has
//! endings and beginnings of its own, so that they are tables. After `diffusers` loaders/lora_conversion_utils.py and
//! utils/state_dict_utils.py, and kohya's networks/lora.py.

/// A tensor's name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) place: Place,
    /// The module's path with `_` for every dot, as kohya writes it.
    pub(super) module: String,
    pub(super) item: Item,
}

/// A part of a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// The UNet or the transformer.
    Denoiser,
    /// The text encoder of this number, from 1.
    TextEncoder(usize),
}

/// One of the tensors that a module has in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// To as many numbers as the rank.
    Down,
    /// From these.
    Up,
    /// What the pair's product is multiplied by, times the rank.
    Alpha,
}

/// What names end in.
const ENDINGS: [(&str, Item); 13] = [
    (".lora_A.weight", Item::Down),
    (".lora_B.weight", Item::Up),
    (".lora_A.default.weight", Item::Down),
    (".lora_B.default.weight", Item::Up),
    (".lora_down.weight", Item::Down),
    (".lora_up.weight", Item::Up),
    (".lora.down.weight", Item::Down),
    (".lora.up.weight", Item::Up),
    (".lora_linear_layer.down.weight", Item::Down),
    (".lora_linear_layer.up.weight", Item::Up),
    // The oldest of diffusers: `attn1.processor.to_q_lora.down.weight`.
    ("_lora.down.weight", Item::Down),
    ("_lora.up.weight", Item::Up),
    (".alpha", Item::Alpha),
];

/// What names begin with; the first that fits counts.
const BEGINNINGS: [(&str, Place); 12] = [
    ("unet.", Place::Denoiser),
    ("transformer.", Place::Denoiser),
    ("model.diffusion_model.", Place::Denoiser),
    ("diffusion_model.", Place::Denoiser),
    ("lora_unet_", Place::Denoiser),
    ("lora_transformer_", Place::Denoiser),
    ("text_encoder.", Place::TextEncoder(1)),
    ("text_encoder_2.", Place::TextEncoder(2)),
    ("text_encoder_3.", Place::TextEncoder(3)),
    ("lora_te_", Place::TextEncoder(1)),
    ("lora_te1_", Place::TextEncoder(1)),
    ("lora_te2_", Place::TextEncoder(2)),
];

/// kohya calls T5 the third, whichever it is of the model.
const T5: (&str, Place) = ("lora_te3_", Place::TextEncoder(3));

/// What names of other kinds of adapters have in them, and what those are.
const OTHER_KINDS: [(&str, &str); 13] = [
    ("dora_scale", "DoRA"),
    ("lora_magnitude_vector", "DoRA"),
    ("hada_", "LoHa"),
    ("lokr_", "LoKr"),
    (
        "lora_mid.",
        "a Tucker decomposition (`use_tucker`, `use_cp`)",
    ),
    ("lora_embedding_", "an adapted embedding"),
    (".oft_", "OFT"),
    (".boft_", "BOFT"),
    (".on_input", "IA3"),
    (".a1.weight", "GLoRA"),
    (".diff", "a whole layer's difference"),
    (".w_norm", "a trained norm"),
    (".b_norm", "a trained norm"),
];

impl Key {
    /// Takes a name apart.
    ///
    /// # Errors
    /// What the tensor is instead of a part of a pair.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        if let Some((_, kind)) = OTHER_KINDS.iter().find(|(part, _)| name.contains(part)) {
            return Err(format!(
                "it is of {kind}, which is not supported; merge the adapter into the model"
            ));
        }
        let ending = ENDINGS
            .iter()
            .find_map(|(ending, item)| Some((name.strip_suffix(ending)?, *item)));
        let Some((path, item)) = ending else {
            return Err(match name.ends_with(".bias") {
                true => {
                    "a bias beside a pair is not supported; merge the adapter into the model"
                }
                false => "it is no part of a LoRA pair: lora_A and lora_B, lora_down and lora_up, lora.down and lora.up, alpha",
            }
            .to_owned());
        };
        let path = path.strip_prefix("base_model.model.").unwrap_or(path);
        let mut beginnings = BEGINNINGS.iter().chain([&T5]);
        let (place, path) = beginnings
            .find_map(|(beginning, place)| Some((*place, path.strip_prefix(beginning)?)))
            // diffusers' oldest files are of a UNet alone and do not say so.
            .unwrap_or((Place::Denoiser, path));
        Ok(Self {
            place,
            module: plain(place, &path.replace(".processor.", ".")),
            item,
        })
    }
}

/// A module's path as keys and models both have it after this: dots are `_`, and the wrapper that transformers puts around CLIP's
/// layers, and has dropped, is left out.
pub(super) fn plain(place: Place, path: &str) -> String {
    let path = path.replace('.', "_");
    match (place, path.strip_prefix("text_model_")) {
        (Place::TextEncoder(_), Some(inner)) => inner.to_owned(),
        _ => path,
    }
}
