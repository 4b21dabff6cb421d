//! Constrained decoding on models of random weights: whatever they would like to say, an answer has the form that was
//! asked for, alone and in company, suspended or not.

use std::fs;
use std::path::Path;

use chandler_core::contract::{self, Subject};
use chandler_core::form::Constraint;
use chandler_core::{
    Admission, Collected, Event, Events, FinishReason, Input, Limits, Pipeline, Prompt,
    RequestError, Sampling, TextInput, Ticket,
};
use chandler_nn::device::{DTypeChoice, DeviceChoice};
use chandler_nn::weights::{Activations, Snapshot};
use chandler_text::{BatchLimits, TextOptions, TextPipeline};
use serde::Deserialize;
use serde_json::{Number, Value, json};

use crate::parity::fixture;

/// Byte-level with added tokens that are no special ones; byte-level with ignored merges; and SentencePiece's bytes.
const MODELS: [&str; 3] = ["qwen2-f32", "llama3-bf16-sharded", "llama2-f32"];
/// Tokens that these fixtures' tokenizers have; their models have three more rows.
const TOKENS: u32 = 512;

pub fn load(snapshot: &Path) -> TextPipeline {
    let options = TextOptions {
        device: DeviceChoice::Cpu.into(),
        dtype: DTypeChoice::F32,
        max_model_len: None,
        limits: BatchLimits {
            max_rows: 16,
            prefill_chunk: 48,
            ..BatchLimits::default()
        },
        cache_bytes: None,
        clock: std::sync::Arc::new(|| chandler_text::chat::CivilTime::from_unix_seconds(0)),
        quantize: None,
        activations: Activations::F32,
        adapters: Vec::new(),
    };
    TextPipeline::load(
        &Snapshot::dir(snapshot.to_path_buf()).unwrap(),
        options,
        &|_| {},
    )
    .unwrap()
}

/// A copy of a fixture with a window that longer answers fit into; `dress` changes its tokenizer_config.json.
pub fn wide(model: &str, template: Option<&str>, dress: impl Fn(&mut Value)) -> TextPipeline {
    let snapshot = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(model)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), snapshot.path().join(entry.file_name())).unwrap();
    }
    let change = |file: &str, change: &dyn Fn(&mut Value)| {
        let path = snapshot.path().join(file);
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut json);
        fs::write(&path, json.to_string()).unwrap();
    };
    change("config.json", &|config| {
        config["max_position_embeddings"] = 2048.into()
    });
    change("tokenizer_config.json", &dress);
    if let Some(template) = template {
        fs::write(snapshot.path().join("chat_template.jinja"), template).unwrap();
    }
    load(snapshot.path())
}

/// Runs requests together to their ends; at the steps of `suspend` all are taken out and put back.
pub fn run(
    pipeline: &mut TextPipeline,
    inputs: &[TextInput],
    suspend: &[usize],
) -> Vec<Result<Collected, RequestError>> {
    let preparer = pipeline.preparer();
    let mut answers: Vec<_> = inputs.iter().map(|_| Ok(Collected::default())).collect();
    let mut open = Vec::new();
    for (id, input) in inputs.iter().enumerate() {
        match preparer.prepare(Input::Text(input.clone())) {
            Ok(prepared) => {
                let ticket = Ticket::new(id as u64);
                open.push(ticket.id);
                assert!(matches!(pipeline.admit(ticket, prepared), Admission::Taken));
            }
            Err(error) => answers[id] = Err(error),
        }
    }
    let mut events = Events::default();
    let mut steps = 0;
    while !open.is_empty() {
        pipeline.step(&mut events).unwrap();
        for (id, event) in events.drain() {
            let place = &mut answers[id.0 as usize];
            let ended = event.is_terminal();
            if let Event::Failed(error) = event {
                *place = Err(error);
            } else {
                place.as_mut().unwrap().add(event).unwrap();
            }
            if ended {
                open.retain(|other| *other != id);
            }
        }
        steps += 1;
        if suspend.contains(&steps) {
            for id in &open {
                let taken = pipeline.suspend(*id).unwrap();
                assert!(matches!(
                    pipeline.admit(Ticket::new(id.0), taken),
                    Admission::Taken
                ));
            }
        }
    }
    answers
}

