//! From a snapshot in the diffusers layout to a pipeline: which parts it has, their configurations, their weights.

use std::sync::{Arc, Mutex};

use candle_core::{DType, Device};
use chandler_core::{ModelInfo, Task};
use chandler_nn::device::{self, DTypeChoice, DeviceOptions};
use chandler_nn::fields::Fields;
use chandler_nn::weights::{LoadStep, Snapshot, TensorSource, parameters};

use super::coder::Coder;
use super::conditioning::{Reader, TextEncoders, Told};
use super::defaults::Sizes;
use super::pipeline::{ImagePipeline, Model};
use super::prepare::{Channels, ImagePreparer, Limits};
use crate::autoencoder::{AutoencoderConfig, AutoencoderKl};
use crate::error::{ImageError, Result};
use crate::failure;
use crate::layers::{Loader, Placement};
use crate::model_index::{Family, ModelIndex};
use crate::pixels::Size;
use crate::prompt::clip_tokenizer::ClipTokenizer;
use crate::schedulers::SchedulerConfig;
use crate::text_encoder::clip::ClipTextModel;
use crate::text_encoder::clip_config::ClipConfig;
use crate::unet::{UNet, UNetConfig};

/// How a model is to be run.
pub struct ImageOptions {
    /// Where, and what is set up there.
    pub device: DeviceOptions,
    /// In which numeric type.
    pub dtype: DTypeChoice,
    /// Rows of the denoiser at once: a guided picture is two.
    pub max_rows: usize,
    /// Bytes of the host's memory that are free for the work, where that is known.
    pub host_memory: Option<u64>,
}

const SCHEDULER_FILE: &str = "scheduler/scheduler_config.json";
/// Latents' side, in elements, of a model that does not say: Stable Diffusion 1.
const USUAL_SIDE: usize = 64;
/// Requests that wait inside for their turn, in passes of the denoiser.
const PASSES_INSIDE: usize = 4;
/// Parts that are not needed for drawing.
const PASSED_OVER: [&str; 3] = ["safety_checker", "feature_extractor", "image_encoder"];

/// The parts' weights, opened and not read.
struct Opened {
    texts: Vec<(&'static str, Arc<dyn TensorSource>)>,
    unet: Arc<dyn TensorSource>,
    vae: Arc<dyn TensorSource>,
}

impl Opened {
    fn open(snapshot: &Snapshot, folders: &[TextFolder]) -> Result<Self> {
        let weights = |folder: &str| snapshot.part(folder).part_weights();
        let texts = folders
            .iter()
            .map(|folder| Ok((folder.encoder, weights(folder.encoder)?)))
            .collect::<Result<_>>()?;
        Ok(Self {
            texts,
            unet: weights("unet")?,
            vae: weights("vae")?,
        })
    }

    fn all(&self) -> impl Iterator<Item = &Arc<dyn TensorSource>> {
        let texts = self.texts.iter().map(|(_, source)| source);
        texts.chain([&self.unet, &self.vae])
    }

    fn prefetch(&self, progress: &(dyn Fn(LoadStep) + Sync)) -> Result<()> {
        let total: u64 = self.all().map(|source| source.total_bytes()).sum();
        let mut before = 0;
        for source in self.all() {
            source.prefetch(&|done, _| {
                progress(LoadStep::Weights {
                    done: (before + done).min(total),
                    total,
                });
            })?;
            before += source.total_bytes();
        }
        Ok(())
    }

    fn parameters(&self) -> u64 {
        self.all().map(|source| parameters(source.as_ref())).sum()
    }

