//! Speed of speech recognition in this process: the encoder, decoding at batch 1 and 8, a whole file, and clips beside each other.
//! `speech.py` runs it beside faster-whisper and `transformers` on the same weights; alone:
//! `cargo bench --bench speech -- MODEL AUDIO [--quantize q8_0] [--activations int8] [--tokens 64]`.
//! Every window is made to have the same number of tokens: the end of a transcript is never chosen. Without arguments it does
//! nothing; on the tiny model that CI gives it, it is a smoke run, never a figure.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // Why: a benchmark may stop at the first surprise.

mod common;

use std::sync::Arc;
use std::time::Instant;

use chandler_core::{
    Admission, Audio, Belief, Event, Events, Input, LongForm, Pipeline, Search, SpeechInput, Ticket,
};
use chandler_nn::device::{DTypeChoice, DeviceChoice};
use chandler_nn::weights::quantize::Quantize;
use chandler_nn::weights::{Activations, Snapshot};
use chandler_speech::layers::Placement;
use chandler_speech::whisper::caches::CacheLimits;
use chandler_speech::whisper::decoding::{
    BatchLimits, DecodeJob, DecodingBatch, Job, Strategy, WindowId,
};
use chandler_speech::whisper::model::{Description, Whisper, quantize_role};
use chandler_speech::whisper::prompt::{Prompt, PromptParts};
use chandler_speech::whisper::rules::Rules;
use chandler_speech::{SpeechOptions, WhisperPipeline};
use common::{Roof, median, middle, peak_bytes};

const RUNS: usize = 5;
/// Seconds of a short clip, and how many come at once.
const CLIP: usize = 8;
const CLIPS: usize = 8;

struct Asked {
    model: String,
    audio: String,
    quantize: Option<String>,
    activations: Activations,
    tokens: usize,
}

fn asked() -> Option<Asked> {
    let mut plain = Vec::new();
    let (mut quantize, mut activations, mut tokens) = (None, Activations::F32, 64);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quantize" => quantize = arguments.next(),
            "--activations" => activations = arguments.next()?.parse().ok()?,
            "--tokens" => tokens = arguments.next()?.parse().ok()?,
            // `cargo bench` adds --bench.
            other if other.starts_with("--") => {}
            other => plain.push(other.to_owned()),
        }
    }
    let mut plain = plain.into_iter();
    Some(Asked {
        model: plain.next()?,
        audio: plain.next()?,
        quantize,
        activations,
        tokens,
    })
}

fn main() {
    let Some(asked) = asked() else {
        println!(
            "usage: cargo bench --bench speech -- MODEL AUDIO [--quantize q8_0] [--activations int8] [--tokens 64]"
        );
        return;
    };
    let started = Instant::now();
    let snapshot = Snapshot::dir(&asked.model).unwrap();
    let mut pipeline = WhisperPipeline::load(&snapshot, &options(&asked), &|_| {}).unwrap();
    let load = started.elapsed().as_secs_f64();
    let file = std::fs::read(&asked.audio).unwrap();
    let audio = Audio::bytes(file);
    let whole = |pipeline: &mut WhisperPipeline, long_form| {
        let input = input(&asked, audio.clone(), long_form);
        hear(pipeline, vec![input])
    };
    let (sequential, windows) = whole(&mut pipeline, LongForm::Sequential);
    let (chunks, chunk_segments) = whole(&mut pipeline, LongForm::Chunks);
    let peak = peak_bytes();
    let clips = clips(&audio, &asked);
    let one_by_one = median(3, || {
        clips
            .iter()
            .map(|clip| hear(&mut pipeline, vec![clip.clone()]).0)
            .sum()
    });
    let together = median(3, || hear(&mut pipeline, clips.clone()).0);
    // Last: the roof takes a gigabyte.
    let parts = parts(&asked);
    let result = serde_json::json!({
        "load_seconds": load, "parts": parts, "tokens": asked.tokens,
        "file": {"sequential_seconds": sequential, "sequential_segments": windows, "chunks_seconds": chunks, "chunks_segments": chunk_segments},
        "clips": {"one_by_one_seconds": one_by_one, "together_seconds": together},
        "peak_bytes": peak, "footprint_bytes": pipeline.footprint().host_bytes,
    });
    println!("{result}");
}

fn options(asked: &Asked) -> SpeechOptions {
    SpeechOptions {
        device: DeviceChoice::Cpu.into(),
        dtype: DTypeChoice::Auto,
        max_rows: 32,
        prefill_chunk: 256,
        cache_bytes: None,
        quantize: quantize(asked),
        activations: asked.activations,
    }
}

fn quantize(asked: &Asked) -> Option<Quantize> {
    let scheme = asked.quantize.as_ref()?.parse().unwrap();
    Some(Quantize {
        scheme,
        cache: None,
    })
}

/// A request whose windows all have the same number of tokens, whatever is heard.
fn input(asked: &Asked, audio: Audio, long_form: LongForm) -> SpeechInput {
    let snapshot = Snapshot::dir(&asked.model).unwrap();
    let eot = Description::from_snapshot(&snapshot)
        .unwrap()
        .generation
        .tokens
        .eot;
    SpeechInput {
        audio,
        long_form,
        language: Some("en".to_owned()),
        // Without times: a window's transcript then never says where the next begins.
        times: chandler_core::Times::None,
        search: Search {
            temperatures: Some(vec![0.0]),
            max_new_tokens: Some(asked.tokens as u32),
            suppress_tokens: Some(vec![-1, i64::from(eot)]),
            ..Search::default()
        },
        belief: Belief {
            no_speech: Some(f64::INFINITY),
            ..Belief::default()
        },
        ..SpeechInput::default()
    }
}

