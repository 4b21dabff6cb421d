//! From a snapshot in the diffusers layout to a pipeline: its parts' weights are opened, placed and built.
//! Apart from `plan`, which reads what the parts are.

use std::sync::{Arc, Mutex};

use candle_core::{DType, Device};
use chandler_core::{ModelInfo, Task};
use chandler_nn::device::{self, DTypeChoice, DeviceOptions};
use chandler_nn::parking::{Parking, Roster};
use chandler_nn::weights::{LoadStep, Snapshot, TensorSource, parameters};

use super::coder::Coder;
use super::controls::Nets;
use super::encoders::{Encoder, TextEncoders};
use super::pipeline::{ExpertParts, ImagePipeline, Model};
use super::plan::{Plan, TextConfig, TextPlan};
use super::prepare::ImagePreparer;
use super::preview::Tiny;
use super::reading::Reader;
use super::refiner::{self, Refiner, RefinerPlan};
use super::safety;
use super::sizes::Sizes;
use crate::autoencoder::AutoencoderKl;
use crate::error::{ImageError, Result};
use crate::failure;
use crate::layers::{Loader, Placement};
use crate::lora::{self, AdapterFile};
use crate::text_encoder::clip::ClipTextModel;
use crate::text_encoder::t5::T5Encoder;

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
    /// What a request gets that does not say.
    pub usual: Usual,
    /// Whether finished pictures go through the safety checker of a model that has one.
    pub safety_checker: bool,
    /// Adapters (LoRA) that requests may ask for.
    pub adapters: Vec<AdapterFile>,
    /// ControlNets that requests may name, in the diffusers layout. The first is meant where a request names none.
    pub controls: Vec<(String, Snapshot)>,
    /// A refiner that goes on with the model's drawings: a snapshot of a pipeline of the same family.
    pub refiner: Option<Snapshot>,
    /// A tiny autoencoder that decodes previews, instead of one in the folder `taesd` of the model, or of the model's own.
    pub preview: Option<Snapshot>,
}

/// What a request gets that does not say, where it is not the pipeline's own: models that were distilled to few steps have the same class as
/// those that were not.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usual {
    /// Denoising steps.
    pub steps: Option<u32>,
    /// Guidance.
    pub guidance: Option<f64>,
}

/// Requests that wait inside for their turn, in passes of the denoiser.
const PASSES_INSIDE: usize = 4;

/// The parts' weights, opened and not read.
struct Opened {
    texts: Vec<Arc<dyn TensorSource>>,
    denoiser: Arc<dyn TensorSource>,
    /// None of a refiner's: the base model decodes what it leaves.
    vae: Option<Arc<dyn TensorSource>>,
    refiner: Option<Box<Opened>>,
}

impl Opened {
    fn open((snapshot, plan): (&Snapshot, &Plan), refiner: Option<&RefinerPlan>) -> Result<Self> {
        let opened = Self::expert(snapshot, plan)?;
        let refiner = refiner.map(|refiner| Self::expert(&refiner.snapshot, &refiner.plan));
        Ok(Self {
            vae: Some(snapshot.part("vae").part_weights()?),
            refiner: refiner.transpose()?.map(Box::new),
            ..opened
        })
    }

    fn expert(snapshot: &Snapshot, plan: &Plan) -> Result<Self> {
        let weights = |folder: &str| snapshot.part(folder).part_weights();
        let texts = plan.texts.iter();
        Ok(Self {
            texts: texts
                .map(|text| Ok(weights(text.part.folder)?))
                .collect::<Result<_>>()?,
            denoiser: weights(plan.facts.denoiser.folder)?,
            vae: None,
            refiner: None,
        })
    }

    fn all(&self) -> Vec<&Arc<dyn TensorSource>> {
        let own = self.texts.iter().chain([&self.denoiser]).chain(&self.vae);
        let refiner = self.refiner.iter().flat_map(|refiner| refiner.all());
        own.chain(refiner).collect()
    }

    fn prefetch(&self, progress: &(dyn Fn(LoadStep) + Sync)) -> Result<()> {
        let total = self.total_bytes();
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
        self.all()
            .into_iter()
            .map(|source| parameters(source.as_ref()))
            .sum()
    }

    fn total_bytes(&self) -> u64 {
        self.all()
            .into_iter()
            .map(|source| source.total_bytes())
            .sum()
    }

