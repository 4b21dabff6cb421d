//! CLIP's text encoder: a causal transformer over a window of tokens (CLIP L, OpenCLIP H and G).
//! Mirrors `transformers` models/clip/modeling_clip.py, `CLIPTextModel` and `CLIPTextModelWithProjection`.

use candle_core::Tensor;
use chandler_nn::activation::Activation;
use chandler_nn::dense_attention::dense_attention;
use chandler_nn::embedding::Embedding;
use chandler_nn::lora::AdapterRows;
use chandler_nn::norm::Norm;

use super::clip_config::{ClipConfig, LayerSizes, Pooling};
use crate::error::{ImageError, Result};
use crate::layers::Loader;
use crate::lora::{Layer as Adaptable, Projection};

/// Which of the layers' outputs a denoiser looks at; `skip` is diffusers' `clip_skip`, and 0 is its `None`.
///
/// diffusers skips layers for the prompt alone: the negative prompt is always encoded with nothing skipped
/// (`StableDiffusionPipeline.encode_prompt`, `StableDiffusionXLPipeline.encode_prompt`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HiddenState {
    /// `final_layer_norm(hidden_states[-(skip + 1)])`: SD 1 and 2.
    Normed {
        /// Layers left out at the end.
        skip: usize,
    },
    /// `hidden_states[-(skip + 2)]` as it is: SDXL and SD 3.
    Penultimate {
        /// Layers left out at the end besides the last.
        skip: usize,
    },
}

impl HiddenState {
    /// Layers left out at the end.
    fn left_out(self) -> usize {
        match self {
            Self::Normed { skip } => skip,
            Self::Penultimate { skip } => skip.saturating_add(1),
        }
    }
}

/// What [`ClipTextModel::forward`] is to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Which hidden states.
    pub hidden: HiddenState,
    /// Whether the pooled embedding, too, which needs all layers.
    pub pooled: bool,
}

/// What texts became.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// [texts, tokens, width], in the activations' dtype.
    pub hidden: Tensor,
    /// [texts, projection] of a projected model (SDXL's and SD 3's `text_embeds`), else [texts, width] (`pooler_output`, which FLUX
    /// takes); nothing when it was not wanted.
    pub pooled: Option<Tensor>,
}

/// The encoder.
pub struct ClipTextModel {
    config: ClipConfig,
    tokens: Embedding,
    /// [positions, width]
    positions: Tensor,
    layers: Vec<Layer>,
    final_norm: Norm,
    projection: Option<Projection>,
}

/// A layer of CLIP's encoders; the text encoder's and the vision tower's are alike.
pub(crate) struct Layer {
    sizes: LayerSizes,
    norm1: Norm,
    query: Projection,
    key: Projection,
    value: Projection,
    out: Projection,
    norm2: Norm,
    up: Projection,
    down: Projection,
}

/// What all layers of a pass look at beside their input.
pub(crate) struct Pass<'a> {
    /// What is added to scores, [1, 1, tokens, tokens].
    pub(crate) mask: Option<Tensor>,
    pub(crate) adapters: &'a AdapterRows,
}

impl Layer {
    pub(crate) fn load(sizes: LayerSizes, at: &Loader<'_>) -> Result<Self> {
        let LayerSizes {
            width,
            feed_forward,
            norm_eps,
            ..
        } = sizes;
        let attention = at.at("self_attn");
        let square = |name: &str| Projection::load(&attention, name, width, width);
        let mlp = at.at("mlp");
        Ok(Self {
            sizes,
            norm1: at.layer_norm("layer_norm1", width, norm_eps)?,
            query: square("q_proj")?,
            key: square("k_proj")?,
            value: square("v_proj")?,
            out: square("out_proj")?,
            norm2: at.layer_norm("layer_norm2", width, norm_eps)?,
            up: Projection::load(&mlp, "fc1", width, feed_forward)?,
            down: Projection::load(&mlp, "fc2", feed_forward, width)?,
        })
    }

    /// `x` [batch, tokens, width] a layer on.
    pub(crate) fn forward(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let LayerSizes {
            width,
            heads,
            activation,
            ..
        } = self.sizes;
        let Pass { mask, adapters } = pass;
        let normed = self.norm1.forward(x)?;
        let layers = [&self.query, &self.key, &self.value];
        let [q, k, v] = Projection::forward_many(layers, &normed, adapters)?;
        let scale = 1.0 / ((width / heads) as f64).sqrt();
        let attended = dense_attention((&q, &k, &v), heads, scale, mask.as_ref())?;
        let mixed = self.out.forward(&attended, adapters)?;
        let (x, normed) = self.norm2.forward_residual(&mixed, x)?;
        let fed = Activation::forward(activation, &self.up.forward(&normed, adapters)?)?;
        Ok((x + self.down.forward(&fed, adapters)?)?)
    }

    fn layers(&mut self) -> [&mut Projection; 6] {
        [
            &mut self.query,
            &mut self.key,
            &mut self.value,
            &mut self.out,
            &mut self.up,
            &mut self.down,
        ]
    }

    pub(crate) fn bytes(&self) -> usize {
        let linears = [
            &self.query,
            &self.key,
            &self.value,
            &self.out,
            &self.up,
            &self.down,
        ];
        let linears: usize = linears.into_iter().map(Projection::bytes).sum();
        linears + self.norm1.bytes() + self.norm2.bytes()
    }
}

