//! Prefix reuse: what is found in the cache is counted truly, and no bit of any answer depends on it.

use chandler_core::contract::{self, Subject};
use chandler_core::{
    Admission, Collected, Event, Events, Input, Pipeline, RequestId, Sampling, TextInput, Ticket,
};
use chandler_nn::kv_cache::BLOCK_SIZE;
use chandler_text::{BatchLimits, TextPipeline};

use crate::drive::{FEW_BLOCKS, LIMITS, drawn, load, run, said, tokens};
use crate::parity::all;

pub const OFF: BatchLimits = BatchLimits {
    prefix_cache: false,
    ..LIMITS
};

fn prompt(len: usize, salt: u32) -> Vec<u32> {
    (0..len as u32)
        .map(|i| (i * 37 + salt * 101 + 5) % 90)
        .collect()
}

/// With the log-probabilities of five tokens at every place: their bits are those of the logits.
fn scored(mut input: TextInput) -> TextInput {
    input.logprobs = Some(5);
    input
}

#[test]
fn a_prompt_that_was_read_before_is_found_and_every_logit_stays_as_it_was() {
    for name in all() {
        let mut on = load(name, LIMITS, None);
        let mut off = load(name, OFF, None);
        // Of a prompt of whole blocks, the last is read again: the last token's logits are needed.
        for (len, found) in [(40, 32), (48, 32), (49, 48), (16, 0), (17, 16), (7, 0)] {
            let input = scored(tokens(&prompt(len, len as u32), 9));
            let first = run(&mut on, vec![input.clone()]).remove(0);
            let again = run(&mut on, vec![input.clone()]).remove(0);
            let plain = run(&mut off, vec![input]).remove(0);
            assert_eq!(first.rows, plain.rows, "{name} {len}");
            assert_eq!(again.rows, plain.rows, "{name} {len}");
            let cached = [&first, &again, &plain].map(|answer| answer.usage.cached_tokens);
            assert_eq!(cached, [0, found, 0], "{name} {len}");
        }
        assert_eq!(on.tally().prefix_hit_tokens, 32 + 32 + 48 + 16);
        assert_eq!(
            on.tally().prefix_lookup_tokens,
            2 * (40 + 48 + 49 + 16 + 17 + 7)
        );
        assert_eq!(off.tally(), chandler_core::Tally::default());
    }
}

#[test]
fn an_answer_serves_the_next_turn() {
    let mut on = load("qwen2-f32", LIMITS, None);
    let first = run(&mut on, vec![tokens(&prompt(20, 1), 30)]).remove(0);
    let mut conversation = prompt(20, 1);
    conversation.extend(first.rows[0].tokens.iter().map(|t| t.id));
    conversation.extend([3, 4, 5]);
    let input = scored(drawn(&conversation, 8, 5));
    let next = run(&mut on, vec![input.clone()]).remove(0);
    // 49 tokens of the first turn went through the model, 48 of them in full blocks.
    assert_eq!(next.usage.cached_tokens, 48);
    let plain = run(&mut load("qwen2-f32", OFF, None), vec![input]).remove(0);
    assert_eq!(next.rows, plain.rows);
}

fn admit(pipeline: &mut TextPipeline, id: u64, input: TextInput) {
    let prepared = pipeline.preparer().prepare(Input::Text(input)).unwrap();
    let admission = pipeline.admit(Ticket::new(id), prepared);
    assert!(matches!(admission, Admission::Taken));
}

/// One step, its events added to the answers.
fn step(pipeline: &mut TextPipeline, answers: &mut [Collected]) {
    let mut events = Events::default();
    pipeline.step(&mut events).unwrap();
    for (RequestId(id), event) in events.drain() {
        answers[id as usize].add(event).unwrap();
    }
}

