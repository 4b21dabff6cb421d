//! From a snapshot to a pipeline: read the small files, check them against each other, bring the weights in, size the cache.

use std::sync::Arc;

use candle_core::DType;
use chandler_core::{CacheSize, ModelInfo, Task};
use chandler_nn::device::{self, CudaTuning, DTypeChoice, DeviceOptions};
use chandler_nn::kv_cache::{BLOCK_SIZE, CacheShape, KvCache};
use chandler_nn::parking::{Parking, Roster, listed};
use chandler_nn::weights::quantize::Quantize;
use chandler_nn::weights::{Activations, LoadStep, Snapshot, TensorSource, parameters};

use crate::answer::dialect::Dialect;
use crate::chat::{ChatTemplate, Clock};
use crate::config::DecoderConfig;
use crate::constraint::Grammars;
use crate::decoder::{Decoder, Recordings};
use crate::error::{Result, TextError};
use crate::failure::{self, Appetite};
use crate::generation::GenerationConfig;
use crate::launched::Drawing;
use crate::pipeline::{BatchLimits, TextPipeline, empty_batch};
use crate::prepare::TextPreparer;
use crate::tokenizer::Tokenizer;

/// What the cache takes when nobody says: room for a few thousand tokens of a small model on a laptop, untouched until used.
const DEFAULT_CACHE_BYTES: u64 = 2 << 30;

/// How a model is to be run.
pub struct TextOptions {
    /// Where, and what is set up there.
    pub device: DeviceOptions,
    /// In which numeric type.
    pub dtype: DTypeChoice,
    /// A context window shorter than the model's.
    pub max_model_len: Option<usize>,
    /// Rows and prompt tokens per step.
    pub limits: BatchLimits,
    /// Bytes of key-value cache; 2 GiB when not given.
    pub cache_bytes: Option<u64>,
    /// Whether matrices are quantised first, and where the result is kept.
    pub quantize: Option<Quantize>,
    /// What quantised weights are multiplied with.
    pub activations: Activations,
    /// What templates are told when they ask for the date.
    pub clock: Clock,
    /// Adapters (LoRA) that requests may ask for: their names, and peft's directories.
    pub adapters: Vec<(String, Snapshot)>,
}

