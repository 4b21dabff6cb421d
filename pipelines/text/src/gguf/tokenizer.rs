//! A GGUF file's vocabulary as a tokenizer.json, so that one tokenizer reads both: byte-level merging (`gpt2`) and
//! SentencePiece (`llama`). Mirrors transformers' integrations/gguf/gguf_tokenizer_mapping.py; where that differs from the
//! models' own tokenizer.json (Qwen's composed text, Llama 3's whole words, SmolLM's digits), the model's own is followed.

use std::collections::HashMap;

use chandler_nn::weights::gguf::Metadata;
use serde_json::{Map, Value, json};

use super::architectures::SentencePiece;
use super::pre_tokenizers::PreTokenizer;
use super::vocabulary::{Kind, Vocabulary};
use crate::error::Result;

/// tokenizer.json and tokenizer_config.json.
pub(super) struct Files {
    pub(super) tokenizer: Value,
    pub(super) config: Value,
}

/// Makes the tokenizer's files.
///
/// # Errors
/// Names the key that is missing, of another type, or asks for what is not known.
pub(super) fn files(metadata: &Metadata, style: SentencePiece) -> Result<Files> {
    const MODEL: &str = "tokenizer.ggml.model";
    let vocabulary = Vocabulary::read(metadata)?;
    let tokenizer = match metadata.text(MODEL)? {
        Some("gpt2") => byte_level(&vocabulary)?,
        Some("llama") => sentence_piece(&vocabulary, style)?,
        other => {
            let found = other.map_or_else(|| "is missing".to_owned(), |name| format!("is {name}"));
            let reason = format!(
                "{found}; gpt2 and llama are read: put the model's tokenizer.json beside the file"
            );
            return Err(metadata.refuse(MODEL, &reason).into());
        }
    };
    Ok(Files {
        tokenizer,
        config: vocabulary.config()?,
    })
}

/// The parts in which the two kinds differ.
struct Parts {
    added: Value,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Value,
}

impl Parts {
    fn into_json(self) -> Value {
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": self.added,
            "normalizer": self.normalizer, "pre_tokenizer": self.pre_tokenizer,
            "post_processor": self.post_processor, "decoder": self.decoder, "model": self.model,
        })
    }
}

/// `gpt2`: tokens in the byte alphabet, and merges.
fn byte_level(vocabulary: &Vocabulary<'_>) -> Result<Value> {
    const PRE: &str = "tokenizer.ggml.pre";
    let metadata = vocabulary.metadata;
    let name = metadata.text(PRE)?;
    let Some(pre) = PreTokenizer::named(name) else {
        let known: Vec<&str> = PreTokenizer::names().collect();
        let reason = format!(
            "is {}, and how it cuts text is not known here; {} are: put the model's tokenizer.json beside the file",
            name.unwrap_or(""),
            known.join(", ")
        );
        return Err(metadata.refuse(PRE, &reason).into());
    };
    if name.is_none() {
        tracing::warn!(
            "the file has no tokenizer.ggml.pre: its text is cut as GPT-2's, which may not be the model's way"
        );
    }
    let Some(merges) = vocabulary.merges()? else {
        return Err(metadata
            .refuse(
                "tokenizer.ggml.merges",
                "is missing: put the model's tokenizer.json beside the file",
            )
            .into());
    };
    let alphabet = alphabet();
    let mut ids = Map::new();
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        // Added tokens stand as the text that they are; of the others, one outside the alphabet was left as text by mistake.
        let spelled = token.chars().all(|c| alphabet.contains(&c));
        let text = match vocabulary.kind(id) {
            Kind::Plain if !spelled => token
                .bytes()
                .filter_map(|byte| alphabet.get(usize::from(byte)))
                .collect(),
            _ => token.clone(),
        };
        ids.insert(text, json!(id));
    }
    let merges = known_merges(merges, &ids);
    let parts = Parts {
        added: vocabulary.added(|_| true),
        normalizer: pre.normalizer(),
        pre_tokenizer: pre.pre_tokenizer(),
        post_processor: vocabulary.around(pre.adds_bos)?,
        decoder: json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        model: json!({
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": pre.ignore_merges, "vocab": ids, "merges": merges,
        }),
    };
    Ok(parts.into_json())
}

/// GPT-2's `bytes_to_unicode`: printable bytes as they are, the others from U+0100 on; by byte.
fn alphabet() -> Vec<char> {
    let mut others = 0x100..;
    let spell = |byte: u8| match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
        _ => others
            .next()
            .and_then(char::from_u32)
            .unwrap_or(char::REPLACEMENT_CHARACTER),
    };
    (0..=u8::MAX).map(spell).collect()
}

