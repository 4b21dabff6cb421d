//! ControlNets: half a UNet that looks at a picture of conditions and says what is to be added to a whole one. Mirrors `diffusers`
//! models/controlnets/controlnet.py (ControlNetModel, ControlNetConditioningEmbedding) and, for several at once,
//! multicontrolnet.py (MultiControlNetModel).

use candle_core::Tensor;
use chandler_nn::activation::Activation;
use chandler_nn::conv2d::{Conv2d, Conv2dConfig, Padding};

use super::contracting::{Conditions, Contracting};
use super::control_config::ControlNetConfig;
use super::model::{Residuals, TextTime};
use crate::error::{ImageError, Result};
use crate::layers::{Loaded, Loader};

/// A ControlNet.
#[derive(Debug, Clone)]
pub struct ControlNet {
    contracting: Contracting,
    conditions: ConditionEmbedding,
    /// After each of what a UNet keeps as skips.
    down: Vec<Conv2d>,
    mid: Conv2d,
    loaded: Loaded,
}

/// What a ControlNet looks at, a row of everything for each sample.
#[derive(Debug, Clone, Copy)]
pub struct ControlInput<'a> {
    /// [batch, in_channels, height, width]: what the UNet is given, without an inpainting model's mask and picture.
    pub latents: &'a Tensor,
    /// What [`ControlNet::embed`] made of the conditions, [batch, channels, height, width].
    pub conditions: &'a Tensor,
    /// One for each sample.
    pub timesteps: &'a [f64],
    /// The words, [batch, words, cross_attention_dim].
    pub context: &'a Tensor,
    /// For models whose `addition_embed_type` is `text_time`, and only for them.
    pub text_time: Option<TextTime<'a>>,
    /// How much of it counts, for each sample: diffusers' `controlnet_conditioning_scale`.
    pub scales: &'a [f64],
}

impl ControlNet {
    /// Takes all weights.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than the config says.
    pub fn load(loader: &Loader<'_>, config: &ControlNetConfig) -> Result<Self> {
        let before = loader.loaded();
        let channels = config.contracting.skip_channels();
        let one = Conv2dConfig::same(1);
        let conv = |(n, channels): (usize, &usize)| {
            let name = format!("controlnet_down_blocks.{n}");
            loader.conv(&name, (*channels, *channels, 1), one)
        };
        let last = channels.last().copied().unwrap_or_default();
        let embedding = loader.at("controlnet_cond_embedding");
        let first = channels.first().copied().unwrap_or_default();
        let mut net = Self {
            contracting: Contracting::load(loader, &config.contracting)?,
            conditions: ConditionEmbedding::load(&embedding, config, first)?,
            down: channels
                .iter()
                .enumerate()
                .map(conv)
                .collect::<Result<_>>()?,
            mid: loader.conv("controlnet_mid_block", (last, last, 1), one)?,
            loaded: Loaded::default(),
        };
        net.loaded = loader.loaded().since(before);
        Ok(net)
    }

    /// Pictures of conditions [batch, conditioning_channels, height, width] in 0…1, at the size of the picture that is made, as
    /// [`ControlInput::conditions`] wants them. They do not change from step to step: once for a request is enough.
    ///
    /// # Errors
    /// For other channels.
    pub fn embed(&self, pictures: &Tensor) -> Result<Tensor> {
        let pictures = self.contracting.taken(pictures)?;
        self.conditions.forward(&pictures)
    }

    /// What is to be added to a UNet of the same family.
    ///
    /// # Errors
    /// [`ImageError::Input`] when the inputs do not go together or are not what the model takes.
    pub fn forward(&self, input: &ControlInput<'_>) -> Result<Residuals> {
        let batch = input.latents.dim(0)?;
        let pass = self.contracting.prepare(&Conditions {
            batch,
            timesteps: input.timesteps,
            context: input.context,
            text_time: input.text_time.as_ref(),
            guidance_embed: None,
            // diffusers puts none beside a ControlNet either.
            adapters: None,
        })?;
        if input.scales.len() != batch {
            return Err(ImageError::Input(format!(
                "{} scales of a ControlNet for {batch} samples",
                input.scales.len()
            )));
        }
        let latents = self.contracting.taken(input.latents)?;
        let conditions = self.contracting.taken(input.conditions)?;
        let conv_in = self.contracting.conv_in.conv();
        let (_, _, height, width) = latents.dims4()?;
        let shape = [batch, conv_in.outputs(), height, width];
        if conditions.dims() != shape {
            return Err(ImageError::Input(format!(
                "conditions of shape {:?}; {shape:?} is wanted, of a picture as large as the one that is made",
                conditions.dims()
            )));
        }
        let x = conv_in.forward_added(&latents, &conditions)?;
        let (x, skips) = self.contracting.down(x, &pass)?;
        let mid = self.contracting.mid(x, &pass)?;
        let scales: Vec<f32> = input.scales.iter().map(|scale| *scale as f32).collect();
        let scales = Tensor::from_vec(scales, (batch, 1, 1, 1), latents.device())?;
        let scales = scales.to_dtype(latents.dtype())?;
        let scaled = |conv: &Conv2d, x: &Tensor| -> Result<Tensor> {
            Ok(conv.forward(x)?.broadcast_mul(&scales)?)
        };
        let down = self.down.iter().zip(&skips);
        Ok(Residuals {
            down: down
                .map(|(conv, skip)| scaled(conv, skip))
                .collect::<Result<_>>()?,
            mid: scaled(&self.mid, &mid)?,
        })
    }

