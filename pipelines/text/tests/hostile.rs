//! Constraints that cannot be, or cost too much: refused by name and in time, and nobody else's answer suffers.

use std::time::{Duration, Instant};

use chandler_core::form::Constraint;
use chandler_core::{Input, Pipeline};
use serde_json::{Value, json};

use crate::parity::fixture;
use crate::structure::{input, load, run};

fn nested(levels: usize) -> Value {
    (0..levels).fold(
        json!({"type": "string"}),
        |inner, _| json!({"type": "object", "properties": {"a": inner}, "required": ["a"]}),
    )
}

#[test]
fn what_cannot_be_compiled_is_refused_by_name_and_in_time() {
    let pipeline = load(&fixture("qwen2-f32"));
    let preparer = pipeline.preparer();
    let many = |n: usize| -> Vec<Value> {
        (0..n)
            .map(|i| json!({"type": "object", "properties": {format!("p{i}"): {"type": "string"}}}))
            .collect()
    };
    let product: Vec<Value> = (0..40).map(|_| json!({"anyOf": many(40)})).collect();
    let long = "x".repeat(300 << 10);
    let cases = [
        ("an open bracket", Constraint::Regex("(ab".into())),
        ("look-ahead", Constraint::Regex("(?=a)b".into())),
        ("a long expression", Constraint::Regex(long.clone())),
        (
            "nested groups",
            Constraint::Regex("(".repeat(4000) + &")".repeat(4000)),
        ),
        ("a schema that is none", Constraint::JsonSchema(json!([1]))),
        (
            "an unknown type",
            Constraint::JsonSchema(json!({"type": "candle"})),
        ),
        (
            "an unknown reference",
            Constraint::JsonSchema(json!({"$ref": "https://example.com/x"})),
        ),
        (
            "a long schema",
            Constraint::JsonSchema(json!({"const": long})),
        ),
        ("a deep schema", Constraint::JsonSchema(nested(100))),
        (
            "a product",
            Constraint::JsonSchema(json!({"allOf": product})),
        ),
        ("no grammar", Constraint::Grammar("start: (".into())),
        (
            "nested rules",
            Constraint::Grammar(format!(
                "start: {}\"a\"{}",
                "(".repeat(50_000),
                ")".repeat(50_000)
            )),
        ),
        (
            "an unknown special token",
            Constraint::Grammar("start: <|no_such|>".into()),
        ),
        ("no choice", Constraint::Choice(Vec::new())),
        ("an empty choice", Constraint::Choice(vec![String::new()])),
        ("nothing fits", Constraint::JsonSchema(json!(false))),
    ];
    for (what, constraint) in cases {
        let started = Instant::now();
        let refused = preparer.prepare(Input::Text(input(constraint, 1, 1.0, 20)));
        let error = refused.err().unwrap_or_else(|| panic!("{what} was taken"));
        assert_eq!(
            error.field.as_deref(),
            Some("constraint"),
            "{what}: {error}"
        );
        assert!(
            error.message.len() < 2_000 && !error.message.contains('\u{0}'),
            "{what}: {error}"
        );
        println!("{what}: {:?}: {error}", started.elapsed());
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{what} took {:?}",
            started.elapsed()
        );
    }
    for levels in [10, 50] {
        let deep = Constraint::JsonSchema(nested(levels));
        assert!(
            preparer
                .prepare(Input::Text(input(deep, 1, 1.0, 20)))
                .is_ok(),
            "{levels} levels"
        );
    }
}

#[test]
fn an_expression_whose_automaton_explodes_costs_its_own_request_alone() {
    let mut pipeline = load(&fixture("qwen2-f32"));
    let explosion = "(((a{1,999}){1,999}){1,999}b|.{900}c|(.*a.{40}){9}){1,999}";
    let hostile = input(Constraint::Regex(explosion.into()), 1, 1.0, 60);
    let harmless = input(Constraint::Choice(vec!["yes".into()]), 2, 1.0, 60);
    let started = Instant::now();
    let answers = run(&mut pipeline, &[hostile, harmless], &[]);
    println!("{:?}: {:?}", started.elapsed(), answers[0].as_ref().err());
    assert!(started.elapsed() < Duration::from_secs(30));
    if let Err(error) = &answers[0] {
        assert_eq!(error.field.as_deref(), Some("constraint"));
    }
    assert_eq!(answers[1].as_ref().unwrap().rows[0].text, "yes");
}

#[test]
fn large_schemas_are_taken_or_refused_and_a_step_stays_short() {
    let mut pipeline = load(&fixture("qwen2-f32"));
    let object = |count: usize, required: bool| {
        let names: Vec<String> = (0..count).map(|i| format!("property_{i}")).collect();
        let properties: serde_json::Map<String, Value> = names
            .iter()
            .map(|name| (name.clone(), json!({"type": "string", "maxLength": 40})))
            .collect();
        let required = if required { names } else { Vec::new() };
        json!({"type": "object", "properties": properties, "required": required})
    };
    let words: Vec<String> = (0..9_000).map(|i| format!("word {}", i * 7919)).collect();
    let grid = json!({"type": "array", "maxItems": 1000, "items": {"type": "array", "minItems": 900, "maxItems": 1000, "items": {"type": "number"}}});
    let cases = [
        ("an enum", json!({"enum": words})),
        ("required properties", object(2_000, true)),
        ("optional properties", object(2_000, false)),
        (
            "a long string",
            json!({"type": "string", "minLength": 90_000, "maxLength": 100_000}),
        ),
        (
            "a pattern",
            json!({"type": "string", "pattern": "^(([a-z]+)+@)*((a|aa)+){1,50}$"}),
        ),
        ("a grid", grid),
        (
            "a vast list",
            json!({"type": "array", "items": {"type": "string"}, "maxItems": 1_000_000_000u64}),
        ),
        (
            "itself",
            json!({"type": "object", "properties": {"next": {"$ref": "#"}}}),
        ),
        (
            "itself with more",
            json!({"allOf": [{"$ref": "#"}, {"type": "object"}]}),
        ),
    ];
    for (what, schema) in cases {
        let started = Instant::now();
        let asked = input(Constraint::JsonSchema(schema), 1, 1.0, 30);
        let prepared = pipeline
            .preparer()
            .prepare(Input::Text(asked.clone()))
            .map(drop);
        let compiled = started.elapsed();
        let answer = run(&mut pipeline, &[asked], &[]).remove(0);
        println!(
            "{what}: {compiled:?}, in all {:?}: {:?} {:?}",
            started.elapsed(),
            prepared.err(),
            answer.as_ref().err()
        );
        assert!(
            compiled < Duration::from_secs(10),
            "{what} compiled in {compiled:?}"
        );
        assert!(
            started.elapsed() < Duration::from_secs(40),
            "{what} took {:?}",
            started.elapsed()
        );
        if let Err(error) = answer {
            assert_eq!(error.field.as_deref(), Some("constraint"), "{what}");
        }
    }
}
