//! ControlNets, and UNets with what they add, against diffusers' ControlNetModel (tests/fixtures/make_control.py).

use candle_core::Tensor;
use chandler_image::layers::Loader;
use chandler_image::unet::{ControlInput, ControlNet, ControlNetConfig, Residuals, UNetInput};
use serde_json::{Value, json};

use super::{Conditions, load, rows};
use crate::checkpoint::{Checkpoint, bits, error, placement};
use crate::on_device::tolerance;

const TOLERANCE: f32 = 2e-5;

/// A ControlNet, and the fixture of the UNet that it is for, whose inputs it shares.
struct Pair {
    checkpoint: Checkpoint,
    net: ControlNet,
    unet: Checkpoint,
    conditions: Conditions,
    latents: Tensor,
    embedded: Tensor,
    scales: Vec<f64>,
}

impl Pair {
    fn of(name: &str) -> Self {
        let checkpoint = Checkpoint::open("control", name);
        let config = ControlNetConfig::of(&checkpoint.fields(json!({}))).unwrap();
        let (weights, placement) = (checkpoint.weights(), placement());
        let loader = Loader::new(weights.as_ref(), &placement);
        let net = ControlNet::load(&loader, &config).unwrap();
        let unet = Checkpoint::open("unet", name);
        let picture = checkpoint.input("picture");
        let size = checkpoint.about["size"].as_array().unwrap();
        assert_eq!(
            picture.dims()[2],
            config.pixels() * size[0].as_u64().unwrap() as usize
        );
        Self {
            conditions: Conditions::of(&unet),
            latents: unet.input(&format!("latents.{}x{}", size[0], size[1])),
            embedded: net.embed(&picture).unwrap(),
            scales: serde_json::from_value(checkpoint.about["scales"].clone()).unwrap(),
            checkpoint,
            net,
            unet,
        }
    }

    fn residuals(&self) -> Residuals {
        self.residuals_of(
            &self.conditions,
            (&self.latents, &self.embedded, &self.scales),
        )
    }

    fn residuals_of(
        &self,
        conditions: &Conditions,
        (latents, embedded, scales): (&Tensor, &Tensor, &[f64]),
    ) -> Residuals {
        let UNetInput {
            timesteps,
            context,
            text_time,
            ..
        } = conditions.input(latents);
        let input = ControlInput {
            latents,
            conditions: embedded,
            timesteps,
            context,
            text_time,
            scales,
        };
        self.net.forward(&input).unwrap()
    }

    fn check(&self, what: &str, found: &Tensor) {
        let error = error(found, self.checkpoint.output(what));
        println!("{what}: {error:e}");
        assert!(error < tolerance(TOLERANCE), "{what}: {error:e}");
    }
}

#[test]
fn what_a_controlnet_adds_and_what_a_unet_makes_of_it_are_diffusers() {
    for name in ["sd1", "sdxl"] {
        let pair = Pair::of(name);
        assert_eq!(pair.net.parameters(), pair.checkpoint.parameters());
        let residuals = pair.residuals();
        pair.check("down.0", &residuals.down[0]);
        pair.check("down.last", residuals.down.last().unwrap());
        pair.check("mid", &residuals.mid);
        let unet = load(&pair.unet);
        let sample = |residuals: &Residuals| {
            let input = UNetInput {
                residuals: Some(residuals),
                ..pair.conditions.input(&pair.latents)
            };
            unet.forward(&input).unwrap()
        };
        pair.check("sample", &sample(&residuals));
        let both = Residuals::sum(vec![residuals.clone(), residuals]).unwrap();
        pair.check("twice", &sample(&both.unwrap()));
        assert!(Residuals::sum(Vec::new()).unwrap().is_none());
    }
}

#[test]
fn a_sample_has_the_same_bits_alone_and_in_company() {
    let pair = Pair::of("sd1");
    let together = pair.residuals();
    for n in 0..3 {
        let one = |x: &Tensor| rows(x, &[n]);
        let embedded = pair
            .net
            .embed(&one(&pair.checkpoint.input("picture")))
            .unwrap();
        let alone = pair.residuals_of(
            &pair.conditions.only(&[n]),
            (&one(&pair.latents), &embedded, &pair.scales[n..=n]),
        );
        assert_eq!(bits(&alone.mid), bits(&one(&together.mid)));
        for (alone, together) in alone.down.iter().zip(&together.down) {
            assert_eq!(bits(alone), bits(&one(together)));
        }
    }
}

#[test]
fn residuals_of_another_family_are_refused() {
    let (sd1, sdxl) = (Pair::of("sd1"), Pair::of("sdxl"));
    let fewer = Residuals {
        down: sdxl.residuals().down[1..].to_vec(),
        ..sdxl.residuals()
    };
    let said = load(&sd1.unet)
        .forward(&UNetInput {
            residuals: Some(&fewer),
            ..sd1.conditions.input(&sd1.latents)
        })
        .unwrap_err()
        .to_string();
    assert!(said.contains("different families"), "{said}");
    let said = Residuals::sum(vec![sd1.residuals(), fewer])
        .unwrap_err()
        .to_string();
    assert!(said.contains("different families"), "{said}");
}

#[test]
fn what_is_not_supported_is_refused_by_field_and_value() {
    let checkpoint = Checkpoint::open("control", "sd1");
    let said = |change: Value| {
        ControlNetConfig::of(&checkpoint.fields(change))
            .unwrap_err()
            .to_string()
    };
    for (change, expected) in [
        (
            json!({"_class_name": "FluxControlNetModel"}),
            "_class_name: \"FluxControlNetModel\" is not supported; \"ControlNetModel\" is",
        ),
        (
            json!({"global_pool_conditions": true}),
            "global_pool_conditions: true is not supported; false is",
        ),
        (
            json!({"controlnet_conditioning_channel_order": "hsv"}),
            "controlnet_conditioning_channel_order: `hsv` is not supported; rgb and bgr are",
        ),
        (
            json!({"encoder_hid_dim_type": "text_proj"}),
            "encoder_hid_dim_type: \"text_proj\" is not supported; null is",
        ),
        (
            json!({"down_block_types": ["DownBlock2D"]}),
            "down_block_types: there are 1, and block_out_channels has 3",
        ),
    ] {
        let said = said(change);
        assert!(said.contains(expected), "{said}");
    }
}