impl TextPipeline {
    /// Loads a language model.
    ///
    /// # Errors
    /// Names the file and field, tensor or device at fault.
    pub fn load(
        snapshot: &Snapshot,
        options: TextOptions,
        progress: &(dyn Fn(LoadStep) + Sync),
    ) -> Result<Self> {
        let device = options.device.open()?;
        let config = DecoderConfig::from_snapshot(snapshot)?.for_context(options.max_model_len)?;
        let generation = GenerationConfig::from_snapshot(snapshot, &config)?;
        let weights = snapshot.weights()?;
        let stored = Decoder::stored_dtype(&config, weights.as_ref())?;
        options.dtype.check(&device)?;
        let dtype = options.dtype.resolve(stored, &device);
        let dtype = match options.dtype {
            DTypeChoice::Auto => wide_enough(dtype, stored, &config),
            _ => dtype,
        };
        let weights = match &options.quantize {
            Some(quantize) => quantized(quantize, weights, &config, progress)?,
            None => weights,
        };
        let weights = options.activations.apply(weights, &device)?;
        let plain = options.device.plain;
        let roster = Roster::of_model(&device, plain);
        let weights = listed(weights, roster.as_ref());
        refuse_reordered(&config, &options.adapters)?;
        // Why beside each other: parsing a large tokenizer takes as long as reading a small model.
        let (files, built) = std::thread::scope(|scope| {
            let files = scope.spawn(|| text_files(snapshot, options.clock));
            let built = build(&config, weights.as_ref(), (&device, dtype, plain), progress)
                .and_then(|mut decoder| {
                    decoder.attach(&options.adapters, weights.as_ref(), dtype)?;
                    Ok(decoder)
                });
            (files.join(), built)
        });
        let (tokenizer, template) =
            files.map_err(|_| TextError::Tokenizer("reading tokenizer.json panicked".into()))??;
        let cache_dtype = if device.is_cpu() { DType::F32 } else { dtype };
        let shape = cache_shape(&config, &options.limits, options.cache_bytes, cache_dtype)?;
        let needed = parameters(weights.as_ref()) * dtype.size_in_bytes() as u64
            + shape.bytes(cache_dtype) as u64;
        let decoder = built.map_err(|error| failure::while_loading(error, needed, &device))?;
        warn_of_stray_tokens(&tokenizer, &config);
        tell_of_longer_context(&config);
        let make_cache = if plain { KvCache::plain } else { KvCache::new };
        let cache = make_cache(shape, &device, cache_dtype)
            .map_err(|error| failure::while_loading(error.into(), needed, &device))?;
        let info = ModelInfo {
            task: Task::TextGeneration,
            architecture: config.architecture.clone(),
            context_length: config.max_position,
            vocab_size: config.vocab_size,
            parameters: parameters(weights.as_ref()),
            device: device::name(&device),
            dtype: dtype.as_str().to_owned(),
            chat: template.is_some(),
            adapters: names_of(&options.adapters)?,
            refiner: false,
            languages: Vec::new(),
            cache: Some(CacheSize {
                bytes: cache.bytes() as u64,
                blocks: shape.blocks,
                tokens: shape.blocks * shape.block_size,
            }),
        };
        let is_gpu = !device.is_cpu();
        let tokenizer = Arc::new(tokenizer);
        let preparer = TextPreparer {
            turn_end: tokenizer.eos_id(),
            // On a GPU a pass of each size is launched, recorded, launched again as a whole, and followed by one ahead.
            warm_up_tokens: if is_gpu { 6 } else { 2 },
            max_rows: options.limits.max_rows,
            dialect: template.as_ref().map(Dialect::of).unwrap_or_default(),
            grammars: Grammars::new(Arc::clone(&tokenizer), config.vocab_size),
            tokenizer,
            template,
            generation,
            info,
            block_size: shape.block_size,
            cache_tokens: shape.blocks * shape.block_size,
        };
        Ok(Self {
            cache,
            recordings: Recordings::default(),
            weight_bytes: decoder.bytes() as u64,
            decoder,
            device,
            limits: options.limits,
            preparer: Arc::new(preparer),
            batch: empty_batch(shape, options.limits)?,
            drawing: drawing(options.limits, options.device.tuning, is_gpu),
            launched: None,
            passes: 0,
            appetite: Appetite::new(&config, dtype),
            warm_up: match is_gpu && options.device.tuning.warm_up {
                true => doubling(options.limits.max_rows),
                false => vec![1],
            },
            parking: Parking::new(roster),
        })
    }
}

/// On the CPU nothing is gained by it: logits are where they are looked at. Guesses need all of them.
fn drawing(limits: BatchLimits, tuning: CudaTuning, is_gpu: bool) -> Drawing {
    // The kernel that draws is one of ours: without them all logits would be read, and the tokens sent back.
    let draws = is_gpu && tuning.fused && tuning.sampling;
    let usual = match (draws, tuning.ahead) {
        (false, _) => Drawing::OnHost,
        (true, false) => Drawing::OnDevice,
        (true, true) => Drawing::Ahead,
    };
    match limits.speculate {
        0 => limits.drawing.unwrap_or(usual),
        _ => Drawing::OnHost,
    }
}

/// Gemma's activations pass f16's largest number, 65504: where its bf16 weights would be computed in f16 for want of bf16 they
/// are computed in f32.
fn wide_enough(dtype: DType, stored: DType, config: &DecoderConfig) -> DType {
    let narrowed = stored == DType::BF16 && dtype == DType::F16;
    if narrowed && config.architecture.starts_with("Gemma") {
        tracing::info!("computing in f32: this GPU has no bf16, and the model does not fit f16");
        return DType::F32;
    }
    dtype
}

/// 1, 2, 4 and so on, and the largest itself.
fn doubling(largest: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> = std::iter::successors(Some(1usize), |size| size.checked_mul(2))
        .take_while(|size| *size < largest)
        .collect();
    sizes.push(largest);
    sizes
}

/// A Llama in a GGUF file has the rows of its queries and keys in another order than the model that adapters were trained on.
fn refuse_reordered(config: &DecoderConfig, adapters: &[(String, Snapshot)]) -> Result<()> {
    match adapters {
        [(name, _), ..] if config.ropes.iter().any(|rope| rope.interleaved) => {
            let message = format!(
                "adapter {name:?} cannot stand beside a GGUF file of this architecture, whose query and key rows are in \
                 another order; give the model as safetensors, with --quantize for its size"
            );
            Err(TextError::config("lora", message))
        }
        _ => Ok(()),
    }
}