    /// The dtype that the denoiser is stored in.
    fn stored(&self) -> Result<DType> {
        Ok(self.unet.tensor("conv_in.weight")?.dtype())
    }
}

/// Where a text encoder is.
struct TextFolder {
    encoder: &'static str,
    tokenizer: &'static str,
    class: String,
}

/// The text encoders of a pipeline, in the order in which their texts are put side by side.
fn text_folders(index: &ModelIndex) -> Result<Vec<TextFolder>> {
    let folder = |encoder, tokenizer| -> Result<Option<TextFolder>> {
        Ok(index.part(encoder)?.map(|class| TextFolder {
            encoder,
            tokenizer,
            class: class.to_owned(),
        }))
    };
    index.needed_part("unet", &["UNet2DConditionModel"])?;
    index.needed_part("vae", &["AutoencoderKL"])?;
    let first = folder("text_encoder", "tokenizer")?;
    match index.family {
        Family::StableDiffusion => {
            index.needed_part("text_encoder", &["CLIPTextModel"])?;
            Ok(first.into_iter().collect())
        }
        Family::StableDiffusionXl => {
            index.needed_part("text_encoder_2", &["CLIPTextModelWithProjection"])?;
            let second = folder("text_encoder_2", "tokenizer_2")?;
            Ok(first.into_iter().chain(second).collect())
        }
    }
}

/// What of a pipeline does no drawing is passed over, with a word about it.
fn tell_what_is_passed_over(index: &ModelIndex) -> Result<()> {
    for name in PASSED_OVER {
        if let Some(class) = index.part(name)? {
            tracing::warn!(part = name, class, "this part of the model is not run");
        }
    }
    Ok(())
}

fn fields(snapshot: &Snapshot, file: &str) -> Result<Fields> {
    let missing = || {
        let message = format!("{snapshot} has none; a part in the diffusers layout does");
        chandler_nn::error::NnError::config(file, message)
    };
    Ok(Fields::read(snapshot, file)?.ok_or_else(missing)?)
}

impl ImagePipeline {
    /// Loads a diffusion model.
    ///
    /// # Errors
    /// Names the file and field, part, tensor or device at fault.
    pub fn load(
        snapshot: &Snapshot,
        options: &ImageOptions,
        progress: &(dyn Fn(LoadStep) + Sync),
    ) -> Result<Self> {
        let index = ModelIndex::read(snapshot)?;
        let folders = text_folders(&index)?;
        tell_what_is_passed_over(&index)?;
        let unet = UNetConfig::of(&fields(snapshot, "unet/config.json")?)?;
        let vae = AutoencoderConfig::of(&fields(snapshot, "vae/config.json")?)?;
        let channels = channels(&unet, &vae)?;
        let scheduler = SchedulerConfig::load(snapshot, SCHEDULER_FILE)?.ok_or_else(|| {
            let message = format!("{snapshot} has none; a pipeline in the diffusers layout does");
            chandler_nn::error::NnError::config(SCHEDULER_FILE, message)
        })?;

        let device = options.device.open()?;
        let opened = Opened::open(snapshot, &folders)?;
        options.dtype.check(&device)?;
        let dtype = options.dtype.resolve(opened.stored()?, &device);
        let placement = Placement {
            device: device.clone(),
            dtype,
        };
        opened.prefetch(progress)?;
        progress(LoadStep::Building);
        let needed = opened.parameters() * dtype.size_in_bytes() as u64;
        let build = || Parts::build(snapshot, (&folders, &opened), (&unet, &vae), &placement);
        let parts = build().map_err(|error| failure::while_loading(error, needed, &device))?;
        let guidance_width = unet.contracting.time.condition;
        let preparer = ImagePreparer {
            info: ModelInfo {
                parameters: opened.parameters(),
                ..info(&index, &channels, &placement)
            },
            reader: Reader {
                family: index.family,
                tokenizers: parts.tokenizers,
                layers: parts
                    .encoders
                    .iter()
                    .map(|e| e.config().layers)
                    .min()
                    .unwrap_or(0),
                force_zeros: index.flag("force_zeros_for_empty_prompt")?,
                told: told(&index, &unet)?,
            },
            scheduler,
            sizes: sizes(
                &unet,
                &vae,
                (
                    &placement.device,
                    options.host_memory.map(|free| free.saturating_sub(needed)),
                ),
            ),
            channels,
            distilled: guidance_width.is_some(),
            decoding: Mutex::new(()),
            limits: Limits {
                inside: options.max_rows.max(2) * PASSES_INSIDE,
            },
        };
        Ok(Self {
            model: Model {
                encoders: TextEncoders {
                    placement: placement.clone(),
                    family: index.family,
                    models: parts.encoders,
                    guidance_width,
                },
                placement,
                unet: parts.unet,
                coder: parts.coder,
                in_channels: unet.contracting.in_channels,
            },
            preparer: Arc::new(preparer),
            running: Vec::new(),
            rows: options.max_rows.max(1),
            turn: 0,
            calls: 0,
        })
    }
}

/// The parts, built.
struct Parts {
    encoders: Vec<ClipTextModel>,
    tokenizers: Vec<ClipTokenizer>,
    unet: UNet,
    coder: Coder,
}

impl Parts {
    fn build(
        snapshot: &Snapshot,
        (folders, opened): (&[TextFolder], &Opened),
        (unet, vae): (&UNetConfig, &AutoencoderConfig),
        placement: &Placement,
    ) -> Result<Self> {
        let (mut encoders, mut tokenizers) = (Vec::new(), Vec::new());
        for (folder, (_, source)) in folders.iter().zip(&opened.texts) {
            let file = format!("{}/config.json", folder.encoder);
            let config = ClipConfig::read(&fields(snapshot, &file)?, folder.class.parse()?)?;
            let positions = config.positions;
            tokenizers.push(ClipTokenizer::from_snapshot(
                snapshot,
                folder.tokenizer,
                positions,
            )?);
            let loader = Loader::new(source.as_ref(), placement);
            encoders.push(ClipTextModel::load(config, &loader)?);
        }
        let unet = UNet::load(&Loader::new(opened.unet.as_ref(), placement), unet)?;
        // The autoencoder of SDXL overflows f16, which its configuration says.
        let wide = Placement {
            device: placement.device.clone(),
            dtype: match (vae.force_upcast, placement.dtype) {
                (true, DType::F16) => DType::F32,
                (_, dtype) => dtype,
            },
        };
        let autoencoder = AutoencoderKl::load(&Loader::new(opened.vae.as_ref(), &wide), vae)?;
        Ok(Self {
            encoders,
            tokenizers,
            unet,
            coder: Coder::new(autoencoder, vae),
        })
    }
}

/// The channels of a denoiser, which decide what it can do.
fn channels(unet: &UNetConfig, vae: &AutoencoderConfig) -> Result<Channels> {
    let (takes, latents) = (unet.contracting.in_channels, vae.latent_channels);
    let takes_mask = takes == 2 * latents + 1;
    if (takes != latents && !takes_mask) || unet.out_channels != latents {
        return Err(ImageError::Input(format!(
            "unet/config.json: in_channels: {takes} and out_channels: {} with latents of {latents} channels; as many of both, or \
             {} in (a mask and a masked picture besides), are supported",
            unet.out_channels,
            2 * latents + 1
        )));
    }
    Ok(Channels {
        latents,
        takes_mask,
    })
}

fn told(index: &ModelIndex, unet: &UNetConfig) -> Result<Told> {
    Ok(match unet.contracting.text_time {
        None => Told::Nothing,
        Some(_) if index.flag("requires_aesthetics_score")? => Told::SizesAndScore,
        Some(_) => Told::Sizes,
    })
}

fn sizes(
    unet: &UNetConfig,
    vae: &AutoencoderConfig,
    (device, host): (&Device, Option<u64>),
) -> Sizes {
    let factor = vae.pixels();
    let [rows, columns] = unet.sample_size.unwrap_or([USUAL_SIDE; 2]);
    let first = |channels: Option<usize>| channels.unwrap_or(1) as u64;
    Sizes {
        factor: factor as u32,
        usual: Size {
            width: (columns * factor) as u32,
            height: (rows * factor) as u32,
        },
        free: match device.is_cpu() {
            true => host,
            false => device::memory(device).map(|(free, _)| free),
        },
        channels: [
            first(unet.contracting.down.first().map(|block| block.channels)),
            first(vae.block_out_channels.first().copied()),
        ],
    }
}

fn info(index: &ModelIndex, channels: &Channels, placement: &Placement) -> ModelInfo {
    ModelInfo {
        task: match channels.takes_mask {
            true => Task::ImageInpainting,
            false => Task::TextToImage,
        },
        architecture: index.class.clone(),
        context_length: 0,
        vocab_size: 0,
        parameters: 0,
        device: device::name(&placement.device),
        dtype: placement.dtype.as_str().to_owned(),
        chat: false,
        adapters: Vec::new(),
        languages: Vec::new(),
        cache: None,
    }
}
