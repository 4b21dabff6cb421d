//! ControlNets in serving: whole pictures against diffusers', requests with and without them in one pass, and what is refused.

use chandler_core::contract::{self, Subject};
use chandler_core::{
    Collected, Control, Denoising, ImageInput, Input, Picture, Pipeline, Prompts, Start,
};
use chandler_nn::weights::Snapshot;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::parity::{compare, input};
use super::{fixtures, load_controlled, run, suite};
use crate::checkpoint::Checkpoint;

fn made() -> Value {
    suite("steered")
}

/// ControlNets by name, in directories that live as long as what comes first.
fn nets(all: &Value, names: &[&str]) -> (Vec<TempDir>, Vec<(String, Snapshot)>) {
    let one = |name: &&str| {
        let dir = tempfile::tempdir().unwrap();
        let about = all["nets"][*name].clone();
        let config = dir.path().join("config.json");
        std::fs::write(config, about["config"].to_string()).unwrap();
        let weights = dir.path().join("diffusion_pytorch_model.safetensors");
        Checkpoint::part(about).write(&weights, |name| name.to_owned());
        let snapshot = Snapshot::dir(dir.path()).unwrap();
        (dir, ((*name).to_owned(), snapshot))
    };
    names.iter().map(one).unzip()
}

fn picture(name: &str) -> Picture {
    Picture::new(std::fs::read(fixtures("served").join(name)).unwrap())
}

fn steered(case: &Value, size: &Value) -> ImageInput {
    let one = |control: &Value| Control {
        model: control["model"].as_str().map(str::to_owned),
        image: picture(control["image"].as_str().unwrap()),
        scale: control["scale"].as_f64().unwrap(),
        start: control["start"].as_f64().unwrap(),
        end: control["end"].as_f64().unwrap(),
    };
    ImageInput {
        controls: case["controls"]
            .as_array()
            .unwrap()
            .iter()
            .map(one)
            .collect(),
        ..input(case, size, "served")
    }
}

fn drawn(answer: &Collected) -> &[u8] {
    &answer.images[0].rgb
}

const FAMILIES: [(&str, &[&str]); 3] = [
    ("sd", &["edges", "depth"]),
    ("nine", &["edges"]),
    ("sdxl", &["large"]),
];