    /// Bytes of all parts where they are to be: on the CPU they stay mapped as they are stored.
    fn bytes_at(&self, placement: &Placement) -> u64 {
        match placement.device.is_cpu() {
            true => self.total_bytes(),
            false => self.parameters() * placement.dtype.size_in_bytes() as u64,
        }
    }
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
        let plan = Plan::read(snapshot)?;
        let refiner = RefinerPlan::read(options.refiner.as_ref(), &plan)?;
        let device = options.device.open()?;
        let opened = Opened::open((snapshot, &plan), refiner.as_ref())?;
        options.dtype.check(&device)?;
        let stored = opened.denoiser.tensor(plan.facts.denoiser.probe)?.dtype();
        let placement = Placement {
            dtype: options.dtype.resolve(stored, &device),
            roster: Roster::of_model(&device, false),
            device,
        };
        opened.prefetch(progress)?;
        progress(LoadStep::Building);
        let needed = opened.bytes_at(&placement);
        let reader = plan.reader(snapshot)?;
        let refining = refiner.as_ref().map(RefinerPlan::preparing).transpose()?;
        let info = ModelInfo {
            parameters: opened.parameters(),
            refiner: refiner.is_some(),
            adapters: lora::names(&options.adapters)?,
            ..info(&plan, &placement)
        };
        let free = |device: &Device| match device.is_cpu() {
            true => options
                .host_memory
                .map(|free| free.saturating_sub(opened.total_bytes())),
            false => device::memory(device).map(|(free, _)| free),
        };
        let mut sizes = sizes(&plan, refiner.as_ref());
        let with_work = needed + sizes.needed(sizes.usual);
        let t5_at = t5_at(&plan, &placement, with_work, free(&placement.device));
        let build = || {
            let mut model = build((&plan, refiner.as_ref()), &opened, (&placement, t5_at))?;
            model.attach(&plan, &options.adapters)?;
            model.checker = safety::checker((snapshot, &plan), options.safety_checker, &placement)?;
            model.tiny = Tiny::load(options.preview.as_ref(), (snapshot, &plan), &placement)?;
            let steered = plan.design.steered.as_ref();
            model.controls = Nets::load(&options.controls, (steered, &plan.vae), &placement)?;
            Ok(model)
        };
        let model =
            build().map_err(|error| failure::while_loading(error, needed, &placement.device))?;
        sizes.free = free(&placement.device);
        Ok(Self {
            parking: Parking::new(placement.roster),
            preparer: Arc::new(preparer(
                plan,
                (reader, refining),
                (info, sizes),
                (&model, options),
            )),
            model,
            running: Vec::new(),
            rows: options.max_rows.max(1),
            turn: 0,
            calls: 0,
        })
    }
}

/// The sizes that a model does; a row takes as much as that of its larger expert.
fn sizes(plan: &Plan, refiner: Option<&RefinerPlan>) -> Sizes {
    let own = Sizes::new(&plan.design, &plan.vae);
    let refiner = refiner.map_or(0, |refiner| refiner.plan.design.row_bytes);
    Sizes {
        row_bytes: own.row_bytes.max(refiner),
        ..own
    }
}

/// Where T5 is. It is as large as the denoisers that it is read for, and runs once for a request: where all weights and the work on a
/// picture need more than is free on the device, it stays in the host's memory, mapped as it is stored, and runs there. (To bring it in
/// for each request would be quicker, but wants room for it beside the denoiser, which is what there is not: SD 3.5 large and T5 are 26 GB
/// in half precision, and FLUX alone leaves less than 2 GB of 24 free.)
fn t5_at(plan: &Plan, placement: &Placement, needed: u64, free: Option<u64>) -> Placement {
    let config = plan.texts.iter().find_map(|text| match &text.config {
        TextConfig::T5(config) => Some(config),
        TextConfig::Clip(_) => None,
    });
    let (Some(config), Some(free)) = (config, free.filter(|_| !placement.device.is_cpu())) else {
        return placement.clone();
    };
    // In f16 it keeps some weights in f32.
    let widened = match placement.dtype {
        DType::F16 => 2 * (config.layers * config.width * config.feed_forward) as u64,
        _ => 0,
    };
    if needed + widened <= free {
        return placement.clone();
    }
    tracing::warn!(
        needed = needed + widened,
        free,
        "the device has no room for T5 beside the other parts: it reads prompts on the host"
    );
    Placement::cpu()
}

