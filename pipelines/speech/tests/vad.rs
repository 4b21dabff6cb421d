//! The voice activity detector on voices that it was not trained on: tests/vad/make_fixtures.py. How well it does on many
//! hours is what tests/vad/measure.py says; this is that it still works.

use std::collections::BTreeMap;
use std::path::Path;

use chandler_speech::audio::{Options, Reader};
use chandler_speech::vad::{Detector, Packing, Probabilities, Segment, VadOptions, pack};

fn fixtures() -> Vec<(String, Vec<f32>, Vec<bool>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vad");
    let marks = std::fs::read(folder.join("marks.json")).unwrap();
    let marks: BTreeMap<String, Vec<[usize; 2]>> = serde_json::from_slice(&marks).unwrap();
    marks
        .into_iter()
        .map(|(name, pairs)| {
            let bytes = std::fs::read(folder.join(&name)).unwrap();
            let samples = Reader::open(bytes, Options::default())
                .unwrap()
                .read_to_end()
                .unwrap()
                .remove(0);
            let mut speech = vec![false; samples.len() / 160];
            for [from, to] in pairs {
                speech[from..to].fill(true);
            }
            (name, samples, speech)
        })
        .collect()
}

fn close() -> VadOptions {
    VadOptions {
        min_speech_duration_ms: 250,
        min_silence_duration_ms: 100,
        speech_pad_ms: 30,
        ..VadOptions::default()
    }
}

fn segments(samples: &[f32], options: &VadOptions, piece: usize) -> Vec<Segment> {
    let mut detector = Detector::new(options).unwrap();
    let mut out = Vec::new();
    for part in samples.chunks(piece) {
        detector.push(part, &mut out);
    }
    detector.finish(&mut out);
    out
}

/// A generator for noise that needs no crate.
fn noise(count: usize, loud: f32) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next() * loud).collect()
}

#[test]
fn speech_is_found_and_what_is_not_speech_is_not() {
    let (mut missed, mut speech, mut false_alarms, mut silence) = (0, 0, 0, 0);
    for (name, samples, marks) in fixtures() {
        let mut heard = vec![false; marks.len()];
        for segment in segments(&samples, &close(), 16_000) {
            let end = (segment.end as usize).div_ceil(160).min(heard.len());
            heard[segment.start as usize / 160..end].fill(true);
        }
        // Not counted as false: within 0.2 s of speech, where padding and pauses are.
        let near =
            |at: usize| marks[at.saturating_sub(20)..(at + 21).min(marks.len())].contains(&true);
        let count =
            |wanted: &dyn Fn(usize) -> bool| (0..marks.len()).filter(|at| wanted(*at)).count();
        let (m, s) = (count(&|at| marks[at] && !heard[at]), count(&|at| marks[at]));
        let (f, n) = (count(&|at| heard[at] && !near(at)), count(&|at| !near(at)));
        eprintln!("{name}: missed {m} of {s}, false {f} of {n}");
        missed += m;
        speech += s;
        if name == "babble.opus" {
            // The voices of eight people are taken for speech half of the time.
            assert!(f * 100 < n * 60, "{f} of {n}");
        } else {
            false_alarms += f;
            silence += n;
        }
    }
    assert!(speech > 2_000 && silence > 1_000, "{speech} {silence}");
    assert!(missed * 100 < speech * 2, "missed {missed} of {speech}");
    assert!(
        false_alarms * 100 < silence * 6,
        "false alarms {false_alarms} of {silence}"
    );
}

#[test]
fn silence_and_steady_noise_have_no_speech_in_them() {
    assert_eq!(segments(&[0.0; 80_000], &close(), 8_000), []);
    assert_eq!(segments(&noise(160_000, 0.3), &close(), 8_000), []);
    assert_eq!(segments(&noise(160_000, 0.001), &close(), 8_000), []);
    assert_eq!(segments(&[], &close(), 1), []);
    assert_eq!(segments(&[0.5; 5], &close(), 1), []);
}

#[test]
fn pieces_of_any_size_give_the_same_segments() {
    let (_, samples, _) = fixtures().swap_remove(0);
    let whole = segments(&samples, &close(), usize::MAX >> 1);
    assert!(!whole.is_empty());
    for piece in [97, 160, 16_000] {
        assert_eq!(
            segments(&samples, &close(), piece),
            whole,
            "pieces of {piece}"
        );
    }
}

#[test]
fn there_is_one_probability_for_every_ten_milliseconds() {
    for count in [0, 1, 159, 160, 161, 16_000, 50_001] {
        let mut probabilities = Vec::new();
        let mut detector = Probabilities::new();
        detector.push(&noise(count, 0.1), &mut probabilities);
        detector.finish(&mut probabilities);
        assert_eq!(probabilities.len(), count.div_ceil(160), "{count} samples");
        assert!(probabilities.iter().all(|p| (0.0..=1.0).contains(p)));
    }
}

#[test]
fn segments_and_chunks_keep_their_limits_and_their_order() {
    let (_, samples, _) = fixtures().swap_remove(0);
    // The same clip again and again, and no pause long enough to end a segment.
    let long: Vec<f32> = samples.iter().copied().cycle().take(16_000 * 60).collect();
    let options = VadOptions {
        max_speech_duration_s: Some(5.0),
        ..VadOptions::default()
    };
    let found = segments(&long, &options, 16_000);
    assert!(found.len() > 10);
    assert!(
        found
            .iter()
            .all(|s| s.start < s.end && s.end - s.start <= 80_000),
        "{found:?}"
    );
    assert!(
        found.windows(2).all(|s| s[0].end <= s[1].start),
        "{found:?}"
    );
    assert!(found.last().unwrap().end <= 16_000 * 60);
    let chunks = pack(&found, Packing::for_window(160_000));
    assert!(chunks.iter().all(|c| c.length() <= 160_000));
    let kept: u64 = chunks.iter().map(|c| c.length()).sum();
    let wanted: u64 = found.iter().map(|s| s.end - s.start).sum();
    assert!(kept >= wanted, "{kept} of {wanted}");
}
