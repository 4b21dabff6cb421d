//! Requests that join and leave while others run: passes are shared, nobody waits for another's end, and no answer depends on company.

use chandler_core::contract::{self, Subject};
use chandler_core::{
    Denoising, Event, Guidance, ImageInput, Input, Picture, Pipeline, Prompts, RequestId, Start,
};

use chandler_image::{ImageOptions, Usual};

use super::{admit, fixtures, load, load_options, options, run, step};

fn request(seed: u64, steps: u32, (width, height): (u32, u32)) -> ImageInput {
    ImageInput {
        prompt: Prompts::one("the red house"),
        width: Some(width),
        height: Some(height),
        seed: Some(seed),
        denoising: Denoising {
            steps: Some(steps),
            ..Denoising::default()
        },
        ..ImageInput::default()
    }
}

fn progressed(events: &[(RequestId, Event)], id: u64) -> bool {
    let own =
        |(of, event): &(RequestId, Event)| of.0 == id && matches!(event, Event::Progress { .. });
    events.iter().any(own)
}

#[test]
fn a_request_that_joins_at_another_step_shares_its_passes() {
    let mut pipeline = load("sd", 8);
    admit(&mut pipeline, 0, request(1, 6, (16, 16)));
    // Its text, and three of its steps.
    for _ in 0..4 {
        step(&mut pipeline);
    }
    assert_eq!(pipeline.calls(), 3);
    admit(&mut pipeline, 1, request(2, 4, (16, 16)));
    // The second request's first step is within two steps of its coming.
    let joined: Vec<bool> = (0..2)
        .map(|_| progressed(&step(&mut pipeline), 1))
        .collect();
    assert_eq!(joined, [false, true]);
    assert_eq!(pipeline.calls(), 4);
    while pipeline.occupancy().requests > 0 {
        step(&mut pipeline);
    }
    // Alone they take 6 and 4 passes; 3 of each were the same ones, and the last of the second its own.
    assert_eq!(pipeline.calls(), 7);
}

#[test]
fn other_sizes_take_turns_and_none_starves() {
    let mut pipeline = load("sd", 4);
    for id in 0..3 {
        admit(&mut pipeline, id, request(id, 40, (16, 16)));
    }
    admit(&mut pipeline, 3, request(3, 5, (24, 16)));
    let (mut waited, mut longest) = ([0; 4], 0);
    for _ in 0..40 {
        let events = step(&mut pipeline);
        if events
            .iter()
            .any(|(id, event)| id.0 == 3 && event.is_terminal())
        {
            break;
        }
        for (id, waited) in waited.iter_mut().enumerate() {
            *waited = if progressed(&events, id as u64) {
                0
            } else {
                *waited + 1
            };
            longest = longest.max(*waited);
        }
    }
    // Four rows a pass: two guided pictures of the first size, the third, and the other size, in turn.
    assert!(longest <= 6, "somebody waited for {longest} steps");
    assert!(
        pipeline.occupancy().requests == 3,
        "the small request has ended before the long ones"
    );
}

#[test]
fn pictures_of_one_request_are_those_of_their_seeds() {
    let mut pipeline = load("sd", 8);
    let three = ImageInput {
        n: 3,
        ..request(40, 3, (16, 16))
    };
    let together = run(&mut pipeline, vec![three]);
    assert_eq!(together[0].usage.images, 3);
    let drawn = &together[0].images;
    for (index, drawn) in drawn.iter().enumerate() {
        assert_eq!(
            (drawn.index as usize, drawn.recipe.seed),
            (index, 40 + index as u64)
        );
        let alone = run(
            &mut load("sd", 8),
            vec![request(drawn.recipe.seed, 3, (16, 16))],
        );
        assert_eq!(alone[0].images[0].rgb, drawn.rgb, "picture {index}");
    }
    assert_ne!(drawn[0].rgb, drawn[1].rgb);
}

#[test]
fn previews_come_after_their_steps_and_grow_like_the_picture() {
    let mut pipeline = load("sd", 8);
    let input = ImageInput {
        previews: 2,
        ..request(5, 6, (16, 24))
    };
    admit(&mut pipeline, 0, input);
    let (mut previews, mut steps) = (Vec::new(), 0);
    while pipeline.occupancy().requests > 0 {
        for (_, event) in step(&mut pipeline) {
            match event {
                Event::Progress { done, total } => {
                    assert_eq!(total, 6);
                    steps = done;
                }
                Event::Preview(preview) => {
                    assert_eq!(preview.step, steps);
                    assert_eq!((preview.width, preview.height), (16, 24));
                    previews.push(preview);
                }
                _ => {}
            }
        }
    }
    let at: Vec<u32> = previews.iter().map(|preview| preview.step).collect();
    assert_eq!(at, [2, 4]);
    assert_ne!(previews[0].rgb, previews[1].rgb);
}

