//! The tokenizer against tiktoken and openai-whisper, from both layouts of files.

use chandler_nn::weights::Snapshot;
use chandler_speech::whisper::Tokenizer;

use super::*;

#[test]
fn texts_are_encoded_as_tiktoken_does_and_no_text_is_a_special_token() {
    let tokenizer = load("multilingual-f32").description.tokenizer;
    let cases = json("long/tokenizer.json");
    for case in cases["encode"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let found = tokenizer.encode(text).unwrap();
        assert_eq!(found, ids(&case["ids"]), "{text:?}");
        assert_eq!(tokenizer.decode(&found), text);
    }
}

#[test]
fn words_are_split_as_openai_whisper_does() {
    let description = load("multilingual-f32").description;
    let eot = description.generation.tokens.eot;
    for case in json("long/tokenizer.json")["split"].as_array().unwrap() {
        let language = case["language"].as_str().unwrap();
        let found = description
            .tokenizer
            .words(&ids(&case["ids"]), eot, language);
        let texts: Vec<&str> = found.iter().map(|word| word.text.as_str()).collect();
        let expected: Vec<&str> = case["words"]
            .as_array()
            .unwrap()
            .iter()
            .map(|w| w.as_str().unwrap())
            .collect();
        assert_eq!(texts, expected);
        let tokens: Vec<Vec<u32>> = found.into_iter().map(|word| word.tokens).collect();
        let expected: Vec<Vec<u32>> = case["tokens"].as_array().unwrap().iter().map(ids).collect();
        assert_eq!(tokens, expected);
    }
}

#[test]
fn the_older_files_give_the_same_tokenizer() {
    // The text tokens of all checkpoints are the same; their special tokens are not.
    let new = load("multilingual-f32").description.tokenizer;
    let old = load("english-f16").description.tokenizer;
    for case in json("long/tokenizer.json")["encode"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        assert_eq!(
            old.encode(text).unwrap(),
            new.encode(text).unwrap(),
            "{text:?}"
        );
    }
    assert_eq!(old.decode(&[old.added("<|0.02|>").unwrap()]), "<|0.02|>");
}

#[test]
fn files_that_are_no_tokenizer_are_named() {
    let said = |files: &[(&str, &str)]| {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let snapshot = Snapshot::dir(dir.path()).unwrap();
        Tokenizer::from_snapshot(&snapshot).unwrap_err().to_string()
    };
    assert!(said(&[]).contains("neither tokenizer.json nor both of vocab.json and merges.txt"));
    assert!(said(&[("vocab.json", "{}")]).contains("merges.txt"));
    assert!(said(&[("tokenizer.json", "[1]")]).contains("tokenizer.json: it is no JSON object"));
    assert!(said(&[("tokenizer.json", "{}")]).contains("tokenizer.json"));
    let added = [
        ("vocab.json", "{}"),
        ("merges.txt", ""),
        ("added_tokens.json", "{\"<|x|>\": 99999999999}"),
    ];
    assert!(said(&added).contains("added_tokens.json: \"<|x|>\" has 99999999999"));
}
