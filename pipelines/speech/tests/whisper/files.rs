//! What a checkpoint's JSON files say, in the layouts of old and new repositories; and files that say what cannot be.

use std::sync::Arc;

use chandler_nn::weights::{HostTensor, Snapshot, TensorSource};
use chandler_speech::layers::Placement;
use chandler_speech::whisper::asked::{Asked, LanguageChoice};
use chandler_speech::whisper::{Description, Task, Whisper};

use super::*;

#[test]
fn a_checkpoint_of_today_says_all_of_it() {
    let Description {
        config,
        generation,
        timing,
        ..
    } = load("multilingual-f32").description;
    let tokens = &generation.tokens;
    assert!(generation.multilingual);
    assert_eq!(generation.alignment_heads, [(1, 0), (2, 3), (2, 1)]);
    assert_eq!(generation.max_initial_timestamp, Some(15));
    let codes: Vec<&str> = tokens.languages.iter().map(|l| l.code.as_str()).collect();
    assert_eq!(codes, ["en", "zh", "de", "es", "ru", "ko", "fr", "ja"]);
    assert_eq!(tokens.sot, tokens.eot + 1);
    assert_eq!(tokens.language("zh"), Some(tokens.sot + 2));
    assert_eq!(tokens.task(Task::Translate), Some(tokens.sot + 9));
    let begin = tokens.timestamp_begin().unwrap();
    assert_eq!(
        config.vocab_size as u32,
        begin + config.source_positions as u32 + 1
    );
    assert_eq!((timing.window_seconds(), timing.window_frames), (1.0, 100));
}

#[test]
fn an_older_checkpoints_tokens_are_found_by_name() {
    let Description {
        config, generation, ..
    } = load("english-f16").description;
    let tokens = &generation.tokens;
    // No `is_multilingual`, no `lang_to_id`, no `alignment_heads`; lists of tokens in config.json.
    assert_eq!(tokens.no_timestamps, Some(config.vocab_size as u32 - 52));
    assert_eq!(tokens.no_speech, Some(config.vocab_size as u32 - 53));
    assert!(tokens.previous.is_some() && tokens.transcribe.is_some());
    assert!(generation.suppress.len() > 100 && generation.begin_suppress.len() == 2);
    assert_eq!(generation.alignment_heads, [(1, 0), (1, 1)]);
    assert_eq!(generation.max_initial_timestamp, None);
}

