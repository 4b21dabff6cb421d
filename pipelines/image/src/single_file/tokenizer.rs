//! The tokenizer that a single file lacks: the one that lies beside it in its own folder, else that folder's sibling with this
//! encoder's padding, else CLIP's own vocabulary, which is compiled in. T5's is not: it must lie beside.

use std::collections::BTreeMap;

use chandler_nn::weights::Snapshot;
use serde_json::json;

use super::kind::Kind;
use super::texts::{Model, Texts};
use crate::error::{ImageError, Result};
use crate::prompt::clip_vocabulary;

/// A tokenizer in one file.
const WHOLE: &str = "tokenizer.json";
/// The vocabulary, in either layout. With one of the first two there is one.
const VOCABULARY: [&str; 4] = [WHOLE, "vocab.json", "merges.txt", "added_tokens.json"];
/// What says which tokens begin, end and fill.
const SPECIAL: [&str; 2] = ["tokenizer_config.json", "special_tokens_map.json"];
/// Where another of CLIP's encoders may borrow its vocabulary.
const SIBLINGS: [&str; 2] = ["tokenizer", "tokenizer_2"];

type Files = BTreeMap<String, Vec<u8>>;

/// The files of a text encoder's tokenizer, whose embedding has rows for so many `tokens`.
pub(super) fn files(
    beside: &Snapshot,
    (n, text): (usize, &Texts),
    tokens: u64,
    kind: Kind,
) -> Result<Files> {
    let own = text.tokenizer;
    if text.model == Model::T5 {
        return of_t5(beside, (n, own));
    }
    let mut files = vocabulary(beside, own, own)?;
    if !files.is_empty() {
        take(beside, (own, own), &SPECIAL, &mut files)?;
        return Ok(files);
    }
    for sibling in SIBLINGS {
        let is_t5s = |text: &Texts| text.tokenizer == sibling && text.model == Model::T5;
        if files.is_empty() && !kind.texts().iter().any(is_t5s) {
            files = vocabulary(beside, sibling, own)?;
        }
    }
    if files.is_empty() {
        if tokens != clip_vocabulary::TOKENS {
            return Err(ImageError::Tokenizer(format!(
                "text encoder {} has {tokens} tokens, and CLIP's {} are built in: put its tokenizer beside the file, in a folder {own} \
                 (vocab.json and merges.txt, or tokenizer.json)",
                n + 1,
                clip_vocabulary::TOKENS
            )));
        }
        let built_in = clip_vocabulary::Vocabulary::read()?;
        files.insert(format!("{own}/vocab.json"), built_in.vocab_json()?);
        files.insert(format!("{own}/merges.txt"), built_in.merges_txt());
    }
    let config = json!({
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": text.pad(),
    });
    files.insert(
        format!("{own}/tokenizer_config.json"),
        config.to_string().into_bytes(),
    );
    Ok(files)
}

/// T5's, of which only this form is read.
fn of_t5(beside: &Snapshot, (n, own): (usize, &str)) -> Result<Files> {
    let mut files = Files::new();
    take(beside, (own, own), &[WHOLE], &mut files)?;
    if files.is_empty() {
        return Err(ImageError::Tokenizer(format!(
            "text encoder {} is T5, whose tokenizer is not built in: put it beside the file, in a folder {own} ({WHOLE}; a sentencepiece \
             model alone is not read, and transformers' save_pretrained makes one of it)",
            n + 1
        )));
    }
    take(beside, (own, own), &SPECIAL, &mut files)?;
    Ok(files)
}

/// The vocabulary in a folder, as if it were in another; nothing where it is not whole.
fn vocabulary(beside: &Snapshot, from: &str, to: &str) -> Result<Files> {
    let mut files = Files::new();
    take(beside, (from, to), &VOCABULARY, &mut files)?;
    let has = |name: &str| files.contains_key(&format!("{to}/{name}"));
    let whole = has(WHOLE) || (has("vocab.json") && has("merges.txt"));
    Ok(if whole { files } else { Files::new() })
}

fn take(
    beside: &Snapshot,
    (from, to): (&str, &str),
    names: &[&str],
    files: &mut Files,
) -> Result<()> {
    for name in names {
        if let Some(bytes) = beside.read(&format!("{from}/{name}"))? {
            files.insert(format!("{to}/{name}"), bytes);
        }
    }
    Ok(())
}
