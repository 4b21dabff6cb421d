//! How many times faster than real time a file is decoded and resampled, made into mel frames, and searched for speech:
//! `audio_speed FILE…`, on one thread.

use std::error::Error;
use std::time::Instant;

use chandler_speech::audio::{Options, Reader, Source};
use chandler_speech::features::{Mel, MelConfig};
use chandler_speech::vad::{Detector, VadOptions};

fn main() -> Result<(), Box<dyn Error>> {
    for file in std::env::args().skip(1) {
        let source = || Ok::<_, Box<dyn Error>>(Source::from_file(std::fs::File::open(&file)?)?);
        let began = Instant::now();
        let samples = Reader::open(source()?, Options::default())?.read_to_end()?;
        let samples = samples.into_iter().next().unwrap_or_default();
        let decoding = began.elapsed().as_secs_f64();
        let seconds = samples.len() as f64 / 16_000.0;

        let mel = Mel::new(MelConfig::default());
        let began = Instant::now();
        let (mut stream, mut frames, mut count) = (mel.stream(), Vec::new(), 0);
        for block in samples.chunks(16_000) {
            stream.push(block, &mut frames);
            count += frames.len();
            frames.clear();
        }
        let features = began.elapsed().as_secs_f64();

        let began = Instant::now();
        let (mut detector, mut segments) = (Detector::new(&VadOptions::default())?, Vec::new());
        for block in samples.chunks(16_000) {
            detector.push(block, &mut segments);
        }
        detector.finish(&mut segments);
        let activity = began.elapsed().as_secs_f64();
        println!(
            "{file}: {seconds:.1} s; decoding {:.0}x, mel {:.0}x ({} frames), voice activity {:.0}x ({} segments)",
            seconds / decoding,
            seconds / features,
            count / 80,
            seconds / activity,
            segments.len(),
        );
    }
    Ok(())
}