#[test]
fn what_cannot_be_drawn_is_refused_with_its_field() {
    let pipeline = load("sd", 4);
    let refused = |change: &dyn Fn(&mut ImageInput)| {
        let mut input = request(1, 2, (16, 16));
        change(&mut input);
        let prepared = pipeline.preparer().prepare(Input::Image(Box::new(input)));
        let error = prepared.err().expect("it was taken");
        error.field.unwrap_or_default()
    };
    assert_eq!(refused(&|input| input.width = Some(17)), "width");
    assert_eq!(refused(&|input| input.denoising.steps = Some(0)), "steps");
    assert_eq!(
        refused(&|input| input.denoising.scheduler = Some("Fast".to_owned())),
        "scheduler"
    );
    assert_eq!(
        refused(&|input| input.guidance.scale = Some(f64::NAN)),
        "guidance_scale"
    );
    assert_eq!(refused(&|input| input.clip_skip = Some(9)), "clip_skip");
    assert_eq!(
        refused(&|input| input.loras.push(("style".to_owned(), 1.0))),
        "loras"
    );
    assert_eq!(refused(&|input| input.n = 1000), "n");
    assert_eq!(
        refused(&|input| input.prompt.second = Some("x".to_owned())),
        "prompt_2"
    );
    let broken = |input: &mut ImageInput| {
        input.start = Some(Start {
            image: Picture::new(b"no picture".to_vec()),
            strength: None,
            mask: None,
            padding_mask_crop: None,
        });
    };
    assert_eq!(refused(&broken), "image");
}

