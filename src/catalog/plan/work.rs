//! What a model's work takes beside its weights: caches, and the numbers that a step has at hand. Formulas are those by which the
//! pipelines reckon for themselves; where one is an assumption its line says so.

use super::PlanError;
use super::asked::{Asked, Dtype};
use super::facts::{Facts, Frames, Picture, Text, Whisper};
use super::line::{Line, gib};
use super::weights::Placed;

/// Tokens of a block (pipelines/nn kv_cache/mod.rs; in builds with flash-attn, which no published image is, 32).
const BLOCK: u64 = 16;
/// What caches take at most when nobody says (the same, and pipelines/speech load.rs).
const USUAL_CACHE: u64 = 2 << 30;
/// Windows at hand, and windows that a GPU encodes together (pipelines/speech whisper/serving/load.rs).
const WINDOWS: u64 = 8;
const TOGETHER: u64 = 4;
/// Seconds of sound that a CPU and a GPU label at once (pipelines/speech ctc/serving/load.rs), at 16,000 samples.
const SECONDS: (u64, u64) = (30, 240);
const SAMPLES: u64 = 16_000;
/// Buffers of twice the decoder's last channels (pipelines/image serving/sizes.rs), and pixels beyond which it decodes in tiles.
const DECODER_BUFFERS: u64 = 4;
const TILED: u64 = 1024 * 1024;

/// What the work of a model takes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Work {
    pub lines: Vec<Line>,
    /// Settings of the worker without which it is not so.
    pub settings: Vec<(&'static str, String)>,
}

/// Reckons it.
///
/// # Errors
/// [`PlanError::Asked`] for what the model cannot do.
pub(super) fn work(facts: &Facts, asked: &Asked, placed: Placed) -> Result<Work, PlanError> {
    if asked.rows == 0 {
        return Err(refuse(
            "concurrency",
            "0 requests at once need no plan; give 1 or more",
        ));
    }
    if asked.context.is_some() && !matches!(facts, Facts::Text(_) | Facts::Mock) {
        return Err(refuse(
            "context",
            "only a language model has one; leave it out",
        ));
    }
    if asked.size.is_some() && !matches!(facts, Facts::Picture(_)) {
        return Err(refuse(
            "width",
            "only an image model has sizes; leave width and height out",
        ));
    }
    match facts {
        Facts::Text(text) => text_work(text, asked, placed),
        Facts::Whisper(whisper) => whisper_work(whisper, asked, placed),
        Facts::Frames(frames) => Ok(frames_work(frames, placed)),
        Facts::Picture(picture) => picture_work(picture, asked),
        Facts::Mock => Ok(Work::default()),
    }
}

fn refuse(field: &'static str, reason: impl Into<String>) -> PlanError {
    PlanError::Asked {
        field,
        reason: reason.into(),
    }
}

fn text_work(text: &Text, asked: &Asked, placed: Placed) -> Result<Work, PlanError> {
    let Some(context) = asked.context.or(text.context) else {
        return Err(refuse(
            "context",
            "the model does not say how many tokens it holds; give --context",
        ));
    };
    let dtype = placed.activations();
    let cache = cache(text, asked, dtype, context)?;
    let mut settings = vec![
        ("max_model_len", context.to_string()),
        ("max_rows", asked.rows.to_string()),
    ];
    settings.extend(cache_setting(asked, cache.bytes));
    Ok(Work {
        lines: vec![
            cache,
            prefill(text, asked, dtype),
            logits(text.vocab, asked.rows, dtype),
        ],
        settings,
    })
}

/// Keys and values of `context` tokens for each request, or as many as the budget has room for.
fn cache(text: &Text, asked: &Asked, dtype: Dtype, context: u64) -> Result<Line, PlanError> {
    let block = 2 * text.layers * BLOCK * text.kv_heads * text.head_dim * dtype.bytes();
    // Two more for each: a last block may be partly empty, and a fork copies one.
    let usable = (context.div_ceil(BLOCK) + 2) * asked.rows;
    let budget = budget(asked);
    let blocks = usable.min(budget / block.max(1));
    if blocks < 4 {
        let least = 4 * block;
        return Err(refuse(
            "kv_cache",
            format!(
                "{budget} bytes hold {blocks} blocks of {BLOCK} tokens; at least 4, {least} bytes, are needed"
            ),
        ));
    }
    let cut = match blocks < usable {
        true => format!(
            " (of {usable} that {} requests of {context} tokens could use; as much as the cache may take)",
            asked.rows
        ),
        false => format!(
            " ({} requests x ({context} tokens / {BLOCK} + 2))",
            asked.rows
        ),
    };
    let window = match text.window {
        Some(_) => "; layers with a sliding window keep the whole context too",
        None => "",
    };
    let how = format!(
        "{blocks} blocks{cut} x {BLOCK} tokens x 2 x {} layers x {} heads x {} x {} B{window}",
        text.layers,
        text.kv_heads,
        text.head_dim,
        dtype.bytes()
    );
    Ok(Line::new("key-value cache", blocks * block, how))
}

/// What the caches may take.
fn budget(asked: &Asked) -> u64 {
    match (asked.cache, asked.whole) {
        (Some(bytes), _) => bytes,
        (None, true) => u64::MAX,
        (None, false) => USUAL_CACHE,
    }
}

/// The setting without which the worker would take less for them, or more.
fn cache_setting(asked: &Asked, bytes: u64) -> Option<(&'static str, String)> {
    let needed = bytes > USUAL_CACHE || asked.cache.is_some();
    needed.then(|| ("kv_cache", bytes.to_string()))
}

