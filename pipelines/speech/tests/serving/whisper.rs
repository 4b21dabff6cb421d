//! Requests to a tiny Whisper, whose window is a second.

use std::time::Instant;

use chandler_core::contract::{Subject, check, check_parking};
use chandler_core::{
    Audio, ErrorKind, Event, Hints, Input, LongForm, Pipeline, Search, SpeechInput, SpeechTask,
    Task, TextInput, Times, Transcript, VoiceActivity,
};
use chandler_nn::weights::Snapshot;
use chandler_speech::WhisperPipeline;

use super::driver::{ask, lists_all_weights, options, plain, snapshot, sound, wav};

fn load(name: &str) -> WhisperPipeline {
    let snapshot = snapshot(&format!("whisper/{name}"));
    WhisperPipeline::load(&snapshot, &options(), &|_| {}).unwrap()
}

fn pipeline() -> WhisperPipeline {
    load("multilingual-f32")
}

fn transcript(pipeline: &mut WhisperPipeline, input: SpeechInput) -> Transcript {
    let (collected, _) = ask(pipeline, input).unwrap();
    *collected.transcript.unwrap()
}

/// Request `number`: of every kind and several lengths.
fn request(number: u64) -> SpeechInput {
    let seconds = 0.3 + 0.37 * (number % 8) as f64;
    let mono = sound(seconds, number);
    let apart = number % 9 == 4;
    let audio = match apart {
        true => wav(&[mono.clone(), sound(seconds, number + 1)]),
        false => wav(&[mono]),
    };
    SpeechInput {
        audio,
        channels_apart: apart,
        language: (!number.is_multiple_of(3)).then(|| "fr".to_owned()),
        task: match number % 5 {
            0 => SpeechTask::Translate,
            _ => SpeechTask::Transcribe,
        },
        times: [Times::Segments, Times::Words, Times::None][number as usize % 3],
        long_form: match number % 4 {
            3 => LongForm::Chunks,
            _ => LongForm::Sequential,
        },
        only_language: number % 11 == 6,
        hints: Hints {
            prompt: (number % 4 == 1).then(|| "the pin".to_owned()),
            ..Hints::default()
        },
        search: Search {
            temperatures: Some(match number % 4 {
                0 => vec![0.0],
                1 => vec![0.0, 0.6],
                2 => vec![0.7],
                _ => vec![0.0, 0.2, 0.4],
            }),
            beam_size: Some(1 + (number % 3) as u32),
            best_of: Some(2),
            seed: Some(number),
            max_new_tokens: Some(12),
            ..Search::default()
        },
        ..SpeechInput::default()
    }
}

#[test]
fn it_keeps_the_contract() {
    check(&Subject {
        make: &pipeline,
        input: &|number| Input::Speech(request(number)),
        requests: 24,
        // A window with all its temperatures and words takes fewer, in company too.
        suspend_every: 200,
    });
}

#[test]
fn one_of_candle_tensors_leaves_and_comes_back() {
    let make = || {
        let snapshot = snapshot("whisper/multilingual-f32");
        WhisperPipeline::load(&snapshot, &plain(), &|_| {}).unwrap()
    };
    lists_all_weights(&make());
    check_parking(&Subject {
        make: &make,
        input: &|number| Input::Speech(request(number)),
        requests: 6,
        suspend_every: 200,
    });
}

#[test]
fn what_is_read_a_second_time_is_heard_as_the_first_time() {
    let stereo = wav(&[sound(7.3, 1), sound(7.3, 2)]);
    for (apart, long_form) in [(false, LongForm::Sequential), (true, LongForm::Sequential)] {
        let input = SpeechInput {
            audio: stereo.clone(),
            channels_apart: apart,
            long_form,
            language: Some("en".to_owned()),
            search: Search {
                temperatures: Some(vec![0.0]),
                max_new_tokens: Some(9),
                ..Search::default()
            },
            ..SpeechInput::default()
        };
        let whole = transcript(&mut pipeline(), input.clone());
        // Less than a window, and a bit more than one; in whole frames or not.
        for bytes in [0, 777, 6000] {
            let found = transcript(&mut pipeline().keeping(bytes), input.clone());
            assert_eq!(found, whole, "{bytes} bytes");
        }
        assert!(!whole.segments.is_empty());
    }
}

#[test]
fn a_language_is_found_in_what_is_read_a_second_time() {
    let input = |only_language| SpeechInput {
        audio: wav(&[sound(3.1, 2)]),
        only_language,
        search: Search {
            temperatures: Some(vec![0.0]),
            max_new_tokens: Some(9),
            ..Search::default()
        },
        ..SpeechInput::default()
    };
    for only in [false, true] {
        let whole = transcript(&mut pipeline(), input(only));
        assert_eq!(transcript(&mut pipeline().keeping(0), input(only)), whole);
    }
}

