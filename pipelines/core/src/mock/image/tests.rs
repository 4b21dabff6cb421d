//! The mock that draws, held against the contract, and what its pictures hold.

use std::time::Duration;

use super::*;
use crate::contract::{Subject, check};
use crate::image::{Denoising, Picture, Start};
use crate::pipeline::{Activity, Admission, Pipeline, Ticket};

fn input(number: u64) -> ImageInput {
    ImageInput {
        prompt: Prompts::one(format!("picture {}", number % 7)),
        width: Some(8 + 8 * (number % 3) as u32),
        height: Some(16),
        seed: Some(number),
        n: (number % 3) as u32,
        previews: (number % 4) as u32,
        denoising: Denoising {
            steps: Some(1 + (number % 6) as u32),
            ..Denoising::default()
        },
        start: number.is_multiple_of(5).then(|| Start {
            image: Picture::new(vec![0; 300]),
            strength: Some(0.5),
            mask: Some(Picture::new(vec![0; 70_000])),
            padding_mask_crop: None,
        }),
        ..ImageInput::default()
    }
}

#[test]
fn it_keeps_the_contract() {
    check(&Subject {
        make: &|| MockArtist::new(3, Duration::ZERO),
        input: &|number| Input::Image(Box::new(input(number))),
        requests: 40,
        suspend_every: 3,
    });
}

/// All events of a request that runs alone.
fn events(input: ImageInput) -> Vec<Event> {
    let mut pipeline = MockArtist::new(4, Duration::ZERO);
    let prepared = pipeline.preparer().prepare(Input::Image(Box::new(input)));
    assert!(matches!(
        pipeline.admit(Ticket::new(1), prepared.unwrap()),
        Admission::Taken
    ));
    let mut events = Events::default();
    while pipeline.step(&mut events).unwrap().activity != Activity::Idle {}
    events.drain().map(|(_, event)| event).collect()
}

fn drawn(input: ImageInput) -> Vec<Drawn> {
    let drawn = events(input).into_iter().filter_map(|event| match event {
        Event::Drawn(drawn) => Some(*drawn),
        _ => None,
    });
    drawn.collect()
}

#[test]
fn the_kth_picture_is_the_first_of_the_kth_seed_after() {
    let two = drawn(ImageInput { n: 2, ..input(1) });
    let next = drawn(ImageInput {
        seed: Some(2),
        n: 1,
        ..input(1)
    });
    assert_eq!(two[1].rgb, next[0].rgb);
    assert_eq!((two[1].recipe.seed, two[1].index), (2, 1));
    assert_ne!(two[0].rgb, two[1].rgb);
    assert_eq!(two[0].rgb.len(), 3 * 16 * 16);
}

#[test]
fn the_pictures_it_begins_with_leave_their_lengths_in_it() {
    let drawn = &drawn(input(5))[0];
    assert_eq!(drawn.rgb[..6], [0, 1, 44, 1, 17, 112]);
    assert_eq!(drawn.recipe.strength, Some(0.5));
}

#[test]
fn previews_come_in_equal_distances_and_never_of_the_last_step() {
    let shown = |steps: u32, previews: u32| -> Vec<u32> {
        let input = ImageInput {
            n: 1,
            previews,
            start: None,
            denoising: Denoising {
                steps: Some(steps),
                ..Denoising::default()
            },
            ..input(1)
        };
        let shown = events(input).into_iter().filter_map(|event| match event {
            Event::Preview(preview) => Some(preview.step),
            _ => None,
        });
        shown.collect()
    };
    assert_eq!(shown(4, 1), [2]);
    assert_eq!(shown(4, 3), [1, 2, 3]);
    assert_eq!(shown(3, 9), [1, 2]);
    assert_eq!(shown(9, 2), [3, 6]);
    assert!(shown(4, 0).is_empty());
}

#[test]
fn what_it_does_not_draw_is_told_by_name() {
    let refused = |input: ImageInput| {
        let error = Preparer.prepare(Input::Image(Box::new(input)));
        error.unwrap_err().field.unwrap()
    };
    let with = |change: fn(&mut ImageInput)| {
        let mut input = input(1);
        change(&mut input);
        refused(input)
    };
    assert_eq!(with(|input| input.width = Some(100)), "width");
    assert_eq!(with(|input| input.height = Some(512)), "height");
    assert_eq!(with(|input| input.denoising.steps = Some(51)), "steps");
    assert_eq!(with(|input| input.loras = vec![("x".into(), 1.0)]), "loras");
    assert_eq!(with(|input| input.prompt = Prompts::default()), "prompt");
    assert_eq!(
        with(|input| input.denoising.scheduler = Some("x".into())),
        "scheduler"
    );
}
