//! The files beside the weights: configurations, tokenizers, templates; and why everything else stays where it is.

use super::{Listed, languages};

/// Larger ones are data, whatever their names say. The largest tokenizer.json there is has some 35 MB.
const MOST_BYTES: u64 = 64 << 20;
/// Words in the names of JSON files that some pipeline reads; all others are data, results and other programs' notes.
const NEEDED_JSON: [&str; 11] = [
    "config",
    "token",
    "vocab",
    "merges",
    "processor",
    "normalizer",
    "chat_template",
    "modules",
    "tekken",
    "mel_filters",
    "voices",
];
/// Vocabularies and merges in other formats than JSON.
const VOCABULARIES: [&str; 7] = [
    "vocab.txt",
    "merges.txt",
    "bpe.codes",
    "dict.txt",
    "emoji.txt",
    "vocab.bpe",
    "entity_vocab.txt",
];
const SENTENCEPIECES: [&str; 4] = [".model", ".spm", ".tiktoken", ".bpe"];

/// The small files directly in a folder (its prefix is empty or ends in `/`).
pub(super) fn beside(prefix: &str, files: &[Listed<'_>]) -> Vec<String> {
    let here = files.iter().filter(|file| {
        let name = file.path.strip_prefix(prefix);
        file.size <= MOST_BYTES && name.is_some_and(|name| !name.contains('/') && is_needed(name))
    });
    here.map(|file| file.path.to_owned()).collect()
}

/// Further chat templates, in the folder that transformers keeps them in.
pub(super) fn templates(files: &[Listed<'_>]) -> Vec<String> {
    let here = files.iter().filter(|file| {
        file.path.starts_with("additional_chat_templates/") && file.path.ends_with(".jinja")
    });
    here.map(|file| file.path.to_owned()).collect()
}

fn is_needed(name: &str) -> bool {
    if name.contains(".index.") || name.starts_with('.') {
        return false;
    }
    let json = name.ends_with(".json") && NEEDED_JSON.iter().any(|word| name.contains(word));
    json || name.ends_with(".jinja")
        || VOCABULARIES.contains(&name)
        || SENTENCEPIECES.iter().any(|ending| name.ends_with(ending))
}

/// The folder of a module that sentence-transformers puts behind the model: `1_Pooling`, `2_Dense`.
pub(super) fn module_of(path: &str) -> Option<&str> {
    let (folder, rest) = path.split_once('/')?;
    let (number, name) = folder.split_once('_')?;
    let module = !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && !rest.contains('/');
    module.then_some(folder)
}

/// Whether opening it would run what is in it.
pub(super) fn is_pickle(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

/// Why a file is not needed, in a word or two.
pub(super) fn why_not(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    let within = |folder: &str| path.starts_with(folder);
    if within("onnx/") || ends(&[".onnx", ".onnx_data", ".onnx.data"]) {
        "onnx"
    } else if within("openvino/") || name.starts_with("openvino_") {
        "openvino"
    } else if within("coreml/") || path.contains(".mlpackage/") || ends(&[".mlmodel"]) {
        "coreml"
    } else if name.starts_with("flax_") || ends(&[".msgpack"]) {
        "flax"
    } else if name.starts_with("tf_") || ends(&[".h5", ".tflite", ".pb"]) {
        "tensorflow"
    } else if name.starts_with("rust_model") {
        "rust-bert"
    } else if within("original/") || name.starts_with("consolidated") || name == "params.json" {
        "the publisher's own format"
    } else if name.starts_with("optimizer")
        || name.starts_with("training_args")
        || name.starts_with("trainer_")
        || name.starts_with("rng_state")
        || name.starts_with("scheduler.pt")
        || within("runs/")
        || within("checkpoint-")
        || within("logs/")
    {
        "from training"
    } else if is_pickle(path) || name.contains(".bin.index.") {
        "pickle"
    } else if languages::of(path).is_some() {
        "a language that --speech-languages does not name"
    } else if ends(&[".safetensors"]) || name.contains(".safetensors.index") {
        "other weights or another precision"
    } else if ends(&[".gguf"]) {
        "another gguf"
    } else {
        "not read by any pipeline"
    }
}

/// What a listing holds, for an error.
pub(super) fn what_is_there(files: &[Listed<'_>]) -> String {
    const LISTED: usize = 8;
    let mut names: Vec<&str> = files.iter().map(|file| file.path).take(LISTED).collect();
    if files.len() > LISTED {
        names.push("…");
    }
    match names.is_empty() {
        true => "nothing is there".to_owned(),
        false => format!("there is {}", names.join(", ")),
    }
}