/// What requests may call the adapters.
fn names_of(adapters: &[(String, Snapshot)]) -> Result<Vec<String>> {
    let names: Vec<String> = adapters.iter().map(|(name, _)| name.clone()).collect();
    let twice =
        (1..names.len()).find(|at| names.iter().take(*at).any(|n| Some(n) == names.get(*at)));
    match twice.and_then(|at| names.get(at)) {
        Some(name) => Err(TextError::config(
            "adapters",
            format!("two are called {name}; give each a name of its own"),
        )),
        None => Ok(names),
    }
}

fn text_files(snapshot: &Snapshot, clock: Clock) -> Result<(Tokenizer, Option<ChatTemplate>)> {
    let tokenizer = Tokenizer::from_snapshot(snapshot)?;
    let template = ChatTemplate::from_snapshot(snapshot, &tokenizer, clock)?;
    Ok((tokenizer, template))
}

/// The weights with their matrices in blocks.
fn quantized(
    quantize: &Quantize,
    weights: Arc<dyn TensorSource>,
    config: &DecoderConfig,
    progress: &(dyn Fn(LoadStep) + Sync),
) -> Result<Arc<dyn TensorSource>> {
    let role = |name: &str| crate::quantize::role(name, config.layers.len(), config.tied);
    let report = |done, total| progress(LoadStep::Quantizing { done, total });
    Ok(quantize.apply(weights, &role, &report)?)
}

fn build(
    config: &DecoderConfig,
    weights: &dyn TensorSource,
    (device, dtype, plain): (&candle_core::Device, DType, bool),
    progress: &(dyn Fn(LoadStep) + Sync),
) -> Result<Decoder> {
    weights.prefetch(&|done, total| progress(LoadStep::Weights { done, total }))?;
    progress(LoadStep::Building);
    match plain {
        true => Decoder::load_plain(config, weights, device, dtype),
        false => Decoder::load(config, weights, device, dtype),
    }
}

/// A tokenizer may know tokens that the model has no row for, as where one was added and the embedding not resized.
/// Texts with such a token are refused; all others are served.
fn warn_of_stray_tokens(tokenizer: &Tokenizer, config: &DecoderConfig) {
    let (tokens, rows) = (tokenizer.vocab_size(), config.vocab_size);
    if tokens > rows {
        tracing::warn!(
            tokens,
            rows,
            "tokenizer.json has tokens that the model does not know"
        );
    }
}

/// A longrope model is served with the context that its short factors are for, unless a longer one was asked for.
fn tell_of_longer_context(config: &DecoderConfig) {
    if let Some(longer) = &config.extended {
        tracing::info!(
            context = config.max_position,
            longest = longer.max_position,
            "the model's short rope factors are used; a max_model_len above the context takes its long ones"
        );
    }
}

/// As many blocks as the budget holds, and no more than the batch can ever use.
fn cache_shape(
    config: &DecoderConfig,
    limits: &BatchLimits,
    budget: Option<u64>,
    dtype: DType,
) -> Result<CacheShape> {
    let one = CacheShape {
        layers: config.layers.len(),
        blocks: 1,
        block_size: BLOCK_SIZE,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
    };
    let affordable = budget.unwrap_or(DEFAULT_CACHE_BYTES) / one.bytes(dtype).max(1) as u64;
    // Why two more: a request's last block may be partly empty, and a fork copies one.
    let usable = (config.max_position.div_ceil(BLOCK_SIZE) + 2).saturating_mul(limits.max_rows);
    let blocks = usable.min(usize::try_from(affordable).unwrap_or(usize::MAX));
    if blocks < 4 {
        return Err(TextError::config(
            "kv_cache_memory",
            format!(
                "{} bytes hold {affordable} blocks of {BLOCK_SIZE} tokens, {} bytes each; at least 4 are needed",
                budget.unwrap_or(DEFAULT_CACHE_BYTES),
                one.bytes(dtype)
            ),
        ));
    }
    Ok(CacheShape { blocks, ..one })
}
