//! Every format against what ffmpeg or libsndfile decodes: tests/make_audio_fixtures.py.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chandler_speech::audio::{AudioError, Layout, Options, Reader, Source};
use serde_json::Value;

use crate::features::unpacked;

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio")
}

pub struct Fixture {
    pub file: String,
    pub bytes: Vec<u8>,
    pub rate: u32,
    channels: usize,
    exact: bool,
    tolerance: f32,
    /// One vector per channel.
    reference: Vec<Vec<f32>>,
}

pub fn all() -> Vec<Fixture> {
    let list = std::fs::read(fixtures().join("manifest.json")).unwrap();
    let list: Vec<Value> = serde_json::from_slice(&list).unwrap();
    list.iter()
        .map(|entry| {
            let file = entry["file"].as_str().unwrap().to_string();
            let channels = usize::try_from(entry["channels"].as_u64().unwrap()).unwrap();
            let samples = entry["samples"].as_str().unwrap();
            let samples: Vec<f32> = unpacked(&fixtures().join(samples))
                .chunks_exact(2)
                .map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32768.0)
                .collect();
            Fixture {
                bytes: std::fs::read(fixtures().join(&file)).unwrap(),
                rate: u32::try_from(entry["rate"].as_u64().unwrap()).unwrap(),
                exact: entry["exact"].as_bool().unwrap(),
                // Half a step more: the reference is rounded to 16 bits.
                tolerance: (entry["tolerance"].as_f64().unwrap() as f32 + 0.5) / 32768.0,
                reference: (0..channels)
                    .map(|c| samples.iter().skip(c).step_by(channels).copied().collect())
                    .collect(),
                channels,
                file,
            }
        })
        .collect()
}

pub fn fixture(file: &str) -> Fixture {
    all().into_iter().find(|f| f.file == file).unwrap()
}

/// At the file's own rate, so that nothing is resampled.
pub fn options(rate: u32, layout: Layout) -> Options {
    Options {
        sample_rate: rate,
        layout,
        max_duration: Some(Duration::from_secs(60)),
    }
}

pub fn decode(bytes: Vec<u8>, options: Options) -> Result<Vec<Vec<f32>>, AudioError> {
    Reader::open(bytes, options)?.read_to_end()
}

fn worst(got: &[f32], expected: &[f32]) -> f32 {
    got.iter()
        .zip(expected)
        .fold(0f32, |m, (a, b)| m.max((a - b).abs()))
}

