//! A refiner in serving: whole pictures against those that diffusers draws with two pipelines, requests with and without it in one batch,
//! and what is refused.

use chandler_core::contract::{self, Subject};
use chandler_core::{Denoising, Guidance, ImageInput, Input, Pipeline, Prompts, Refining};
use chandler_image::{ImageOptions, ImagePipeline};
use chandler_nn::weights::Snapshot;
use serde_json::Value;
use tempfile::TempDir;

use super::parity::{compare, input};
use super::{REFINED, admit, load_options, options, run, snapshot, step, suite};

/// The XL model with the refiner beside it, in a directory that lives as long as what comes first.
fn load(max_rows: usize) -> (TempDir, ImagePipeline) {
    let dir = snapshot("refiner");
    let options = ImageOptions {
        refiner: Some(Snapshot::dir(dir.path()).unwrap()),
        ..options(max_rows)
    };
    let pipeline = load_options("sdxl", &options).unwrap();
    (dir, pipeline)
}

fn refined(case: &Value, size: &Value) -> ImageInput {
    let plain = input(case, size, "served");
    let score = case["aesthetic_score"].as_f64();
    let mut guidance = plain.guidance;
    guidance.micro.aesthetic_scores = score.map(|score| [score, 2.5]);
    ImageInput {
        guidance,
        denoising: Denoising {
            end: case["denoising_end"].as_f64(),
            refining: Refining {
                steps: case["refiner_inference_steps"].as_u64().map(|n| n as u32),
                strength: case["refiner_strength"].as_f64(),
            },
            ..plain.denoising
        },
        ..plain
    }
}

