//! A language model of candle tensors leaves its device (here: its tensors hold nothing) and comes back: it answers as before, and
//! remembers no request.

use chandler_core::contract::{self, Subject};
use chandler_core::{Admission, Events, Input, Parked, Pipeline, StepError, Ticket};
use chandler_text::TextPipeline;

use crate::drive::{LIMITS, drawn, load, plain, run, said, tokens};
use crate::lora::{FIXTURES, snapshots};
use crate::on_device::is_comparable;
use crate::parity::all;

const MODEL: &str = "llama2-f32";

fn park(pipeline: &mut TextPipeline) {
    while pipeline.park().unwrap() == Parked::Partly {}
}

fn cache_bytes(pipeline: &TextPipeline) -> u64 {
    pipeline.preparer().info().cache.unwrap().bytes
}

/// Bytes wherever they are: without a device it is the host's memory that weights leave.
fn held(pipeline: &TextPipeline) -> u64 {
    let footprint = pipeline.footprint();
    footprint.device_bytes + footprint.host_bytes
}

/// Everything that it holds but the cache.
fn weights(pipeline: &TextPipeline) -> u64 {
    held(pipeline) - cache_bytes(pipeline)
}

#[test]
fn all_weights_of_every_family_leave() {
    for name in all() {
        let mut pipeline = plain(name, Vec::new());
        let weights = weights(&pipeline);
        assert_eq!(pipeline.parking_space(), Some(weights), "{name}");
        park(&mut pipeline);
        // The copies, and nothing else.
        assert_eq!(held(&pipeline), weights, "{name}");
        assert_eq!(pipeline.footprint().device_bytes, 0, "{name}");
    }
}

#[test]
fn adapters_leave_with_their_model() {
    for (name, adapters) in FIXTURES.into_iter().filter(|(name, _)| is_comparable(name)) {
        let alone = weights(&plain(name, Vec::new()));
        let pipeline = plain(name, snapshots(name, adapters));
        let weights = weights(&pipeline);
        assert!(weights > alone, "{name}");
        assert_eq!(pipeline.parking_space(), Some(weights), "{name}");
    }
}

#[test]
fn it_answers_as_before_and_has_forgotten_what_it_read() {
    let mut pipeline = plain(MODEL, Vec::new());
    let (before_all, weights) = (held(&pipeline), weights(&pipeline));
    let prompt: Vec<u32> = (0..40).map(|i| (i * 37 + 5) % 90).collect();
    let inputs = || vec![tokens(&prompt, 12), drawn(&prompt, 9, 4)];
    let before = run(&mut pipeline, inputs());
    let found = run(&mut pipeline, vec![tokens(&prompt, 2)]).remove(0);
    assert_eq!(found.usage.cached_tokens, 32);
    let counted = pipeline.tally();
    for _ in 0..2 {
        park(&mut pipeline);
        assert_eq!(pipeline.occupancy().blocks_kept, 0);
        pipeline.wake().unwrap();
        assert_eq!(held(&pipeline) - before_all, weights, "the copies stay");
        let after = run(&mut pipeline, inputs());
        assert_eq!(said(&after), said(&before));
        assert_eq!(after[0].usage.cached_tokens, 0);
    }
    assert!(pipeline.tally().prefix_lookup_tokens > counted.prefix_lookup_tokens);
}

#[test]
fn it_keeps_the_contract_of_parking() {
    let prompt = |number: u64| -> Vec<u32> {
        let len = 3 + number as u32 * 11;
        (0..len).map(|i| (i * 7 + 1) % 90).collect()
    };
    contract::check_parking(&Subject {
        make: &|| plain(MODEL, Vec::new()),
        input: &|number| Input::Text(drawn(&prompt(number), 5, number)),
        requests: 6,
        suspend_every: 3,
    });
}

#[test]
fn one_that_is_parked_computes_nothing() {
    let mut pipeline = plain(MODEL, Vec::new());
    park(&mut pipeline);
    let prepared = pipeline.preparer().prepare(Input::Text(tokens(&[1, 2], 3)));
    let admission = pipeline.admit(Ticket::new(1), prepared.unwrap());
    assert!(matches!(admission, Admission::Taken));
    let stepped = pipeline.step(&mut Events::default());
    assert!(matches!(stepped, Err(StepError::Batch(_))), "{stepped:?}");
}

#[test]
fn where_weights_are_mapped_there_is_nothing_to_park() {
    let mut pipeline = load(MODEL, LIMITS, None);
    assert!(pipeline.parking_space().is_none() && pipeline.park().is_err());
}