/// A checkpoint's JSON files with one of them changed.
fn said(file: &str, change: impl Fn(&mut serde_json::Map<String, Value>)) -> String {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("multilingual-f32")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".json") {
            std::fs::copy(&path, dir.path().join(name)).unwrap();
        }
    }
    let mut map = match json(&format!("multilingual-f32/{file}")) {
        Value::Object(map) => map,
        other => panic!("{other}"),
    };
    change(&mut map);
    std::fs::write(dir.path().join(file), serde_json::to_vec(&map).unwrap()).unwrap();
    let snapshot = Snapshot::dir(dir.path()).unwrap();
    match Description::from_snapshot(&snapshot) {
        Ok(description) => format!("{:?}", description.generation),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_cannot_be_is_named() {
    const FILE: &str = "generation_config.json";
    let cases = [
        (
            "suppress_tokens",
            serde_json::json!([4, 100_000]),
            "is not a list of token ids below",
        ),
        (
            "lang_to_id",
            serde_json::json!({"<|en|>": -4}),
            "is not an object of token ids below",
        ),
        (
            "alignment_heads",
            serde_json::json!([[0, 1], [3, 0]]),
            "with a layer below 3 and a head below 4",
        ),
        (
            "alignment_heads",
            serde_json::json!("all"),
            "is no list of [layer, head]",
        ),
        (
            "no_timestamps_token_id",
            serde_json::json!("x"),
            "is not a token id below",
        ),
        (
            "max_initial_timestamp_index",
            serde_json::json!(51),
            "51 is not a whole number from 0 to 50",
        ),
        (
            "forced_decoder_ids",
            serde_json::json!([[1, 2, 3]]),
            "is no list of [place, token id",
        ),
        (
            "language",
            serde_json::json!("klingon"),
            "\"klingon\" is no language of the model",
        ),
        (
            "task",
            serde_json::json!("sing"),
            "transcribe and translate are",
        ),
        (
            "is_multilingual",
            serde_json::json!("yes"),
            "is not true or false",
        ),
    ];
    for (field, value, expected) in cases {
        let found = said(FILE, |map| {
            map.insert(field.to_owned(), value.clone());
        });
        assert!(found.starts_with(&format!("{FILE}: {field}: ")), "{found}");
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn a_fine_tunes_language_and_task_are_its_defaults() {
    let found = said("generation_config.json", |map| {
        map.insert("language".into(), "<|ko|>".into());
        map.insert("task".into(), "translate".into());
    });
    let tokens = load("multilingual-f32")
        .description
        .generation
        .tokens
        .clone();
    let language = tokens.language("ko").unwrap();
    assert!(
        found.contains(&format!("default_language: Some({language})")),
        "{found}"
    );
    assert!(found.contains("default_task: Some(Translate)"), "{found}");
    let found = said("generation_config.json", |map| {
        let task = tokens.task(Task::Transcribe).unwrap();
        map.insert(
            "forced_decoder_ids".into(),
            serde_json::json!([[1, null], [2, task]]),
        );
    });
    assert!(
        found.contains("default_language: None, default_task: Some(Transcribe)"),
        "{found}"
    );
}

#[test]
fn what_is_asked_is_held_against_what_the_model_can_do() {
    let many = load("multilingual-f32").description.generation;
    let code = |language: Option<&str>| match Asked::new(language, None, &many).unwrap().language {
        LanguageChoice::Known(language) => language.code,
        other => format!("{other:?}"),
    };
    assert_eq!(code(Some("German")), "de");
    assert_eq!(code(Some("<|ja|>")), "ja");
    assert_eq!(code(Some("mandarin")), "zh");
    assert_eq!(code(None), "Detect");
    let error = Asked::new(Some("it"), None, &many).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("language"));
    assert!(
        error.message.ends_with("en, zh, de, es, ru, ko, fr, ja"),
        "{error}"
    );
    let task = |task| Asked::new(None, task, &many).unwrap().task;
    assert_eq!(task(Some(Task::Translate)), Some(Task::Translate));
    assert_eq!(task(None), Some(Task::Transcribe));
    let one = load("english-f16").description.generation;
    let english = Asked {
        language: LanguageChoice::Only,
        task: None,
    };
    assert_eq!(
        Asked::new(Some("English"), Some(Task::Transcribe), &one).unwrap(),
        english
    );
    let field = |language, task| Asked::new(language, task, &one).unwrap_err().field.unwrap();
    assert_eq!(field(Some("fr"), None), "language");
    assert_eq!(field(None, Some(Task::Translate)), "task");
}

/// The tensors of a checkpoint under other names.
struct Renamed {
    source: Arc<dyn TensorSource>,
    /// From the name that is asked for to the one that is there.
    name: fn(&str) -> Option<String>,
}

impl TensorSource for Renamed {
    fn tensor(&self, name: &str) -> chandler_nn::error::Result<HostTensor> {
        let there = (self.name)(name).unwrap_or_else(|| format!("no {name}"));
        self.source.tensor(&there)
    }

    fn contains(&self, name: &str) -> bool {
        (self.name)(name).is_some_and(|name| self.source.contains(&name))
    }

    fn names(&self) -> Vec<String> {
        self.source.names()
    }

    fn total_bytes(&self) -> u64 {
        self.source.total_bytes()
    }

    fn prefetch(&self, progress: &(dyn Fn(u64, u64) + Sync)) -> chandler_nn::error::Result<()> {
        self.source.prefetch(progress)
    }
}

#[test]
fn a_checkpoint_may_lack_the_prefix_and_have_a_head_of_its_own() {
    let snapshot = Snapshot::dir(fixture("multilingual-f32")).unwrap();
    let mut description = Description::from_snapshot(&snapshot).unwrap();
    let source = snapshot.weights().unwrap();
    let load = |description: &Description, name| {
        let source = Arc::clone(&source);
        let renamed = Renamed { source, name };
        Whisper::load(description.clone(), &renamed, Placement::cpu())
    };
    let whole = load(&description, |name| Some(name.to_owned()))
        .unwrap()
        .bytes();
    let bare = load(&description, |name| {
        let bare = name.starts_with("encoder.") || name.starts_with("decoder.");
        bare.then(|| format!("model.{name}"))
    });
    assert_eq!(bare.unwrap().bytes(), whole);
    let mut config = (*description.config).clone();
    config.tied = false;
    description.config = Arc::new(config);
    let missing = load(&description, |name| Some(name.to_owned()));
    assert!(
        missing
            .err()
            .unwrap()
            .to_string()
            .contains("proj_out.weight")
    );
    let own = load(&description, |name| match name {
        "proj_out.weight" => Some("model.decoder.embed_tokens.weight".to_owned()),
        other => Some(other.to_owned()),
    });
    let Description { config, .. } = &description;
    assert_eq!(
        own.unwrap().bytes(),
        whole + 4 * config.vocab_size * config.width
    );
}
