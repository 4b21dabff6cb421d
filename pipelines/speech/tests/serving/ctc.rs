//! Requests to tiny wav2vec2 and MMS models.

use chandler_core::contract::{Subject, check, check_parking};
use chandler_core::{
    Audio, ErrorKind, Hints, Input, LongForm, Pipeline, SpeechInput, SpeechTask, Times, Transcript,
    VoiceActivity,
};
use chandler_nn::weights::Snapshot;
use chandler_speech::CtcPipeline;

use super::driver::{ask, lists_all_weights, options, plain, snapshot, sound, wav};

fn load(name: &str) -> CtcPipeline {
    let snapshot = snapshot(&format!("ctc/{name}"));
    CtcPipeline::load(&snapshot, &options(), &|_| {}).unwrap()
}

fn transcript(pipeline: &mut CtcPipeline, input: SpeechInput) -> Transcript {
    let (collected, _) = ask(pipeline, input).unwrap();
    *collected.transcript.unwrap()
}

fn of(seconds: f64, seed: u64) -> SpeechInput {
    SpeechInput {
        audio: wav(&[sound(seconds, seed)]),
        ..SpeechInput::default()
    }
}

#[test]
fn it_keeps_the_contract() {
    let input = |number: u64| {
        Input::Speech(SpeechInput {
            times: [Times::Segments, Times::Words][number as usize % 2],
            language: [None, Some("lug".to_owned())][number as usize % 3 / 2].clone(),
            voice_activity: (number % 7 == 3).then(VoiceActivity::default),
            ..of(0.01 + 0.4 * (number % 5) as f64, number)
        })
    };
    check(&Subject {
        make: &|| load("mms-f32"),
        input: &input,
        requests: 24,
        // An utterance goes through in fewer.
        suspend_every: 20,
    });
}

#[test]
fn one_of_candle_tensors_leaves_and_comes_back() {
    let make = || {
        let snapshot = snapshot("ctc/mms-f32");
        CtcPipeline::load(&snapshot, &plain(), &|_| {}).unwrap()
    };
    let language = |number: u64| [None, Some("lug".to_owned())][number as usize % 2].clone();
    check_parking(&Subject {
        make: &make,
        input: &|number| {
            Input::Speech(SpeechInput {
                language: language(number),
                ..of(0.3 + 0.2 * number as f64, number)
            })
        },
        requests: 6,
        suspend_every: 20,
    });
    lists_all_weights(&make());
}

#[test]
fn a_language_has_a_vocabulary_of_its_own() {
    let mut pipeline = load("mms-f32");
    let languages = pipeline.preparer().info().languages;
    assert!(languages.iter().any(|code| code == "lug"), "{languages:?}");
    let hear = |pipeline: &mut CtcPipeline, language: Option<&str>| {
        let language = language.map(str::to_owned);
        transcript(
            pipeline,
            SpeechInput {
                language,
                ..of(1.5, 4)
            },
        )
    };
    let (own, other) = (hear(&mut pipeline, None), hear(&mut pipeline, Some("lug")));
    assert_ne!(own.text(), other.text());
    assert_eq!(other.heard.language.unwrap().code, "lug");
    let asked = SpeechInput {
        language: Some("xyz".into()),
        ..of(0.5, 1)
    };
    let error = ask(&mut pipeline, asked).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("language"));
    assert!(error.message.contains("lug"), "{error}");
}

#[test]
fn a_language_whose_file_is_not_here_is_refused_with_those_that_are() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/ctc/mms-f32");
    let some = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_owned();
        if name != "adapter.lug.safetensors" {
            std::fs::copy(&path, some.path().join(name)).unwrap();
        }
    }
    let here = Snapshot::dir(some.path()).unwrap();
    let mut pipeline = CtcPipeline::load(&here, &options(), &|_| {}).unwrap();
    let languages = pipeline.preparer().info().languages;
    assert_eq!(languages, ["azj-script_latin", "eng"]);
    let asked = |language: &str| SpeechInput {
        language: Some(language.into()),
        ..of(0.5, 1)
    };
    let error = ask(&mut pipeline, asked("lug")).unwrap_err();
    assert_eq!(
        (error.kind, error.field.as_deref()),
        (ErrorKind::Unsupported, Some("language"))
    );
    for words in ["adapter.lug.safetensors", "one of azj-script_latin, eng,"] {
        assert!(error.message.contains(words), "{error}");
    }
    assert!(ask(&mut pipeline, asked("azj-script_latin")).is_ok());
    // It is looked for when it is asked for: a file that comes later is as good.
    std::fs::copy(
        format!("{fixture}/adapter.lug.safetensors"),
        some.path().join("adapter.lug.safetensors"),
    )
    .unwrap();
    assert!(ask(&mut pipeline, asked("lug")).is_ok());
}

#[test]
fn words_lie_within_the_recording_and_make_the_text() {
    let mut pipeline = load("base-f32");
    let input = SpeechInput {
        times: Times::Words,
        ..of(2.0, 8)
    };
    let found = transcript(&mut pipeline, input);
    let [segment] = found.segments.as_slice() else {
        panic!("{:?}", found.segments);
    };
    let words: String = found.words().map(|word| word.text.as_str()).collect();
    let text = found.text();
    assert!(words.split_whitespace().eq(text.split_whitespace()));
    assert!(segment.start >= 0.0 && segment.end <= 2.1 && segment.start < segment.end);
    assert!(
        found
            .words()
            .all(|word| (0.0..=1.0).contains(&word.probability))
    );
}

#[test]
fn long_audio_is_cut_where_nobody_speaks() {
    let mut pipeline = load("base-f32");
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vad/none.opus");
    let input = SpeechInput {
        audio: Audio::File(recording.into()),
        long_form: LongForm::Chunks,
        ..SpeechInput::default()
    };
    let found = transcript(&mut pipeline, input);
    let starts: Vec<f64> = found.segments.iter().map(|segment| segment.start).collect();
    assert!(starts.is_sorted() && !starts.is_empty());
}

#[test]
fn what_such_a_model_cannot_do_is_named() {
    let preparer = load("base-f32").preparer();
    let hints = |hints: Hints| SpeechInput {
        hints,
        ..of(0.5, 1)
    };
    let told = Some("a".to_owned());
    for (input, field) in [
        (
            SpeechInput {
                task: SpeechTask::Translate,
                ..of(0.5, 1)
            },
            "translate",
        ),
        (
            SpeechInput {
                only_language: true,
                ..of(0.5, 1)
            },
            "detect_language",
        ),
        (
            hints(Hints {
                prompt: told.clone(),
                ..Hints::default()
            }),
            "prompt",
        ),
        (
            hints(Hints {
                hotwords: told,
                ..Hints::default()
            }),
            "hotwords",
        ),
    ] {
        let error = preparer.prepare(Input::Speech(input)).err().unwrap();
        assert_eq!(error.field.as_deref(), Some(field), "{error}");
    }
}
