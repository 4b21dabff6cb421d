//! Checkpoints in one file, in the original layout: tensors as diffusers' conversion leaves them, pictures as it draws them after
//! `from_single_file`, and files that are something else.

use std::path::{Path, PathBuf};

use chandler_image::layers::{Loader, Placement};
use chandler_image::single_file;
use chandler_image::unet::{ControlNet, ControlNetConfig};
use chandler_nn::weights::{HostTensor, Snapshot};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::parity::{compare, input};
use super::{copy_tokenizer, load_snapshot, run, suite};
use crate::checkpoint::Checkpoint;

const FILE: &str = "checkpoint.safetensors";
const FAMILIES: [&str; 5] = ["one", "one_fill", "two", "xl", "refiner"];

fn made() -> Value {
    let mut made = suite("single_file");
    for family in FAMILIES {
        let Some(like) = made["models"][family]["like"].as_str() else {
            continue;
        };
        // What is listed last counts.
        let mut tensors = made["models"][like]["tensors"].clone();
        let own = made["models"][family]["tensors"].as_array().unwrap();
        tensors.as_array_mut().unwrap().extend(own.iter().cloned());
        made["models"][family]["tensors"] = tensors;
    }
    made
}

/// A model's one file, and whatever tokenizers are wanted beside it.
fn written(about: &Value, tokenizers: &[(&str, &str)]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE);
    Checkpoint::part(about.clone()).write(&file, |name| name.to_owned());
    for (folder, from) in tokenizers {
        copy_tokenizer(from, &dir.path().join(folder));
    }
    (dir, file)
}

fn tokenizers(about: &Value) -> Vec<(&str, &str)> {
    let listed = about["tokenizers"].as_object().unwrap().iter();
    listed
        .map(|(folder, from)| (folder.as_str(), from.as_str().unwrap()))
        .collect()
}

/// The sum of a part's tensors.
pub(super) fn sum_of(snapshot: &Snapshot, part: &str) -> String {
    summed(&snapshot.part(part))
}

