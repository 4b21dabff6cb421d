//! A forward pass of each family against what diffusers gave.

use chandler_image::unet::UNetInput;

use super::{ALL, Conditions, load, rows};
use crate::checkpoint::{Checkpoint, bits, error};
use crate::on_device::tolerance;

/// Two orders of the same f32 sums; seen are errors of a fifth of it.
const TOLERANCE: f32 = 2e-5;

#[test]
fn a_batch_with_a_timestep_for_each_sample_is_what_diffusers_makes_of_it() {
    for name in ALL {
        let checkpoint = Checkpoint::open("unet", name);
        let unet = load(&checkpoint);
        let conditions = Conditions::of(&checkpoint);
        for size in checkpoint.about["sizes"].as_array().unwrap() {
            let size = format!("{}x{}", size[0], size[1]);
            let latents = checkpoint.input(&format!("latents.{size}"));
            let out = unet.forward(&conditions.input(&latents)).unwrap();
            let error = error(&out, checkpoint.output(&size));
            println!("{name} {size}: {error:e}");
            assert!(error < tolerance(TOLERANCE), "{name} {size}: {error:e}");
        }
    }
}

#[test]
fn a_sample_has_the_same_bits_alone_and_in_company() {
    for (name, size) in [("sd1", "9x7"), ("sdxl", "9x7"), ("lcm", "6x5")] {
        let checkpoint = Checkpoint::open("unet", name);
        let unet = load(&checkpoint);
        let conditions = Conditions::of(&checkpoint);
        let latents = checkpoint.input(&format!("latents.{size}"));
        let together = unet.forward(&conditions.input(&latents)).unwrap();
        for company in [&[0][..], &[2], &[2, 1], &[1, 1, 0, 2, 0, 1, 2]] {
            let some = unet
                .forward(&conditions.only(company).input(&rows(&latents, company)))
                .unwrap();
            assert_eq!(
                bits(&some),
                bits(&rows(&together, company)),
                "{name} {company:?}"
            );
        }
    }
}

#[test]
fn all_of_a_checkpoint_is_taken_once_and_its_layers_have_diffusers_names() {
    for name in ALL {
        let checkpoint = Checkpoint::open("unet", name);
        let mut unet = load(&checkpoint);
        assert_eq!(unet.parameters(), checkpoint.parameters(), "{name}");
        assert!(unet.bytes() > 2 * unet.parameters());
        let weights = checkpoint.weights();
        let mut expected: Vec<String> = weights.names();
        expected.retain(|tensor| weights.tensor(tensor).unwrap().shape().len() >= 2);
        let mut found: Vec<String> = Vec::new();
        for layer in unet.layers() {
            let module = format!("{}.weight", layer.name());
            let stored = weights.tensor(&module).unwrap().shape().to_vec();
            let shape = layer.shape();
            let inputs: usize = shape.inputs.iter().product();
            assert_eq!(shape.outputs, stored[0], "{module}");
            assert_eq!(inputs, stored[1..].iter().product::<usize>(), "{module}");
            found.push(module);
        }
        // Both halves of a gated layer are its module.
        found.sort();
        found.dedup();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let sdxl = Checkpoint::open("unet", "sdxl");
    let (unet, conditions) = (load(&sdxl), Conditions::of(&sdxl));
    let latents = sdxl.input("latents.9x7");
    let whole = conditions.input(&latents);
    let other = conditions.only(&[0, 1]);
    let two = other.input(&latents);
    let refused = |input: UNetInput<'_>| unet.forward(&input).unwrap_err().to_string();
    let timesteps = refused(UNetInput {
        timesteps: two.timesteps,
        ..whole
    });
    assert_eq!(timesteps, "3 latents with 2 timesteps and 3 contexts");
    let nothing = refused(UNetInput {
        text_time: None,
        ..whole
    });
    assert!(nothing.contains("pooled text"), "{nothing}");
    let few = refused(UNetInput {
        text_time: two.text_time,
        ..whole
    });
    assert!(few.contains("3 samples"), "{few}");
    let guided = refused(UNetInput {
        guidance_embed: conditions.text_embeds.as_ref(),
        ..whole
    });
    assert!(guided.contains("time_cond_proj_dim"), "{guided}");
    let channels = refused(UNetInput {
        latents: &latents.narrow(1, 0, 3).unwrap(),
        ..whole
    });
    assert!(channels.contains("4 channels"), "{channels}");
}
