//! Whole runs of every scheduler against diffusers' (fixtures/make_schedulers.py), and what they promise beyond: a clone goes on to
//! the same bits, and what would not do is said.
#![allow(clippy::unwrap_used, clippy::panic)]

use chandler_image::schedulers::{Asked, Begin, Sampler, SchedulerConfig};
use chandler_nn::fields::Fields;
use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};

/// The largest error that is let pass, relative to the largest number of the reference's. Rescaled betas begin an Euler run at a sigma of
/// 4096, where a sample's last bit is 2.4e-4 large and stays in it as it shrinks: there the reference is no more exact itself (torch's
/// root of 2²⁴ − 1, by MKL, is 4096).
fn tolerance(case: &Value) -> f32 {
    let class = case["config"]["_class_name"].as_str().unwrap();
    let rescaled = case["config"]["rescale_betas_zero_snr"] == json!(true);
    if class.starts_with("Euler") && rescaled {
        1e-4
    } else {
        1e-5
    }
}

/// The cases. What several say is kept once, among the `values`: there a case has its number.
fn cases() -> Vec<Value> {
    let packed: &[u8] = include_bytes!("fixtures/schedulers.json.gz");
    let mut told: Value = serde_json::from_reader(GzDecoder::new(packed)).unwrap();
    let values = told["values"].take();
    let Value::Array(mut cases) = told["cases"].take() else {
        panic!("schedulers.json.gz has no cases");
    };
    for case in &mut cases {
        for name in ["config", "start", "timesteps"] {
            case[name] = values[case[name].as_u64().unwrap() as usize].clone();
        }
        if case["original"] == "kept" {
            let kept = case["kept"].as_array().unwrap();
            case["original"] = kept.last().unwrap()[1].clone();
        }
    }
    cases
}

/// The fresh noise of a draw, as make_schedulers.py has it.
fn noise(draw: usize, into: &mut [f32]) {
    for (i, value) in into.iter_mut().enumerate() {
        let angle = 12.9898 * (i + 1) as f64 + 78.233 * (draw + 1) as f64;
        *value = (1.7 * angle.sin()) as f32;
    }
}

fn picture() -> Vec<f32> {
    (0..8)
        .map(|i| (1.3 * f64::from(i) + 0.2).cos() as f32)
        .collect()
}

/// The stand-in for a model.
fn model(sampler: &Sampler, latents: &[f32]) -> Vec<f32> {
    let call = sampler.call().unwrap();
    let of = |(i, x): (usize, &f32)| {
        let input = f64::from((f64::from(*x) * call.input_scale) as f32);
        let wave = (0.004 * f64::from(call.timestep as f32) + 0.7 * i as f64).sin();
        (0.9 * input + 0.6 * wave).tanh() as f32
    };
    latents.iter().enumerate().map(of).collect()
}

fn config(case: &Value) -> SchedulerConfig {
    let fields = Fields::of("scheduler_config.json", case["config"].clone());
    let config = SchedulerConfig::read(&fields).unwrap_or_else(|error| panic!("{error}: {case}"));
    let none = Map::new();
    let overrides = case["overrides"].as_object().unwrap_or(&none);
    config
        .with(case["name"].as_str(), overrides)
        .unwrap_or_else(|error| panic!("{error}: {case}"))
}

fn asked(asked: &Value) -> Asked {
    let list = |name: &str| -> Option<Vec<f64>> {
        let list = asked[name].as_array()?;
        Some(list.iter().map(|value| value.as_f64().unwrap()).collect())
    };
    let whole = |name: &str| asked[name].as_u64().map(|value| value as usize);
    let strength = asked["strength"].as_f64().map(Begin::Strength);
    let begin = strength.or(asked["begin"].as_f64().map(Begin::Fraction));
    Asked {
        steps: whole("steps"),
        timesteps: list("timesteps"),
        sigmas: list("sigmas"),
        eta: asked["eta"].as_f64(),
        begin: begin.unwrap_or_default(),
        end: asked["end"].as_f64(),
        image_seq_len: whole("image_seq_len"),
    }
}

fn numbers(value: &Value) -> Vec<f32> {
    let list = value.as_array().unwrap().iter();
    list.map(|value| value.as_f64().unwrap() as f32).collect()
}

fn error(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let size = |of: f32, value: f32| of.max(value.abs());
    let largest = theirs.iter().copied().fold(1e-3, size);
    let pairs = ours.iter().zip(theirs).map(|(a, b)| a - b);
    let apart = pairs.fold(0.0, |of, value| {
        if value.is_nan() {
            f32::INFINITY
        } else {
            size(of, value)
        }
    });
    apart / largest
}

