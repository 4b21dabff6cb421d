//! Previews by a tiny autoencoder: named or beside the model, larger than the model's own, and of no account to the picture.

use chandler_core::{Denoising, Event, ImageInput, Pipeline, Preview, Prompts};
use chandler_image::{ImageOptions, ImagePipeline};
use chandler_nn::weights::Snapshot;
use serde_json::json;
use tempfile::TempDir;

use super::{admit, fixtures, load_options, load_snapshot, options, snapshot, step};
use crate::checkpoint::{Checkpoint, packed};

/// The tiny autoencoder of the fixtures, with as many channels of latents as are wanted.
fn write(to: &std::path::Path, latents: usize) {
    let mut about = packed(&fixtures("autoencoder/tiny.json.gz"));
    about["config"]["latent_channels"] = json!(latents);
    for line in about["tensors"].as_array_mut().unwrap() {
        let (name, shape) = line.as_str().unwrap().rsplit_once('|').unwrap();
        let shape = match shape {
            "6x5x3x3" => format!("6x{latents}x3x3"),
            "5x6x3x3" => format!("{latents}x6x3x3"),
            "5" => latents.to_string(),
            other => other.to_owned(),
        };
        *line = json!(format!("{name}|{shape}"));
    }
    std::fs::create_dir_all(to).unwrap();
    std::fs::write(to.join("config.json"), about["config"].to_string()).unwrap();
    let weights = to.join("diffusion_pytorch_model.safetensors");
    Checkpoint::part(about).write(&weights, |name| name.to_owned());
}

fn tiny(latents: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), latents);
    dir
}

fn with(dir: &TempDir) -> ImageOptions {
    ImageOptions {
        preview: Some(Snapshot::dir(dir.path()).unwrap()),
        ..options(4)
    }
}

/// The previews of a picture, and the picture.
fn drawn(pipeline: &mut ImagePipeline, previews: u32) -> (Vec<Preview>, Vec<u8>) {
    let input = ImageInput {
        prompt: Prompts::one("the red house"),
        width: Some(16),
        height: Some(24),
        seed: Some(5),
        previews,
        denoising: Denoising {
            steps: Some(5),
            ..Denoising::default()
        },
        ..ImageInput::default()
    };
    admit(pipeline, 0, input);
    let (mut seen, mut picture) = (Vec::new(), Vec::new());
    while pipeline.occupancy().requests > 0 {
        for (_, event) in step(pipeline) {
            match event {
                Event::Preview(preview) => seen.push(*preview),
                Event::Drawn(drawn) => picture = drawn.rgb.to_vec(),
                _ => {}
            }
        }
    }
    (seen, picture)
}

#[test]
fn a_tiny_autoencoder_decodes_previews_and_changes_no_bit_of_the_picture() {
    let dir = tiny(4);
    let mut tiny = load_options("sd", &with(&dir)).unwrap();
    let mut own = super::load("sd", 4);
    let (previews, picture) = drawn(&mut tiny, 2);
    let (others, same) = drawn(&mut own, 2);
    let (none, plain) = drawn(&mut tiny, 0);
    assert!(none.is_empty());
    assert!(picture == same && picture == plain && !picture.is_empty());
    // Four pixels to a latent where the model itself has two.
    let sizes = |previews: &[Preview]| -> Vec<(u32, u32, u32)> {
        let size = |preview: &Preview| (preview.step, preview.width, preview.height);
        previews.iter().map(size).collect()
    };
    assert_eq!(sizes(&previews), [(1, 32, 48), (3, 32, 48)]);
    assert_eq!(sizes(&others), [(1, 16, 24), (3, 16, 24)]);
    assert_ne!(previews[0].rgb, previews[1].rgb);
    assert!(tiny.footprint().host_bytes > own.footprint().host_bytes);
}

#[test]
fn one_beside_the_model_is_found() {
    let model = snapshot("sd");
    write(&model.path().join("taesd"), 4);
    let mut pipeline = load_snapshot(&Snapshot::dir(model.path()).unwrap(), 4);
    let (previews, _) = drawn(&mut pipeline, 1);
    assert_eq!((previews[0].width, previews[0].height), (32, 48));
}

#[test]
fn one_of_other_latents_or_another_class_is_refused_at_loading() {
    let refused = |dir: &TempDir| {
        let error = load_options("sd", &with(dir)).err();
        error.expect("it was loaded").to_string()
    };
    let error = refused(&tiny(5));
    assert!(
        error.starts_with("preview: its latents have 5 channels"),
        "{error}"
    );
    let dir = tiny(4);
    std::fs::write(
        dir.path().join("config.json"),
        r#"{"_class_name": "AutoencoderKL"}"#,
    )
    .unwrap();
    assert!(refused(&dir).starts_with("preview: config.json: _class_name"));
}
