//! Features against transformers and openai-whisper: tests/make_feature_fixtures.py.

use std::io::Read;
use std::path::{Path, PathBuf};

use chandler_speech::features::{Mel, MelConfig, loudest, normalize, normalize_samples};
use flate2::read::GzDecoder;
use serde_json::Value;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/features")
}

/// What a packed file holds.
pub fn unpacked(file: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut packed = GzDecoder::new(std::fs::File::open(file).unwrap());
    packed.read_to_end(&mut bytes).unwrap();
    bytes
}

struct Case {
    name: String,
    kind: String,
    config: Value,
    shape: [usize; 2],
    every: usize,
    samples: Vec<f32>,
    expected: Vec<f32>,
}

fn cases() -> Vec<Case> {
    let list = std::fs::read(fixtures().join("cases.json")).unwrap();
    let list: Vec<Value> = serde_json::from_slice(&list).unwrap();
    let word = |v: &Value| v.as_str().unwrap().to_string();
    let number = |v: &Value| usize::try_from(v.as_u64().unwrap()).unwrap();
    list.into_iter()
        .map(|case| {
            let name = word(&case["name"]);
            let bytes = |kind: &str| unpacked(&fixtures().join(format!("{name}.{kind}.gz")));
            let sample = |b: &[u8]| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32768.0;
            Case {
                samples: bytes("i16").chunks_exact(2).map(sample).collect(),
                expected: bytes("f32")
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                    .collect(),
                kind: word(&case["kind"]),
                config: case["config"].clone(),
                shape: [number(&case["shape"][0]), number(&case["shape"][1])],
                every: case.get("every").map_or(1, number),
                name,
            }
        })
        .collect()
}

/// max |a - b| / max |b| over the kept columns.
fn error(case: &Case, got: &[f32]) -> f32 {
    let [rows, columns] = case.shape;
    assert_eq!(got.len(), rows * columns, "{}", case.name);
    let kept: Vec<f32> = got
        .chunks_exact(columns)
        .flat_map(|row| row.iter().step_by(case.every).copied())
        .collect();
    assert_eq!(kept.len(), case.expected.len(), "{}", case.name);
    let largest = case.expected.iter().fold(0f32, |m, e| m.max(e.abs()));
    let worst = kept
        .iter()
        .zip(&case.expected)
        .fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    worst / largest.max(1e-9)
}

#[test]
fn features_are_the_references_to_a_hundred_thousandth() {
    let mut kinds = std::collections::BTreeMap::new();
    for case in cases() {
        let mel = Mel::new(MelConfig::from_json(&case.config).unwrap());
        let got = match case.kind.as_str() {
            "window" => mel.window(&case.samples).values,
            "whole" => mel.whole(&case.samples).values,
            "recording" => {
                let mut stream = mel.stream();
                let mut frames = Vec::new();
                stream.push(&case.samples, &mut frames);
                stream.finish(mel.config().window_samples, &mut frames);
                let most = loudest(&frames);
                normalize(&mut frames, most);
                mel.transpose(&frames).values
            }
            "wav2vec2" => {
                let mut samples = case.samples.clone();
                normalize_samples(&mut samples);
                samples
            }
            other => panic!("{other}"),
        };
        let worst = error(&case, &got);
        eprintln!("{}: {worst:e}", case.name);
        assert!(worst < 1e-5, "{}: {worst:e}", case.name);
        *kinds.entry(case.kind).or_insert(0) += 1;
    }
    assert_eq!(kinds.len(), 4);
    assert_eq!(kinds["window"], 9);
}

#[test]
fn a_recording_gives_the_same_frames_in_pieces_of_any_size() {
    let case = cases().into_iter().find(|c| c.name == "longest").unwrap();
    let mel = Mel::new(MelConfig::from_json(&case.config).unwrap());
    let frames = |piece: usize| {
        let mut stream = mel.stream();
        let mut frames = Vec::new();
        for part in case.samples.chunks(piece) {
            stream.push(part, &mut frames);
        }
        stream.finish(123, &mut frames);
        frames
    };
    let whole = frames(usize::MAX >> 1);
    assert_eq!(whole.len(), (40_003 + 123) / 160 * 80);
    for piece in [1, 159, 200, 201, 4_096] {
        assert_eq!(frames(piece), whole, "pieces of {piece}");
    }
}

#[test]
fn two_passes_over_a_recording_give_what_one_pass_that_keeps_everything_gives() {
    let case = cases().into_iter().find(|c| c.name == "longest").unwrap();
    let mel = Mel::new(MelConfig::from_json(&case.config).unwrap());
    let whole = mel.whole(&case.samples);
    // The first pass keeps nothing but the loudest bin.
    let (mut stream, mut frames, mut most) = (mel.stream(), Vec::new(), f32::MIN);
    for part in case.samples.chunks(1000) {
        stream.push(part, &mut frames);
        most = most.max(loudest(&frames));
        frames.clear();
    }
    stream.finish(0, &mut frames);
    most = most.max(loudest(&frames));
    frames.clear();
    // The second normalises each window by it.
    let mut again = Vec::new();
    for part in case.samples.chunks(1000) {
        stream.push(part, &mut frames);
        normalize(&mut frames, most);
        again.append(&mut frames);
    }
    stream.finish(0, &mut frames);
    normalize(&mut frames, most);
    again.append(&mut frames);
    assert_eq!(mel.transpose(&again), whole);
}

#[test]
fn a_clip_too_short_to_be_mirrored_still_has_its_frames() {
    let mel = Mel::new(MelConfig::default());
    for (count, expected) in [(0, 0), (1, 0), (160, 1), (199, 1), (320, 2)] {
        assert_eq!(
            mel.whole(&vec![0.1; count]).frames,
            expected,
            "{count} samples"
        );
    }
}
