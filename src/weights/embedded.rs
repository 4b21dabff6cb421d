//! The demo model, compiled into the binary so that a worker can be tried with nothing else at hand.
//! Its card, and the scripts that made it, are in `pipelines/demo`.

use chandler_nn::weights::Snapshot;

const FILES: &[(&str, &[u8])] = &[
    (
        "config.json",
        include_bytes!("../../pipelines/demo/chat/config.json"),
    ),
    (
        "generation_config.json",
        include_bytes!("../../pipelines/demo/chat/generation_config.json"),
    ),
    (
        "tokenizer.json",
        include_bytes!("../../pipelines/demo/chat/tokenizer.json"),
    ),
    (
        "tokenizer_config.json",
        include_bytes!("../../pipelines/demo/chat/tokenizer_config.json"),
    ),
    (
        "model.safetensors",
        include_bytes!("../../pipelines/demo/chat/model.safetensors"),
    ),
];

/// The demo model's files.
pub fn demo() -> Snapshot {
    Snapshot::embedded("the embedded demo model", FILES)
}
