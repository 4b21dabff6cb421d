//! The safety checker in serving: a flagged picture comes back black, no previews slip past, and what cannot be run fails no load. Verdicts
//! themselves are held against diffusers in tests/safety.rs.

use std::path::Path;

use chandler_core::{Collected, Denoising, ImageInput, Prompts};
use chandler_image::{ImageOptions, ImagePipeline};
use chandler_nn::weights::Snapshot;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{fixtures, options, run, snapshot};
use crate::checkpoint::{Checkpoint, packed};

/// A pipeline with a checker whose thresholds are all about the same cosine.
fn checked(threshold: f64) -> TempDir {
    let dir = snapshot("sd");
    let mut about = packed(&fixtures("safety/checker.json.gz"));
    for name in ["concept_embeds_weights", "special_care_embeds_weights"] {
        about["change"][name] = json!([0.0, threshold]);
    }
    let index = dir.path().join("model_index.json");
    let mut parts: Value = serde_json::from_slice(&std::fs::read(&index).unwrap()).unwrap();
    parts["safety_checker"] = json!(["stable_diffusion", "StableDiffusionSafetyChecker"]);
    parts["feature_extractor"] = json!(["transformers", "CLIPImageProcessor"]);
    write(&index, &parts);
    write(
        &dir.path().join("safety_checker/config.json"),
        &about["config"],
    );
    let processor = dir
        .path()
        .join("feature_extractor/preprocessor_config.json");
    write(&processor, &about["processor"]);
    let weights = dir.path().join("safety_checker/model.safetensors");
    Checkpoint::part(about).write(&weights, |name| name.to_owned());
    dir
}

fn write(path: &Path, value: &Value) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, serde_json::to_vec(value).unwrap()).unwrap();
}

fn drawn(dir: &TempDir, safety_checker: bool) -> Collected {
    let options = ImageOptions {
        safety_checker,
        ..options(4)
    };
    let snapshot = Snapshot::dir(dir.path()).unwrap();
    let mut pipeline = ImagePipeline::load(&snapshot, &options, &|_| {}).unwrap();
    let input = ImageInput {
        prompt: Prompts::one("a red cat"),
        width: Some(18),
        height: Some(22),
        seed: Some(3),
        previews: 1,
        denoising: Denoising {
            steps: Some(3),
            ..Denoising::default()
        },
        ..ImageInput::default()
    };
    run(&mut pipeline, vec![input]).remove(0)
}

#[test]
fn a_flagged_picture_is_black_and_says_so() {
    let (forbidding, allowing) = (checked(-2.0), checked(2.0));
    let [black, shown, unseen] = [
        drawn(&forbidding, true),
        drawn(&allowing, true),
        drawn(&forbidding, false),
    ];
    let (black, shown, unseen) = (&black.images[0], &shown.images[0], &unseen.images[0]);
    assert!(black.recipe.flagged && black.rgb.iter().all(|byte| *byte == 0));
    assert_eq!(black.rgb.len(), 3 * 18 * 22);
    assert!(!shown.recipe.flagged && shown.rgb.iter().any(|byte| *byte > 0));
    assert!(!unseen.recipe.flagged);
    assert_eq!(unseen.rgb, shown.rgb);
}

#[test]
fn a_checker_that_cannot_be_run_fails_no_load() {
    let dir = checked(-2.0);
    std::fs::remove_file(dir.path().join("safety_checker/model.safetensors")).unwrap();
    assert!(!drawn(&dir, true).images[0].recipe.flagged);
    let dir = checked(-2.0);
    write(
        &dir.path().join("safety_checker/config.json"),
        &json!({"vision_config": 3}),
    );
    assert!(!drawn(&dir, true).images[0].recipe.flagged);
}
