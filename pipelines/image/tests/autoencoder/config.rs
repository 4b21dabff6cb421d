//! What a VAE's config.json says of its latents, and what it asks for that is not there.

use candle_core::{Device, Tensor};
use chandler_image::autoencoder::AutoencoderConfig;
use serde_json::{Value, json};

use crate::checkpoint::Checkpoint;

fn of(change: Value) -> Result<AutoencoderConfig, String> {
    let checkpoint = Checkpoint::open("autoencoder", "kl");
    AutoencoderConfig::of(&checkpoint.fields(change)).map_err(|error| error.to_string())
}

#[test]
fn what_is_not_supported_is_refused_by_field_and_value() {
    for (change, expected) in [
        (
            json!({"_class_name": "VQModel"}),
            "_class_name: \"VQModel\" is not supported; \"AutoencoderKL\" is",
        ),
        (
            json!({"down_block_types": ["AttnDownEncoderBlock2D"]}),
            "down_block_types: `AttnDownEncoderBlock2D` is not supported; DownEncoderBlock2D is",
        ),
        (
            json!({"up_block_types": ["UpDecoderBlock2D"]}),
            "up_block_types: there are 1, and block_out_channels has 3",
        ),
        (
            json!({"norm_num_groups": 3}),
            "block_out_channels: 8 channels are not whole groups of 3",
        ),
        (
            json!({"scaling_factor": 0}),
            "scaling_factor: 0 is not a number to divide by",
        ),
        (
            json!({"latents_mean": [1, 2]}),
            "latents_mean: [1,2] is not a list of 4 numbers",
        ),
        (
            json!({"latents_mean": [1, 2, 3, 4], "latents_std": [1, 2, 3, 4], "shift_factor": 0.5}),
            "shift_factor: 0.5 beside latents_mean",
        ),
        (
            json!({"sample_size": "large"}),
            "sample_size: \"large\" is not a whole number",
        ),
    ] {
        let said = of(change).unwrap_err();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn latents_go_to_the_denoiser_and_back_as_pipelines_take_them() {
    let latents = Tensor::new(&[1f32, -2.0, 0.5, 4.0], &Device::Cpu).unwrap();
    let latents = latents.reshape((1, 4, 1, 1)).unwrap();
    let numbers = |x: Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (change, expected) in [
        // StableDiffusionPipeline: latents · scaling_factor.
        (json!({"scaling_factor": 0.5}), [0.5, -1.0, 0.25, 2.0]),
        // FluxPipeline: (latents − shift_factor) · scaling_factor.
        (
            json!({"scaling_factor": 0.5, "shift_factor": 1.0}),
            [0.0, -1.5, -0.25, 1.5],
        ),
        // StableDiffusionXLImg2ImgPipeline: (latents − mean) · scaling_factor / std.
        (
            json!({"scaling_factor": 0.5, "latents_mean": [1.0, 0.0, 0.5, 2.0], "latents_std": [1.0, 4.0, 1.0, 0.5]}),
            [0.0, -0.25, 0.0, 2.0],
        ),
    ] {
        let scaling = of(change).unwrap().scaling;
        let scaled = scaling.to_model(&latents).unwrap();
        assert_eq!(numbers(scaled.clone()), expected);
        assert_eq!(
            numbers(scaling.from_model(&scaled).unwrap()),
            numbers(latents.clone())
        );
    }
}

#[test]
fn what_is_not_written_is_diffusers_default() {
    let nothing = chandler_nn::fields::Fields::none("config.json");
    let config = AutoencoderConfig::of(&nothing).unwrap();
    assert_eq!(config.scaling.factor, 0.18215);
    assert_eq!((config.pixels(), config.force_upcast), (1, true));
    assert_eq!(
        of(json!({"sample_size": [64, 32]}))
            .unwrap()
            .tile_sizes()
            .unwrap()
            .latent,
        16
    );
}
