//! The safety checker against diffusers' and transformers' (fixtures/make_safety.py): inputs, embeddings, and which pictures are flagged.

use candle_core::Tensor;
use chandler_image::Size;
use chandler_image::layers::{Loader, Placement};
use chandler_image::safety::{ImageProcessor, SafetyChecker, SafetyConfig};
use chandler_nn::fields::Fields;
use serde_json::{Value, json};

use crate::checkpoint::{Checkpoint, bits, error};

const SIDE: usize = 30;

fn checker(fixture: &Checkpoint) -> SafetyChecker {
    let config = SafetyConfig::of(&fixture.fields(json!({}))).unwrap();
    let weights = fixture.weights();
    let placement = Placement::cpu();
    SafetyChecker::load(
        &config,
        processor(fixture),
        &Loader::new(weights.as_ref(), &placement),
    )
    .unwrap()
}

fn processor(fixture: &Checkpoint) -> ImageProcessor {
    let fields = Fields::of(
        "preprocessor_config.json",
        fixture.about["processor"].clone(),
    );
    ImageProcessor::of(&fields, SIDE).unwrap()
}

/// The pictures of the script, by number.
fn pictures(fixture: &Checkpoint) -> Vec<(Vec<u8>, Size)> {
    let sizes: Vec<(u32, u32)> = serde_json::from_value(fixture.about["sizes"].clone()).unwrap();
    let numbered = (0i64..).zip(sizes);
    numbered
        .map(|(number, (width, height))| {
            let mut rgb = Vec::new();
            for y in 0..i64::from(height) {
                for x in 0..i64::from(width) {
                    rgb.extend((0..3).map(|c| {
                        let value = x * x * (3 + number + c) / 7
                            + y * (11 * c + 5 + number * number)
                            + (x * y * (2 + number % 3)) / (3 + c);
                        (value % 256) as u8
                    }));
                }
            }
            (rgb, Size { width, height })
        })
        .collect()
}

#[test]
fn a_picture_is_resized_cut_and_moved_as_transformers_does() {
    let fixture = Checkpoint::open("safety", "checker");
    let (rgb, size) = pictures(&fixture).remove(0);
    let input = processor(&fixture).process(&rgb, size).unwrap();
    let expected: Vec<f32> = fixture
        .output("input")
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    let pairs = input.iter().zip(&expected);
    let furthest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert_eq!(input.len(), expected.len());
    assert!(furthest < 1e-6, "{furthest}");
}

#[test]
fn embeddings_and_verdicts_are_the_references() {
    let fixture = Checkpoint::open("safety", "checker");
    let checker = checker(&fixture);
    // From the very numbers that the reference looked at, so that resizing has no part in it.
    let input = fixture.output("input").unsqueeze(0).unwrap();
    let alone = checker.embed(&input).unwrap();
    let expected = fixture.output("embeddings");
    let error = error(&alone, &expected.narrow(0, 0, 1).unwrap());
    assert!(error < 1e-5, "{error}");
    let twice = Tensor::cat(&[&input.zeros_like().unwrap(), &input], 0).unwrap();
    let in_company = checker.embed(&twice).unwrap().narrow(0, 1, 1).unwrap();
    assert_eq!(bits(&alone), bits(&in_company.contiguous().unwrap()));

    let flagged: Vec<bool> = serde_json::from_value(fixture.about["flagged"].clone()).unwrap();
    let found: Vec<bool> = pictures(&fixture)
        .iter()
        .map(|(rgb, size)| checker.flags(rgb, *size).unwrap())
        .collect();
    assert_eq!(found, flagged);
    assert!(
        checker
            .flags(
                &[0; 5],
                Size {
                    width: 2,
                    height: 1
                }
            )
            .is_err()
    );
}

#[test]
fn what_is_not_supported_is_named() {
    let fixture = Checkpoint::open("safety", "checker");
    let config = |change: Value| SafetyConfig::of(&fixture.fields(change)).map(|_| ());
    let said = config(json!({"vision_config": {"hidden_size": 21}})).unwrap_err();
    assert!(said.to_string().contains("num_attention_heads"), "{said}");
    // What the second name says wins, as in transformers 4.
    let both =
        json!({"vision_config": {"patch_size": 7}, "vision_config_dict": {"patch_size": 500}});
    assert!(config(both).unwrap_err().to_string().contains("patch_size"));
    let processing = |value: Value| {
        let fields = Fields::of("preprocessor_config.json", value);
        ImageProcessor::of(&fields, SIDE).unwrap_err().to_string()
    };
    let small = json!({"size": 30, "crop_size": 28});
    assert!(processing(small).contains("crop_size"));
    assert!(
        processing(json!({"size": 30, "crop_size": 30, "resample": 2})).contains("resample: 2")
    );
    let unmoved = json!({"size": 30, "crop_size": 30, "do_normalize": false});
    assert!(processing(unmoved).contains("do_normalize"));
    let zero = json!({"size": 30, "crop_size": 30, "image_std": [1.0, 0.0, 1.0]});
    assert!(processing(zero).contains("image_std"));
}
