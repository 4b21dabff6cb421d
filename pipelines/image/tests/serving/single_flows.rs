//! Checkpoints of Stable Diffusion 3 and FLUX in one file, in the original layout: tensors as diffusers' conversion leaves them,
//! pictures as it draws them after `from_single_file`, transformers alone, and what files may lack.

use std::path::{Path, PathBuf};

use chandler_image::single_file;
use chandler_nn::weights::{HostTensor, Snapshot};
use random_checkpoints::names;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::parity::{compare, input};
use super::single_file::{refused, sum_of};
use super::{copy_tokenizer, load_snapshot, run, suite};
use crate::checkpoint::{Checkpoint, save};

const FILE: &str = "checkpoint.safetensors";
const MODELS: [&str; 4] = ["sd3", "sd35", "schnell", "dev"];
const DENOISER: &str = "model.diffusion_model.";

/// What random_weights.py has of one of the models: the lists of its parts, each behind what its names begin with.
fn about(all: &Value, model: &str) -> Value {
    let mut about = all["models"][model].clone();
    let mut tensors = Vec::new();
    for part in about["layout"].as_array().unwrap() {
        let [prefix, lists @ ..] = part.as_array().unwrap().as_slice() else {
            panic!("{part}: names' beginning and lists are wanted");
        };
        let prefix = prefix.as_str().unwrap();
        // What is listed last counts.
        for list in lists {
            let lines = all[list.as_str().unwrap()].as_array().unwrap();
            for (name, shape) in names(lines.iter().map(|line| line.as_str().unwrap())).unwrap() {
                tensors.push(format!("0|{prefix}{name}|{}", shape[0]));
            }
        }
    }
    about["gains"] = all["gains"].clone();
    about["tensors"] = json!(tensors);
    about
}

/// A model's one file, of those of its tensors whose names are given new ones, and its tokenizers beside it.
fn written(about: &Value, rename: impl Fn(&str) -> Option<String>) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE);
    let tensors = Checkpoint::part(about.clone()).tensors().into_iter();
    let kept = tensors.filter_map(|(name, tensor)| Some((rename(&name)?, tensor)));
    save(&file, &kept.collect(), json!({}));
    for (folder, from) in about["tokenizers"].as_object().unwrap() {
        copy_tokenizer(from.as_str().unwrap(), &dir.path().join(folder));
    }
    (dir, file)
}

fn whole(about: &Value) -> (TempDir, PathBuf) {
    written(about, |name| Some(name.to_owned()))
}

/// Which parts' tensors are not those of diffusers.
fn differing(snapshot: &Snapshot, about: &Value) -> Vec<String> {
    let sums = about["sums"].as_object().unwrap().iter();
    let wrong = sums.filter(|(part, sum)| sum_of(snapshot, part) != sum.as_str().unwrap());
    wrong.map(|(part, _)| part.clone()).collect()
}

#[test]
fn tensors_and_pictures_of_transformers_are_those_of_diffusers() {
    let all = suite("single_flows");
    let mut wrong = Vec::new();
    for model in MODELS {
        let about = about(&all, model);
        let (_dir, file) = whole(&about);
        let snapshot = single_file::open(&file).unwrap();
        let parts = differing(&snapshot, &about);
        wrong.extend(
            parts
                .iter()
                .map(|part| format!("{model}: tensors of {part}")),
        );
        let mut pipeline = load_snapshot(&snapshot, 8);
        let asked = input(&all["cases"][model], &all["size"], "single_flows");
        let [answer] = run(&mut pipeline, vec![asked])
            .try_into()
            .unwrap_or_else(|_| panic!("{model}: one answer is wanted"));
        wrong.extend(compare(model, "single_flows", &answer));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Writes a part of an opened model in the diffusers layout.
fn lay_beside(snapshot: &Snapshot, folder: &str, dir: &Path) {
    let part = snapshot.part(folder);
    std::fs::create_dir_all(dir.join(folder)).unwrap();
    let config = part.read("config.json").unwrap().unwrap();
    std::fs::write(dir.join(folder).join("config.json"), config).unwrap();
    let weights = part.part_weights().unwrap();
    let tensor =
        |name: &String| -> (String, HostTensor) { (name.clone(), weights.tensor(name).unwrap()) };
    let file = dir.join(folder).join("model.safetensors");
    save(
        &file,
        &weights.names().iter().map(tensor).collect(),
        json!({}),
    );
}

#[test]
fn a_transformer_alone_takes_the_other_parts_from_folders_beside_it() {
    let all = suite("single_flows");
    let about = about(&all, "dev");
    let (_whole, file) = whole(&about);
    let snapshot = single_file::open(&file).unwrap();
    let alone = |name: &str| name.strip_prefix(DENOISER).map(str::to_owned);
    let (dir, file) = written(&about, alone);
    let said = refused(&file);
    for wanted in ["text_encoder, text_encoder_2, vae", "FluxPipeline", FILE] {
        assert!(said.contains(wanted), "{said}");
    }
    lay_beside(&snapshot, "text_encoder", dir.path());
    lay_beside(&snapshot, "vae", dir.path());
    let said = refused(&file);
    assert!(said.contains(": text_encoder_2 of"), "{said}");
    // Without weights it is not there.
    std::fs::create_dir(dir.path().join("text_encoder_2")).unwrap();
    std::fs::write(dir.path().join("text_encoder_2/config.json"), "{}").unwrap();
    assert_eq!(refused(&file), said);
    lay_beside(&snapshot, "text_encoder_2", dir.path());
    let composed = single_file::open(&file).unwrap();
    assert_eq!(differing(&composed, &about), Vec::<String>::new());
    let scheduler = "scheduler/scheduler_config.json";
    assert_eq!(
        composed.read(scheduler).unwrap(),
        snapshot.read(scheduler).unwrap()
    );
}

#[test]
fn t5s_tokenizer_must_lie_beside_the_file_and_clips_is_not_taken_for_it_nor_it_for_clips() {
    let all = suite("single_flows");
    let mut dev = about(&all, "dev");
    dev["tokenizers"] = json!({"tokenizer": "tokenizer"});
    let (_dir, file) = whole(&dev);
    let said = refused(&file);
    for wanted in [
        "text encoder 2 is T5",
        "folder tokenizer_2",
        "tokenizer.json",
    ] {
        assert!(said.contains(wanted), "{said}");
    }
    dev["tokenizers"] = json!({"tokenizer_2": "../t5/tokenizer"});
    let (_dir, file) = whole(&dev);
    let said = refused(&file);
    assert!(said.contains("text encoder 1 has"), "{said}");
}

#[test]
fn weights_in_fp8_are_refused_by_name_before_anything_is_loaded() {
    let all = suite("single_flows");
    let (_dir, file) = whole(&about(&all, "schnell"));
    let bytes = std::fs::read(&file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let name = "text_encoders.t5xxl.transformer.encoder.block.1.layer.0.SelfAttention.k.weight";
    let shape = &mut header[name]["shape"];
    // As many bytes as before.
    *shape = json!([2 * shape[0].as_u64().unwrap(), shape[1]]);
    header[name]["dtype"] = json!("F8_E4M3");
    let header = serde_json::to_vec(&header).unwrap();
    let mut changed = (header.len() as u64).to_le_bytes().to_vec();
    changed.extend_from_slice(&header);
    changed.extend_from_slice(&bytes[8 + length..]);
    std::fs::write(&file, changed).unwrap();
    let said = refused(&file);
    for wanted in [name, "F8_E4M3", "f16 or bf16"] {
        assert!(said.contains(wanted), "{said}");
    }
}
