//! The pipeline as the engine sees it: the contract suite, greedy answers as `transformers` gives them, the number of
//! passes, preemption, and what a request may ask of sampling and stops.

use chandler_core::contract::{self, Subject};
use chandler_core::{
    Activity, Admission, Event, Events, FinishReason, Input, Pipeline, Prompt, Sampling, TextInput,
    Ticket,
};
use chandler_text::{BatchLimits, TextPipeline};

use crate::drive::{FEW_BLOCKS, LIMITS, ids, load, run, tokens};
use crate::parity::{FIXTURES, expected};

#[test]
fn greedy_answers_are_those_of_transformers_alone_and_together() {
    for name in FIXTURES {
        let (prompts, _) = expected(name);
        let inputs: Vec<TextInput> = prompts.iter().map(|p| tokens(&p.ids, 32)).collect();
        let together = run(&mut load(name, LIMITS, None), inputs.clone());
        for ((prompt, input), answer) in prompts.iter().zip(inputs).zip(&together) {
            assert_eq!(
                ids(answer),
                prompt.greedy,
                "{name} {} together",
                prompt.name
            );
            let alone = run(&mut load(name, LIMITS, None), vec![input]);
            assert_eq!(
                ids(&alone[0]),
                prompt.greedy,
                "{name} {} alone",
                prompt.name
            );
        }
    }
}

pub fn contract_input(number: u64) -> Input {
    let length = 1 + (number * 7) % 40;
    let mut input = tokens(
        &(0..length)
            .map(|i| ((i * 31 + number * 17) % 500) as u32)
            .collect::<Vec<_>>(),
        1 + (number % 11) as u32,
    );
    input.n = 1 + (number % 3) as u32;
    input.sampling = Sampling {
        temperature: Some(0.9),
        top_p: Some(0.95),
        seed: Some(number),
        repetition_penalty: Some(1.1),
        ..Sampling::default()
    };
    Input::Text(input)
}

#[test]
fn the_language_model_keeps_the_contract() {
    contract::check(&Subject {
        make: &|| load("llama2-f32", LIMITS, None),
        input: &contract_input,
        requests: 40,
        suspend_every: 3,
    });
}

#[test]
fn it_keeps_the_contract_when_blocks_run_short() {
    let make = || load("llama2-f32", LIMITS, Some(FEW_BLOCKS));
    assert_eq!(make().occupancy().blocks_total, 14);
    contract::check(&Subject {
        make: &make,
        input: &contract_input,
        requests: 40,
        suspend_every: 3,
    });
}

#[test]
fn eight_requests_of_64_tokens_take_at_most_80_passes() {
    let mut pipeline = load("qwen2-f32", LIMITS, None);
    let inputs = (0..8).map(|i| tokens(&[i + 1, 2 * i + 3, 7], 64)).collect();
    let answers = run(&mut pipeline, inputs);
    assert!(answers.iter().all(|a| a.rows[0].tokens.len() == 64));
    assert!(pipeline.passes() <= 80, "{} passes", pipeline.passes());
}

#[test]
fn a_long_prompt_does_not_hold_up_those_who_answer() {
    let mut pipeline = load(
        "llama2-f32",
        BatchLimits {
            max_rows: 4,
            prefill_chunk: 16,
            ..LIMITS
        },
        None,
    );
    let preparer = pipeline.preparer();
    let admit = |pipeline: &mut TextPipeline, id, input| {
        let prepared = preparer.prepare(Input::Text(input)).unwrap();
        assert!(matches!(
            pipeline.admit(Ticket::new(id), prepared),
            Admission::Taken
        ));
    };
    let mut events = Events::default();
    admit(&mut pipeline, 0, tokens(&[1, 2, 3], 60));
    pipeline.step(&mut events).unwrap();
    events.drain().for_each(drop);
    admit(&mut pipeline, 1, tokens(&vec![5; 120], 4));
    for _ in 0..7 {
        assert_eq!(
            pipeline.step(&mut events).unwrap().activity,
            Activity::Worked
        );
        let spoke = events
            .drain()
            .filter(|(id, e)| id.0 == 0 && matches!(e, Event::Text(_)))
            .count();
        assert_eq!(spoke, 1, "the answering request gets a token in every step");
    }
}