pub fn input(constraint: Constraint, seed: u64, temperature: f64, max_tokens: u32) -> TextInput {
    TextInput {
        prompt: Prompt::Tokens(vec![40, 41 + (seed % 300) as u32, 42]),
        sampling: Sampling {
            temperature: Some(temperature),
            seed: Some(seed),
            ..Sampling::default()
        },
        limits: Limits {
            max_tokens: Some(max_tokens),
            ..Limits::default()
        },
        constraint: Some(constraint),
        ..TextInput::default()
    }
}

/// What the schema below admits; serde is the judge.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Ship {
    name: String,
    /// An integer, of which [`tons`] is the judge: `-0` is one, which serde takes for a fraction.
    tons: Number,
    flag: Flag,
    #[serde(default)]
    sails: Vec<Sail>,
    port: Option<Port>,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "lowercase")]
enum Flag {
    Red,
    Green,
    Blue,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Sail {
    square: bool,
    area: f64,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Port {
    code: String,
}

/// A ship's tons as they are written: digits with or without a sign, and no fraction or exponent.
fn tons(text: &str) -> Option<i64> {
    // Within a string its last quotation mark would be escaped.
    let (_, rest) = text.split_once(r#""tons""#)?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    let end = rest.find(|c: char| c == ',' || c == '}' || c.is_whitespace())?;
    rest[..end].parse().ok()
}

#[test]
fn an_integer_is_one_as_it_is_written() {
    for (written, read) in [
        ("-0", Some(0)),
        ("17", Some(17)),
        ("-0.0", None),
        ("1.0", None),
        ("1e2", None),
    ] {
        let text = format!(r#"{{"name": "\"tons\"", "tons" : {written}, "flag": "red"}}"#);
        assert_eq!(tons(&text), read, "{written}");
    }
}

fn ship() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 12},
            "tons": {"type": "integer", "minimum": -5, "maximum": 9999},
            "flag": {"enum": ["red", "green", "blue"]},
            "sails": {"type": "array", "maxItems": 2, "items": {"$ref": "#/$defs/sail"}},
            "port": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/port"}]}
        },
        "required": ["name", "tons", "flag", "port"],
        "additionalProperties": false,
        "$defs": {
            "sail": {
                "type": "object",
                "properties": {"square": {"type": "boolean"}, "area": {"type": "number", "minimum": 0, "maximum": 100}},
                "required": ["square", "area"],
                "additionalProperties": false
            },
            "port": {
                "type": "object",
                "properties": {"code": {"type": "string", "pattern": "^[A-Z]{3}$"}},
                "required": ["code"],
                "additionalProperties": false
            }
        }
    })
}

#[test]
fn answers_to_a_schema_parse_and_validate_whatever_the_weights() {
    for model in MODELS {
        let mut pipeline = wide(model, None, |_| {});
        let inputs: Vec<TextInput> = (0..12)
            .map(|seed| {
                let constraint = Constraint::JsonSchema(ship());
                let mut input = input(
                    constraint,
                    seed,
                    [0.0, 0.7, 1.0, 5.0][seed as usize % 4],
                    700,
                );
                if seed % 3 == 1 {
                    // The most hostile settings for a grammar that waits for an end.
                    input.limits.ignore_eos = true;
                    input.limits.min_tokens = 600;
                    input.sampling.top_k = Some(3);
                    input.sampling.repetition_penalty = Some(1.3);
                }
                input
            })
            .collect();
        let mut ended = 0;
        for (input, answer) in inputs.iter().zip(run(&mut pipeline, &inputs, &[])) {
            let answer = answer.unwrap();
            let row = &answer.rows[0];
            if row.finish == Some(FinishReason::Length) {
                continue;
            }
            ended += 1;
            assert_eq!(row.finish, Some(FinishReason::Stop));
            let ship: Ship = serde_json::from_str(&row.text)
                .unwrap_or_else(|e| panic!("{model} {:?}: {e}: {}", input.sampling.seed, row.text));
            assert!(
                (1..=12).contains(&ship.name.chars().count()),
                "{}",
                row.text
            );
            assert!(
                tons(&row.text).is_some_and(|tons| (-5..=9999).contains(&tons)),
                "{}",
                row.text
            );
            assert!(
                ship.sails.len() <= 2 && ship.sails.iter().all(|s| (0.0..=100.0).contains(&s.area))
            );
            let code = ship.port.map_or("AAA".into(), |port| port.code);
            assert!(
                code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase()),
                "{code}"
            );
            let text = row.tokens.iter().filter(|token| !token.special);
            assert!(
                text.clone().all(|token| token.id < TOKENS),
                "a token that the tokenizer lacks"
            );
            let bytes: Vec<u8> = text.flat_map(|token| token.bytes.clone()).collect();
            assert_eq!(
                String::from_utf8(bytes).unwrap(),
                row.text,
                "no token but those of the text"
            );
        }
        assert!(
            ended >= 9,
            "{model}: only {ended} of {} came to an end",
            inputs.len()
        );
    }
}

