//! Variables that other workers' images set and that mean nothing here: said once, so that nobody believes in them.

use std::collections::BTreeMap;

/// Their names, and the values with which they ask for what happens anyway (worker-vllm and the embedding worker;
/// runpod.md 11, seeds.md 1.2).
const MEANINGLESS: [(&str, &[&str]); 27] = [
    ("TOKENIZER_NAME", &[]),
    ("TOKENIZER_REVISION", &[]),
    ("QUANTIZATION", &[]),
    ("LOAD_FORMAT", &["auto", "safetensors"]),
    ("KV_CACHE_DTYPE", &["auto"]),
    ("GPU_MEMORY_UTILIZATION", &[]),
    ("TENSOR_PARALLEL_SIZE", &["1"]),
    ("PIPELINE_PARALLEL_SIZE", &["1"]),
    ("MAX_NUM_BATCHED_TOKENS", &[]),
    ("MAX_CONTEXT_LEN_TO_CAPTURE", &[]),
    ("TRUST_REMOTE_CODE", &["0", "false"]),
    ("ENFORCE_EAGER", &["0", "false"]),
    ("CUSTOM_CHAT_TEMPLATE", &[]),
    ("TRUST_REQUEST_CHAT_TEMPLATE", &["0", "false"]),
    ("OPENAI_RESPONSE_ROLE", &["assistant"]),
    ("ENABLE_AUTO_TOOL_CHOICE", &["1", "true"]),
    ("TOOL_CALL_PARSER", &[]),
    ("REASONING_PARSER", &[]),
    ("SPECULATIVE_CONFIG", &[]),
    ("VLLM_EXTRA_ARGS", &[]),
    ("VLLM_CONFIG_FILE", &[]),
    ("VLLM_PORT", &[]),
    ("VLLM_STARTUP_TIMEOUT", &[]),
    ("MODEL_NAMES", &[]),
    ("BATCH_SIZES", &[]),
    ("DTYPES", &[]),
    ("INFINITY_QUEUE_SIZE", &[]),
];

/// One line about all that are set, if any is.
pub(super) fn warning(environment: &BTreeMap<String, String>) -> Option<String> {
    let set: Vec<&str> = MEANINGLESS
        .iter()
        .filter(|(name, harmless)| {
            let value = environment
                .get(*name)
                .map(|value| value.trim().to_ascii_lowercase());
            let none = ["", "none", "null"];
            value.is_some_and(|value| {
                !none.contains(&value.as_str()) && !harmless.contains(&value.as_str())
            })
        })
        .map(|(name, _)| *name)
        .collect();
    let are = match set.len() {
        0 => return None,
        1 => "is another worker's setting, has no meaning here and was ignored",
        _ => "are other workers' settings, have no meaning here and were ignored",
    };
    Some(format!("{} {are}", set.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_meaning_is_said_in_one_line() {
        let warn = |set: &[(&str, &str)]| {
            let pairs = set
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            warning(&pairs.collect())
        };
        assert_eq!(
            warn(&[
                ("MODEL_NAME", "a"),
                ("TENSOR_PARALLEL_SIZE", "1"),
                ("QUANTIZATION", "None")
            ]),
            None
        );
        assert_eq!(
            warn(&[("QUANTIZATION", "awq")]).unwrap(),
            "QUANTIZATION is another worker's setting, has no meaning here and was ignored"
        );
        assert_eq!(
            warn(&[("QUANTIZATION", "awq"), ("TENSOR_PARALLEL_SIZE", "2")]).unwrap(),
            "QUANTIZATION, TENSOR_PARALLEL_SIZE are other workers' settings, have no meaning here and were ignored"
        );
    }

    #[test]
    fn no_name_here_is_one_that_a_setting_reads() {
        let read = super::super::SPECS.iter().flat_map(|spec| spec.variables);
        for variable in read {
            assert!(
                MEANINGLESS.iter().all(|(name, _)| *name != variable.name),
                "{}",
                variable.name
            );
        }
    }
}
