//! `best_of`: the rows that are given are the likeliest of those that ran, and nothing is said before that is known.

use chandler_core::{Admission, Event, Events, Input, Pipeline, TextInput, Ticket};

use crate::drive::{FEW_BLOCKS, LIMITS, drawn, load, run};

fn input(n: u32, best_of: Option<u32>) -> TextInput {
    let mut input = drawn(&[10, 20, 30, 40, 50], 12, 3);
    input.n = n;
    input.best_of = best_of;
    input.limits.ignore_eos = false;
    input.limits.stop_token_ids = (0..40).collect();
    input.logprobs = Some(0);
    input
}

fn mean(row: &chandler_core::RowOutput) -> f64 {
    let sum: f64 = row
        .tokens
        .iter()
        .map(|t| f64::from(t.logprob.unwrap()))
        .sum();
    sum / row.tokens.len() as f64
}

#[test]
fn the_likeliest_rows_are_given_best_first() {
    let all = run(&mut load("llama2-f32", LIMITS, None), vec![input(6, None)]).remove(0);
    let lengths: Vec<usize> = all.rows.iter().map(|row| row.tokens.len()).collect();
    assert!(
        lengths.iter().any(|len| *len != lengths[0]),
        "lengths differ: {lengths:?}"
    );
    let mut ranked = all.rows.clone();
    ranked.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
    assert_ne!(ranked, all.rows);
    for bytes in [None, Some(FEW_BLOCKS)] {
        let company = vec![input(2, Some(6)), input(6, None), input(2, Some(6))];
        let answers = run(&mut load("llama2-f32", LIMITS, bytes), company);
        for best in [&answers[0], &answers[2]] {
            assert_eq!(best.rows, ranked[..2]);
            assert_eq!(best.usage.completion_tokens, all.usage.completion_tokens);
        }
    }
}

#[test]
fn log_probabilities_are_counted_and_not_shown_where_nobody_asked() {
    let mut plain = input(1, Some(4));
    plain.logprobs = None;
    let mut pipeline = load("llama2-f32", LIMITS, None);
    let answers = run(&mut pipeline, vec![plain, input(1, Some(4))]);
    assert_eq!(answers[0].rows[0].text, answers[1].rows[0].text);
    assert!(
        answers[0].rows[0]
            .tokens
            .iter()
            .all(|t| t.logprob.is_none())
    );
}

#[test]
fn each_row_is_said_once_and_at_the_end_even_after_a_suspension() {
    let mut pipeline = load("llama2-f32", LIMITS, None);
    let expected = run(&mut pipeline, vec![input(2, Some(5))]).remove(0);
    let mut with_echo = input(2, Some(5));
    with_echo.echo = true;
    let prepared = pipeline.preparer().prepare(Input::Text(with_echo)).unwrap();
    let mut held = Some(prepared);
    let mut events = Events::default();
    let mut seen = vec![];
    for turn in 0..200 {
        if let Some(prepared) = held.take() {
            assert!(matches!(
                pipeline.admit(Ticket::new(0), prepared),
                Admission::Taken
            ));
        }
        pipeline.step(&mut events).unwrap();
        seen.extend(events.drain().map(|(_, event)| event));
        if pipeline.occupancy().requests == 0 {
            break;
        }
        // A few steps between, since reading it all again is a step or two.
        if turn % 4 == 3 {
            held = pipeline.suspend(chandler_core::RequestId(0));
        }
    }
    let [
        Event::Started { .. },
        Event::Text(first),
        Event::Text(second),
        Event::Done(_),
    ] = seen.as_slice()
    else {
        panic!("{seen:?}");
    };
    for (row, delta) in [first, second].into_iter().enumerate() {
        assert_eq!(delta.row as usize, row);
        assert_eq!(delta.finish, expected.rows[row].finish);
        assert!(delta.text.ends_with(&expected.rows[row].text));
        assert!(
            delta.text.len() > expected.rows[row].text.len(),
            "the echo is in it"
        );
        assert_eq!(delta.tokens[5..], expected.rows[row].tokens);
    }
}

#[test]
fn a_count_that_makes_no_sense_is_refused_by_name() {
    let pipeline = load("llama2-f32", LIMITS, None);
    let refuse = |input| pipeline.preparer().prepare(Input::Text(input)).unwrap_err();
    let error = refuse(input(3, Some(2)));
    assert_eq!(error.field.as_deref(), Some("best_of"));
    assert_eq!(error.message, "best_of is 2; it must be at least n, 3");
    let error = refuse(input(3, Some(17)));
    assert_eq!(error.field.as_deref(), Some("best_of"));
    assert!(error.message.contains("at most 16"), "{error}");
    assert_eq!(refuse(input(17, None)).field.as_deref(), Some("n"));
    // The context window and the cache, for every row that runs.
    let window = pipeline.preparer().info().context_length as u32;
    let mut long = input(1, Some(8));
    long.limits.max_tokens = Some(window);
    assert_eq!(refuse(long).field.as_deref(), Some("max_tokens"));
    let small = load("llama2-f32", LIMITS, Some(FEW_BLOCKS));
    let mut wide = input(1, Some(8));
    wide.limits.max_tokens = Some(60);
    let error = small.preparer().prepare(Input::Text(wide)).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("best_of"));
    assert!(error.message.contains("8 answers"), "{error}");
}