/// As `summed` of make_single_file.py: every bit, place, name and shape has a part in it.
fn summed(part: &Snapshot) -> String {
    let weights = part.part_weights().unwrap();
    let of = |name: &String| -> u64 {
        let tensor: HostTensor = weights.tensor(name).unwrap();
        let halves = tensor.bytes().chunks_exact(2).enumerate();
        let own = halves.fold(0u64, |sum, (place, half)| {
            let bits = u64::from(u16::from_le_bytes([half[0], half[1]]));
            let place = (place as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            sum.wrapping_add((bits + 1).wrapping_mul(place))
        });
        let shape: Vec<String> = tensor.shape().iter().map(usize::to_string).collect();
        let name = name.strip_prefix("text_model.").unwrap_or(name);
        let label = format!("{}/{name}", shape.join("x"));
        let label = label
            .bytes()
            .fold(0xCBF2_9CE4_8422_2325_u64, |state, byte| {
                (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
            });
        label.wrapping_mul(own)
    };
    let sum = weights
        .names()
        .iter()
        .fold(0u64, |sum, name| sum.wrapping_add(of(name)));
    format!("{sum:016x}")
}

#[test]
fn tensors_and_pictures_are_those_of_diffusers() {
    let all = made();
    let mut wrong = Vec::new();
    for family in FAMILIES {
        let about = &all["models"][family];
        let (_dir, file) = written(about, &tokenizers(about));
        let snapshot = single_file::open(&file).unwrap();
        for (part, sum) in about["sums"].as_object().unwrap() {
            if sum_of(&snapshot, part) != sum.as_str().unwrap() {
                wrong.push(format!("{family}: tensors of {part}"));
            }
        }
        let case = &all["cases"][family];
        let mut pipeline = load_snapshot(&snapshot, 8);
        let [answer] = run(&mut pipeline, vec![input(case, &all["size"], "served")])
            .try_into()
            .unwrap_or_else(|_| panic!("{family}: one answer is wanted"));
        wrong.extend(compare(family, "single_file", &answer));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_controlnet_in_one_file_is_what_diffusers_makes_of_it() {
    let all = made();
    let (_dir, file) = written(&all["control"], &[]);
    let snapshot = single_file::open_control(&file).unwrap();
    assert_eq!(summed(&snapshot), all["control"]["sum"].as_str().unwrap());
    let config = ControlNetConfig::read(&snapshot, "config.json").unwrap();
    assert_eq!(config.embedding_channels, [4, 8, 12, 16]);
    assert_eq!((config.contracting.in_channels, config.pixels()), (4, 8));
    let weights = snapshot.part_weights().unwrap();
    let placement = Placement::cpu();
    let loader = Loader::new(weights.as_ref(), &placement);
    let net = ControlNet::load(&loader, &config).unwrap();
    let checkpoint = Checkpoint::part(all["control"].clone());
    assert_eq!(net.parameters(), checkpoint.parameters());
    let (_dir, model) = written(&all["models"]["one"], &[]);
    let said = single_file::open_control(&model).unwrap_err().to_string();
    assert!(said.contains("input_hint_block.0.weight"), "{said}");
}

/// Opened, the error's text.
pub(super) fn refused(file: &Path) -> String {
    single_file::open(file).unwrap_err().to_string()
}

#[test]
fn one_tokenizer_does_for_two_encoders_and_without_any_the_vocabulary_must_be_clips() {
    let all = made();
    let about = &all["models"]["xl"];
    let (_dir, file) = written(about, &[("tokenizer_2", "tokenizer_2")]);
    let snapshot = single_file::open(&file).unwrap();
    let config = |folder: &str| -> Value {
        let file = format!("{folder}/tokenizer_config.json");
        serde_json::from_slice(&snapshot.read(&file).unwrap().unwrap()).unwrap()
    };
    assert_eq!(config("tokenizer")["pad_token"], "<|endoftext|>");
    assert!(snapshot.read("tokenizer/vocab.json").unwrap().is_some());
    let (_dir, file) = written(about, &[]);
    let said = refused(&file);
    assert!(
        said.contains("550 tokens") && said.contains("folder tokenizer"),
        "{said}"
    );
}

#[test]
fn a_configuration_beside_the_file_counts() {
    let all = made();
    let about = &all["models"]["two"];
    let (dir, file) = written(about, &tokenizers(about));
    let read = || -> Value {
        let snapshot = single_file::open(&file).unwrap();
        let bytes = snapshot.read("scheduler/scheduler_config.json").unwrap();
        serde_json::from_slice(&bytes.unwrap()).unwrap()
    };
    assert_eq!(read()["prediction_type"], "v_prediction");
    std::fs::create_dir(dir.path().join("scheduler")).unwrap();
    let other = json!({"_class_name": "DDIMScheduler", "prediction_type": "epsilon"});
    let path = dir.path().join("scheduler/scheduler_config.json");
    std::fs::write(path, other.to_string()).unwrap();
    assert_eq!(read()["prediction_type"], "epsilon");
}

#[test]
fn what_is_no_model_says_what_it_is() {
    let all = made();
    let mut about = all["models"]["one"].clone();
    for (tensor, wanted) in [
        ("lora_unet_mid.alpha", "--lora"),
        (
            "double_blocks.0.img_attn.norm.key_norm.scale",
            "img_in.weight",
        ),
        ("joint_blocks.0.x_block.attn.qkv.weight", "x_embedder"),
        ("single_stream_modulation.lin.weight", "FLUX.2"),
        ("distilled_guidance_layer.in_proj.bias", "Chroma"),
        ("edm_mean", "Playground"),
        (
            "model.diffusion_model.input_blocks.0.0.weight",
            "autoencoder is missing",
        ),
        ("encoder.down.0.block.0.conv1.weight", "autoencoder"),
        ("some.weight", "input_blocks.0.0.weight"),
    ] {
        about["tensors"] = json!([format!("0|{tensor}|4x4")]);
        let (_dir, file) = written(&about, &[]);
        let said = refused(&file);
        assert!(
            said.contains(wanted) && said.contains(FILE),
            "{tensor}: {said}"
        );
    }
}