/// Sizes and schedulers that a family's requests differ in.
struct Kinds {
    sizes: [(u32, u32); 2],
    schedulers: [Option<&'static str>; 4],
    /// Whether guidance away from a negative prompt is asked for besides.
    truly: bool,
}

const OF_UNETS: Kinds = Kinds {
    sizes: [(16, 16), (24, 16)],
    schedulers: [
        None,
        Some("Euler a"),
        Some("DPMSolverMultistepScheduler"),
        Some("HeunDiscreteScheduler"),
    ],
    truly: false,
};
const OF_FLOWS: Kinds = Kinds {
    sizes: [(16, 16), (20, 12)],
    schedulers: [None, None, Some("DPMSolverMultistepScheduler"), None],
    truly: false,
};
const OF_FLUX: Kinds = Kinds {
    truly: true,
    ..OF_FLOWS
};

fn of_every_kind(number: u64, kinds: &Kinds) -> Input {
    let file = |name: &str| Picture::new(std::fs::read(fixtures("served").join(name)).unwrap());
    let start = (number % 3 == 1).then(|| Start {
        image: file("image.png"),
        strength: Some(0.6),
        mask: number.is_multiple_of(2).then(|| file("mask.png")),
        padding_mask_crop: None,
    });
    let size = kinds.sizes[usize::from(number % 4 == 3)];
    let input = request(number, 2 + (number % 3) as u32, size);
    Input::Image(Box::new(ImageInput {
        n: 1 + u32::from(number.is_multiple_of(5)),
        start,
        negative_prompt: Prompts::one("water"),
        guidance: Guidance {
            scale: (number % 4 == 2).then_some(1.0),
            true_scale: (kinds.truly && number % 3 == 2).then_some(2.0),
            ..Guidance::default()
        },
        previews: u32::from(number.is_multiple_of(6)),
        denoising: Denoising {
            scheduler: kinds.schedulers[(number % 4) as usize].map(str::to_owned),
            ..input.denoising.clone()
        },
        ..input
    }))
}

#[test]
fn the_contract_of_all_pipelines_is_kept() {
    for (folder, kinds, requests) in [
        ("sd", OF_UNETS, 12),
        ("sd3", OF_FLOWS, 6),
        ("dev", OF_FLUX, 6),
    ] {
        contract::check(&Subject {
            make: &|| load(folder, 6),
            input: &|number| of_every_kind(number, &kinds),
            requests,
            suspend_every: 4,
        });
    }
}

#[test]
fn flows_at_different_steps_share_passes_and_t5_is_read_between_them() {
    for folder in ["sd3", "schnell"] {
        let mut pipeline = load(folder, 8);
        admit(&mut pipeline, 0, request(1, 4, (16, 16)));
        // T5 of seven layers takes two steps.
        step(&mut pipeline);
        assert_eq!(pipeline.calls(), 0);
        for _ in 0..2 {
            step(&mut pipeline);
        }
        assert_eq!(pipeline.calls(), 1, "{folder}");
        admit(&mut pipeline, 1, request(2, 4, (16, 16)));
        // The second's text is begun at once; before it is through, the first goes a step on.
        let progress: Vec<[bool; 2]> = (0..4)
            .map(|_| step(&mut pipeline))
            .map(|events| [0, 1].map(|id| progressed(&events, id)))
            .collect();
        let expected = [[false; 2], [true, false], [false; 2], [true; 2]];
        assert_eq!(progress, expected, "{folder}");
        while pipeline.occupancy().requests > 0 {
            step(&mut pipeline);
        }
        // Four passes each, of which two were the same ones.
        assert_eq!(pipeline.calls(), 6, "{folder}");
    }
}

#[test]
fn texts_of_other_lengths_do_not_wait_for_each_other() {
    let mut pipeline = load("sd3", 8);
    let long = ImageInput {
        prompt: Prompts {
            first: Some("the red house".to_owned()),
            second: None,
            third: Some("the red house on the water ".repeat(60)),
        },
        ..request(1, 3, (16, 16))
    };
    let short = request(2, 3, (16, 16));
    let together = run(&mut pipeline, vec![long.clone(), short.clone()]);
    assert_eq!(pipeline.calls(), 6);
    for (number, input) in [long, short].into_iter().enumerate() {
        let alone = run(&mut load("sd3", 8), vec![input]);
        assert_eq!(alone[0].images[0].rgb, together[number].images[0].rgb);
    }
}

#[test]
fn what_a_family_has_no_use_for_is_refused_with_its_field() {
    type Change<'a> = (&'a dyn Fn(&mut ImageInput), &'a str);
    let refused = |folder: &str, changes: &[Change<'_>]| {
        let pipeline = load(folder, 4);
        for (change, field) in changes {
            let mut input = request(1, 2, (16, 16));
            change(&mut input);
            let prepared = pipeline.preparer().prepare(Input::Image(Box::new(input)));
            let error = prepared.err().expect("it was taken");
            assert_eq!(error.field.as_deref(), Some(*field), "{folder}: {error}");
        }
    };
    let third = |input: &mut ImageInput| input.prompt.third = Some("x".to_owned());
    let size = |input: &mut ImageInput| input.width = Some(18);
    let truly = |input: &mut ImageInput| input.guidance.true_scale = Some(2.0);
    let skip = |input: &mut ImageInput| input.clip_skip = Some(1);
    let told = |input: &mut ImageInput| input.guidance.scale = Some(3.0);
    let long = |input: &mut ImageInput| input.prompt.third = Some("the ".repeat(600));
    let sized = |input: &mut ImageInput| input.guidance.micro.crop = Some([1, 1]);
    // Fifteen tokens a side are all that there are places for.
    let large = |input: &mut ImageInput| input.height = Some(64);
    refused(
        "sd3",
        &[
            (&size, "width"),
            (&large, "height"),
            (&truly, "true_cfg_scale"),
            (&long, "prompt_3"),
            (&sized, "crops_coords_top_left"),
        ],
    );
    refused("sd35", &[(&third, "prompt_3")]);
    refused(
        "schnell",
        &[
            (&third, "prompt_3"),
            (&truly, "negative_prompt"),
            (&skip, "clip_skip"),
            (&told, "guidance_scale"),
            (&size, "width"),
        ],
    );
}

#[test]
fn what_a_request_does_not_say_is_as_in_the_reference() {
    let recipe = |folder: &str, start: bool, denoising: Denoising| {
        let mut pipeline = load(folder, 8);
        let file = |name: &str| Picture::new(std::fs::read(fixtures("served").join(name)).unwrap());
        let input = ImageInput {
            denoising,
            start: start.then(|| Start {
                image: file("image.png"),
                strength: None,
                mask: None,
                padding_mask_crop: None,
            }),
            ..request(1, 1, (12, 12))
        };
        let recipe = run(&mut pipeline, vec![input])[0].images[0].recipe.clone();
        (recipe.steps, recipe.guidance_scale, recipe.strength)
    };
    let usual = |folder: &str, start: bool| recipe(folder, start, Denoising::default());
    assert_eq!(usual("sd3", false), (28, Some(7.0), None));
    // 0.6 of 50 steps.
    assert_eq!(usual("sd35", true), (30, Some(7.0), Some(0.6)));
    assert_eq!(usual("dev", false), (28, Some(3.5), None));
    // 0.6 of 28, and 0.6 of 4, rounded up.
    assert_eq!(usual("dev", true), (17, Some(7.0), Some(0.6)));
    assert_eq!(usual("schnell", true), (3, None, Some(0.6)));
    // Another scheduler makes no other pipeline: 0.6 of 7 are rounded up as well.
    let other = Denoising {
        steps: Some(7),
        scheduler: Some("DPMSolverMultistepScheduler".to_owned()),
        ..Denoising::default()
    };
    assert_eq!(recipe("sd3", true, other), (5, Some(7.0), Some(0.6)));
}

#[test]
fn settings_say_what_a_request_does_not() {
    let options = ImageOptions {
        usual: Usual {
            steps: Some(3),
            guidance: Some(0.0),
        },
        ..options(4)
    };
    let mut pipeline = load_options("sd", &options).unwrap();
    let silent = ImageInput {
        denoising: Denoising::default(),
        ..request(1, 1, (12, 12))
    };
    let saying = ImageInput {
        guidance: Guidance {
            scale: Some(5.0),
            ..Guidance::default()
        },
        ..request(1, 2, (12, 12))
    };
    let recipes: Vec<_> = run(&mut pipeline, vec![silent, saying])
        .iter()
        .map(|answer| &answer.images[0].recipe)
        .map(|recipe| (recipe.steps, recipe.guidance_scale))
        .collect();
    assert_eq!(recipes, [(3, None), (2, Some(5.0))]);
}
