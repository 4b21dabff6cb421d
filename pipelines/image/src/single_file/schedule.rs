//! Which scheduler a file without one begins with: what the publisher's own conversion has, which is what `diffusers` takes for it
//! (loaders/single_file_utils.py: `fetch_diffusers_config`; for Stable Diffusion 2 `_legacy_load_scheduler`). A request may ask for
//! another, and scheduler/scheduler_config.json beside the file counts instead.

use serde_json::{Value, json};

use super::checkpoint::Checkpoint;
use super::flux;
use super::kind::{Family, Kind};

/// Keys without numbers by which fine-tuned SDXL models say that they predict velocities, and that their noise ends at nothing but
/// noise: the convention of those who train them, which ComfyUI reads as well.
pub(super) const MARKS: [&str; 2] = ["v_pred", "ztsnr"];
/// Steps of the training of Stable Diffusion 2 base, the only one of its family that predicts noise.
const BASE_STEPS: i64 = 875_000;

/// scheduler_config.json.
pub(super) fn config(checkpoint: &Checkpoint, kind: Kind) -> Value {
    match kind.family {
        Family::Three => json!({
            "_class_name": "FlowMatchEulerDiscreteScheduler",
            "num_train_timesteps": 1000,
            "shift": 3.0,
        }),
        // Dev shifts more for larger pictures, schnell not at all.
        Family::Flux => json!({
            "_class_name": "FlowMatchEulerDiscreteScheduler",
            "num_train_timesteps": 1000,
            "shift": if flux::is_guided(checkpoint, kind) { 3.0 } else { 1.0 },
            "use_dynamic_shifting": flux::is_guided(checkpoint, kind),
            "base_image_seq_len": 256,
            "max_image_seq_len": 4096,
            "base_shift": 0.5,
            "max_shift": 1.15,
        }),
        Family::One | Family::Two | Family::Xl | Family::Refiner => of_unet(checkpoint, kind),
    }
}

/// The same of a model with a UNet.
fn of_unet(checkpoint: &Checkpoint, kind: Kind) -> Value {
    let mut config = json!({
        "_class_name": "PNDMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "clip_sample": false,
        "set_alpha_to_one": false,
        "skip_prk_steps": true,
        "steps_offset": 1,
        "prediction_type": "epsilon",
    });
    match kind.family {
        Family::One | Family::Three | Family::Flux => {}
        Family::Two if kind.masked => {}
        Family::Two => {
            config["_class_name"] = json!("DDIMScheduler");
            if checkpoint.number("global_step") != Some(BASE_STEPS) {
                tracing::info!(
                    "Stable Diffusion 2 is taken to predict velocities, as its 768 px models do; for a 512 px base model \
                     put scheduler/scheduler_config.json with prediction_type epsilon beside the file, or ask for it"
                );
                config["prediction_type"] = json!("v_prediction");
            }
        }
        Family::Xl | Family::Refiner => {
            config["_class_name"] = json!("EulerDiscreteScheduler");
            config["timestep_spacing"] = json!("leading");
        }
    }
    let [velocity, to_zero] = MARKS;
    if checkpoint.has(velocity) {
        config["prediction_type"] = json!("v_prediction");
    }
    if checkpoint.has(to_zero) {
        config["rescale_betas_zero_snr"] = json!(true);
    }
    config
}
