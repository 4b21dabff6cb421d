//! AutoencoderKL: whole, in tiles, and under its old names.

use std::sync::Arc;

use candle_core::Tensor;
use chandler_image::autoencoder::{
    AutoencoderConfig, AutoencoderKl, LatentDistribution, TileSizes, Tiled,
};
use chandler_image::layers::Loader;
use chandler_nn::weights::TensorSource;
use serde_json::json;

use super::TOLERANCE;
use crate::checkpoint::{Checkpoint, bits, error, placement};
use crate::on_device::tolerance;

const ALL: [&str; 2] = ["kl", "flux"];

fn config(checkpoint: &Checkpoint) -> AutoencoderConfig {
    AutoencoderConfig::of(&checkpoint.fields(json!({}))).unwrap()
}

fn load(checkpoint: &Checkpoint) -> AutoencoderKl {
    load_from(checkpoint, &checkpoint.weights())
}

fn load_from(checkpoint: &Checkpoint, weights: &Arc<dyn TensorSource>) -> AutoencoderKl {
    let placement = placement();
    let loader = Loader::new(weights.as_ref(), &placement);
    AutoencoderKl::load(&loader, &config(checkpoint)).unwrap()
}

fn check(checkpoint: &Checkpoint, what: &str, found: &Tensor) {
    let error = error(found, checkpoint.output(what));
    println!("{what}: {error:e}");
    assert!(error < tolerance(TOLERANCE), "{what}: {error:e}");
}

fn finish(mut tiled: Tiled, autoencoder: &AutoencoderKl) -> Tensor {
    for done in 1..tiled.tiles() {
        assert!(tiled.step(autoencoder).unwrap().is_none());
        assert_eq!(tiled.done(), done);
    }
    let whole = tiled.step(autoencoder).unwrap().unwrap();
    let after = tiled.step(autoencoder).unwrap_err();
    assert_eq!(after.to_string(), "a tile after the last");
    whole
}

#[test]
fn a_whole_picture_is_encoded_and_decoded_as_diffusers_does() {
    for name in ALL {
        let checkpoint = Checkpoint::open("autoencoder", name);
        let autoencoder = load(&checkpoint);
        assert_eq!(autoencoder.parameters(), checkpoint.parameters());
        let encoded = autoencoder.encode(&checkpoint.input("encode")).unwrap();
        check(&checkpoint, "encode.mean", &encoded.mean);
        check(&checkpoint, "encode.logvar", &encoded.logvar);
        let decoded = autoencoder.decode(&checkpoint.input("decode")).unwrap();
        check(&checkpoint, "decode", &decoded);
    }
}

#[test]
fn tiles_a_step_at_a_time_are_diffusers_tiles() {
    for (name, tiles) in [("kl", [6, 6]), ("flux", [6, 6])] {
        let checkpoint = Checkpoint::open("autoencoder", name);
        let autoencoder = load(&checkpoint);
        let sizes = config(&checkpoint).tile_sizes().unwrap();
        let latents = checkpoint.input("tiled_decode");
        assert!(sizes.are_exceeded_by(latents.dims()[2], latents.dims()[3]));
        let decode = Tiled::decode(&latents, sizes).unwrap();
        let encode = Tiled::encode(&checkpoint.input("tiled_encode"), sizes).unwrap();
        assert_eq!([encode.tiles(), decode.tiles()], tiles, "{name}");
        check(&checkpoint, "tiled_decode", &finish(decode, &autoencoder));
        let moments = finish(encode, &autoencoder);
        let encoded = LatentDistribution::of_moments(&moments).unwrap();
        check(&checkpoint, "tiled_encode.mean", &encoded.mean);
        check(&checkpoint, "tiled_encode.logvar", &encoded.logvar);
    }
}

#[test]
fn one_tile_is_the_whole() {
    let checkpoint = Checkpoint::open("autoencoder", "kl");
    let autoencoder = load(&checkpoint);
    let latents = checkpoint.input("decode");
    let sizes = TileSizes::new(64, 4).unwrap();
    assert!(!sizes.are_exceeded_by(7, 5));
    let tiled = finish(Tiled::decode(&latents, sizes).unwrap(), &autoencoder);
    assert_eq!(bits(&tiled), bits(&autoencoder.decode(&latents).unwrap()));
    let odd = TileSizes::new(28, 4).unwrap_err().to_string();
    assert_eq!(
        odd,
        "tiles of 28 pixels, where a latent is 4; a multiple of 16 is wanted"
    );
}

#[test]
fn a_sample_has_the_same_bits_alone_and_in_company() {
    let checkpoint = Checkpoint::open("autoencoder", "kl");
    let autoencoder = load(&checkpoint);
    let (latents, pictures) = (checkpoint.input("decode"), checkpoint.input("encode"));
    let decoded = autoencoder.decode(&latents).unwrap();
    let encoded = autoencoder.encode(&pictures).unwrap();
    for n in 0..2 {
        let one = |x: &Tensor| x.narrow(0, n, 1).unwrap();
        let alone = autoencoder.decode(&one(&latents)).unwrap();
        assert_eq!(bits(&alone), bits(&one(&decoded)));
        let alone = autoencoder.encode(&one(&pictures)).unwrap();
        assert_eq!(bits(&alone.mean), bits(&one(&encoded.mean)));
        assert_eq!(bits(&alone.logvar), bits(&one(&encoded.logvar)));
    }
}

#[test]
fn attention_under_its_old_names_is_the_same() {
    let checkpoint = Checkpoint::open("autoencoder", "kl");
    let old = checkpoint.weights_named(|name| {
        name.replace("to_q", "query")
            .replace("to_k", "key")
            .replace("to_v", "value")
            .replace("to_out.0", "proj_attn")
    });
    assert!(old.contains("decoder.mid_block.attentions.0.proj_attn.bias"));
    let latents = checkpoint.input("decode");
    let now = load(&checkpoint).decode(&latents).unwrap();
    let then = load_from(&checkpoint, &old).decode(&latents).unwrap();
    assert_eq!(bits(&now), bits(&then));
}

#[test]
fn latents_are_drawn_around_the_mean_within_bounds() {
    let moments = Tensor::new(&[2f32, -1.0, 900.0, -900.0], &candle_core::Device::Cpu)
        .unwrap()
        .reshape((1, 4, 1, 1))
        .unwrap();
    let of = LatentDistribution::of_moments(&moments).unwrap();
    let numbers = |x: Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(numbers(of.logvar.clone()), [20.0, -30.0]);
    let noise = (of.mean.ones_like().unwrap() * 0.5).unwrap();
    let drawn = numbers(of.sample(&noise).unwrap());
    assert!(
        (drawn[0] - (2.0 + 0.5 * 10f32.exp())).abs() < 1e-2,
        "{drawn:?}"
    );
    assert!((drawn[1] - (-1.0 + 0.5 * (-15f32).exp())).abs() < 1e-6);
}
