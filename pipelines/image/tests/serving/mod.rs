//! Whole pipelines: pictures against diffusers', requests together, and what the engine is promised.

mod adapters;
mod control;
mod parity;
mod parts;
mod pixart;
mod preview;
mod refined;
mod safety;
mod sharing;
mod single_file;
mod single_flows;

use std::path::{Path, PathBuf};

use chandler_core::{
    Admission, Collected, Event, Events, ImageInput, Input, Pipeline, RequestId, Ticket,
};
use chandler_image::{AdapterFile, ImageOptions, ImagePipeline, Usual};
use chandler_nn::weights::Snapshot;
use flate2::read::GzDecoder;
use serde_json::Value;
use tempfile::TempDir;

use crate::checkpoint::Checkpoint;
use crate::on_device;

fn fixtures(name: &str) -> PathBuf {
    on_device::fixtures().join(name)
}

/// What make_served.py, make_flows.py and make_pixart.py wrote, each in a folder of its name.
const SUITES: [&str; 3] = ["served", "flows", "pixart"];

/// What make_refined.py wrote: a refiner, and pictures that it and the XL model of the first suite draw.
const REFINED: &str = "refined";

pub fn suite(name: &str) -> Value {
    let packed = std::fs::File::open(fixtures(&format!("{name}/{name}.json.gz"))).unwrap();
    serde_json::from_reader(GzDecoder::new(packed)).unwrap()
}

/// A pipeline's snapshot, in a directory that lives as long as it.
fn snapshot(folder: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut suites = SUITES.into_iter().chain([REFINED]).map(suite);
    let about = suites.find_map(|suite| suite.get(folder).cloned()).unwrap();
    let write = |file: &str, value: &Value| {
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, serde_json::to_vec(value).unwrap()).unwrap();
    };
    write("model_index.json", &about["index"]);
    write("scheduler/scheduler_config.json", &about["scheduler"]);
    for (part, about) in about["parts"].as_object().unwrap() {
        write(&format!("{part}/config.json"), &about["config"]);
        let name = match part.starts_with("text_encoder") {
            true => "model.safetensors",
            false => "diffusion_pytorch_model.safetensors",
        };
        let file = dir.path().join(part).join(name);
        Checkpoint::part(about.clone()).write(&file, |name| name.to_owned());
    }
    for (folder, from) in about["tokenizers"].as_object().unwrap() {
        copy_tokenizer(from.as_str().unwrap(), &dir.path().join(folder));
    }
    dir
}

/// One of the tokenizers that make_clip.py made.
fn copy_tokenizer(name: &str, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(fixtures("clip").join(name)).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

fn load(folder: &str, max_rows: usize) -> ImagePipeline {
    load_with(folder, max_rows, Vec::new())
}

/// With adapters beside it.
fn load_with(folder: &str, max_rows: usize, adapters: Vec<AdapterFile>) -> ImagePipeline {
    let options = ImageOptions {
        adapters,
        ..options(max_rows)
    };
    load_options(folder, &options).unwrap()
}

/// With ControlNets beside it.
fn load_controlled(
    folder: &str,
    controls: Vec<(String, Snapshot)>,
    max_rows: usize,
) -> chandler_image::Result<ImagePipeline> {
    let options = ImageOptions {
        controls,
        ..options(max_rows)
    };
    load_options(folder, &options)
}

fn load_options(folder: &str, options: &ImageOptions) -> chandler_image::Result<ImagePipeline> {
    let dir = snapshot(folder);
    ImagePipeline::load(&Snapshot::dir(dir.path()).unwrap(), options, &|_| {})
}

fn load_snapshot(snapshot: &Snapshot, max_rows: usize) -> ImagePipeline {
    ImagePipeline::load(snapshot, &options(max_rows), &|_| {}).unwrap()
}

fn options(max_rows: usize) -> ImageOptions {
    ImageOptions {
        device: on_device::options(),
        dtype: on_device::dtype_choice(),
        max_rows,
        host_memory: None,
        usual: Usual::default(),
        safety_checker: true,
        adapters: Vec::new(),
        controls: Vec::new(),
        refiner: None,
        preview: None,
    }
}

/// Runs requests together until the last has ended; steps that each took are counted.
fn run(pipeline: &mut ImagePipeline, inputs: Vec<ImageInput>) -> Vec<Collected> {
    let mut answers: Vec<Collected> = Vec::new();
    for (id, input) in inputs.into_iter().enumerate() {
        admit(pipeline, id as u64, input);
        answers.push(Collected::default());
    }
    let mut open = answers.len();
    while open > 0 {
        for (id, event) in step(pipeline) {
            let answer = &mut answers[id.0 as usize];
            open -= usize::from(answer.add(event).unwrap());
        }
    }
    answers
}

fn admit(pipeline: &mut ImagePipeline, id: u64, input: ImageInput) {
    let prepared = pipeline
        .preparer()
        .prepare(Input::Image(Box::new(input)))
        .unwrap();
    assert!(matches!(
        pipeline.admit(Ticket::new(id), prepared),
        Admission::Taken
    ));
}

fn step(pipeline: &mut ImagePipeline) -> Vec<(RequestId, Event)> {
    let mut events = Events::default();
    pipeline.step(&mut events).unwrap();
    events.drain().collect()
}