#[test]
fn several_answers_share_a_prompt_and_differ_by_their_draws() {
    let mut input = tokens(&[10, 20, 30, 40, 50], 12);
    input.n = 4;
    input.sampling.temperature = Some(1.5);
    input.sampling.seed = Some(3);
    let answer = run(&mut load("llama2-f32", LIMITS, None), vec![input.clone()]).remove(0);
    let texts: std::collections::HashSet<_> = answer.rows.iter().map(|r| r.text.clone()).collect();
    assert_eq!((answer.rows.len(), texts.len()), (4, 4));
    assert_eq!(answer.usage.completion_tokens, 48);
    let again = run(&mut load("llama2-f32", LIMITS, None), vec![input]).remove(0);
    assert_eq!(answer, again);
}

#[test]
fn log_probabilities_of_answer_and_echoed_prompt_agree_with_transformers() {
    let (prompts, arrays) = expected("llama3-bf16-sharded");
    for prompt in prompts {
        let wanted: Vec<f32> = arrays[&format!("logprobs.{}", prompt.name)]
            .to_vec1()
            .unwrap();
        let mut input = tokens(&prompt.ids, 32);
        input.logprobs = Some(3);
        input.echo = true;
        let answer = run(&mut load("llama3-bf16-sharded", LIMITS, None), vec![input]).remove(0);
        let (before, after): (Vec<_>, Vec<_>) =
            answer.rows[0].tokens.iter().partition(|t| t.prompt);
        assert_eq!(before.iter().map(|t| t.id).collect::<Vec<_>>(), prompt.ids);
        assert_eq!(before[0].logprob, None);
        assert!(
            before[1..]
                .iter()
                .all(|t| t.logprob.is_some() && t.top.len() == 3)
        );
        for (token, wanted) in after.iter().zip(wanted) {
            assert!(
                (token.logprob.unwrap() - wanted).abs() < 1e-3,
                "{token:?} {wanted}"
            );
            assert_eq!(token.top[0].id, token.id, "greedy takes the most likely");
        }
    }
}

#[test]
fn a_stop_string_ends_the_answer_before_it() {
    let free = run(
        &mut load("llama2-f32", LIMITS, None),
        vec![tokens(&[1, 2, 3], 32)],
    )
    .remove(0);
    let text = free.rows[0].text.clone();
    let stop: String = text.chars().skip(8).take(3).collect();
    let mut input = tokens(&[1, 2, 3], 32);
    input.limits.stop = vec![stop.clone()];
    let stopped = run(&mut load("llama2-f32", LIMITS, None), vec![input]).remove(0);
    assert_eq!(stopped.rows[0].text, text[..text.find(&stop).unwrap()]);
    assert_eq!(stopped.rows[0].finish, Some(FinishReason::Stop));
}

#[test]
fn a_prompt_past_the_window_is_refused_by_name() {
    let pipeline = load("llama2-f32", LIMITS, None);
    let window = pipeline.preparer().info().context_length;
    let refuse = |input| pipeline.preparer().prepare(Input::Text(input)).unwrap_err();
    let error = refuse(tokens(&vec![1; window + 1], 1));
    assert_eq!(
        (error.field.as_deref(), error.code),
        (Some("prompt"), Some("context_length_exceeded"))
    );
    // However the answers are counted and shown.
    let mut shown = tokens(&vec![1; window + 1], 0);
    (shown.echo, shown.n, shown.best_of) = (true, 2, Some(3));
    assert_eq!(refuse(shown.clone()).code, Some("context_length_exceeded"));
    shown.prompt = Prompt::Tokens(vec![1; window]);
    assert!(
        pipeline
            .preparer()
            .prepare(Input::Text(shown.clone()))
            .is_ok()
    );
    shown.limits.max_tokens = Some(1);
    assert_eq!(refuse(shown).code, Some("context_length_exceeded"));
    let error = refuse(tokens(&[1; 10], window as u32));
    assert_eq!(error.field.as_deref(), Some("max_tokens"));
    let error = refuse(tokens(&[1_000_000], 1));
    assert!(error.message.contains("1000000"), "{error}");
}