#[test]
fn answers_match_a_regular_expression_a_choice_or_a_grammar() {
    let regex = Constraint::Regex(r"(ab|cd){2,3}-[0-9]{1,4}[é蜡]?".into());
    let choices = ["candle", "candles", "a 🕯️", "\"quoted\"\n"];
    let choice = Constraint::Choice(choices.map(str::to_owned).to_vec());
    let grammar = Constraint::Grammar(
        "start: sum\nsum: NUMBER (\"+\" NUMBER){1,3} \";\"\nNUMBER: /[1-9][0-9]?/".into(),
    );
    for model in MODELS {
        let mut pipeline = load(&fixture(model));
        for seed in 0..6 {
            let inputs = [&regex, &choice, &grammar].map(|c| input(c.clone(), seed, 1.5, 60));
            let texts: Vec<String> = run(&mut pipeline, &inputs, &[])
                .into_iter()
                .map(|answer| {
                    let row = answer.unwrap().rows.remove(0);
                    assert_eq!(row.finish, Some(FinishReason::Stop), "{}", row.text);
                    row.text
                })
                .collect();
            let (letters, digits) = texts[0].split_once('-').unwrap();
            assert!([4, 6].contains(&letters.len()), "{}", texts[0]);
            assert!(
                letters.replace("ab", "").replace("cd", "").is_empty(),
                "{}",
                texts[0]
            );
            let number = digits.trim_end_matches(['é', '蜡']);
            assert!(
                (1..=4).contains(&number.len()) && number.parse::<u32>().is_ok(),
                "{digits}"
            );
            assert!(choices.contains(&texts[1].as_str()), "{:?}", texts[1]);
            let sum = texts[2].strip_suffix(';').unwrap();
            let terms: Vec<u32> = sum.split('+').map(|term| term.parse().unwrap()).collect();
            assert!((2..=4).contains(&terms.len()), "{sum}");
        }
    }
}

#[test]
fn a_constrained_answer_is_the_same_alone_in_company_and_after_being_suspended() {
    let mut inputs: Vec<TextInput> = (0..4)
        .map(|seed| input(Constraint::JsonSchema(ship()), seed, 0.9, 60))
        .collect();
    inputs[1].n = 2;
    inputs.push(input(Constraint::Regex("[a-z ]{20,40}".into()), 9, 1.0, 50));
    let mut free = input(Constraint::JsonObject, 3, 1.0, 40);
    free.constraint = None;
    inputs.push(free);
    let mut pipeline = load(&fixture("qwen2-f32"));
    let together = run(&mut pipeline, &inputs, &[]);
    let suspended = run(&mut load(&fixture("qwen2-f32")), &inputs, &[6, 30]);
    for (index, input) in inputs.iter().enumerate() {
        let alone = run(&mut pipeline, std::slice::from_ref(input), &[])
            .remove(0)
            .unwrap();
        assert_eq!(
            together[index].as_ref().unwrap().rows,
            alone.rows,
            "{index} in company"
        );
        assert_eq!(
            suspended[index].as_ref().unwrap().rows,
            alone.rows,
            "{index} suspended"
        );
    }
}

