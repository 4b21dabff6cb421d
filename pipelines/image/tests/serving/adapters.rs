//! Requests with adapters: their pictures are those of diffusers, and company of other adapters changes nothing.

use candle_core::DType;
use chandler_core::{Denoising, Guidance, ImageInput, Input, Pipeline, Prompts};
use chandler_nn::weights::{HostTensor, Snapshot};
use image::RgbImage;
use serde_json::json;
use tempfile::TempDir;

use super::parity::difference;
use super::{load_snapshot, load_with, run, snapshot, suite};
use crate::checkpoint::{Checkpoint, save};
use crate::lora::{Written, adapter, fixture, written};

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

/// A layer of a transformer, and a pair for it: the adapter's file, and the checkpoint into which it was multiplied.
fn fused(folder: &str) -> (Written, TempDir) {
    const LAYER: &str = "transformer_blocks.0.attn.to_q";
    const RANK: usize = 2;
    let parts = suite("flows")[folder]["parts"].clone();
    let mut tensors = Checkpoint::part(parts["transformer"].clone()).tensors();
    let name = format!("{LAYER}.weight");
    let weight = tensors[&name].clone();
    let (outputs, inputs) = (weight.shape()[0], weight.shape()[1]);
    let wave = |count: usize| -> Vec<f32> { (0..count).map(|n| (n as f32 * 0.7).sin()).collect() };
    let (a, b) = (wave(RANK * inputs), wave(outputs * RANK));
    let f32s = |name: &str, shape: [usize; 2], numbers: &[f32]| {
        let bytes = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        HostTensor::from_bytes(name, DType::F32, shape.to_vec(), bytes).unwrap()
    };
    let pairs = [
        ("lora_A", [RANK, inputs], &a),
        ("lora_B", [outputs, RANK], &b),
    ];
    let pairs = pairs.map(|(end, shape, numbers)| {
        let name = format!("transformer.{LAYER}.{end}.weight");
        let tensor = f32s(&name, shape, numbers);
        (name, tensor)
    });
    let mut wide = weight.to_f32().unwrap();
    for (at, value) in wide.iter_mut().enumerate() {
        let (row, column) = (at / inputs, at % inputs);
        let product = (0..RANK).map(|r| b[row * RANK + r] * a[r * inputs + column]);
        *value += product.sum::<f32>();
    }
    tensors.insert(name.clone(), f32s(&name, [outputs, inputs], &wide));
    let dir = snapshot(folder);
    let file = dir
        .path()
        .join("transformer/diffusion_pytorch_model.safetensors");
    save(&file, &tensors, json!({}));
    (
        written("flow", &pairs.into_iter().collect(), json!({})),
        dir,
    )
}

#[test]
fn transformers_with_adapters_draw_what_fused_ones_draw() {
    for folder in ["dev", "sd3"] {
        let (adapter, fused) = fused(folder);
        let request = |loras: &[(&str, f32)]| ImageInput {
            negative_prompt: Prompts::default(),
            width: Some(28),
            height: Some(20),
            ..request(5, loras)
        };
        let mut beside = load_with(folder, 8, vec![adapter.file.clone()]);
        let both = || vec![request(&[]), request(&[("flow", 1.0)])];
        let together = run(&mut beside, both());
        let [plain, adapted] = [0, 1].map(|n| &together[n].images[0].rgb);
        let mut fused = load_snapshot(&Snapshot::dir(fused.path()).unwrap(), 8);
        let expected = run(&mut fused, vec![request(&[])]).remove(0);
        let expected = RgbImage::from_raw(28, 20, expected.images[0].rgb.to_vec()).unwrap();
        assert_same(folder, adapted, &expected);
        let (differing, _) = difference(plain, &expected);
        assert!(
            differing > plain.len() / 10,
            "{folder}: the adapter is not seen"
        );
        for (number, request) in both().into_iter().enumerate() {
            let alone = run(&mut beside, vec![request]);
            assert_eq!(alone[0].images[0].rgb, together[number].images[0].rgb);
        }
    }
}