impl ClipTextModel {
    /// Takes the model out of a checkpoint. transformers has named its tensors with and without `text_model.` in front; both are
    /// read.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than the configuration says.
    pub fn load(config: ClipConfig, weights: &Loader<'_>) -> Result<Self> {
        const PREFIX: &str = "text_model";
        let width = config.width;
        let at = match weights.has("embeddings.token_embedding.weight") {
            true => weights.clone(),
            false => weights.at(PREFIX),
        };
        let embeddings = at.at("embeddings");
        let layers = at.at("encoder").at("layers");
        Ok(Self {
            tokens: embeddings.embedding("token_embedding", config.vocab_size, width)?,
            positions: embeddings
                .tensor("position_embedding.weight", &[config.positions, width])?,
            layers: (0..config.layers)
                .map(|number| Layer::load(config.layer(), &layers.at(number)))
                .collect::<Result<_>>()?,
            final_norm: at.layer_norm("final_layer_norm", width, config.norm_eps)?,
            projection: config
                .projection
                .map(|projected| Projection::load(weights, "text_projection", width, projected))
                .transpose()?,
            config,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// Bytes of all weights, mapped ones included.
    pub fn bytes(&self) -> usize {
        let positions = self.positions.elem_count() * self.positions.dtype().size_in_bytes();
        let layers: usize = self.layers.iter().map(Layer::bytes).sum();
        let projection = self.projection.as_ref().map_or(0, Projection::bytes);
        self.tokens.bytes() + positions + layers + self.final_norm.bytes() + projection
    }

    /// All its linear layers, each with its module's name: where adapters go.
    pub fn layers(&mut self) -> Vec<Adaptable<'_>> {
        let layers = self.layers.iter_mut().flat_map(Layer::layers);
        layers
            .chain(&mut self.projection)
            .map(Adaptable::Linear)
            .collect()
    }

    /// Encodes `texts`, all of as many tokens, begin, end and padding included; at most as many as there are positions. `adapters`
    /// lists them. On the CPU what one text gives has the same bits whatever others there are.
    ///
    /// # Errors
    /// [`ImageError::Input`] for texts of other lengths and for more layers left out than there are; an error of the embedding for
    /// an id past the vocabulary.
    pub fn forward(
        &self,
        texts: &[&[u32]],
        wanted: Wanted,
        adapters: &AdapterRows,
    ) -> Result<Encoded> {
        let length = self.check(texts, wanted)?;
        let kept = self.config.layers - wanted.hidden.left_out();
        let needed = match wanted.pooled {
            true => self.config.layers,
            false => kept,
        };
        let mut x = self.embed(texts, length)?;
        let pass = Pass {
            mask: Some(causal(length, &x)?),
            adapters,
        };
        let mut hidden = x.clone();
        for (number, layer) in self.layers.iter().take(needed).enumerate() {
            x = layer.forward(&x, &pass)?;
            if number + 1 == kept {
                hidden = x.clone();
            }
        }
        if let HiddenState::Normed { .. } = wanted.hidden {
            hidden = self.final_norm.forward(&hidden)?;
        }
        let pooled = match wanted.pooled {
            true => Some(self.pool(&x, texts, adapters)?),
            false => None,
        };
        Ok(Encoded { hidden, pooled })
    }

    /// Tokens of each text.
    fn check(&self, texts: &[&[u32]], wanted: Wanted) -> Result<usize> {
        let length = texts.first().map_or(0, |text| text.len());
        let positions = self.config.positions;
        if length == 0 || length > positions || texts.iter().any(|text| text.len() != length) {
            let lengths: Vec<usize> = texts.iter().map(|text| text.len()).collect();
            return Err(ImageError::Input(format!(
                "texts of {lengths:?} tokens; all of one length from 1 to {positions} are wanted"
            )));
        }
        let left_out = wanted.hidden.left_out();
        // The embeddings themselves are the first of transformers' `hidden_states`.
        if left_out > self.config.layers {
            return Err(ImageError::Input(format!(
                "{left_out} layers left out of {}",
                self.config.layers
            )));
        }
        Ok(length)
    }

    fn embed(&self, texts: &[&[u32]], length: usize) -> Result<Tensor> {
        let tokens = self.tokens.forward(&texts.concat())?;
        let tokens = tokens.reshape((texts.len(), length, self.config.width))?;
        Ok(tokens.broadcast_add(&self.positions.narrow(0, 0, length)?)?)
    }

    fn pool(&self, x: &Tensor, texts: &[&[u32]], adapters: &AdapterRows) -> Result<Tensor> {
        let rows = texts
            .iter()
            .enumerate()
            .map(|(number, text)| {
                let at = self.config.pooling.position(text);
                Ok(x.narrow(0, number, 1)?.narrow(1, at, 1)?.squeeze(1)?)
            })
            .collect::<Result<Vec<Tensor>>>()?;
        let pooled = self.final_norm.forward(&Tensor::cat(&rows, 0)?)?;
        match &self.projection {
            Some(projection) => projection.forward(&pooled, adapters),
            None => Ok(pooled),
        }
    }
}

impl Pooling {
    /// The position that is pooled.
    fn position(self, text: &[u32]) -> usize {
        let wanted = match self {
            Self::HighestId => text.iter().copied().max().unwrap_or_default(),
            Self::FirstOf(id) => id,
        };
        text.iter().position(|id| *id == wanted).unwrap_or(0)
    }
}

/// What is added to scores so that a token looks at itself and those before it: [1, 1, tokens, tokens].
fn causal(length: usize, like: &Tensor) -> Result<Tensor> {
    let mask: Vec<f32> = (0..length * length)
        .map(|n| match n % length > n / length {
            true => f32::NEG_INFINITY,
            false => 0.0,
        })
        .collect();
    Ok(Tensor::from_vec(
        mask,
        (1, 1, length, length),
        like.device(),
    )?)
}