#[test]
fn twins_in_flight_share_what_the_first_has_read_and_only_once_it_was_read() {
    let input = scored(drawn(&prompt(100, 2), 20, 8));
    let plain = run(&mut load("llama2-f32", OFF, None), vec![input.clone()]).remove(0);
    let mut on = load("llama2-f32", LIMITS, None);
    let mut answers = vec![Collected::default(); 2];
    admit(&mut on, 0, input.clone());
    step(&mut on, &mut answers);
    // 48 tokens are read, the rest is not; the second takes them over, and later what the first reads on.
    admit(&mut on, 1, input);
    while on.occupancy().requests > 0 {
        step(&mut on, &mut answers);
    }
    assert_eq!(answers[0].rows, plain.rows);
    assert_eq!(answers[1].rows, plain.rows);
    assert_eq!(answers[0].usage.cached_tokens, 0);
    let cached = answers[1].usage.cached_tokens;
    assert!((48..=96).contains(&cached), "{cached}");
}

#[test]
fn of_twins_that_come_together_one_reads_and_a_cancelled_one_holds_nobody_up() {
    let twins = |n: u32| (0..n).map(|seed| scored(drawn(&prompt(100, 9), 5, seed.into())));
    let plain = run(&mut load("llama2-f32", OFF, None), twins(4).collect());
    let mut on = load("llama2-f32", LIMITS, None);
    let mut answers = vec![Collected::default(); 4];
    for (id, input) in (0..).zip(twins(4)) {
        admit(&mut on, id, input);
    }
    let mut events = Events::default();
    let mut work = 0;
    while on.occupancy().requests > 0 {
        work += on.step(&mut events).unwrap().work;
        for (RequestId(id), event) in events.drain() {
            answers[id as usize].add(event).unwrap();
        }
    }
    assert_eq!(said(&answers), said(&plain));
    // 100 tokens once, the four past the last full block for each of the others, and four answers.
    assert_eq!(work, 100 + 3 * 4 + 4 * 4);

    let mut on = load("llama2-f32", LIMITS, None);
    let raised = Ticket::new(0);
    for (ticket, input) in [raised.clone(), Ticket::new(1)].into_iter().zip(twins(2)) {
        let prepared = on.preparer().prepare(Input::Text(input)).unwrap();
        assert!(matches!(on.admit(ticket, prepared), Admission::Taken));
    }
    raised.cancelled.raise();
    assert!(
        on.step(&mut events).unwrap().work > 0,
        "the second reads by itself"
    );
}

#[test]
fn those_who_share_take_room_once() {
    let mut on = load("llama2-f32", LIMITS, Some(FEW_BLOCKS));
    let base = prompt(6 * BLOCK_SIZE, 3);
    let mut answers = vec![Collected::default(); 3];
    for id in 0..3u32 {
        let mut ids = base.clone();
        ids.push(id);
        admit(&mut on, id.into(), tokens(&ids, 14));
        step(&mut on, &mut answers);
        step(&mut on, &mut answers);
        step(&mut on, &mut answers);
    }
    // Three prompts of 97 tokens in 14 blocks of 16: six are common.
    let now = on.occupancy();
    assert_eq!((now.requests, now.blocks_used), (3, 6 + 3));
    assert_eq!(on.tally().preemptions, 0);
}

#[test]
fn a_prompt_that_is_scored_is_read_whole() {
    let mut on = load("llama2-f32", LIMITS, None);
    let mut input = scored(tokens(&prompt(40, 4), 4));
    input.echo = true;
    let first = run(&mut on, vec![input.clone()]).remove(0);
    let again = run(&mut on, vec![input.clone()]).remove(0);
    assert_eq!(first, again);
    assert_eq!(again.usage.cached_tokens, 0);
    assert!(
        again.rows[0].tokens[1..]
            .iter()
            .all(|t| t.logprob.is_some())
    );
    input.logprobs = None;
    let unscored = run(&mut on, vec![input]).remove(0);
    assert_eq!(
        unscored.usage.cached_tokens, 32,
        "an echo alone needs no logits"
    );
    assert_eq!(unscored.rows[0].text, again.rows[0].text);
}

#[test]
fn the_first_event_and_the_last_tell_the_same_of_the_cache() {
    let mut on = load("llama2-f32", LIMITS, None);
    run(&mut on, vec![tokens(&prompt(40, 5), 2)]);
    admit(&mut on, 0, tokens(&prompt(40, 5), 2));
    let mut events = Events::default();
    let mut seen = vec![];
    while on.occupancy().requests > 0 {
        on.step(&mut events).unwrap();
        seen.extend(events.drain().filter_map(|(_, event)| match event {
            Event::Started { cached_tokens, .. } => Some(cached_tokens),
            Event::Done(usage) => Some(usage.cached_tokens),
            _ => None,
        }));
    }
    assert_eq!(seen, [32, 32]);
}

