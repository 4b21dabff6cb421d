//! Pictures of a few steps against those that diffusers draws from the same noise: text, a first picture, masks, two text encoders.

use chandler_core::{Collected, Denoising, Guidance, ImageInput, Picture, Prompts, Start};
use image::RgbImage;
use serde_json::Value;

use super::{fixtures, load, run, served};

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

pub fn input(case: &Value, size: &Value) -> ImageInput {
    let file = |name: &str| Picture::new(std::fs::read(fixtures("served").join(name)).unwrap());
    let start = case["image"].as_bool().unwrap().then(|| Start {
        image: file("image.png"),
        strength: case["strength"].as_f64(),
        mask: case["mask"].as_bool().unwrap().then(|| file("mask.png")),
        padding_mask_crop: None,
    });
    let side = |name: &str| size[name].as_u64().map(|side| side as u32);
    ImageInput {
        prompt: Prompts {
            first: text(&case["prompt"]),
            second: text(&case["prompt_2"]),
            third: None,
        },
        negative_prompt: Prompts {
            first: text(&case["negative_prompt"]),
            ..Prompts::default()
        },
        width: side("width"),
        height: side("height"),
        denoising: Denoising {
            steps: case["num_inference_steps"]
                .as_u64()
                .map(|steps| steps as u32),
            scheduler: text(&case["scheduler"]),
            ..Denoising::default()
        },
        guidance: Guidance {
            scale: case["guidance_scale"].as_f64(),
            rescale: case["guidance_rescale"].as_f64(),
            ..Guidance::default()
        },
        seed: case["seed"].as_u64(),
        start,
        clip_skip: case["clip_skip"].as_u64().map(|skip| skip as u32),
        ..ImageInput::default()
    }
}

/// Says how a drawing differs from the reference's picture, if it does by more than rounding.
pub fn compare(name: &str, folder: &str, answer: &Collected) -> Option<String> {
    let file = fixtures(folder).join(format!("{name}.png"));
    let theirs = image::open(file).unwrap().to_rgb8();
    let [drawn] = answer.images.as_slice() else {
        panic!("{name}: {} pictures", answer.images.len());
    };
    assert_eq!((drawn.width, drawn.height), theirs.dimensions());
    let (differing, most) = difference(&drawn.rgb, &theirs);
    // A value on the edge between two bytes may fall to either side.
    let share = differing as f64 / drawn.rgb.len() as f64;
    (most > 1 || share > 0.02)
        .then(|| format!("{name}: {share:.3} of the values differ, by {most} at most"))
}

/// Values of red, green and blue that differ, and by how much at most.
fn difference(ours: &[u8], theirs: &RgbImage) -> (usize, u8) {
    assert_eq!(ours.len(), theirs.as_raw().len());
    let pairs = ours.iter().zip(theirs.as_raw());
    let differences = pairs.map(|(a, b)| a.abs_diff(*b)).filter(|d| *d > 0);
    differences.fold((0, 0), |(count, most), d| (count + 1, most.max(d)))
}

#[test]
fn pictures_are_those_of_diffusers() {
    let served = served();
    let cases = served["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 10);
    let mut wrong = Vec::new();
    for folder in ["sd", "nine", "lcm", "sdxl"] {
        let mut pipeline = load(folder, 8);
        let of_this: Vec<&Value> = cases
            .iter()
            .filter(|case| case["folder"] == folder)
            .collect();
        // All of a model's cases at once: whatever is of one size shares passes.
        let inputs = of_this
            .iter()
            .map(|case| input(case, &served["size"]))
            .collect();
        let answers = run(&mut pipeline, inputs);
        for (case, answer) in of_this.iter().zip(answers) {
            let name = case["name"].as_str().unwrap();
            assert_eq!(Some(answer.images[0].recipe.seed), case["seed"].as_u64());
            wrong.extend(compare(name, "served", &answer));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
