//! Voice activity of WAV files, for the scripts in tests/vad: `voice_activity measures|probabilities|segments FILE…`
//! writes FILE.measures or FILE.probabilities (little-endian f32), or prints a line of JSON per file.

use std::error::Error;
use std::path::Path;

use chandler_speech::audio::{Options, Reader, Source};
use chandler_speech::vad::{Detector, Probabilities, VadOptions, measures_for_training};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments
        .next()
        .ok_or("measures, probabilities or segments?")?;
    for file in arguments {
        let samples = Reader::open(
            Source::from_file(std::fs::File::open(&file)?)?,
            Options::default(),
        )?
        .read_to_end()?;
        let samples = samples.into_iter().next().unwrap_or_default();
        match mode.as_str() {
            "measures" => {
                let rows = measures_for_training(&samples);
                write(&format!("{file}.measures"), rows.iter().flatten())?;
            }
            "probabilities" => {
                let mut probabilities = Vec::new();
                let mut detector = Probabilities::new();
                detector.push(&samples, &mut probabilities);
                detector.finish(&mut probabilities);
                write(&format!("{file}.probabilities"), probabilities.iter())?;
            }
            "segments" => segments(&file, &samples)?,
            other => {
                return Err(format!("{other} is none of measures, probabilities, segments").into());
            }
        }
    }
    Ok(())
}

fn write<'a>(file: &str, values: impl Iterator<Item = &'a f32>) -> std::io::Result<()> {
    let bytes: Vec<u8> = values.flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(Path::new(file), bytes)
}

/// With the options that Silero's own tools default to, which cut closest.
fn segments(file: &str, samples: &[f32]) -> Result<(), Box<dyn Error>> {
    let options = VadOptions {
        min_speech_duration_ms: 250,
        min_silence_duration_ms: 100,
        speech_pad_ms: 30,
        ..VadOptions::default()
    };
    let mut detector = Detector::new(&options)?;
    let mut found = Vec::new();
    for block in samples.chunks(16_000) {
        detector.push(block, &mut found);
    }
    detector.finish(&mut found);
    let found: Vec<[u64; 2]> = found.iter().map(|s| [s.start, s.end]).collect();
    println!("{}", serde_json::json!({"file": file, "segments": found}));
    Ok(())
}
