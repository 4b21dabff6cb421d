//! Pictures of a few steps against those that diffusers draws from the same noise: text, a first picture, masks, two text encoders.

use chandler_core::{Collected, Denoising, Guidance, ImageInput, Picture, Prompts, Start};
use image::RgbImage;
use serde_json::Value;

use super::{SUITES, fixtures, load, run, suite};
use crate::on_device::{has_exact_company, picture_tolerance};

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

pub(super) fn input(case: &Value, size: &Value, suite: &str) -> ImageInput {
    let file = |name: &str| Picture::new(std::fs::read(fixtures(suite).join(name)).unwrap());
    // A part is of a picture of its own.
    let (image, mask) = match case["part"].as_str() {
        Some(mask) => ("part_image.png", mask),
        None => ("image.png", "mask.png"),
    };
    let start = case["image"].as_bool().unwrap().then(|| Start {
        image: file(image),
        strength: case["strength"].as_f64(),
        mask: case["mask"].as_bool().unwrap().then(|| file(mask)),
        padding_mask_crop: case["padding_mask_crop"].as_u64().map(|n| n as u32),
    });
    let side = |name: &str| size[name].as_u64().map(|side| side as u32);
    ImageInput {
        prompt: Prompts {
            first: text(&case["prompt"]),
            second: text(&case["prompt_2"]),
            third: text(&case["prompt_3"]),
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
            true_scale: case["true_cfg_scale"].as_f64(),
            rescale: case["guidance_rescale"].as_f64(),
            ..Guidance::default()
        },
        seed: case["seed"].as_u64(),
        start,
        clip_skip: case["clip_skip"].as_u64().map(|skip| skip as u32),
        ..ImageInput::default()
    }
}

/// Says how a drawing differs from the reference's picture in a folder, if it does by more than rounding.
pub(super) fn compare(name: &str, folder: &str, answer: &Collected) -> Option<String> {
    let file = fixtures(folder).join(format!("{name}.png"));
    let theirs = image::open(file).unwrap().to_rgb8();
    let [drawn] = answer.images.as_slice() else {
        panic!("{name}: {} pictures", answer.images.len());
    };
    assert_eq!((drawn.width, drawn.height), theirs.dimensions());
    let (differing, most) = difference(&drawn.rgb, &theirs);
    let share = differing as f64 / drawn.rgb.len() as f64;
    let pairs = drawn.rgb.iter().zip(theirs.as_raw());
    let sum: f64 = pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
    let mean = sum / drawn.rgb.len() as f64;
    let told = format!(
        "{name}: {share:.4} of the values differ, by {mean:.3} in the mean, by {most} at most"
    );
    println!("{told}");
    let (few, little) = picture_tolerance();
    let near = share <= few && mean <= little && (most <= 1 || !has_exact_company());
    (!near).then_some(told)
}

/// Values of red, green and blue that differ, and by how much at most.
pub(super) fn difference(ours: &[u8], theirs: &RgbImage) -> (usize, u8) {
    assert_eq!(ours.len(), theirs.as_raw().len());
    let pairs = ours.iter().zip(theirs.as_raw());
    let differences = pairs.map(|(a, b)| a.abs_diff(*b)).filter(|d| *d > 0);
    differences.fold((0, 0), |(count, most), d| (count + 1, most.max(d)))
}

#[test]
fn pictures_are_those_of_diffusers() {
    let (mut wrong, mut compared) = (Vec::new(), Vec::new());
    for name in SUITES {
        let suite = suite(name);
        let folders = suite.as_object().unwrap().keys();
        for folder in folders.filter(|key| !["size", "cases"].contains(&key.as_str())) {
            let (count, differing) = drawn(folder, (name, &suite));
            compared.push((folder.clone(), count));
            wrong.extend(differing);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    compared.sort();
    let expected = [
        ("dev", 3),
        ("lcm", 1),
        ("nine", 1),
        ("pixart_alpha", 1),
        ("pixart_sigma", 2),
        ("schnell", 2),
        ("sd", 8),
        ("sd3", 3),
        ("sd35", 1),
        ("sdxl", 2),
    ];
    assert_eq!(
        compared,
        expected.map(|(name, count)| (name.to_owned(), count))
    );
}

/// Draws all of a model's cases at once, so that whatever is of one size shares passes; how many there were, and which differ.
fn drawn(folder: &str, (suite, listed): (&str, &Value)) -> (usize, Vec<String>) {
    let mut pipeline = load(folder, 8);
    let cases = listed["cases"].as_array().unwrap().iter();
    let cases: Vec<&Value> = cases.filter(|case| case["folder"] == folder).collect();
    let inputs = cases
        .iter()
        .map(|case| input(case, &listed["size"], suite))
        .collect();
    let answers = run(&mut pipeline, inputs);
    let mut wrong = Vec::new();
    for (case, answer) in cases.iter().zip(answers) {
        assert_eq!(Some(answer.images[0].recipe.seed), case["seed"].as_u64());
        wrong.extend(compare(case["name"].as_str().unwrap(), suite, &answer));
    }
    (cases.len(), wrong)
}