#[test]
fn refined_pictures_are_those_of_two_pipelines_of_diffusers_alone_and_together() {
    let all = suite(REFINED);
    let cases = all["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    let (_dir, mut pipeline) = load(8);
    let inputs: Vec<ImageInput> = cases
        .iter()
        .map(|case| refined(case, &all["size"]))
        .collect();
    let unrefined = ImageInput {
        denoising: Denoising {
            end: Some(1.0),
            ..inputs[0].denoising.clone()
        },
        ..inputs[0].clone()
    };
    let asked = || inputs.iter().chain([&unrefined]).cloned();
    let together = run(&mut pipeline, asked().collect());
    let mut wrong = Vec::new();
    for (case, answer) in cases.iter().zip(&together) {
        wrong.extend(compare(case["name"].as_str().unwrap(), REFINED, answer));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (number, input) in asked().enumerate() {
        let alone = run(&mut pipeline, vec![input]);
        assert_eq!(
            alone[0].images[0].rgb, together[number].images[0].rgb,
            "{number}"
        );
    }
    let by_itself = run(&mut super::load("sdxl", 8), vec![unrefined]);
    assert_eq!(by_itself[0].images[0].rgb, together[4].images[0].rgb);
    assert_ne!(by_itself[0].images[0].rgb, together[0].images[0].rgb);
    let recipe = &together[0].images[0].recipe;
    assert_eq!((recipe.steps, recipe.denoising_end), (5, Some(0.6)));
    // Five steps, and half of six.
    let recipe = &together[3].images[0].recipe;
    assert_eq!((recipe.steps, recipe.refiner_strength), (8, Some(0.5)));
}

fn request(seed: u64, steps: u32) -> ImageInput {
    ImageInput {
        prompt: Prompts::one("the red house"),
        width: Some(16),
        height: Some(16),
        seed: Some(seed),
        denoising: Denoising {
            steps: Some(steps),
            ..Denoising::default()
        },
        ..ImageInput::default()
    }
}

#[test]
fn requests_share_the_passes_of_each_expert_and_no_pass_has_two() {
    let (_dir, mut pipeline) = load(16);
    // Eight steps of the model and two of the refiner, which two requests take together.
    run(&mut pipeline, vec![request(1, 10), request(2, 10)]);
    assert_eq!(pipeline.calls(), 10);
    // One that comes two steps late shares six passes of the model, and none of the refiner, whose steps the other makes in between.
    admit(&mut pipeline, 0, request(1, 10));
    while pipeline.calls() < 12 {
        step(&mut pipeline);
    }
    admit(&mut pipeline, 1, request(2, 10));
    while pipeline.occupancy().requests > 0 {
        step(&mut pipeline);
    }
    assert_eq!(pipeline.calls(), 10 + 14);
}

#[test]
fn who_says_nothing_has_the_refiner_where_there_are_steps_for_two() {
    let (_dir, mut pipeline) = load(8);
    let recipes: Vec<_> = run(&mut pipeline, vec![request(1, 10), request(1, 1)])
        .iter()
        .map(|answer| &answer.images[0].recipe)
        .map(|recipe| (recipe.steps, recipe.denoising_end))
        .collect();
    assert_eq!(recipes, [(10, Some(0.8)), (1, None)]);
}

#[test]
fn what_cannot_be_refined_is_refused_with_its_field() {
    let (_dir, with) = load(4);
    let without = super::load("sdxl", 4);
    let refused = |pipeline: &ImagePipeline, change: &dyn Fn(&mut ImageInput)| {
        let mut input = request(1, 4);
        change(&mut input);
        let prepared = pipeline.preparer().prepare(Input::Image(Box::new(input)));
        prepared
            .err()
            .expect("it was taken")
            .field
            .unwrap_or_default()
    };
    let early = |input: &mut ImageInput| input.denoising.end = Some(0.5);
    assert_eq!(refused(&without, &early), "denoising_end");
    let scored = |input: &mut ImageInput| input.guidance.micro.aesthetic_scores = Some([6.0, 2.5]);
    assert_eq!(refused(&without, &scored), "aesthetic_score");
    let at_once = |input: &mut ImageInput| input.denoising.end = Some(0.0);
    assert_eq!(refused(&with, &at_once), "denoising_end");
    let nothing = |input: &mut ImageInput| input.denoising.refining.strength = Some(0.0);
    assert_eq!(refused(&with, &nothing), "refiner_strength");
    let many = |input: &mut ImageInput| input.denoising.refining.steps = Some(5000);
    assert_eq!(refused(&with, &many), "refiner_inference_steps");
    let plain = |input: &mut ImageInput| {
        input.denoising.end = Some(1.0);
        input.guidance.micro.aesthetic_scores = Some([6.0, 2.5]);
    };
    assert_eq!(refused(&with, &plain), "aesthetic_score");
}

#[test]
fn a_refiner_of_another_family_is_refused_at_loading() {
    let dir = snapshot("sd");
    let options = ImageOptions {
        refiner: Some(Snapshot::dir(dir.path()).unwrap()),
        ..options(4)
    };
    let error = load_options("sdxl", &options).err().expect("it was loaded");
    assert!(
        error
            .to_string()
            .starts_with("refiner: StableDiffusionPipeline"),
        "{error}"
    );
}

#[test]
fn the_contract_is_kept_with_a_refiner() {
    let dir = snapshot("refiner");
    contract::check(&Subject {
        make: &|| {
            let options = ImageOptions {
                refiner: Some(Snapshot::dir(dir.path()).unwrap()),
                ..options(6)
            };
            load_options("sdxl", &options).unwrap()
        },
        input: &|number| {
            let plain = request(number, 2 + (number % 4) as u32);
            Input::Image(Box::new(ImageInput {
                n: 1 + u32::from(number.is_multiple_of(5)),
                previews: u32::from(number.is_multiple_of(3)),
                guidance: Guidance {
                    scale: (number % 4 == 2).then_some(1.0),
                    ..Guidance::default()
                },
                denoising: Denoising {
                    scheduler: (number % 3 == 1).then(|| "Euler a".to_owned()),
                    end: (number % 5 == 4).then_some(1.0),
                    refining: Refining {
                        strength: (number % 5 == 2).then_some(0.6),
                        ..Refining::default()
                    },
                    ..plain.denoising.clone()
                },
                ..plain
            }))
        },
        requests: 10,
        suspend_every: 4,
    });
}