#[test]
fn the_grammar_decides_where_an_answer_ends() {
    let mut pipeline = load(&fixture("qwen2-f32"));
    let yes = Constraint::Choice(vec!["yes".into()]);
    let mut long = input(yes.clone(), 1, 1.0, 40);
    long.limits.min_tokens = 30;
    let mut deaf = input(yes.clone(), 2, 1.0, 40);
    deaf.limits.ignore_eos = true;
    // The end token is the most likely by far, and comes only where the grammar may end.
    let mut hasty = input(Constraint::Regex("(ab){2,9}".into()), 3, 1.0, 40);
    hasty.sampling.logit_bias = [(509, 100.0)].into();
    // A letter that the grammar needs ends nothing before its end.
    let mut letter = input(Constraint::Regex("(ab){3}".into()), 4, 1.0, 40);
    letter.limits.stop_token_ids = (0..TOKENS).collect();
    let mut more = input(Constraint::Regex("a*".into()), 5, 1.0, 40);
    more.limits.min_tokens = 10;
    let mut cut = input(Constraint::JsonSchema(ship()), 6, 1.0, 3);
    cut.limits.ignore_eos = true;
    let mut empty = input(Constraint::Regex("".into()), 7, 1.0, 5);
    empty.limits.ignore_eos = true;
    let mut biased = input(yes, 8, 0.0, 40);
    biased.sampling.logit_bias = (0..TOKENS).map(|id| (id, -100.0)).collect();
    let inputs = [long, deaf, hasty, letter, more, cut, empty, biased];
    let rows: Vec<_> = run(&mut pipeline, &inputs, &[])
        .into_iter()
        .map(|answer| answer.unwrap().rows.remove(0))
        .collect();
    for at in [0, 1, 7] {
        assert_eq!(
            (rows[at].text.as_str(), rows[at].finish),
            ("yes", Some(FinishReason::Stop))
        );
    }
    assert_eq!(
        (rows[2].text.as_str(), rows[2].finish),
        ("abab", Some(FinishReason::Stop))
    );
    assert_eq!(
        (rows[3].text.as_str(), rows[3].finish),
        ("ababab", Some(FinishReason::Stop))
    );
    assert!(
        rows[4].tokens.len() >= 10 && rows[4].text.bytes().all(|b| b == b'a'),
        "{:?}",
        rows[4].text
    );
    assert_eq!(
        (rows[5].tokens.len(), rows[5].finish),
        (3, Some(FinishReason::Length))
    );
    assert_eq!(
        (rows[6].text.as_str(), rows[6].finish),
        ("", Some(FinishReason::Stop))
    );
}

#[test]
fn log_probabilities_are_the_models_own() {
    let mut pipeline = load(&fixture("qwen2-f32"));
    let mut asked = input(Constraint::Choice(vec!["candle".into()]), 1, 1.0, 20);
    asked.logprobs = Some(3);
    let answer = run(&mut pipeline, &[asked], &[]).remove(0).unwrap();
    let first = &answer.rows[0].tokens[0];
    assert!(first.logprob.unwrap() < -0.1, "{first:?}");
    assert!(first.top.iter().all(|top| top.logprob > f32::NEG_INFINITY));
}

#[test]
fn constrained_requests_keep_the_contract() {
    let ask = |number: u64| {
        let constraint = match number % 4 {
            0 => Constraint::JsonObject,
            1 => Constraint::Regex("[a-z ]{3,30}".into()),
            2 => Constraint::Choice(vec!["candle".into(), "wick".into()]),
            _ => Constraint::JsonSchema(ship()),
        };
        let mut input = input(constraint, number, 1.0, 1 + (number % 19) as u32);
        input.n = 1 + (number % 3) as u32;
        Input::Text(input)
    };
    contract::check(&Subject {
        make: &|| load(&fixture("qwen2-f32")),
        input: &ask,
        requests: 24,
        suspend_every: 3,
    });
}
