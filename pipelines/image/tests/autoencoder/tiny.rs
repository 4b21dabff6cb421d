//! AutoencoderTiny.

use chandler_image::autoencoder::{AutoencoderTiny, TinyConfig};
use chandler_image::layers::Loader;
use serde_json::json;

use super::TOLERANCE;
use crate::checkpoint::{Checkpoint, error, placement};
use crate::on_device::tolerance;

#[test]
fn a_preview_is_what_diffusers_makes_of_the_latents() {
    let checkpoint = Checkpoint::open("autoencoder", "tiny");
    let config = TinyConfig::of(&checkpoint.fields(json!({}))).unwrap();
    let (weights, placement) = (checkpoint.weights(), placement());
    let loader = Loader::new(weights.as_ref(), &placement);
    let tiny = AutoencoderTiny::load(&loader, &config).unwrap();
    assert_eq!(tiny.parameters(), checkpoint.parameters());
    assert_eq!((config.scaling.factor, config.scaling.shift), (1.0, 0.0));
    let encoded = tiny.encode(&checkpoint.input("encode")).unwrap();
    let decoded = tiny.decode(&checkpoint.input("decode")).unwrap();
    for (what, found) in [("encode", encoded), ("decode", decoded)] {
        let error = error(&found, checkpoint.output(what));
        println!("tiny {what}: {error:e}");
        assert!(error < tolerance(TOLERANCE), "{what}: {error:e}");
    }
}

#[test]
fn what_is_not_supported_is_refused_by_field_and_value() {
    let checkpoint = Checkpoint::open("autoencoder", "tiny");
    for (change, expected) in [
        (
            json!({"act_fn": "gelu"}),
            "act_fn: \"gelu\" is not supported; \"relu\" is",
        ),
        (
            json!({"upsample_fn": "bilinear"}),
            "upsample_fn: \"bilinear\" is not supported; \"nearest\" is",
        ),
        (
            json!({"decoder_block_out_channels": [6, 8, 6]}),
            "decoder_block_out_channels: [6, 8, 6] is not 3 times the same number",
        ),
        (
            json!({"num_encoder_blocks": [1]}),
            "encoder_block_out_channels: [6, 6, 6] is not 1 times the same number",
        ),
        (
            json!({"_class_name": "AutoencoderKL"}),
            "_class_name: \"AutoencoderKL\" is not supported; \"AutoencoderTiny\" is",
        ),
    ] {
        let said = TinyConfig::of(&checkpoint.fields(change))
            .unwrap_err()
            .to_string();
        assert!(said.contains(expected), "{said}");
    }
}
