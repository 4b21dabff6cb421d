//! Loads a fixture as the worker does, asks it one thing at a time, and makes audio out of numbers.

use std::path::PathBuf;

use chandler_core::random::Stream;
use chandler_core::{
    Admission, Audio, Collected, Event, Events, Input, Pipeline, RequestError, SpeechInput, Ticket,
};
use chandler_nn::device::{CudaTuning, DTypeChoice, DeviceChoice, DeviceOptions};
use chandler_nn::weights::{Activations, Snapshot};
use chandler_speech::SpeechOptions;

pub fn snapshot(path: &str) -> Snapshot {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    Snapshot::dir(fixtures.join(path)).unwrap()
}

pub fn options() -> SpeechOptions {
    SpeechOptions {
        device: DeviceOptions {
            choice: DeviceChoice::Cpu,
            allow_cpu: true,
            tuning: CudaTuning::default(),
            plain: false,
        },
        dtype: DTypeChoice::Auto,
        max_rows: 6,
        prefill_chunk: 24,
        cache_bytes: None,
        quantize: None,
        activations: Activations::F32,
    }
}

/// Of candle tensors, as models are on other devices.
pub fn plain() -> SpeechOptions {
    let mut options = options();
    options.device.plain = true;
    options
}

/// Everything that it holds is weights and caches, and all weights are listed.
pub fn lists_all_weights<P: Pipeline>(pipeline: &P) {
    let cache = pipeline.preparer().info().cache;
    let held = pipeline.footprint().host_bytes - cache.map_or(0, |cache| cache.bytes);
    assert_eq!(pipeline.parking_space(), Some(held));
}

/// Asks for one answer with its events, alone.
pub fn ask<P: Pipeline>(
    pipeline: &mut P,
    input: SpeechInput,
) -> Result<(Collected, Vec<Event>), RequestError> {
    let prepared = pipeline.preparer().prepare(Input::Speech(input))?;
    let taken = pipeline.admit(Ticket::new(1), prepared);
    assert!(matches!(taken, Admission::Taken));
    let (mut collected, mut all) = (Collected::default(), Vec::new());
    let mut events = Events::default();
    for _ in 0..100_000 {
        pipeline.step(&mut events).unwrap();
        for (_, event) in events.drain() {
            all.push(event.clone());
            if collected.add(event)? {
                return Ok((collected, all));
            }
        }
    }
    panic!("an answer without an end");
}

/// A hum and noise that change every tenth of a second, 16 kHz.
pub fn sound(seconds: f64, seed: u64) -> Vec<f32> {
    let stream = Stream::new(seed, 0);
    let count = (seconds * 16_000.0) as u64;
    let sample = |at: u64| {
        let part = at / 1600;
        let pitch = 90.0 + 400.0 * stream.uniform(1_000_000 + part);
        let loudness = 0.5 * stream.uniform(2_000_000 + part);
        let phase = at as f64 / 16_000.0 * pitch * std::f64::consts::TAU;
        let noise = 0.1 * (stream.uniform(at) - 0.5);
        ((phase.sin() + (2.0 * phase).sin() * 0.5) * loudness + noise) as f32
    };
    (0..count).map(sample).collect()
}

/// Channels as a WAV file of 32-bit floats.
pub fn wav(channels: &[Vec<f32>]) -> Audio {
    let (count, frames) = (channels.len() as u16, channels[0].len());
    let data = frames * channels.len() * 4;
    let mut bytes = Vec::with_capacity(44 + data);
    bytes.extend(b"RIFF");
    bytes.extend((36 + data as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend(3u16.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend(16_000u32.to_le_bytes());
    bytes.extend((16_000 * 4 * u32::from(count)).to_le_bytes());
    bytes.extend((4 * count).to_le_bytes());
    bytes.extend(32u16.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend((data as u32).to_le_bytes());
    for frame in 0..frames {
        for channel in channels {
            bytes.extend(channel[frame].to_le_bytes());
        }
    }
    Audio::bytes(bytes)
}
