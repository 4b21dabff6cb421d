//! Requests with adapters: their pictures are those of diffusers, and company of other adapters changes nothing.

use chandler_core::{Denoising, Guidance, ImageInput, Input, Pipeline, Prompts};
use image::RgbImage;

use super::parity::difference;
use super::{load_with, run};
use crate::lora::{Written, adapter, fixture};

/// The request of make_lora.py's pictures.
fn request(seed: u64, loras: &[(&str, f32)]) -> ImageInput {
    let guided = if seed == 31 { 3.0 } else { 3.5 };
    ImageInput {
        prompt: Prompts::one("a red cat on the house"),
        negative_prompt: match seed {
            31 => Prompts::default(),
            _ => Prompts::one("green water"),
        },
        width: Some(18),
        height: Some(22),
        seed: Some(seed),
        denoising: Denoising {
            steps: Some(5),
            ..Denoising::default()
        },
        guidance: Guidance {
            scale: Some(guided),
            ..Guidance::default()
        },
        loras: loras
            .iter()
            .map(|(name, weight)| ((*name).to_owned(), *weight))
            .collect(),
        ..ImageInput::default()
    }
}

fn picture(file: std::path::PathBuf) -> RgbImage {
    image::open(file).unwrap().to_rgb8()
}

fn with(folder: &str, names: &[&str]) -> chandler_image::ImagePipeline {
    let written: Vec<Written> = names.iter().map(|name| adapter(name)).collect();
    let files = written.iter().map(|written| written.file.clone());
    load_with(folder, 8, files.collect())
}

fn assert_same(name: &str, ours: &[u8], theirs: &RgbImage) {
    let (differing, most) = difference(ours, theirs);
    let share = differing as f64 / ours.len() as f64;
    println!("{name}: {share} differ, by {most} at most");
    assert!(
        most <= 1 && share < 0.02,
        "{name}: {share:.3} of the values differ, by {most} at most"
    );
}

#[test]
fn pictures_with_adapters_are_those_of_diffusers_and_company_changes_nothing() {
    let both = [("ink", 0.7), ("chalk", -0.4)];
    let asked = || {
        vec![
            request(7, &[]),
            request(7, &[("ink", 1.0)]),
            request(7, &both),
        ]
    };
    let mut pipeline = with("sd", &["ink", "chalk"]);
    assert_eq!(pipeline.preparer().info().adapters, ["ink", "chalk"]);
    let together = run(&mut pipeline, asked());
    // One pass a step for all three.
    assert_eq!(pipeline.calls(), 5);
    let served = fixture("../served/text.png");
    for (answer, (name, file)) in together.iter().zip([
        ("none", served),
        ("ink", fixture("ink.png")),
        ("both", fixture("both.png")),
    ]) {
        assert_same(name, &answer.images[0].rgb, &picture(file));
    }
    for (number, request) in asked().into_iter().enumerate() {
        let alone = run(&mut pipeline, vec![request]);
        assert_eq!(alone[0].images[0].rgb, together[number].images[0].rgb);
    }
    // As the web UI writes it, and in whatever order.
    let tagged = ImageInput {
        prompt: Prompts::one("<lora:chalk:-0.4>a red cat on the house<lora:ink:0.7>"),
        ..request(7, &[])
    };
    let tagged = run(&mut pipeline, vec![tagged]);
    assert_eq!(tagged[0].images[0].rgb, together[2].images[0].rgb);
}

#[test]
fn both_text_encoders_of_xl_have_adapters() {
    let mut pipeline = with("sdxl", &["oil"]);
    let drawn = run(&mut pipeline, vec![request(31, &[("oil", 0.8)])]);
    assert_same("oil", &drawn[0].images[0].rgb, &picture(fixture("oil.png")));
}

#[test]
fn adapters_that_are_not_there_are_refused_with_those_that_are() {
    let pipeline = with("sd", &["old"]);
    let refused = |loras: &[(&str, f32)]| {
        let input = Input::Image(Box::new(request(1, loras)));
        pipeline
            .preparer()
            .prepare(input)
            .err()
            .expect("it was taken")
    };
    let error = refused(&[("new", 1.0)]);
    assert_eq!(error.field.as_deref(), Some("loras"));
    assert!(error.to_string().contains("the model has old"), "{error}");
    assert_eq!(refused(&[("old", 1000.0)]).field.as_deref(), Some("loras"));
}
