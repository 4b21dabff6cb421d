//! What models make with adapters beside them, against what diffusers makes of them with peft.

use candle_core::{DType, Tensor};
use chandler_image::layers::Loader;
use chandler_image::lora::{Part, attach};
use chandler_image::text_encoder::clip::{Encoded, HiddenState, Wanted};
use chandler_image::transformer::flux::{FluxInput, FluxTransformer};
use chandler_image::transformer::flux_config::FluxConfig;
use chandler_image::transformer::packing;
use chandler_image::transformer::sd3::{Sd3Input, Sd3Transformer};
use chandler_image::transformer::sd3_config::Sd3Config;
use chandler_nn::fields::Fields;
use chandler_nn::lora::AdapterRows;
use chandler_nn::weights::{HostTensor, Snapshot};

use super::{Parts, Written, adapter, adapters, expected, stored};
use crate::checkpoint::{bits, error, placement, save};
use crate::on_device;

/// Two orders of the same f32 sums, with a third sum beside each; seen are errors of a quarter of it.
const TOLERANCE: f32 = 5e-5;

/// A case of make_lora.py: the adapters by number, with their weights.
const CASES: [(&str, &[(u32, f32)]); 4] = [
    ("ink", &[(0, 1.0)]),
    ("chalk", &[(1, 1.0)]),
    ("both", &[(0, 0.7), (1, -0.4)]),
    ("old", &[(2, 1.0)]),
];

fn close(name: &str, found: &Tensor) {
    close_within(name, found, TOLERANCE);
}

fn close_within(name: &str, found: &Tensor, tolerance: f32) {
    let error = error(found, &expected(name));
    println!("{name}: {error:e}");
    assert!(error < on_device::tolerance(tolerance), "{name}: {error:e}");
}

fn text(parts: &Parts, encoder: usize, adapters: &[(u32, f32)]) -> Encoded {
    let (_, model) = &parts.texts[encoder];
    let vocabulary = model.config().vocab_size as u32;
    let (begin, end) = (vocabulary - 2, vocabulary - 1);
    let mut tokens = vec![begin];
    tokens.extend(40..58);
    tokens.extend([end, end]);
    let wanted = Wanted {
        hidden: HiddenState::Penultimate { skip: 0 },
        pooled: true,
    };
    let rows = AdapterRows::weighted(vec![adapters.to_vec()], &on_device::device()).unwrap();
    model.forward(&[&tokens], wanted, &rows).unwrap()
}

#[test]
fn a_unet_and_its_text_encoder_are_what_diffusers_makes_of_them() {
    let mut parts = Parts::of("sd");
    let plain = parts.unet(60, &[0, 1], vec![Vec::new(); 2]);
    close("none.unet", &plain);
    let (_written, files) = adapters(&["ink", "chalk", "old"]);
    assert!(parts.attach(&files).unwrap() > 10_000);
    // Nothing of the model has changed.
    let beside = parts.unet(60, &[0, 1], vec![Vec::new(); 2]);
    assert_eq!(bits(&beside), bits(&plain));
    for (name, asked) in CASES {
        let found = parts.unet(60, &[0, 1], vec![asked.to_vec(); 2]);
        close(&format!("{name}.unet"), &found);
        close(&format!("{name}.hidden"), &text(&parts, 0, asked).hidden);
        if name == "both" {
            close("fused.unet", &found);
        }
    }
}

#[test]
fn blocks_that_are_counted_as_the_original_counts_them_are_found() {
    let mut parts = Parts::of("sdxl");
    let (_written, files) = adapters(&["oil"]);
    parts.attach(&files).unwrap();
    let asked = [(0, 0.8)];
    close(
        "oil.unet",
        &parts.unet(61, &[0, 1], vec![asked.to_vec(); 2]),
    );
    close("oil.hidden", &text(&parts, 0, &asked).hidden);
    let second = text(&parts, 1, &asked);
    close("oil_2.hidden", &second.hidden);
    close("oil_2.pooled", &second.pooled.unwrap());
}

/// A transformer's folder, with the file of its weights under a usual name.
fn transformer(name: &str) -> (Snapshot, Fields, std::path::PathBuf) {
    let folder = super::fixture("../transformers").join(name);
    let snapshot = Snapshot::dir(&folder).unwrap();
    let fields = Fields::read(&snapshot, "config.json").unwrap().unwrap();
    (snapshot, fields, folder.join("expected.safetensors"))
}

const TIMESTEPS: [f32; 2] = [937.5, 61.25];

/// Two samples of which both, or only the second, have the adapter in full.
fn rows(first: bool) -> AdapterRows {
    let of = vec![vec![(0, 1.0); usize::from(first)], vec![(0, 1.0)]];
    AdapterRows::weighted(of, &on_device::device()).unwrap()
}

fn sample(x: &Tensor, number: usize) -> Vec<u32> {
    bits(&x.narrow(0, number, 1).unwrap().contiguous().unwrap())
}

#[test]
fn kohyas_fused_layers_are_flux_layers_here() {
    let (snapshot, fields, file) = transformer("dev");
    let (weights, given, place) = (snapshot.part_weights().unwrap(), stored(&file), placement());
    let config = FluxConfig::read(&fields).unwrap();
    let mut model = FluxTransformer::load(config, &Loader::new(weights.as_ref(), &place)).unwrap();
    let written = adapter("wash");
    let mut parts = [Part {
        folder: "transformer",
        layers: model.layers(),
    }];
    attach(&mut parts, &[written.file], &place).unwrap();
    let run = |adapters: Option<&AdapterRows>| {
        let input = FluxInput {
            latents: &packing::pack(&given["latents"]).unwrap(),
            text: &given["text"],
            pooled: &given["pooled"],
            timesteps: &TIMESTEPS,
            guidance: Some(&[3.5, 1.25]),
            positions: &packing::positions(3, 5),
            adapters,
        };
        model.forward(&input).unwrap()
    };
    let (plain, both, second) = (run(None), run(Some(&rows(true))), run(Some(&rows(false))));
    close("wash", &both);
    assert_eq!(
        [sample(&second, 0), sample(&second, 1)],
        [sample(&plain, 0), sample(&both, 1)]
    );
}