/// Runs a case, and gives the largest error and where it was.
fn run(case: &Value) -> (f32, String) {
    let mut sampler = config(case)
        .plan(&asked(&case["asked"]))
        .unwrap_or_else(|error| panic!("{error}: {case}"));
    let mut worst = (0.0f32, String::new());
    let mut note = |ours: &[f32], theirs: &Value, what: String| {
        let error = error(ours, &numbers(theirs));
        if error > worst.0 {
            worst = (error, what);
        }
    };
    let told: Vec<f32> = sampler.timesteps().iter().map(|t| *t as f32).collect();
    assert_eq!(
        told.len(),
        case["timesteps"].as_array().unwrap().len(),
        "the number of calls: {case}"
    );
    note(&told, &case["timesteps"], "timesteps".into());
    note(
        &[sampler.init_noise_sigma() as f32],
        &json!([case["init"]]),
        "init".into(),
    );
    let (mut first, mut latents) = (vec![0.0; 8], vec![0.0; 8]);
    noise(0, &mut first);
    if case["asked"]["strength"].is_null() {
        let sigma = sampler.init_noise_sigma() as f32;
        latents = first.iter().map(|value| value * sigma).collect();
    } else {
        sampler.add_noise(&picture(), &first, &mut latents).unwrap();
    }
    note(&latents, &case["start"], "start".into());
    let mut draws = 0;
    for index in 0.. {
        if sampler.call().is_none() {
            break;
        }
        let output = model(&sampler, &latents);
        let mut fresh = |into: &mut [f32]| {
            draws += 1;
            noise(draws, into);
        };
        sampler.advance(&output, &mut latents, &mut fresh).unwrap();
        let kept = case["kept"].as_array().unwrap().iter();
        for kept in kept.filter(|kept| kept[0] == json!(index)) {
            note(&latents, &kept[1], format!("call {index}"));
        }
        let renoised = &case["renoised"];
        if renoised[0] == json!(index) {
            let mut again = vec![0.0; 8];
            sampler.add_noise(&picture(), &first, &mut again).unwrap();
            note(
                &again,
                &renoised[1],
                format!("noise again after call {index}"),
            );
        }
    }
    if !case["original"].is_null() {
        note(
            sampler.predicted_original(),
            &case["original"],
            "the foretold picture".into(),
        );
    }
    assert_eq!(json!(draws), case["draws"], "the number of draws: {case}");
    assert_eq!(sampler.steps_done(), sampler.steps_total());
    worst
}