    /// Numbers in its tensors.
    pub fn parameters(&self) -> u64 {
        self.loaded.parameters
    }

    /// Bytes of its tensors as they are kept, mapped ones included.
    pub fn bytes(&self) -> u64 {
        self.loaded.bytes
    }
}

impl Residuals {
    /// One sample's.
    ///
    /// # Errors
    /// When there are not as many samples.
    pub fn row(&self, row: usize) -> Result<Self> {
        let one = |all: &Tensor| all.narrow(0, row, 1);
        Ok(Self {
            down: self.down.iter().map(one).collect::<Result<_, _>>()?,
            mid: one(&self.mid)?,
        })
    }

    /// Of several samples, of which some have none; nothing when none has any.
    ///
    /// # Errors
    /// When they are of different families or sizes.
    pub fn of_rows(rows: &[Option<Self>]) -> Result<Option<Self>> {
        let Some(some) = rows.iter().flatten().next() else {
            return Ok(None);
        };
        // What is added to nobody's bits, zeros' signs included, is minus zero.
        let nothing = |like: &Tensor| like.zeros_like()?.neg();
        let nothing = Self {
            down: some.down.iter().map(nothing).collect::<Result<_, _>>()?,
            mid: nothing(&some.mid)?,
        };
        let all = || rows.iter().map(|row| row.as_ref().unwrap_or(&nothing));
        let layer = |n: usize| -> Result<Tensor> {
            let layers: Vec<&Tensor> = all().filter_map(|row| row.down.get(n)).collect();
            Ok(Tensor::cat(&layers, 0)?)
        };
        let mid: Vec<&Tensor> = all().map(|row| &row.mid).collect();
        Ok(Some(Self {
            down: (0..some.down.len()).map(layer).collect::<Result<_>>()?,
            mid: Tensor::cat(&mid, 0)?,
        }))
    }

    /// What several ControlNets say together; nothing for none.
    ///
    /// # Errors
    /// When they are of different families, or for different samples.
    pub fn sum(all: Vec<Self>) -> Result<Option<Self>> {
        let mut all = all.into_iter();
        let Some(mut sum) = all.next() else {
            return Ok(None);
        };
        for other in all {
            if sum.down.len() != other.down.len() {
                return Err(ImageError::Input(format!(
                    "ControlNets of {} and {} residuals; they are of different families",
                    sum.down.len(),
                    other.down.len()
                )));
            }
            for (sum, other) in sum.down.iter_mut().zip(&other.down) {
                *sum = (&*sum + other)?;
            }
            sum.mid = (&sum.mid + &other.mid)?;
        }
        Ok(Some(sum))
    }
}

/// A picture down to the size of its latents.
#[derive(Debug, Clone)]
struct ConditionEmbedding {
    /// All but the last, each with an activation after it.
    convs: Vec<Conv2d>,
    out: Conv2d,
    /// diffusers turns blue, green, red round first.
    reversed: bool,
}

impl ConditionEmbedding {
    fn load(loader: &Loader<'_>, config: &ControlNetConfig, outputs: usize) -> Result<Self> {
        let widths = &config.embedding_channels;
        let first = widths.first().copied().unwrap_or_default();
        let same = Conv2dConfig::same(3);
        let half = Conv2dConfig {
            stride: 2,
            padding: Padding::all(1),
        };
        let sizes = (config.conditioning_channels, first, 3);
        let mut convs = vec![loader.conv("conv_in", sizes, same)?];
        for (n, (from, to)) in widths.iter().zip(widths.iter().skip(1)).enumerate() {
            let blocks = [(2 * n, *from, same), (2 * n + 1, *to, half)];
            for (number, to, conv) in blocks {
                let name = format!("blocks.{number}");
                convs.push(loader.conv(&name, (*from, to, 3), conv)?);
            }
        }
        let last = widths.last().copied().unwrap_or_default();
        Ok(Self {
            convs,
            out: loader.conv("conv_out", (last, outputs, 3), same)?,
            reversed: config.is_bgr,
        })
    }

    fn forward(&self, pictures: &Tensor) -> Result<Tensor> {
        let mut x = match self.reversed {
            true => pictures.flip(&[1])?,
            false => pictures.clone(),
        };
        for conv in &self.convs {
            x = Activation::Silu.forward(&conv.forward(&x)?)?;
        }
        Ok(self.out.forward(&x)?)
    }
}
