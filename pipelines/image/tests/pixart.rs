//! PixArt's transformers against diffusers (tests/fixtures/make_pixart.py): texts of different lengths in one batch.

use chandler_image::layers::Loader;
use chandler_image::transformer::pixart::{PictureSize, PixArtInput, PixArtTransformer};
use chandler_image::transformer::pixart_config::PixArtConfig;
use serde_json::{Value, from_value, json};

use crate::checkpoint::{Checkpoint, bits, error, placement};
use crate::on_device::{there, tolerance};

/// Two orders of the same f32 sums; seen are errors of a fifth of it.
const TOLERANCE: f32 = 2e-5;
const ALL: [&str; 3] = ["sigma", "alpha", "small"];

fn load(checkpoint: &Checkpoint) -> PixArtTransformer {
    let config = PixArtConfig::read(&checkpoint.fields(json!({}))).unwrap();
    let (weights, placement) = (checkpoint.weights(), placement());
    PixArtTransformer::load(config, &Loader::new(weights.as_ref(), &placement)).unwrap()
}

/// What goes in beside latents and text.
struct Conditions {
    timesteps: Vec<f32>,
    lengths: Vec<usize>,
    sizes: Vec<PictureSize>,
}

impl Conditions {
    fn of(checkpoint: &Checkpoint, model: &PixArtTransformer) -> Self {
        let about = |name: &str| checkpoint.about[name].clone();
        let shapes: Vec<[f32; 2]> = from_value(about("shapes")).unwrap();
        let shapes = shapes.into_iter().filter(|_| model.config().sized);
        Self {
            timesteps: from_value(about("timesteps")).unwrap(),
            lengths: from_value(about("lengths")).unwrap(),
            sizes: shapes.map(|[h, w]| [h, w, h / w]).collect(),
        }
    }
}

#[test]
fn a_batch_of_texts_of_different_lengths_is_what_diffusers_makes_of_it() {
    for name in ALL {
        let checkpoint = Checkpoint::open("pixart", name);
        let mut model = load(&checkpoint);
        let given = Conditions::of(&checkpoint, &model);
        let text = there(&checkpoint.input("text"));
        for size in checkpoint.about["sizes"].as_array().unwrap() {
            let size = format!("{}x{}", size[0], size[1]);
            let latents = there(&checkpoint.input(&format!("latents.{size}")));
            let input = PixArtInput {
                latents: &latents,
                text: &text,
                lengths: &given.lengths,
                timesteps: &given.timesteps,
                sizes: &given.sizes,
                adapters: None,
            };
            let out = model.forward(&input).unwrap();
            let off = error(&out, checkpoint.output(&size));
            println!("{name} {size}: {off:e}");
            assert!(off < tolerance(TOLERANCE), "{name} {size}: {off:e}");
            for row in 0..given.lengths.len() {
                let length = given.lengths[row];
                let alone = PixArtInput {
                    latents: &latents.narrow(0, row, 1).unwrap(),
                    text: &text
                        .narrow(0, row, 1)
                        .unwrap()
                        .narrow(1, 0, length)
                        .unwrap(),
                    lengths: &[length],
                    timesteps: &given.timesteps[row..=row],
                    sizes: given.sizes.get(row..=row).unwrap_or_default(),
                    adapters: None,
                };
                let alone = model.forward(&alone).unwrap();
                assert_eq!(
                    bits(&alone),
                    bits(&out.narrow(0, row, 1).unwrap()),
                    "{name}"
                );
            }
            for (lengths, sizes) in [
                (&[5, 0, 3][..], given.sizes.as_slice()),
                (&[5, 6, 3], &given.sizes),
                (&[5, 1], &given.sizes),
                (&given.lengths, &[[1.0; 3]]),
            ] {
                let wrong = PixArtInput {
                    lengths,
                    sizes,
                    ..input
                };
                assert!(model.forward(&wrong).is_err(), "{lengths:?} {sizes:?}");
            }
        }
        let weights = checkpoint.weights();
        let mut expected: Vec<String> = weights.names();
        expected.retain(|name| {
            let rank = weights.tensor(name).unwrap().shape().len();
            name.ends_with(".weight") && rank >= 2
        });
        let layers = model.layers();
        let mut found: Vec<String> = layers
            .iter()
            .map(|l| format!("{}.weight", l.name()))
            .collect();
        found.sort();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn configurations_that_cannot_be_name_the_field() {
    let checkpoint = Checkpoint::open("pixart", "sigma");
    let read =
        |field: &str, value: Value| PixArtConfig::read(&checkpoint.fields(json!({field: value})));
    for (field, value) in [
        ("norm_type", json!("ada_norm_zero")),
        ("activation_fn", json!("geglu")),
        ("norm_eps", json!(1e-5)),
        ("cross_attention_dim", json!(13)),
        ("caption_channels", Value::Null),
        ("sample_size", json!(1)),
        ("interpolation_scale", json!(-1)),
        ("use_additional_conditions", json!("yes")),
    ] {
        let error = match read(field, value) {
            Ok(config) => panic!("{config:?}"),
            Err(error) => error.to_string(),
        };
        assert!(
            error.starts_with(&format!("config.json: {field}: ")),
            "{error}"
        );
    }
    let odd = json!({"attention_head_dim": 7, "cross_attention_dim": 14});
    let error = PixArtConfig::read(&checkpoint.fields(odd)).unwrap_err();
    assert!(error.to_string().contains("attention_head_dim: 7 times"));
    // What is not written is what the class's arguments have.
    let told = |side: u64| {
        let fields = json!({"sample_size": side, "use_additional_conditions": null, "interpolation_scale": null});
        let config = PixArtConfig::read(&checkpoint.fields(fields)).unwrap();
        (config.sized, config.scale)
    };
    assert_eq!(
        [told(64), told(128), told(256)],
        [(false, 1.0), (true, 2.0), (false, 4.0)]
    );
}