#[test]
fn runs_are_those_of_diffusers() {
    let mut wrong = Vec::new();
    let (mut worst, mut count) = (0.0f32, 0);
    for case in cases() {
        let (error, at) = run(&case);
        if tolerance(&case) < 5e-5 {
            worst = worst.max(error);
        }
        count += 1;
        if error > tolerance(&case) {
            let told = [
                &case["config"],
                &case["name"],
                &case["overrides"],
                &case["asked"],
            ];
            wrong.push(format!("{error:.2e} at {at}: {told:?}"));
        }
    }
    println!("{count} runs, the worst error but of rescaled Euler {worst:.2e}");
    assert!(count > 250);
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn a_clone_goes_on_to_the_same_bits() {
    for case in cases() {
        let sampler = config(&case).plan(&asked(&case["asked"])).unwrap();
        let (calls, _) = sampler.calls();
        let finish =
            |mut sampler: Sampler, mut latents: Vec<f32>, mut draws: usize, until: usize| {
                while sampler.call().is_some() && sampler.calls().1 < until {
                    let output = model(&sampler, &latents);
                    let mut fresh = |into: &mut [f32]| {
                        draws += 1;
                        noise(draws, into);
                    };
                    sampler.advance(&output, &mut latents, &mut fresh).unwrap();
                }
                (sampler, latents, draws)
            };
        let mut start = vec![0.0; 8];
        noise(0, &mut start);
        let (_, whole, _) = finish(sampler.clone(), start.clone(), 0, calls);
        let (half, latents, draws) = finish(sampler, start, 0, calls / 2);
        let copy = half.clone();
        drop(half);
        let (_, resumed, _) = finish(copy, latents, draws, calls);
        let bits =
            |values: &[f32]| -> Vec<u32> { values.iter().map(|value| value.to_bits()).collect() };
        assert_eq!(bits(&whole), bits(&resumed), "{case}");
    }
}

fn read(config: Value) -> Result<SchedulerConfig, String> {
    let fields = Fields::of("scheduler_config.json", config);
    SchedulerConfig::read(&fields).map_err(|error| error.to_string())
}

fn said(config: Value, asked: Asked) -> String {
    match read(config).unwrap().plan(&asked) {
        Ok(_) => "nothing".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_would_not_do_is_said_with_its_value() {
    let ddim = || json!({"_class_name": "DDIMScheduler"});
    assert_eq!(
        said(ddim(), Asked::steps(1001)),
        "steps: 1001 is not a whole number from 1 to 1000 (num_train_timesteps)"
    );
    assert_eq!(
        said(ddim(), Asked::steps(0)),
        "steps: 0 is not a whole number from 1 to 1000 (num_train_timesteps)"
    );
    let part = Asked {
        begin: Begin::Strength(0.1),
        ..Asked::steps(5)
    };
    assert_eq!(
        said(ddim(), part),
        "strength: 0.1 of 5 steps is less than one: ask for at least 10 steps or more strength"
    );
    let eta = |eta| Asked {
        eta: Some(eta),
        ..Asked::steps(5)
    };
    assert_eq!(
        said(ddim(), eta(1.5)),
        "eta: 1.5 is not a number from 0 to 1"
    );
    let euler = json!({"_class_name": "EulerDiscreteScheduler"});
    assert!(said(euler.clone(), eta(0.5)).starts_with("eta: it is for DDIMScheduler"));
    assert_eq!(said(euler, eta(0.0)), "nothing");
    let list = Asked {
        timesteps: Some(vec![10.0, 20.0]),
        ..Asked::default()
    };
    assert_eq!(
        said(ddim(), list.clone()),
        "timesteps: they do not fall: [10.0, 20.0]"
    );
    let nothing = json!({"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": true, "timestep_spacing": "trailing"});
    assert!(said(nothing, Asked::steps(5)).contains("it wants \"v_prediction\""));
    let offset = json!({"_class_name": "DDIMScheduler", "steps_offset": 900});
    assert!(said(offset, Asked::steps(5)).contains("a smaller steps_offset"));
    let crowded =
        json!({"_class_name": "DPMSolverMultistepScheduler", "timestep_spacing": "leading"});
    assert!(said(crowded, Asked::steps(1000)).contains("ask for fewer"));
    let dynamic =
        json!({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": true});
    assert!(said(dynamic, Asked::steps(5)).starts_with("image_seq_len: "));
}

#[test]
fn a_configuration_that_would_not_do_names_its_field() {
    let said = |field: &str, value: Value| {
        let mut config = json!({"_class_name": "DPMSolverMultistepScheduler"});
        config[field] = value;
        read(config).map(|_| ()).unwrap_err()
    };
    assert_eq!(
        said("solver_order", json!(4)),
        "scheduler_config.json: solver_order: 4 is not a whole number from 1 to 3"
    );
    assert_eq!(
        said("beta_schedule", json!("sigmoid")),
        "scheduler_config.json: beta_schedule: \"sigmoid\" is not one of: linear, scaled_linear, squaredcos_cap_v2"
    );
    assert!(
        said("algorithm_type", json!("dpmsolver"))
            .contains("final_sigmas_type: \"zero\" is not for")
    );
    assert!(said("num_train_timesteps", json!(1e9)).contains("from 1 to 10000"));
    assert!(said("variance_type", json!("learned_range")).contains("learned_range"));
    assert!(said("beta_end", json!(0.9)).contains("beta_end too large"));
    assert!(
        said("_class_name", json!("KDPM2DiscreteScheduler"))
            .contains("the closest here: HeunDiscrete")
    );
    assert!(said("trained_betas", json!([0.1, 0.2])).contains("1000 numbers"));
}

#[test]
fn a_request_changes_class_and_fields_or_is_told_why_not() {
    let config = read(json!({"_class_name": "PNDMScheduler", "skip_prk_steps": true})).unwrap();
    let fields = |value: Value| value.as_object().unwrap().clone();
    let said = |name: Option<&str>, overrides: Value| match config.with(name, &fields(overrides)) {
        Ok(_) => "nothing".to_owned(),
        Err(error) => error.to_string(),
    };
    let euler = config.with(Some("Euler a"), &Map::new()).unwrap();
    assert_eq!(euler.class().name(), "EulerAncestralDiscreteScheduler");
    assert!(said(None, json!({"use_karras_sigmas": true})).starts_with("scheduler_config: use_karras_sigmas: PNDMScheduler has no such field; it has num_train_timesteps"));
    assert_eq!(
        said(Some("Euler"), json!({"use_karras_sigmas": true})),
        "nothing"
    );
    assert!(
        said(Some("Euler"), json!({"use_karras_sigmas": "yes"}))
            .contains("\"yes\" is not true or false")
    );
    assert!(
        said(
            Some("Euler"),
            json!({"use_karras_sigmas": true, "use_beta_sigmas": true})
        )
        .contains("only one")
    );
    assert!(said(Some("FlowMatchEulerDiscrete"), json!({})).contains("this one predicts noise"));
    let flow =
        read(json!({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0})).unwrap();
    let refused = flow
        .with(Some("DDIM"), &Map::new())
        .unwrap_err()
        .to_string();
    assert!(refused.contains("this one predicts a flow"), "{refused}");
    let back = flow
        .with(Some("UniPC"), &Map::new())
        .unwrap()
        .with(Some("Euler"), &Map::new())
        .unwrap();
    let asked = Asked::steps(4);
    assert_eq!(
        back.plan(&asked).unwrap().timesteps(),
        flow.plan(&asked).unwrap().timesteps()
    );
}

#[test]
fn progress_counts_steps_and_not_calls() {
    let steps = |config: Value, steps: usize| {
        let mut sampler = read(config).unwrap().plan(&Asked::steps(steps)).unwrap();
        let mut latents = vec![0.5; 8];
        let mut done = Vec::new();
        while sampler.call().is_some() {
            let output = model(&sampler, &latents);
            sampler
                .advance(&output, &mut latents, &mut |into| into.fill(0.0))
                .unwrap();
            done.push(sampler.steps_done());
        }
        assert_eq!(sampler.steps_total(), steps);
        assert!(
            sampler
                .advance(&[0.0; 8], &mut latents, &mut |_| ())
                .is_err(),
            "after the last call"
        );
        done
    };
    assert_eq!(
        steps(json!({"_class_name": "HeunDiscreteScheduler"}), 3),
        [0, 1, 1, 2, 3]
    );
    assert_eq!(
        steps(
            json!({"_class_name": "PNDMScheduler", "skip_prk_steps": true}),
            3
        ),
        [0, 1, 2, 3]
    );
    let runge_kutta = steps(json!({"_class_name": "PNDMScheduler"}), 5);
    assert_eq!(runge_kutta, [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 4, 5]);
    assert_eq!(steps(json!({"_class_name": "DDIMScheduler"}), 2), [1, 2]);
}

#[test]
fn a_file_with_pythons_infinity_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let text = r#"{"_class_name": "DPMSolverMultistepScheduler", "_diffusers_version": "0.42.1", "lambda_min_clipped": -Infinity, "variance_type": null}"#;
    std::fs::write(directory.path().join("scheduler_config.json"), text).unwrap();
    let snapshot = chandler_nn::weights::Snapshot::dir(directory.path()).unwrap();
    let config = SchedulerConfig::load(&snapshot, "scheduler_config.json")
        .unwrap()
        .unwrap();
    assert_eq!(config.plan(&Asked::steps(5)).unwrap().steps_total(), 5);
    assert!(
        SchedulerConfig::load(&snapshot, "other.json")
            .unwrap()
            .is_none()
    );
}

#[test]
fn every_class_makes_numbers_at_every_count_of_steps() {
    let classes = chandler_image::schedulers::Class::ALL;
    let (mut planned, mut refused) = (0, 0);
    for class in classes {
        for spacing in ["linspace", "leading", "trailing"] {
            for steps in (1..=1000).step_by(37).chain([61, 200, 999, 1000]) {
                let config =
                    read(json!({"_class_name": class.name(), "timestep_spacing": spacing}))
                        .unwrap();
                let mut sampler = match config.plan(&Asked::steps(steps)) {
                    Ok(sampler) => sampler,
                    // Too many for the spacing or the distillation, or too few for a Runge-Kutta start.
                    Err(error) => {
                        assert!(error.to_string().starts_with("steps: "), "{error}");
                        refused += 1;
                        continue;
                    }
                };
                planned += 1;
                let mut latents = vec![0.3f32, -0.8, 1.5];
                let sigma = sampler.init_noise_sigma() as f32;
                latents.iter_mut().for_each(|value| *value *= sigma);
                while sampler.call().is_some() {
                    let output = model(&sampler, &latents);
                    let mut fresh = |into: &mut [f32]| into.fill(0.5);
                    sampler.advance(&output, &mut latents, &mut fresh).unwrap();
                }
                let name = class.name();
                assert!(
                    latents.iter().all(|value| value.is_finite()),
                    "{name} {spacing} {steps}"
                );
            }
        }
    }
    assert!(planned > 6 * refused, "{planned} {refused}");
}

#[test]
fn calls_are_counted_to_the_picture_wherever_the_run_ends() {
    let config = json!({"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading", "steps_offset": 1});
    let calls = |begin, end| {
        let asked = Asked {
            begin,
            end,
            ..Asked::steps(5)
        };
        let sampler = read(config.clone()).unwrap().plan(&asked).unwrap();
        (sampler.calls(), sampler.steps_total())
    };
    assert_eq!(calls(Begin::Noise, None), ((5, 0), 5));
    // As ControlNets' parts are counted beside `denoising_end` (pipeline_controlnet_sd_xl.py, `controlnet_keep`).
    assert_eq!(calls(Begin::Noise, Some(0.6)), ((5, 0), 3));
    assert_eq!(calls(Begin::Strength(0.8), Some(0.6)), ((4, 0), 2));
    assert_eq!(calls(Begin::Fraction(0.6), None), ((2, 0), 2));
}
