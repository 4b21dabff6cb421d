//! Both layouts of CLIP's tokenizer files, and files that are not what they should be.

use chandler_image::prompt::chunks::Chunks;
use chandler_image::prompt::clip_tokenizer::ClipTokenizer;
use chandler_image::prompt::weighting::{Syntax, parse};

use super::*;

pub const WINDOW: usize = 21;
const FOLDERS: [&str; 2] = ["tokenizer", "tokenizer_2"];

pub fn tokenizer(folder: &str) -> ClipTokenizer {
    ClipTokenizer::from_snapshot(&snapshot("clip"), folder, WINDOW).unwrap()
}

pub fn chunks(tokenizer: &ClipTokenizer, text: &str) -> Chunks {
    let pieces = parse(text, Syntax::Weighted, "prompt").unwrap();
    Chunks::new(tokenizer, &pieces, "prompt").unwrap()
}

#[test]
fn ids_are_those_of_transformers_for_both_layouts_of_files() {
    let expected = json("clip/expected.json");
    for folder in FOLDERS {
        let tokenizer = tokenizer(folder);
        let each = expected["ids"][folder].as_array().unwrap();
        for (text, wanted) in texts(&expected["texts"]).iter().zip(each) {
            assert_eq!(
                tokenizer.ids(text).unwrap(),
                ids(wanted),
                "{folder} {text:?}"
            );
        }
    }
}

#[test]
fn a_prompt_that_fits_is_the_one_window_of_diffusers() {
    let expected = json("clip/expected.json");
    for folder in FOLDERS {
        let tokenizer = tokenizer(folder);
        let each = expected["padded"][folder].as_array().unwrap();
        for (text, wanted) in texts(&expected["prompts"]).iter().zip(each) {
            let chunks = chunks(&tokenizer, text);
            let [chunk] = chunks.as_slice() else {
                panic!("{text:?} became {} chunks", chunks.count());
            };
            assert_eq!(chunk.tokens, ids(wanted), "{folder} {text:?}");
            assert!(chunk.weights.iter().all(|weight| *weight == 1.0));
        }
    }
}

#[test]
fn chunks_are_filled_broken_and_padded() {
    let tokenizer = tokenizer("tokenizer_2");
    let (begin, end, pad) = (tokenizer.begin(), tokenizer.end(), tokenizer.pad());
    assert_eq!(pad, 0);
    let lengths = |text: &str| -> Vec<usize> {
        let bodies = chunks(&tokenizer, text);
        let chunks = bodies.as_slice().iter();
        chunks
            .map(|chunk| {
                assert_eq!((chunk.tokens.len(), chunk.tokens[0]), (WINDOW, begin));
                assert_eq!(chunk.weights.len(), WINDOW);
                chunk.tokens.iter().position(|id| *id == end).unwrap() - 1
            })
            .collect()
    };
    assert_eq!(lengths(""), [0]);
    assert_eq!(lengths(&"cat ".repeat(19)), [19]);
    assert_eq!(lengths(&"cat ".repeat(20)), [19, 1]);
    assert_eq!(lengths("cat BREAK the cat BREAK BREAK the"), [1, 2, 0, 1]);
    assert_eq!(lengths("BREAK cat BREAK"), [0, 1]);
    assert_eq!(lengths(&"cat ".repeat(19 * 16)), [19; 16]);
    let pieces = parse(&"cat ".repeat(19 * 16 + 1), Syntax::Plain, "prompt").unwrap();
    let error = Chunks::new(&tokenizer, &pieces, "prompt_2").unwrap_err();
    assert_eq!(error.field.as_deref(), Some("prompt_2"));
    assert!(
        error.message.contains("17 chunks of 19 tokens"),
        "{}",
        error.message
    );
    let mut short = chunks(&tokenizer, "(cat:1.5) the");
    short.pad_to(3);
    assert_eq!(
        short.as_slice()[1..],
        [
            chunks(&tokenizer, "").as_slice()[0].clone(),
            chunks(&tokenizer, "").as_slice()[0].clone()
        ]
    );
    assert_eq!(short.as_slice()[0].weights[..4], [1.0, 1.5, 1.0, 1.0]);
    assert_eq!(
        short.as_slice()[0].tokens[3..],
        [&[end], [pad; 17].as_slice()].concat()
    );
}

/// A copy of a tokenizer's files with one of them changed.
fn said(folder: &str, file: &str, change: impl Fn(&mut Value)) -> String {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("clip").join(folder)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let mut value = json(&format!("clip/{folder}/{file}"));
    change(&mut value);
    std::fs::write(dir.path().join(file), serde_json::to_vec(&value).unwrap()).unwrap();
    match ClipTokenizer::from_snapshot(&Snapshot::dir(dir.path()).unwrap(), "", 77) {
        Ok(tokenizer) => format!("window {}", tokenizer.window()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_wrong_with_the_files_is_named() {
    let config = |change: &dyn Fn(&mut Value)| said("tokenizer_2", "tokenizer_config.json", change);
    let unlimited = config(&|value| value["model_max_length"] = serde_json::json!(1e30));
    assert_eq!(unlimited, "window 77");
    let cases = [
        (
            config(&|value| value["pad_token"] = "<nothing>".into()),
            "special token \"<nothing>\" is not in the vocabulary",
        ),
        (
            config(&|value| value["eos_token"] = 7.into()),
            "7 is no token",
        ),
        (
            config(&|value| value["model_max_length"] = 2.into()),
            "model_max_length: 2 leaves no room",
        ),
        (
            config(&|value| {
                value["added_tokens_decoder"] = serde_json::json!({"900": {"content": "<cat>"}});
            }),
            "added token \"<cat>\" cannot have the id 900",
        ),
        (
            said("tokenizer", "tokenizer.json", |value| {
                value["model"]["end_of_word_suffix"] = "".into();
            }),
            "CLIP's has \"</w>\"",
        ),
        (
            said("tokenizer", "tokenizer.json", |value| {
                value["model"]["merges"] = serde_json::json!(["zz yy"]);
            }),
            "tokenizer.json: ",
        ),
    ];
    for (found, wanted) in cases {
        assert!(found.contains(wanted), "{found} / {wanted}");
    }
    let none = ClipTokenizer::from_snapshot(&snapshot("clip"), "tokenizer_3", 77);
    let none = none.unwrap_err().to_string();
    assert!(
        none.contains("tokenizer_3/tokenizer.json: there is neither it nor"),
        "{none}"
    );
}

#[test]
fn a_token_added_by_hand_is_one_token() {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("clip/tokenizer_2")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let next = json("clip/tokenizer_2/vocab.json")
        .as_object()
        .unwrap()
        .len();
    let added = serde_json::json!({"<cat-toy>": next}).to_string();
    std::fs::write(dir.path().join("added_tokens.json"), added).unwrap();
    let snapshot = Snapshot::dir(dir.path()).unwrap();
    let tokenizer = ClipTokenizer::from_snapshot(&snapshot, "", 77).unwrap();
    let ids = tokenizer.ids("the <cat-toy> cat").unwrap();
    assert_eq!((ids.len(), ids[1]), (3, next as u32));
}
