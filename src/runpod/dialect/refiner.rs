//! What worker-sdxl's jobs ask of its refiner, in the house's fields. There it is always loaded: without a first picture it redraws
//! `strength` of every drawing's latents in `refiner_inference_steps` steps (handler.py, `generate_image`), and says so in fields that
//! mean something else or nothing elsewhere. Apart from `pictures`, whose other fields mean the same everywhere.

use serde_json::{Map, Value};

use super::{Known, has, take};

/// How much of a drawing the refiner there changes when nobody says (runpod.md 11.2).
const USUAL_STRENGTH: f64 = 0.3;

/// Puts what a job says of a refiner into the house's fields; `begins` with a picture or not.
pub(super) fn translate(map: &mut Map<String, Value>, begins: bool, known: &Known) {
    let steps = take(map, "refiner_inference_steps");
    // The strength of a job without a picture is the refiner's.
    let strength = (!begins).then(|| take(map, "strength")).flatten();
    let hands_over = has(map, "high_noise_frac") || has(map, "denoising_end");
    if !known.refines() {
        // Those two come with every job of such a client; the one that asks for an unfinished drawing is `/predict`'s to refuse.
        return;
    }
    if hands_over {
        // There the refiner would put noise upon the noise that is left; here it goes on where the model ends, as diffusers has it.
        map.extend(steps.map(|steps| ("refiner_inference_steps".to_owned(), steps)));
    } else if !begins && (steps.is_some() || strength.is_some()) {
        let strength = strength.unwrap_or_else(|| USUAL_STRENGTH.into());
        map.insert("refiner_strength".to_owned(), strength);
        map.extend(steps.map(|steps| ("refiner_inference_steps".to_owned(), steps)));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runpod::dialect::tests::{known, refining};

    fn translated(input: Value, begins: bool, known: &Known) -> Value {
        let Value::Object(mut map) = input else {
            panic!("no object");
        };
        translate(&mut map, begins, known);
        Value::Object(map)
    }

    #[test]
    fn without_a_refiner_only_what_asks_for_half_a_drawing_is_left() {
        let known = known(Some("text-to-image"));
        let job = json!({"refiner_inference_steps": 50, "strength": 0.3, "high_noise_frac": 0.8});
        assert_eq!(
            translated(job.clone(), false, &known),
            json!({"high_noise_frac": 0.8})
        );
        let begun = translated(job, true, &known);
        assert_eq!(begun, json!({"strength": 0.3, "high_noise_frac": 0.8}));
    }

    #[test]
    fn a_refiner_redraws_what_it_would_there_or_goes_on_with_what_is_not_finished() {
        let known = refining();
        for (input, expected) in [
            (
                json!({"refiner_inference_steps": 50, "strength": 0.4}),
                json!({"refiner_inference_steps": 50, "refiner_strength": 0.4}),
            ),
            (
                json!({"refiner_inference_steps": 20}),
                json!({"refiner_inference_steps": 20, "refiner_strength": 0.3}),
            ),
            (
                json!({"refiner_inference_steps": 20, "strength": 0.3, "high_noise_frac": 0.7}),
                json!({"refiner_inference_steps": 20, "high_noise_frac": 0.7}),
            ),
            (json!({"prompt": "a"}), json!({"prompt": "a"})),
        ] {
            assert_eq!(
                translated(input.clone(), false, &known),
                expected,
                "{input}"
            );
        }
        let begun = json!({"refiner_inference_steps": 20, "strength": 0.6});
        assert_eq!(translated(begun, true, &known), json!({"strength": 0.6}));
    }
}