#[test]
fn every_format_decodes_to_what_the_reference_decodes() {
    let fixtures = all();
    assert_eq!(fixtures.len(), 30);
    let mut failures = Vec::new();
    for fixture in fixtures {
        let got = match decode(fixture.bytes, options(fixture.rate, Layout::Separate)) {
            Ok(got) => got,
            Err(e) => {
                failures.push(format!("{}: {e}", fixture.file));
                continue;
            }
        };
        let (frames, expected) = (got[0].len(), fixture.reference[0].len());
        // An MP4's edit list counts milliseconds, so that it may leave a part of one at the end.
        let over = usize::try_from(fixture.rate / 1000 + 1).unwrap();
        let in_milliseconds = ["m4a", "mp4", "mov"]
            .iter()
            .any(|e| fixture.file.ends_with(e));
        let fits = match (fixture.exact, in_milliseconds) {
            (true, false) => frames == expected,
            (true, true) => (expected..=expected + over).contains(&frames),
            (false, _) => frames.abs_diff(expected) <= 1024,
        };
        let error = got
            .iter()
            .zip(&fixture.reference)
            .fold(0f32, |m, (g, e)| m.max(worst(g, e)));
        eprintln!(
            "{}: {frames} of {expected} frames, off by {:.2} / 32768",
            fixture.file,
            error * 32768.0
        );
        if got.len() != fixture.channels || !fits || error > fixture.tolerance {
            failures.push(format!(
                "{}: {} channels, {frames} of {expected} frames, off by {:.2} / 32768",
                fixture.file,
                got.len(),
                error * 32768.0
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn mono_is_the_mean_of_the_channels() {
    let fixture = fixture("s16-stereo.wav");
    let got = decode(fixture.bytes, options(fixture.rate, Layout::Mono)).unwrap();
    let mean: Vec<f32> = fixture.reference[0]
        .iter()
        .zip(&fixture.reference[1])
        .map(|(l, r)| (l + r) / 2.0)
        .collect();
    assert_eq!(got.len(), 1);
    assert!(worst(&got[0], &mean) < 1e-6);
}

#[test]
fn blocks_come_at_the_wanted_rate_and_say_where_they_are() {
    let fixture = fixture("lame-stereo.mp3");
    let mut reader = Reader::open(fixture.bytes, Options::default()).unwrap();
    assert_eq!(
        (
            reader.source_rate(),
            reader.channels(),
            reader.sample_rate()
        ),
        (32_000, 1, 16_000)
    );
    assert_eq!(
        (reader.container(), reader.codec().as_str()),
        ("MPEG Audio Layer 3 Native", "MP3")
    );
    assert_eq!(reader.declared_duration(), Some(Duration::from_millis(250)));
    let mut count = 0;
    while let Some(block) = reader.read().unwrap() {
        count += block.mono().len();
    }
    assert_eq!(count, 4_000);
    assert_eq!(reader.position(), Duration::from_millis(250));
    assert_eq!(reader.damage(), Default::default());
    assert!(reader.read().unwrap().is_none(), "the end stays the end");
}

#[test]
fn a_file_is_read_as_memory_is() {
    let path = fixtures().join("s16.flac");
    let from_file = Source::from_file(std::fs::File::open(&path).unwrap()).unwrap();
    let from_file = Reader::open(from_file, Options::default())
        .unwrap()
        .read_to_end()
        .unwrap();
    let from_memory = decode(std::fs::read(path).unwrap(), Options::default()).unwrap();
    assert_eq!(from_file, from_memory);
}

#[test]
fn he_aac_gives_its_core() {
    // An encoder of HE-AAC is not to be had: the configuration of a plain file is made to announce it. What must come
    // out is the core, which is the file as it was.
    let mut fixture = fixture("aac-stereo.mp4");
    // 5 bytes: LC, 44.1 kHz, stereo, then "no band replication".
    let plain = [0x05, 0x80, 0x80, 0x80, 0x05, 0x12, 0x10, 0x56, 0xe5, 0x00];
    let at = fixture
        .bytes
        .windows(plain.len())
        .position(|w| w == plain)
        .unwrap();
    // Object 5, core 44.1 kHz, stereo, output 88.2 kHz, core object LC.
    fixture.bytes[at + 5..at + 10].copy_from_slice(&[0x2a, 0x11, 0x08, 0x00, 0x00]);
    let got = decode(fixture.bytes, options(fixture.rate, Layout::Separate)).unwrap();
    assert_eq!(got.len(), 2);
    assert!(worst(&got[0], &fixture.reference[0]) < fixture.tolerance);
}

#[test]
fn a_wav_from_a_pipe_is_whole() {
    for length in [0u32, 0x7fff_f000, u32::MAX] {
        let mut fixture = fixture("s16-stereo.wav");
        let expected = decode(fixture.bytes.clone(), options(16_000, Layout::Separate)).unwrap();
        let data = fixture.bytes.windows(4).position(|w| w == b"data").unwrap();
        fixture.bytes[data + 4..data + 8].copy_from_slice(&length.to_le_bytes());
        fixture.bytes[4..8].copy_from_slice(&length.saturating_add(36).to_le_bytes());
        let got = decode(fixture.bytes, options(16_000, Layout::Separate)).unwrap();
        assert_eq!(got, expected, "length {length:#x}");
    }
}

#[test]
fn two_ogg_files_one_after_another_are_one_recording() {
    let first = fixture("silk.opus");
    let second = fixture("vorbis.ogg");
    let both = [first.bytes, second.bytes].concat();
    let got = decode(both, options(16_000, Layout::Mono)).unwrap();
    assert_eq!(got[0].len(), 4_000 + 4_000);
}

#[test]
fn more_than_the_limit_is_an_error_that_names_it() {
    let options = Options {
        max_duration: Some(Duration::from_millis(100)),
        ..Options::default()
    };
    let error = decode(fixture("s16.flac").bytes, options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the audio is longer than the limit of 0.1 s"
    );
}

#[test]
fn what_is_not_audio_is_said_to_be_what_it_is() {
    let error = |bytes: &[u8]| {
        decode(bytes.to_vec(), Options::default())
            .unwrap_err()
            .to_string()
    };
    assert!(
        error(b"<html><body>404 Not Found</body></html>").contains("it looks like an HTML page")
    );
    assert!(error(br#"{"error":"not found"}"#).contains("it looks like JSON"));
    assert!(error(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10").contains("a PNG image"));
    assert!(error(&[]).contains("it has no bytes"));
    assert!(error(&[0x00; 5000]).contains("one byte repeated"));
    assert!(error(&[0x81, 0x17, 0x99, 0x03, 0x00, 0x55]).contains("unknown binary data"));
    assert!(error(b"#!AMR\n\x3c\x91\x17").contains("AMR is not supported"));
}

#[test]
fn a_file_without_samples_is_empty() {
    let mut bytes = fixture("u8.wav").bytes;
    bytes.truncate(44);
    bytes[4..8].copy_from_slice(&36u32.to_le_bytes());
    bytes[40..44].copy_from_slice(&0u32.to_le_bytes());
    let error = decode(bytes, Options::default()).unwrap_err();
    assert!(matches!(error, AudioError::Empty(_)), "{error}");
}

#[test]
fn samples_that_are_no_numbers_become_silence() {
    let mut fixture = fixture("f32.wav");
    let data = fixture.bytes.windows(4).position(|w| w == b"data").unwrap() + 8;
    for (index, value) in [f32::NAN, f32::INFINITY, -1e30].iter().enumerate() {
        let at = data + index * 4;
        fixture.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    let got = decode(fixture.bytes, options(fixture.rate, Layout::Mono)).unwrap();
    assert_eq!(got[0][..3], [0.0, 1e6, -1e6]);
}
