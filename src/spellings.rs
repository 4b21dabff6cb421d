//! Spellings of fields that Vertex's and Hugging Face's clients use, beside the house's own. Apart, since both front doors
//! read them and neither looks into the other.

/// The house's name, and the others for the same.
pub const SPELLINGS: [(&str, &[&str]); 8] = [
    (
        "max_tokens",
        &["max_new_tokens", "maxOutputTokens", "max_output_tokens"],
    ),
    ("top_p", &["topP"]),
    ("top_k", &["topK"]),
    ("stop", &["stopSequences", "stop_sequences"]),
    ("n", &["candidateCount", "candidate_count"]),
    ("presence_penalty", &["presencePenalty"]),
    ("frequency_penalty", &["frequencyPenalty"]),
    ("prompt", &["inputs", "text"]),
];