#[test]
fn what_a_request_has_read_itself_is_no_find() {
    let input = scored(drawn(&prompt(70, 6), 30, 3));
    let plain = run(&mut load("llama2-f32", OFF, None), vec![input.clone()]).remove(0);
    let mut on = load("llama2-f32", LIMITS, None);
    let mut answers = vec![Collected::default()];
    admit(&mut on, 0, input);
    let mut turns = 0;
    while on.occupancy().requests > 0 {
        step(&mut on, &mut answers);
        turns += 1;
        if turns % 3 == 0
            && let Some(prepared) = on.suspend(RequestId(0))
        {
            assert_eq!(on.occupancy().blocks_used, 0);
            assert!(matches!(
                on.admit(Ticket::new(0), prepared),
                Admission::Taken
            ));
            assert!(
                on.occupancy().blocks_used > 0,
                "it finds its own blocks again"
            );
        }
    }
    assert_eq!(answers[0].rows, plain.rows);
    assert_eq!(answers[0].usage.cached_tokens, 0);
}

#[test]
fn a_reset_forgets_what_was_kept_and_goes_on_counting() {
    let mut on = load("llama2-f32", LIMITS, None);
    let input = scored(tokens(&prompt(40, 7), 4));
    let first = run(&mut on, vec![input.clone()]).remove(0);
    assert!(on.occupancy().blocks_kept > 0);
    let before = on.tally();
    on.reset().unwrap();
    assert_eq!(on.occupancy().blocks_kept, 0);
    assert_eq!(on.tally(), before);
    let again = run(&mut on, vec![input]).remove(0);
    assert_eq!(first, again);
}

/// Prompts of three families with long common beginnings; some are the same altogether.
pub fn related(number: u64) -> TextInput {
    let mut ids = prompt(20 + (number % 3) as usize * 16, (number % 3) as u32);
    ids.extend((0..number % 5).map(|i| (i * 3 + number % 7) as u32));
    let mut input = drawn(&ids, 1 + (number * 5 % 38) as u32, number % 6);
    input.n = 1 + (number % 4 / 3) as u32;
    if number % 9 == 4 {
        input.logprobs = Some(2);
        input.echo = true;
    }
    if number % 7 == 3 {
        input.sampling.repetition_penalty = Some(1.2);
    }
    if number.is_multiple_of(2) {
        input.sampling = Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        };
    }
    input
}

#[test]
fn on_and_off_answer_alike_when_room_is_short() {
    let inputs: Vec<TextInput> = (0..60).map(related).collect();
    let mut on = load("llama2-f32", LIMITS, Some(FEW_BLOCKS));
    let mut off = load("llama2-f32", OFF, None);
    let (shared, plain) = (run(&mut on, inputs.clone()), run(&mut off, inputs));
    assert_eq!(said(&shared), said(&plain));
    let tally = on.tally();
    assert!(tally.prefix_hit_tokens > 0, "{tally:?}");
    assert!(tally.prefix_evicted_blocks > 0, "{tally:?}");
    assert!(tally.preemptions > 0, "{tally:?}");
    let cached: u64 = shared
        .iter()
        .map(|answer| u64::from(answer.usage.cached_tokens))
        .sum();
    assert_eq!(cached, tally.prefix_hit_tokens);
    assert!(off.tally().prefix_lookup_tokens == 0 && off.occupancy().blocks_kept == 0);
}

#[test]
fn requests_that_begin_alike_keep_the_contract() {
    for bytes in [None, Some(FEW_BLOCKS)] {
        contract::check(&Subject {
            make: &|| load("llama2-f32", LIMITS, bytes),
            input: &|number| Input::Text(related(number)),
            requests: 40,
            suspend_every: 3,
        });
    }
}

#[test]
fn it_keeps_the_contract_without_reuse() {
    contract::check(&Subject {
        make: &|| load("llama2-f32", OFF, Some(FEW_BLOCKS)),
        input: &|number| Input::Text(related(number)),
        requests: 40,
        suspend_every: 3,
    });
}