/// Builds an expert.
fn expert(
    plan: &Plan,
    opened: &Opened,
    (placement, t5_at): (&Placement, Placement),
) -> Result<ExpertParts> {
    let texts = plan.texts.iter().zip(&opened.texts);
    let encoder = |(text, source): (&TextPlan, &Arc<dyn TensorSource>)| -> Result<Encoder> {
        let loader = |at| Loader::new(source.as_ref(), at);
        Ok(match &text.config {
            TextConfig::Clip(config) => {
                Encoder::Clip(ClipTextModel::load(config.clone(), &loader(placement))?)
            }
            TextConfig::T5(config) => {
                Encoder::T5(T5Encoder::load(config.clone(), &loader(&t5_at))?)
            }
        })
    };
    let models = texts.map(encoder).collect::<Result<_>>()?;
    Ok(ExpertParts {
        denoiser: (plan.design.load)(opened.denoiser.as_ref(), placement)?,
        encoders: TextEncoders {
            placement: placement.clone(),
            t5_at,
            clip: plan.facts.clip,
            models,
        },
    })
}

/// Builds the parts.
fn build(
    (plan, refiner): (&Plan, Option<&RefinerPlan>),
    opened: &Opened,
    (placement, t5_at): (&Placement, Placement),
) -> Result<Model> {
    let mut experts = vec![expert(plan, opened, (placement, t5_at))?];
    if let (Some(refiner), Some(opened)) = (refiner, &opened.refiner) {
        let built = expert(&refiner.plan, opened, (placement, placement.clone()));
        experts.push(built.map_err(refiner::named)?);
    }
    // The autoencoder of SDXL overflows f16, which its configuration says.
    let wide = Placement {
        device: placement.device.clone(),
        dtype: match (plan.vae.force_upcast, placement.dtype) {
            (true, DType::F16) => DType::F32,
            (_, dtype) => dtype,
        },
        roster: placement.roster.clone(),
    };
    let lacking = || ImageError::Input("the autoencoder was not opened".to_owned());
    let weights = opened.vae.as_ref().ok_or_else(lacking)?;
    let vae = AutoencoderKl::load(&Loader::new(weights.as_ref(), &wide), &plan.vae)?;
    Ok(Model {
        placement: placement.clone(),
        experts,
        coder: Coder::new(vae, &plan.vae),
        tiny: None,
        controls: Nets::default(),
        checker: None,
        adapter_bytes: 0,
    })
}

impl Model {
    /// Puts adapters beside the denoiser and CLIP's encoders.
    fn attach(&mut self, plan: &Plan, adapters: &[AdapterFile]) -> Result<()> {
        // Adapters are made for the base model.
        let Some(ExpertParts { encoders, denoiser }) = self.experts.first_mut() else {
            return Ok(());
        };
        let denoiser = lora::Part {
            folder: plan.facts.denoiser.folder,
            layers: denoiser.layers(),
        };
        let texts = plan.texts.iter().zip(&mut encoders.models);
        let texts = texts.filter_map(|(text, encoder)| match encoder {
            Encoder::Clip(encoder) => Some(lora::Part {
                folder: text.part.folder,
                layers: encoder.layers(),
            }),
            Encoder::T5(_) => None,
        });
        let mut parts: Vec<lora::Part<'_>> = texts.chain([denoiser]).collect();
        self.adapter_bytes = lora::attach(&mut parts, adapters, &self.placement)?;
        Ok(())
    }
}

/// What prepares requests for the model.
fn preparer(
    plan: Plan,
    (reader, refiner): (Reader, Option<Refiner>),
    (info, sizes): (ModelInfo, Sizes),
    (model, options): (&Model, &ImageOptions),
) -> ImagePreparer {
    ImagePreparer {
        info,
        reader,
        refiner,
        scheduler: plan.scheduler,
        sizes,
        controls: model.controls.names(),
        checked: model.checker.is_some(),
        usual: options.usual,
        latents: plan.vae.latent_channels,
        design: plan.design,
        decoding: Mutex::new(()),
        inside: options.max_rows.max(2) * PASSES_INSIDE,
    }
}

fn info(plan: &Plan, placement: &Placement) -> ModelInfo {
    ModelInfo {
        task: match plan.design.takes_mask {
            true => Task::ImageInpainting,
            false => Task::TextToImage,
        },
        architecture: plan.index.class.clone(),
        context_length: 0,
        vocab_size: 0,
        parameters: 0,
        device: device::name(&placement.device),
        dtype: placement.dtype.as_str().to_owned(),
        chat: false,
        refiner: false,
        adapters: Vec::new(),
        languages: Vec::new(),
        cache: None,
    }
}
