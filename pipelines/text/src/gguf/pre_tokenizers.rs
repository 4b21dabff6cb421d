//! What `tokenizer.ggml.pre` stands for: how a byte-level vocabulary's text is cut before merging.
//! Sources: the pre-tokenizers of the models' own tokenizer.json, llama.cpp's src/llama-vocab.cpp (`llm_tokenizer_bpe`), which
//! names them, and transformers' integrations/gguf/gguf_tokenizer_mapping.py.

use serde_json::{Value, json};

/// How text is cut into words.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cut {
    /// GPT-2's own pattern, which `ByteLevel` has inside.
    Gpt2,
    /// Every digit alone, then GPT-2's pattern.
    DigitsThenGpt2,
    /// A pattern of its own.
    Pattern(&'static str),
}

/// One name of `tokenizer.ggml.pre`, or several of one meaning.
pub(super) struct PreTokenizer {
    names: &'static [&'static str],
    cut: Cut,
    /// Whether the text is composed (NFC) first, as the models' own tokenizer.json has it.
    composed: bool,
    /// Whether a word that is a token is taken without merging.
    pub(super) ignore_merges: bool,
    /// Whether a beginning token is put before a text when the file does not say.
    pub(super) adds_bos: bool,
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const GPT2_ROW: PreTokenizer = PreTokenizer {
    names: &[
        "gpt-2", "phi-2", "olmo", "mpt", "jais", "trillion", "default",
    ],
    cut: Cut::Gpt2,
    composed: false,
    ignore_merges: false,
    adds_bos: false,
};

const KNOWN: &[PreTokenizer] = &[
    GPT2_ROW,
    PreTokenizer {
        names: &[
            "llama-bpe",
            "llama-v3",
            "llama3",
            "falcon3",
            "pixtral",
            "lfm2",
            "dbrx",
            "smaug-bpe",
        ],
        cut: Cut::Pattern(LLAMA3),
        ignore_merges: true,
        adds_bos: true,
        ..GPT2_ROW
    },
    PreTokenizer {
        names: &["qwen2", "deepseek-r1-qwen", "megrez"],
        cut: Cut::Pattern(QWEN2),
        composed: true,
        ..GPT2_ROW
    },
    PreTokenizer {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "minerva-7b",
        ],
        cut: Cut::DigitsThenGpt2,
        ..GPT2_ROW
    },
    PreTokenizer {
        names: &["tekken"],
        cut: Cut::Pattern(TEKKEN),
        ignore_merges: true,
        adds_bos: true,
        ..GPT2_ROW
    },
    PreTokenizer {
        names: &["gpt-4o", "llama4"],
        cut: Cut::Pattern(GPT4O),
        ..GPT2_ROW
    },
];

impl PreTokenizer {
    /// The row of that name. A file that says nothing is older than the key, and its text is cut as GPT-2's; so is `default`,
    /// which llama.cpp cuts otherwise with a warning and transformers like this.
    pub(super) fn named(name: Option<&str>) -> Option<&'static Self> {
        let name = name.unwrap_or("default");
        KNOWN.iter().find(|row| row.names.contains(&name))
    }

    /// Every name that is known.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().flat_map(|row| row.names).copied()
    }

    /// tokenizer.json's `normalizer`.
    pub(super) fn normalizer(&self) -> Value {
        match self.composed {
            true => json!({"type": "NFC"}),
            false => Value::Null,
        }
    }

    /// tokenizer.json's `pre_tokenizer`.
    pub(super) fn pre_tokenizer(&self) -> Value {
        let bytes = |pattern: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": pattern});
        let sequence = |first: Value, pattern: bool| json!({"type": "Sequence", "pretokenizers": [first, bytes(pattern)]});
        match self.cut {
            Cut::Gpt2 => bytes(true),
            Cut::DigitsThenGpt2 => {
                sequence(json!({"type": "Digits", "individual_digits": true}), true)
            }
            Cut::Pattern(pattern) => {
                let split = json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
                sequence(split, false)
            }
        }
    }
}