#[test]
fn who_asks_for_the_language_has_it_found_whatever_the_checkpoint_is_for() {
    let folder = tempfile::tempdir().unwrap();
    let from = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/whisper/multilingual-f32"
    );
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let path = folder.path().join("generation_config.json");
    let mut generation: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    generation["language"] = "<|fr|>".into();
    std::fs::write(&path, generation.to_string()).unwrap();
    let model = Snapshot::dir(folder.path()).unwrap();
    let mut pipeline = WhisperPipeline::load(&model, &options(), &|_| {}).unwrap();
    let mut input = SpeechInput {
        audio: wav(&[sound(1.2, 3)]),
        search: Search {
            temperatures: Some(vec![0.0]),
            ..Search::default()
        },
        ..SpeechInput::default()
    };
    let told = transcript(&mut pipeline, input.clone())
        .heard
        .language
        .unwrap();
    assert_eq!((told.code.as_str(), told.probability), ("fr", None));
    input.only_language = true;
    let found = transcript(&mut pipeline, input).heard.language.unwrap();
    assert!(
        found.probability.is_some() && found.probabilities.len() > 1,
        "{found:?}"
    );
}

#[test]
fn channels_apart_are_as_each_alone() {
    let (left, right) = (sound(2.2, 5), sound(2.2, 6));
    let input = |channels: &[Vec<f32>], apart| SpeechInput {
        audio: wav(channels),
        channels_apart: apart,
        language: Some("en".to_owned()),
        search: Search {
            temperatures: Some(vec![0.0]),
            ..Search::default()
        },
        ..SpeechInput::default()
    };
    let mut pipeline = pipeline();
    let both = transcript(&mut pipeline, input(&[left.clone(), right.clone()], true));
    assert_eq!(both.heard.channels, 2);
    for (channel, alone) in [(0, left), (1, right)] {
        let alone = transcript(&mut pipeline, input(&[alone], false));
        let mut own: Vec<_> = both
            .segments
            .iter()
            .filter(|s| s.channel == channel)
            .cloned()
            .collect();
        own.iter_mut().for_each(|segment| segment.channel = 0);
        assert_eq!(own, alone.segments);
        assert!(!own.is_empty());
    }
}

#[test]
fn a_recording_of_speech_is_cut_where_nobody_speaks() {
    // Clean speech with pauses, whose marks are in marks.json.
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vad/none.opus");
    let input = |(long_form, times), activity| SpeechInput {
        audio: Audio::File(recording.into()),
        long_form,
        voice_activity: activity,
        language: Some("en".to_owned()),
        times,
        search: Search {
            temperatures: Some(vec![0.0]),
            max_new_tokens: Some(8),
            ..Search::default()
        },
        ..SpeechInput::default()
    };
    let mut pipeline = pipeline();
    let all = transcript(
        &mut pipeline,
        input((LongForm::Sequential, Times::Segments), None),
    );
    assert_eq!(all.heard.speech, None);
    for asked in [
        (LongForm::Sequential, Times::Segments),
        (LongForm::Chunks, Times::Segments),
        (LongForm::Chunks, Times::Words),
    ] {
        let found = transcript(&mut pipeline, input(asked, Some(VoiceActivity::default())));
        let speech = found.heard.speech.unwrap();
        assert!(speech > 1.0 && speech < found.heard.duration, "{speech}");
        assert_eq!(found.heard.duration, all.heard.duration);
        let starts: Vec<f64> = found.segments.iter().map(|segment| segment.start).collect();
        // What a random model says of words moves segments about.
        let sorted = asked.1 == Times::Words || starts.is_sorted();
        assert!(sorted && !starts.is_empty(), "{starts:?}");
        let within = |time: f64| (0.0..=found.heard.duration + 1.0).contains(&time);
        assert!(
            found
                .segments
                .iter()
                .all(|s| within(s.start) && within(s.end))
        );
        assert!(
            found
                .words()
                .all(|word| within(word.start) && within(word.end))
        );
    }
}

#[test]
fn silence_with_voice_activity_has_no_segments() {
    let input = SpeechInput {
        audio: wav(&[vec![0.0; 40_000]]),
        voice_activity: Some(VoiceActivity::default()),
        ..SpeechInput::default()
    };
    let (collected, events) = ask(&mut pipeline(), input).unwrap();
    let transcript = collected.transcript.unwrap();
    assert_eq!(
        (transcript.heard.duration, transcript.heard.speech),
        (2.5, Some(0.0))
    );
    assert!(transcript.segments.is_empty() && transcript.heard.language.is_none());
    assert_eq!(collected.usage.audio_ms, 2500);
    assert!(matches!(
        events.as_slice(),
        [Event::Heard(_), Event::Done(_)]
    ));
}