/// Merges whose parts and whole are tokens; the library refuses a file with any other, and no text could use it.
fn known_merges(merges: Vec<(String, String)>, ids: &Map<String, Value>) -> Vec<[String; 2]> {
    let known = |(first, second): &(String, String)| {
        ids.contains_key(first)
            && ids.contains_key(second)
            && ids.contains_key(&format!("{first}{second}"))
    };
    let merges = merges.into_iter().filter(known);
    merges.map(|(first, second)| [first, second]).collect()
}

/// `llama`: pieces with scores, of which merges follow.
fn sentence_piece(vocabulary: &Vocabulary<'_>, style: SentencePiece) -> Result<Value> {
    const SPACE: &str = "\u{2581}";
    let metadata = vocabulary.metadata;
    let prefix = metadata.flag("tokenizer.ggml.add_space_prefix")?;
    let prefix = prefix.unwrap_or(style != SentencePiece::Gemma);
    // Gemma's runs of spaces stand as they are in the file, and as pieces in the vocabulary.
    let respelled = |token: &String| {
        let run = token.len() > 1 && token.bytes().all(|byte| byte == b' ');
        match style == SentencePiece::Gemma && run {
            true => SPACE.repeat(token.len()),
            false => token.clone(),
        }
    };
    let tokens: Vec<String> = vocabulary.tokens.iter().map(respelled).collect();
    let ids: Map<String, Value> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (token.clone(), json!(id)))
        .collect();
    let merges = match (vocabulary.merges()?, vocabulary.scores()?, style) {
        (Some(merges), _, _) => known_merges(merges, &ids),
        // Gemma's scores do not follow the order of its merges; its vocabulary does.
        (None, _, SentencePiece::Gemma) => {
            let order: Vec<f32> = (0..tokens.len()).map(|id| -(id as f32)).collect();
            merges_of(&tokens, &order)
        }
        (None, Some(scores), _) => merges_of(&tokens, scores),
        (None, None, _) => {
            let reason = "is missing: put the model's tokenizer.json beside the file";
            return Err(metadata.refuse("tokenizer.ggml.scores", reason).into());
        }
    };
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let prepend = json!({"type": "Prepend", "prepend": SPACE});
    let (normalizer, pre_tokenizer) = match style {
        SentencePiece::Llama => (
            Value::Null,
            json!({"type": "Metaspace", "replacement": SPACE, "split": false,
                   "prepend_scheme": if prefix { "first" } else { "never" }}),
        ),
        SentencePiece::Phi3 if prefix => (
            json!({"type": "Sequence", "normalizers": [prepend, replace]}),
            Value::Null,
        ),
        SentencePiece::Phi3 => (replace, Value::Null),
        SentencePiece::Gemma => (
            replace,
            json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false}),
        ),
    };
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix && style != SentencePiece::Gemma {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let parts = Parts {
        added: vocabulary.added(|token| ids.contains_key(token)),
        normalizer,
        pre_tokenizer,
        // Older files have no flag, and llama.cpp puts a beginning token before such a text.
        post_processor: vocabulary.around(true)?,
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        model: json!({
            "type": "BPE", "dropout": null, "unk_token": vocabulary.named("unknown")?,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
            "ignore_merges": false, "vocab": ids, "merges": merges,
        }),
    };
    Ok(parts.into_json())
}

/// The merges that a vocabulary implies: every way to cut a token into two tokens, by the token's score, the best first
/// (transformers' `generate_merges`, whose order among equals is kept).
fn merges_of(tokens: &[String], scores: &[f32]) -> Vec<[String; 2]> {
    /// What a merge is sorted by: the whole's score, and the characters of the parts.
    struct Merge<'a> {
        score: f32,
        characters: (usize, usize),
        parts: (&'a str, &'a str),
    }
    // Of a token that is there twice the last number counts.
    let ids: HashMap<&str, usize> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (token.as_str(), id))
        .collect();
    let mut merges = Vec::new();
    for (place, token) in tokens.iter().enumerate() {
        // Once for each token, with its last score.
        if ids.get(token.as_str()) != Some(&place) {
            continue;
        }
        let score = scores.get(place).copied().unwrap_or(0.0);
        let characters = token.chars().count();
        let cuts = token.char_indices().enumerate().skip(1);
        let mut local: Vec<(usize, usize, Merge<'_>)> = cuts
            .filter_map(|(count, (at, _))| {
                let parts = token.split_at(at);
                let merge = Merge {
                    score,
                    characters: (count, characters - count),
                    parts,
                };
                Some((*ids.get(parts.0)?, *ids.get(parts.1)?, merge))
            })
            .collect();
        local.sort_by_key(|(first, second, _)| (*first, *second));
        merges.extend(local.into_iter().map(|(_, _, merge)| merge));
    }
    merges.sort_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then_with(|| b.characters.cmp(&a.characters))
    });
    let pair = |merge: Merge<'_>| [merge.parts.0.to_owned(), merge.parts.1.to_owned()];
    merges.into_iter().map(pair).collect()
}