#[test]
fn steered_pictures_are_those_of_diffusers_alone_and_together() {
    let all = made();
    let cases = all["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 6);
    let mut wrong = Vec::new();
    for (folder, names) in FAMILIES {
        let (_dirs, nets) = nets(&all, names);
        let mut pipeline = load_controlled(folder, nets, 8).unwrap();
        let of_this: Vec<&Value> = cases
            .iter()
            .filter(|case| case["folder"] == folder)
            .collect();
        let inputs = || of_this.iter().map(|case| steered(case, &all["size"]));
        let unsteered = || {
            inputs().map(|input| ImageInput {
                controls: Vec::new(),
                ..input
            })
        };
        let together = run(&mut pipeline, inputs().chain(unsteered()).collect());
        let (steered, plain) = together.split_at(of_this.len());
        for ((case, answer), (with, without)) in
            of_this.iter().zip(steered).zip(inputs().zip(unsteered()))
        {
            let name = case["name"].as_str().unwrap();
            wrong.extend(compare(name, "steered", answer));
            let alone = run(&mut pipeline, vec![with]);
            assert_eq!(drawn(answer), drawn(&alone[0]), "{name} alone");
            let alone = run(&mut pipeline, vec![without]);
            let place = of_this.iter().position(|other| other == case).unwrap();
            assert_eq!(drawn(&plain[place]), drawn(&alone[0]), "{name} unsteered");
            assert_ne!(drawn(answer), drawn(&alone[0]), "{name} is steered");
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn prompt(control: Control) -> ImageInput {
    ImageInput {
        prompt: Prompts::one("a red cat"),
        controls: vec![control],
        ..ImageInput::default()
    }
}

#[test]
fn what_a_request_may_not_ask_of_controlnets_is_refused_by_its_field() {
    let all = made();
    let (_dirs, nets) = nets(&all, &["edges", "depth"]);
    let pipeline = load_controlled("sd", nets, 2).unwrap();
    let preparer = pipeline.preparer();
    let good = || Control {
        model: Some("depth".to_owned()),
        image: picture("image.png"),
        scale: 1.0,
        start: 0.0,
        end: 1.0,
    };
    let prepared = |control: Control| preparer.prepare(Input::Image(Box::new(prompt(control))));
    assert!(prepared(good()).is_ok());
    for (control, field, said) in [
        (
            Control {
                model: Some("pose".to_owned()),
                ..good()
            },
            "controls[0].model",
            "edges, depth",
        ),
        (
            Control {
                scale: f64::NAN,
                ..good()
            },
            "controls[0].scale",
            "between 0 and 10",
        ),
        (
            Control {
                start: 0.5,
                end: 0.5,
                ..good()
            },
            "controls[0].start",
            "start < end",
        ),
        (Control { end: 1.5, ..good() }, "controls[0].start", "1.5"),
        (
            Control {
                image: Picture::new(b"none".to_vec()),
                ..good()
            },
            "controls[0].image",
            "no picture",
        ),
    ] {
        let error = prepared(control).err().unwrap();
        assert_eq!(error.field.as_deref(), Some(field));
        assert!(error.message.contains(said), "{error}");
    }
    let plain = load_controlled("sd", Vec::new(), 2).unwrap();
    let error = plain
        .preparer()
        .prepare(Input::Image(Box::new(prompt(good()))));
    let error = error.err().unwrap();
    assert!(error.message.contains("--control"), "{error}");
}

#[test]
fn a_controlnet_of_another_family_is_refused_when_it_is_loaded() {
    let mut all = made();
    let (_dirs, large) = nets(&all, &["large"]);
    let said = load_controlled("sd", large, 2).err().unwrap().to_string();
    assert!(
        said.contains("control large") && said.contains("another family"),
        "{said}"
    );
    all["nets"]["edges"]["config"]["conditioning_channels"] = json!(4);
    let (_dirs, four) = nets(&all, &["edges"]);
    let said = load_controlled("sd", four, 2).err().unwrap().to_string();
    assert!(said.contains("conditioning_channels"), "{said}");
}

/// Requests with one ControlNet, with two over a part of the steps, and without any; some begin with a picture.
fn of_every_kind(number: u64) -> Input {
    let control = |model: &str, end: f64| Control {
        model: Some(model.to_owned()),
        image: picture("image.png"),
        scale: 0.8,
        start: 0.0,
        end,
    };
    let controls = match number % 3 {
        0 => vec![control("edges", 1.0)],
        1 => vec![control("depth", 0.5), control("edges", 1.0)],
        _ => Vec::new(),
    };
    let start = (number % 4 == 3).then(|| Start {
        image: picture("image.png"),
        strength: Some(1.0),
        mask: None,
        padding_mask_crop: None,
    });
    Input::Image(Box::new(ImageInput {
        prompt: Prompts::one("a red cat"),
        width: Some(18),
        height: Some(if number.is_multiple_of(5) { 16 } else { 22 }),
        seed: Some(number),
        denoising: Denoising {
            steps: Some(2 + (number % 2) as u32),
            ..Denoising::default()
        },
        controls,
        start,
        ..ImageInput::default()
    }))
}

#[test]
fn the_contract_of_all_pipelines_is_kept_by_steered_requests() {
    let all = made();
    contract::check(&Subject {
        make: &|| {
            let (_dirs, nets) = nets(&all, &["edges", "depth"]);
            load_controlled("sd", nets, 6).unwrap()
        },
        input: &of_every_kind,
        requests: 9,
        // Text, two pictures that steer, and a step.
        suspend_every: 5,
    });
}