/// Short clips of a recording, one behind the other.
fn clips(audio: &Audio, asked: &Asked) -> Vec<SpeechInput> {
    let Audio::Bytes(bytes) = audio else {
        return Vec::new();
    };
    let bytes = (**bytes).as_ref();
    // A WAV file of 16-bit samples at 16 kHz, as speech.py makes it.
    let (header, data) = bytes.split_at(44);
    let size = CLIP * 16_000 * 2;
    let clip = |number: usize| {
        let from = (number * size) % data.len().saturating_sub(size).max(1) / 2 * 2;
        let samples = &data[from..(from + size).min(data.len())];
        let mut wav = header.to_vec();
        wav[4..8].copy_from_slice(&(36 + samples.len() as u32).to_le_bytes());
        wav[40..44].copy_from_slice(&(samples.len() as u32).to_le_bytes());
        wav.extend(samples);
        input(asked, Audio::bytes(wav), LongForm::Sequential)
    };
    (0..CLIPS).map(clip).collect()
}

/// Hears recordings beside each other: seconds from the first byte to the last segment, and how many segments.
fn hear(pipeline: &mut WhisperPipeline, inputs: Vec<SpeechInput>) -> (f64, usize) {
    let started = Instant::now();
    let count = inputs.len();
    for (id, input) in (0..).zip(inputs) {
        let prepared = pipeline.preparer().prepare(Input::Speech(input)).unwrap();
        assert!(matches!(
            pipeline.admit(Ticket::new(id), prepared),
            Admission::Taken
        ));
    }
    let (mut ended, mut segments) = (0, 0);
    let mut events = Events::default();
    while ended < count {
        pipeline.step(&mut events).unwrap();
        for (_, event) in events.drain() {
            match event {
                Event::Segment(_) => segments += 1,
                Event::Done(_) => ended += 1,
                Event::Failed(error) => panic!("{error}"),
                _ => {}
            }
        }
    }
    (started.elapsed().as_secs_f64(), segments)
}

/// The encoder and the decoder alone, and the roof of reading weights.
fn parts(asked: &Asked) -> serde_json::Value {
    let snapshot = Snapshot::dir(&asked.model).unwrap();
    let description = Description::from_snapshot(&snapshot).unwrap();
    let weights = snapshot.weights().unwrap();
    let role = |name: &str| quantize_role(name, &description.config);
    let weights = match quantize(asked) {
        Some(quantize) => quantize.apply(weights, &role, &|_, _| {}).unwrap(),
        None => weights,
    };
    let place = Placement::cpu();
    let weights = asked.activations.apply(weights, &place.device).unwrap();
    let model = Whisper::load(description, weights.as_ref(), place).unwrap();
    let limits = BatchLimits {
        caches: CacheLimits {
            windows: 8,
            sequences: 8,
        },
        prompt_rows: 256,
        encoded_together: 1,
    };
    let mut batch = DecodingBatch::new(&model, limits).unwrap();
    let encoder = median(RUNS, || {
        let (seconds, ids) = encode(&model, &mut batch, 1);
        ids.into_iter().for_each(|id| batch.close(id));
        seconds
    });
    let (_, one) = encode(&model, &mut batch, 1);
    let alone = median(RUNS, || decode(&model, &mut batch, &one, asked.tokens));
    one.into_iter().for_each(|id| batch.close(id));
    let (_, eight) = encode(&model, &mut batch, 8);
    let together = median(RUNS, || decode(&model, &mut batch, &eight, asked.tokens));
    let roof = Roof::find(RUNS);
    let read = middle((0..RUNS).map(|_| roof.read()).collect());
    serde_json::json!({
        "encoder_seconds": encoder, "decode_seconds_batch_1": alone, "decode_seconds_batch_8": together,
        "decoder_bytes": model.decoder.bytes(), "read_bytes_per_second": read,
    })
}

/// Encodes windows of noise; seconds for each, and the windows when one is asked for that stays open.
fn encode(model: &Whisper, batch: &mut DecodingBatch, count: usize) -> (f64, Vec<WindowId>) {
    let config = &model.description.config;
    let frames = config.window_frames() * config.mel_bins;
    let noise = |at: usize| ((at * 7919) % 1000) as f32 / 500.0 - 1.0;
    let started = Instant::now();
    let ids: Vec<WindowId> = (0..count)
        .map(|_| batch.open((0..frames).map(noise).collect()).unwrap())
        .collect();
    while batch.step(model).unwrap().encoded > 0 {}
    (started.elapsed().as_secs_f64() / count as f64, ids)
}

/// Decodes a transcript of so many tokens for each window; seconds.
fn decode(model: &Whisper, batch: &mut DecodingBatch, windows: &[WindowId], tokens: usize) -> f64 {
    let Description {
        config, generation, ..
    } = &model.description;
    let special = &generation.tokens;
    let parts = PromptParts {
        language: special.language("en"),
        task: Some(chandler_speech::whisper::Task::Transcribe),
        ..PromptParts::default()
    };
    let prompt = Prompt::new(&parts, special, config);
    let rules = Rules::of_checkpoint(generation, false).with_suppressed([special.eot]);
    let job = DecodeJob {
        sot: prompt.sot,
        max_tokens: prompt.most_tokens(Some(tokens), config),
        prompt: prompt.tokens,
        rules: Arc::new(rules),
        strategy: Strategy::Greedy,
    };
    let started = Instant::now();
    for id in windows {
        batch.submit(model, *id, Job::Decode(job.clone())).unwrap();
    }
    let mut done = 0;
    while done < windows.len() {
        done += batch.step(model).unwrap().outcomes.len();
    }
    started.elapsed().as_secs_f64()
}