/// The widest layer's numbers for each token of a step, as the pipeline reckons them (pipelines/text failure.rs).
fn prefill(text: &Text, asked: &Asked, dtype: Dtype) -> Line {
    let attention = (text.heads + 2 * text.kv_heads) * text.head_dim;
    let widest = text.feed_forward.max(attention);
    let tokens = asked.prefill + asked.rows;
    let width = dtype.bytes();
    Line::new(
        "a step's activations",
        tokens * (widest + 3 * text.hidden) * width,
        format!(
            "({} prompt tokens + {} rows) x (widest layer {widest} + 3 x {}) x {width} B",
            asked.prefill, asked.rows, text.hidden
        ),
    )
}

fn logits(vocab: u64, rows: u64, dtype: Dtype) -> Line {
    let width = dtype.bytes() + 4;
    Line::new(
        "logits",
        rows * vocab * width,
        format!(
            "{rows} rows x {vocab} x ({} B and again in f32)",
            dtype.bytes()
        ),
    )
}

fn whisper_work(of: &Whisper, asked: &Asked, placed: Placed) -> Result<Work, PlanError> {
    let dtype = placed.activations();
    let width = dtype.bytes();
    let head = of.width / of.heads.max(1);
    let token = 2 * of.decoder_layers * of.heads * head * width;
    let sizes = |windows: u64, sequences: u64| {
        let own = of.tokens.div_ceil(BLOCK) * BLOCK * sequences * token;
        (own, windows * of.frames * token)
    };
    let budget = budget(asked);
    let (mut windows, mut sequences) = (WINDOWS.min(asked.rows), asked.rows);
    let total = |(own, cross): (u64, u64)| own + cross;
    while total(sizes(windows, sequences)) > budget && (windows > 1 || sequences > 1) {
        windows = windows.div_ceil(2);
        sequences = sequences.div_ceil(2);
    }
    let (own, cross) = sizes(windows, sequences);
    if own + cross > budget {
        let least = own + cross;
        return Err(refuse(
            "kv_cache",
            format!("{budget} bytes do not hold one window and one transcript, which take {least}"),
        ));
    }
    let each = format!(
        "2 x {} layers x {} x {width} B",
        of.decoder_layers, of.width
    );
    let together = if placed.gpu { TOGETHER.min(windows) } else { 1 };
    Ok(Work {
        lines: vec![
            Line::new(
                "transcripts' cache",
                own,
                format!(
                    "{sequences} transcripts x {} tokens in blocks of {BLOCK} x {each}",
                    of.tokens
                ),
            ),
            Line::new(
                "windows' cache",
                cross,
                format!("{windows} windows x {} frames x {each}", of.frames),
            ),
            encoder(of, together, placed),
            logits(of.vocab, sequences, dtype),
        ],
        settings: std::iter::once(("max_rows", sequences.to_string()))
            .chain(cache_setting(asked, own + cross))
            .collect(),
    })
}

/// An encoder's layer: the feed-forward layer's numbers before and after its activation, queries, keys and values, what is added up; on a
/// GPU the scores of all heads besides, which are not kept on a CPU.
fn encoder(of: &Whisper, together: u64, placed: Placed) -> Line {
    let width = placed.activations().bytes();
    let numbers = 2 * of.feed_forward + 6 * of.width;
    let (scores, told) = match placed.gpu {
        true => (
            2 * of.encoder_heads * of.frames,
            format!(" + 2 x {} heads x {} scores", of.encoder_heads, of.frames),
        ),
        false => (0, String::new()),
    };
    Line::new(
        "the encoder's activations",
        together * of.frames * (numbers + scores) * width,
        format!(
            "assumption: {together} windows x {} frames x (2 x {} + 6 x {}{told}) x {width} B",
            of.frames, of.feed_forward, of.width
        ),
    )
}

fn frames_work(of: &Frames, placed: Placed) -> Work {
    let width = placed.activations().bytes();
    let seconds = if placed.gpu { SECONDS.1 } else { SECONDS.0 };
    let frames = seconds * SAMPLES / of.stride.max(1);
    Work {
        lines: vec![Line::new(
            "the first convolution's activations",
            3 * frames * of.channels * width,
            format!(
                "assumption: {seconds} s x {SAMPLES} samples / stride {} x {} channels x 3 buffers x {width} B",
                of.stride, of.channels
            ),
        )],
        settings: Vec::new(),
    }
}

fn picture_work(of: &Picture, asked: &Asked) -> Result<Work, PlanError> {
    let (width, height) = asked.size.unwrap_or(of.usual);
    for (field, side) in [("width", width), ("height", height)] {
        if side == 0 || side % of.factor != 0 {
            let factor = of.factor;
            return Err(refuse(
                field,
                format!(
                    "{side} is no multiple of {factor}; give one such as {}",
                    (side / factor).max(1) * factor
                ),
            ));
        }
    }
    let pixels = width * height;
    let latents = pixels / (of.factor * of.factor);
    // A guided picture is two rows; the pipeline takes as many as there is room for, and two at least.
    let rows = 2 * if asked.whole { asked.rows } else { 1 };
    let denoising = rows * latents * of.row_bytes;
    let decoding = pixels.min(TILED) * 2 * of.decoder * 4 * DECODER_BUFFERS;
    let tiles = if pixels > TILED { ", in tiles" } else { "" };
    Ok(Work {
        lines: vec![Line::new(
            "a step's activations",
            denoising.max(decoding),
            format!(
                "the larger of denoising ({rows} rows x {latents} latents x {} B = {}) and decoding ({} pixels{tiles} x 2 x {} channels x 4 B x {DECODER_BUFFERS} buffers = {}), {width}x{height}",
                of.row_bytes,
                gib(denoising),
                pixels.min(TILED),
                of.decoder,
                gib(decoding)
            ),
        )],
        settings: Vec::new(),
    })
}
