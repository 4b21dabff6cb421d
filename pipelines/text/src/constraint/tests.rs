//! Which tokens a mask holds, and what masks cost on the engine's thread on vocabularies of today's sizes. The latter
//! by hand: `CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo test -p chandler-text --lib mask_speed -- --ignored --nocapture`. Seen
//! on two busy cores with AVX-512: 13 µs in the median at 32 k tokens and 64 µs at 151 k for JSON, 0.15 and 0.6 ms for
//! a counted `(.|\n){100,4000}`.

use std::sync::Arc;
use std::time::Instant;

use chandler_core::form::Constraint;
use chandler_core::random::Stream;
use serde_json::{Map, Value, json};

use super::{FIELD, Grammars, Language, constraint};
use crate::tokenizer::Tokenizer;
use llguidance::api::TopLevelGrammar;

/// A byte-level vocabulary of the makeup of real ones: bytes, words with and without a space, numbers, and runs of
/// signs.
fn tokenizer(size: usize) -> Tokenizer {
    let mut vocab = Map::new();
    let mut add = |token: String| {
        let id = vocab.len();
        vocab.entry(token).or_insert(id.into());
        vocab.len() < size
    };
    for code in (0x21..=0x7e)
        .chain(0xa1..=0xac)
        .chain(0xae..=0xff)
        .chain(0x100..=0x143)
    {
        add(char::from_u32(code).unwrap().into());
    }
    for number in 0..1000 {
        add(number.to_string());
    }
    let parts = [
        "an", "ing", "tion", "er", "st", "ou", "le", "re", "ch", "mi", "to", "ver", "qu", "ble",
        "Ã©", "æĹ",
    ];
    let signs = [
        "\"", ":", "{", "}", "[", "]", ",", "(", ")", ";", "Ġ", "Ċ", "=", "/", ".", "\\",
    ];
    let stream = Stream::new(1, 0);
    let mut position = 0;
    loop {
        let words = stream.words(position, 0);
        position += 1;
        let pick = |from: &[&str], bits: u32| -> String {
            (0..=(bits >> 28) % 4)
                .map(|n| from[(bits >> (n * 5)) as usize % from.len()])
                .collect()
        };
        let token = match words[0] % 10 {
            0 => pick(&signs, words[1]),
            1..=5 => format!("Ġ{}", pick(&parts, words[1])),
            _ => pick(&parts, words[1]) + &pick(&parts, words[2]),
        };
        if !add(token) {
            break;
        }
    }
    let json = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "post_processor": null, "truncation": null, "padding": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    });
    Tokenizer::of_json(json.to_string().as_bytes()).unwrap()
}

#[test]
#[ignore = "a measurement"]
fn mask_speed() {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "tons": {"type": "integer", "minimum": 0, "maximum": 9999},
            "flag": {"enum": ["red", "green", "blue"]},
            "when": {"type": "string", "format": "date-time"},
            "notes": {"type": "array", "items": {"type": "object", "properties": {"text": {"type": "string", "maxLength": 200}}, "required": ["text"]}},
        },
        "required": ["name", "tons", "flag", "when", "notes"],
    });
    for size in [32_000, 151_000] {
        let tokenizer = Arc::new(tokenizer(size));
        let started = Instant::now();
        let grammars = Grammars::new(Arc::clone(&tokenizer), size);
        let compile = |constraint: &Constraint| {
            grammars.compile(Language {
                field: FIELD.into(),
                grammar: TopLevelGrammar::from_grammar(super::constraint(constraint).unwrap()),
            })
        };
        compile(&Constraint::JsonObject).unwrap();
        println!("{size} tokens: tries {:?}", started.elapsed());
        let cases = [
            ("object", Constraint::JsonObject),
            ("schema", Constraint::JsonSchema(schema.clone())),
            ("regex", Constraint::Regex("(.|\\n){100,4000}".into())),
        ];
        for (what, constraint) in cases {
            let started = Instant::now();
            let mut guide = compile(&constraint).unwrap();
            let compiled = started.elapsed();
            let (mut masks, mut accepts) = (Vec::new(), Vec::new());
            for position in 0..400u64 {
                if guide.is_complete() {
                    break;
                }
                let mut logits = vec![0.0f32; size];
                let started = Instant::now();
                let allowed = guide.allowed().unwrap();
                let left = allowed.restrict(&mut logits);
                masks.push(started.elapsed());
                if !left {
                    break;
                }
                let open: Vec<u32> = (0u32..)
                    .zip(&logits)
                    .filter(|(_, l)| **l == 0.0)
                    .map(|(id, _)| id)
                    .collect();
                let id = open[Stream::new(3, 1).words(position, 0)[0] as usize % open.len()];
                let started = Instant::now();
                guide.accept(id).unwrap();
                accepts.push(started.elapsed());
            }
            masks.sort();
            accepts.sort();
            let at =
                |times: &[std::time::Duration], part: usize| times[(times.len() - 1) * part / 100];
            println!(
                "{size} {what}: compiled in {compiled:?}; {} masks: median {:?}, p90 {:?}, p99 {:?}, most {:?}; accept median {:?}, p99 {:?}",
                masks.len(),
                at(&masks, 50),
                at(&masks, 90),
                at(&masks, 99),
                at(&masks, 100),
                at(&accepts, 50),
                at(&accepts, 99),
            );
        }
    }
}

#[test]
fn tokens_without_a_row_or_with_a_row_and_no_text_are_in_no_mask() {
    let tokenizer = Arc::new(tokenizer(2_000));
    let language = || Language {
        field: FIELD.into(),
        grammar: TopLevelGrammar::from_grammar(
            constraint(&Constraint::Regex("(?s:.*)".into())).unwrap(),
        ),
    };
    // The model has fewer rows than the tokenizer tokens, as many, and more.
    for rows in [1_500, 2_000, 2_100] {
        let grammars = Grammars::new(Arc::clone(&tokenizer), rows);
        let mut guide = grammars.compile(language()).unwrap();
        let mut logits = vec![1.0f32; rows];
        let allowed = guide.allowed().unwrap();
        assert!(allowed.may_end && allowed.restrict(&mut logits));
        let known = rows.min(2_000);
        let letter = (0..200u32)
            .find(|id| tokenizer.token_bytes(*id) == b"a")
            .unwrap();
        assert_eq!(logits[letter as usize], 1.0);
        assert!(
            logits[known..].iter().all(|l| *l == f32::NEG_INFINITY),
            "{rows} rows"
        );
    }
}

#[test]
fn options_of_llguidance_in_a_schema_are_kept() {
    let given = json!({"type": "object", "x-guidance": {"whitespace_flexible": false}});
    assert_eq!(super::with_space(given.clone(), true), given);
    let added: Value = super::with_space(json!({"type": "object"}), true);
    assert_eq!(added["x-guidance"]["lenient"], true);
}