#[test]
fn every_linear_layer_of_stable_diffusion_3_has_a_side_path() {
    let (snapshot, fields, file) = transformer("sd35-medium");
    let (weights, given, place) = (snapshot.part_weights().unwrap(), stored(&file), placement());
    let config = Sd3Config::read(&fields).unwrap();
    let mut model = Sd3Transformer::load(config, &Loader::new(weights.as_ref(), &place)).unwrap();
    let written = adapter("glaze");
    let mut parts = [Part {
        folder: "transformer",
        layers: model.layers(),
    }];
    attach(&mut parts, &[written.file], &place).unwrap();
    let run = |adapters: Option<&AdapterRows>| {
        let input = Sd3Input {
            latents: &given["latents"],
            text: &given["text"],
            pooled: &given["pooled"],
            timesteps: &TIMESTEPS,
            adapters,
        };
        model.forward(&input).unwrap()
    };
    let (plain, both, second) = (run(None), run(Some(&rows(true))), run(Some(&rows(false))));
    close("glaze", &both);
    assert_eq!(
        [sample(&second, 0), sample(&second, 1)],
        [sample(&plain, 0), sample(&both, 1)]
    );
}

/// The same adapter under other names, with alphas of another type.
fn renamed(name: &str, rename: impl Fn(&str) -> String, alphas: Option<DType>) -> Written {
    let (tensors, texts) = super::tensors(name);
    let tensors = tensors.into_iter().map(|(name, tensor)| {
        let tensor = match alphas {
            Some(DType::I64) if name.ends_with(".alpha") => {
                let alpha = tensor.to_f32().unwrap()[0] as i64;
                let bytes = alpha.to_le_bytes().to_vec();
                HostTensor::from_bytes(name.clone(), DType::I64, Vec::new(), bytes).unwrap()
            }
            _ => tensor,
        };
        (rename(&name), tensor)
    });
    super::written(name, &tensors.collect(), texts)
}

#[test]
fn other_spellings_of_the_same_file_are_the_same_adapter() {
    let with = |written: Written| {
        let mut parts = Parts::of("sd");
        parts.attach(&[written.file]).unwrap();
        let asked = vec![(0, 1.0)];
        let hidden = text(&parts, 0, &asked).hidden;
        (bits(&parts.unet(60, &[0], vec![asked])), bits(&hidden))
    };
    let ink = with(adapter("ink"));
    // kohya's of later models, and whole numbers as alphas.
    let te1 = |name: &str| name.replace("lora_te_", "lora_te1_");
    assert_eq!(with(renamed("ink", te1, Some(DType::I64))), ink);
    let halves = |name: &str| {
        let name = name.replace("lora_down", "lora_A");
        name.replace("lora_up", "lora_B")
    };
    assert_eq!(with(renamed("ink", halves, None)), ink);
    let chalk = with(adapter("chalk"));
    let older = |name: &str| {
        let (path, half) = name.split_once(".lora_").unwrap();
        let half = if half.starts_with('A') { "down" } else { "up" };
        match path.starts_with("text_encoder") {
            true => format!("{path}.lora_linear_layer.{half}.weight"),
            false => format!("{path}.lora.{half}.weight"),
        }
    };
    assert_eq!(with(renamed("chalk", older, None)), chalk);
    let old = with(adapter("old"));
    let bare = |name: &str| name.trim_start_matches("unet.").to_owned();
    assert_eq!(with(renamed("old", bare, None)), old);
}

#[test]
fn a_file_is_read_by_whatever_name_it_has() {
    let (tensors, texts) = super::tensors("old");
    let dir = tempfile::tempdir().unwrap();
    save(&dir.path().join("a b.safetensors"), &tensors, texts);
    let file = chandler_image::AdapterFile {
        name: "old".to_owned(),
        snapshot: Snapshot::dir(dir.path()).unwrap(),
        file: "a b.safetensors".to_owned(),
    };
    assert!(Parts::of("sd").attach(&[file]).is_ok());
}

#[test]
fn peft_s_own_directory_of_a_unet_is_the_same_adapter() {
    let (tensors, texts) = super::tensors("chalk");
    let own = tensors.into_iter().filter_map(|(name, tensor)| {
        let path = name.strip_prefix("unet.")?;
        Some((format!("base_model.model.{path}"), tensor))
    });
    let settings = texts["lora_adapter_metadata"].as_str().unwrap();
    let settings: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(settings).unwrap();
    let config: serde_json::Map<String, serde_json::Value> = settings
        .into_iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("unet.")?.to_owned(), value)))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let file = "adapter_model.safetensors";
    save(
        &dir.path().join(file),
        &own.collect(),
        serde_json::json!({}),
    );
    let text = serde_json::to_vec(&config).unwrap();
    std::fs::write(dir.path().join("adapter_config.json"), text).unwrap();
    let file = chandler_image::AdapterFile {
        name: "chalk".to_owned(),
        snapshot: Snapshot::dir(dir.path()).unwrap(),
        file: file.to_owned(),
    };
    let unet = |file: chandler_image::AdapterFile| {
        let mut parts = Parts::of("sd");
        parts.attach(&[file]).unwrap();
        bits(&parts.unet(60, &[0], vec![vec![(0, 1.0)]]))
    };
    assert_eq!(unet(file), unet(adapter("chalk").file));
}