#[test]
fn a_language_is_found_with_all_probabilities() {
    let input = |only_language| SpeechInput {
        audio: wav(&[sound(1.7, 3)]),
        only_language,
        search: Search {
            temperatures: Some(vec![0.0]),
            ..Search::default()
        },
        ..SpeechInput::default()
    };
    let mut pipeline = pipeline();
    let only = transcript(&mut pipeline, input(true));
    let language = only.heard.language.clone().unwrap();
    let sum: f32 = language.probabilities.iter().map(|(_, p)| p).sum();
    assert!((sum - 1.0).abs() < 1e-5 && only.segments.is_empty());
    assert_eq!(
        language.probability,
        language.probabilities.first().map(|(_, p)| *p)
    );
    let all = transcript(&mut pipeline, input(false));
    assert_eq!(all.heard, only.heard);
    assert!(!all.segments.is_empty());
    let english = transcript(&mut load("english-f16"), input(true));
    assert_eq!(english.heard.language.unwrap().code, "en");
}

#[test]
fn progress_never_goes_back_and_comes_with_segments() {
    let input = SpeechInput {
        audio: wav(&[sound(6.0, 9)]),
        language: Some("en".to_owned()),
        search: Search {
            temperatures: Some(vec![0.0]),
            max_new_tokens: Some(6),
            ..Search::default()
        },
        ..SpeechInput::default()
    };
    let (_, events) = ask(&mut pipeline(), input).unwrap();
    let progress: Vec<u32> = events
        .iter()
        .filter_map(|event| match event {
            Event::Progress { done, total } => {
                assert_eq!(*total, 6000);
                Some(*done)
            }
            _ => None,
        })
        .collect();
    assert!(progress.is_sorted() && progress.len() >= 3, "{progress:?}");
    assert!(matches!(events.first(), Some(Event::Heard(_))));
}

#[test]
fn what_will_not_do_is_named() {
    let pipeline = pipeline();
    let preparer = pipeline.preparer();
    let audio = wav(&[sound(0.5, 1)]);
    let plain = || SpeechInput {
        audio: audio.clone(),
        ..SpeechInput::default()
    };
    let search = |search: Search| SpeechInput { search, ..plain() };
    for (input, field) in [
        (
            SpeechInput {
                language: Some("klingon".into()),
                ..plain()
            },
            "language",
        ),
        (
            SpeechInput {
                max_seconds: Some(0.25),
                ..plain()
            },
            "audio",
        ),
        (
            SpeechInput {
                max_seconds: Some(f64::NAN),
                ..plain()
            },
            "max_duration",
        ),
        (
            SpeechInput {
                audio: Audio::bytes(b"<html>".to_vec()),
                ..plain()
            },
            "audio",
        ),
        (
            SpeechInput {
                audio: Audio::File("/nowhere/at/all.wav".into()),
                ..plain()
            },
            "audio",
        ),
        (
            search(Search {
                beam_size: Some(7),
                ..Search::default()
            }),
            "beam_size",
        ),
        (
            search(Search {
                best_of: Some(0),
                ..Search::default()
            }),
            "best_of",
        ),
        (
            search(Search {
                temperatures: Some(vec![-0.5]),
                ..Search::default()
            }),
            "temperature",
        ),
        (
            search(Search {
                suppress_tokens: Some(vec![9999]),
                ..Search::default()
            }),
            "suppress_tokens",
        ),
        (
            SpeechInput {
                voice_activity: Some(VoiceActivity {
                    threshold: Some(7.0),
                    ..VoiceActivity::default()
                }),
                ..plain()
            },
            "vad_parameters.threshold",
        ),
    ] {
        let error = preparer.prepare(Input::Speech(input)).err().unwrap();
        assert_eq!(error.field.as_deref(), Some(field), "{error}");
        assert!(!error.message.contains("/nowhere"), "{error}");
    }
    let error = preparer
        .prepare(Input::Text(TextInput::default()))
        .err()
        .unwrap();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert_eq!(preparer.info().task, Task::AutomaticSpeechRecognition);
    assert!(load("english-f16").preparer().info().languages.is_empty());
}

#[test]
fn the_warm_up_is_short() {
    let mut pipeline = pipeline();
    let Input::Speech(input) = pipeline.preparer().warm_up() else {
        panic!("a warm-up of another kind");
    };
    let began = Instant::now();
    let (collected, _) = ask(&mut pipeline, input).unwrap();
    assert!(collected.usage.completion_tokens <= 4);
    assert!(began.elapsed().as_secs() < 5);
}
