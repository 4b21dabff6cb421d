//! A model of many languages (MMS), whose adapters are files of their own: those that were asked for are fetched, and a request is
//! told which are there.

use std::path::Path;

use chandler::weights::store::{Ask, Fetched};
use chandler::weights::{Wanted, WeightsError};
use hub_double::Repo;
use serde_json::Value;

use super::program::run;
use super::setup::*;

const MMS: &str = "org/mms";

fn world() -> World {
    let world = World::new();
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/pipelines/speech/tests/fixtures/ctc/mms-f32"
    );
    let repo = Repo::new(MMS).directory(Path::new(fixture)).unwrap();
    world.hub.put(repo);
    world
}

fn speaking(languages: &[&str]) -> Wanted {
    Wanted {
        languages: languages.iter().map(|&code| code.to_owned()).collect(),
        ..wanted(MMS)
    }
}

fn fetched(world: &World, languages: &[&str]) -> Result<Fetched, WeightsError> {
    world.store().fetch(&speaking(languages), &Ask::default())
}

fn adapters(fetched: &Fetched) -> Vec<&str> {
    let paths = fetched.files.iter().map(|file| file.path.as_str());
    paths.filter(|path| path.starts_with("adapter.")).collect()
}

#[test]
fn a_language_that_is_asked_for_later_is_fetched_alone() {
    let world = world();
    let own = fetched(&world, &[]).unwrap();
    assert_eq!(adapters(&own), [""; 0]);
    world.hub.forget();
    // The model's own is in its weights, whether or not it has a file.
    let same = fetched(&world, &["eng"]).unwrap();
    assert_eq!((adapters(&same).len(), world.requests().len()), (0, 0));
    let more = fetched(&world, &["eng", "lug"]).unwrap();
    assert_eq!(adapters(&more), ["adapter.lug.safetensors"]);
    assert_eq!(more.dir, own.dir);
    let asked = world.requests();
    let others = |path: &&String| path.contains("model.safetensors") || path.contains("azj");
    assert_eq!(asked.iter().find(others), None);
    let all = fetched(&world, &["all"]).unwrap();
    assert_eq!(adapters(&all).len(), 2);
    world.hub.forget();
    fetched(&world, &["lug"]).unwrap();
    assert_eq!(world.requests(), [""; 0]);
}

#[test]
fn a_language_that_is_not_there_is_told_before_anything_is_fetched() {
    let world = world();
    let error = fetched(&world, &["lug", "xyz"]).unwrap_err().to_string();
    for word in ["adapter.xyz", "azj-script_latin, lug", "--speech-languages"] {
        assert!(error.contains(word), "{error}");
    }
    let plain = Wanted {
        languages: vec!["lug".to_owned()],
        ..wanted(REPO)
    };
    let error = world.store().fetch(&plain, &Ask::default()).unwrap_err();
    assert!(error.to_string().contains("leave out"), "{error}");
    assert_eq!(world.cdn_requests(), 0);
}

#[test]
fn a_pull_shows_which_languages_it_takes_and_why_not_the_others() {
    let world = world();
    let plan = |more: &[&str]| -> Value {
        let arguments = [&["pull", MMS, "--dry-run", "--json"], more].concat();
        serde_json::from_str(&run(&world, &arguments).0).unwrap()
    };
    let paths = |plan: &Value, key: &str| -> Vec<String> {
        let files = plan[key].as_array().unwrap().iter();
        let paths = files.map(|file| file["path"].as_str().unwrap().to_owned());
        paths.filter(|path| path.starts_with("adapter.")).collect()
    };
    let (azj, lug) = (
        "adapter.azj-script_latin.safetensors",
        "adapter.lug.safetensors",
    );
    let none = plan(&[]);
    assert_eq!(paths(&none, "files"), [""; 0]);
    assert_eq!(paths(&none, "skipped"), [azj, lug]);
    let skipped = none["skipped"].as_array().unwrap();
    let why = skipped.iter().find(|file| file["path"] == lug).unwrap();
    assert!(why["why"].as_str().unwrap().contains("--speech-languages"));
    let one = plan(&["--speech-languages", "lug"]);
    assert_eq!(paths(&one, "files"), [lug]);
    assert_eq!(paths(&one, "skipped"), [azj]);
    assert_eq!(world.cdn_requests(), 0);
}

#[cfg(feature = "speech")]
#[test]
fn a_request_is_heard_in_the_languages_that_are_here_and_told_which_these_are() {
    use super::program::chandler;

    let world = world();
    let audio = world.home.path().join("hum.wav");
    std::fs::write(&audio, hum()).unwrap();
    let audio = audio.to_str().unwrap();
    let hear = |language: &str, more: &[&str]| {
        let arguments = [
            &[
                "run",
                "--model",
                MMS,
                "--language",
                language,
                "--json",
                audio,
            ],
            more,
        ];
        let output = chandler(&world, &arguments.concat()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.success(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (_, _, refused) = hear("lug", &[]);
    for words in [
        "adapter.lug.safetensors is not here",
        "one of eng,",
        "--speech-languages lug",
    ] {
        assert!(refused.contains(words), "{refused}");
    }
    let (heard, said, told) = hear("lug", &["--speech-languages", "lug"]);
    assert!(heard, "{told}");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["language"], "lug");
    let (_, _, refused) = hear("azj-script_latin", &["--speech-languages", "lug"]);
    assert!(refused.contains("one of eng, lug,"), "{refused}");
    // What one command has fetched is there for the next.
    assert!(hear("lug", &[]).0);
}

/// Half a second of a low hum, 16 kHz.
#[cfg(feature = "speech")]
fn hum() -> Vec<u8> {
    let samples = (0..8000).map(|n| ((f64::from(n) * 0.05).sin() * 8000.0) as i16);
    let data: Vec<u8> = samples.flat_map(i16::to_le_bytes).collect();
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + data.len() as u32).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend(16_000u32.to_le_bytes());
    wav.extend(32_000u32.to_le_bytes());
    wav.extend(b"\x02\0\x10\0data");
    wav.extend((data.len() as u32).to_le_bytes());
    wav.extend(data);
    wav
}
