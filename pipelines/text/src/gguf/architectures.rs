//! llama.cpp's architectures, a row each: what a file's keys and tensors are called in the Hugging Face layout, and what the
//! converter changed on the way. Apart from the reading so that a new architecture is a row here and, as a rule, nothing else.
//!
//! Sources: llama.cpp's convert_hf_to_gguf.py (each class's `set_gguf_parameters` and `modify_tensors`), gguf-py's
//! constants.py, and transformers' integrations/ggml.py and modeling_gguf_pytorch_utils.py.

/// What a key of the metadata becomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    /// Behind the architecture's name and a dot.
    pub(super) key: &'static str,
    /// In config.json.
    pub(super) name: &'static str,
    pub(super) kind: FieldKind,
    pub(super) required: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldKind {
    Whole,
    Number,
}

const fn whole(key: &'static str, name: &'static str) -> Field {
    Field {
        key,
        name,
        kind: FieldKind::Whole,
        required: true,
    }
}

const fn number(key: &'static str, name: &'static str) -> Field {
    Field {
        key,
        name,
        kind: FieldKind::Number,
        required: true,
    }
}

impl Field {
    const fn optional(self) -> Self {
        Self {
            required: false,
            ..self
        }
    }
}

/// What the converter did to a tensor's numbers, that has to be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// One was added: Gemma's norms multiply by 1 + weight, and llama.cpp's by weight.
    PlusOne,
    /// Rows and columns were exchanged: GPT-2's Conv1D has [in, out].
    Transposed,
}

/// A tensor's name, without `.weight` and `.bias`, in both worlds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renamed {
    pub(super) gguf: &'static str,
    pub(super) hugging_face: &'static str,
    pub(super) change: Change,
}

const fn name(gguf: &'static str, hugging_face: &'static str) -> Renamed {
    Renamed {
        gguf,
        hugging_face,
        change: Change::None,
    }
}

const fn changed(gguf: &'static str, hugging_face: &'static str, change: Change) -> Renamed {
    Renamed {
        gguf,
        hugging_face,
        change,
    }
}

/// How text becomes pieces, where `tokenizer.ggml.model` says `llama`, which does not say it all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SentencePiece {
    /// Llama's: a space before the first word.
    Llama,
    /// Phi-3's: the same, made by a normaliser.
    Phi3,
    /// Gemma's: none, merges in the order of the vocabulary, runs of spaces written as they are.
    Gemma,
}

/// An architecture as llama.cpp calls it.
pub(super) struct Architecture {
    /// `general.architecture`
    pub(super) name: &'static str,
    /// The class in config.json.
    pub(super) class: &'static str,
    /// The class when there are experts.
    pub(super) class_of_experts: Option<&'static str>,
    /// Fields that the metadata does not have, as JSON.
    pub(super) fixed: &'static str,
    pub(super) fields: &'static [&'static [Field]],
    /// Whether query and key rows were permuted, so that neighbours make a rotated pair.
    pub(super) interleaved: bool,
    /// Whether heads may be of another width than embedding over heads.
    pub(super) head_dim: bool,
    pub(super) outer: &'static [Renamed],
    /// What a layer's names begin with; its number and a dot follow.
    pub(super) layers: &'static str,
    pub(super) inner: &'static [&'static [Renamed]],
    pub(super) sentence_piece: SentencePiece,
}

const SIZES: &[Field] = &[
    whole("context_length", "max_position_embeddings"),
    whole("block_count", "num_hidden_layers"),
    whole("embedding_length", "hidden_size"),
    whole("feed_forward_length", "intermediate_size").optional(),
    whole("attention.head_count", "num_attention_heads"),
    whole("attention.head_count_kv", "num_key_value_heads").optional(),
    number("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    number("rope.freq_base", "rope_theta").optional(),
];
/// Experts are told by their number; 0 and nothing mean none.
const EXPERTS: &[Field] = &[
    whole("expert_count", "num_local_experts").optional(),
    whole("expert_used_count", "num_experts_per_tok").optional(),
];
const SMALL_EXPERTS: &[Field] =
    &[whole("expert_feed_forward_length", "moe_intermediate_size").optional()];
const WINDOW: &[Field] = &[whole("attention.sliding_window", "sliding_window").optional()];
/// Gemma's layers with a window, where a file says more of them than the class does.
const LOCAL: &[Field] = &[
    whole("attention.sliding_window_pattern", "sliding_window_pattern").optional(),
    number("rope.freq_base_swa", "rope_local_base_freq").optional(),
];
const SOFT_CAPS: &[Field] = &[
    number("attn_logit_softcapping", "attn_logit_softcapping").optional(),
    number("final_logit_softcapping", "final_logit_softcapping").optional(),
];
const GPT2_SIZES: &[Field] = &[
    whole("context_length", "n_positions"),
    whole("block_count", "n_layer"),
    whole("embedding_length", "n_embd"),
    whole("feed_forward_length", "n_inner"),
    whole("attention.head_count", "n_head"),
    number("attention.layer_norm_epsilon", "layer_norm_epsilon"),
];

const OUTER: &[Renamed] = &[
    name("token_embd", "model.embed_tokens"),
    name("output_norm", "model.norm"),
    name("output", "lm_head"),
];
const GEMMA_OUTER: &[Renamed] = &[
    name("token_embd", "model.embed_tokens"),
    changed("output_norm", "model.norm", Change::PlusOne),
    name("output", "lm_head"),
];
const GPT2_OUTER: &[Renamed] = &[
    name("token_embd", "transformer.wte"),
    name("position_embd", "transformer.wpe"),
    name("output_norm", "transformer.ln_f"),
    name("output", "lm_head"),
];

const ATTENTION: &[Renamed] = &[
    name("attn_q", "self_attn.q_proj"),
    name("attn_k", "self_attn.k_proj"),
    name("attn_v", "self_attn.v_proj"),
    name("attn_output", "self_attn.o_proj"),
];
const HEAD_NORMS: &[Renamed] = &[
    name("attn_q_norm", "self_attn.q_norm"),
    name("attn_k_norm", "self_attn.k_norm"),
];
const NORMS_BEFORE: &[Renamed] = &[
    name("attn_norm", "input_layernorm"),
    name("ffn_norm", "post_attention_layernorm"),
];
const NORMS_AFTER: &[Renamed] = &[
    name("post_attention_norm", "post_attention_layernorm"),
    name("post_ffw_norm", "post_feedforward_layernorm"),
];
const FEED_FORWARD: &[Renamed] = &[
    name("ffn_gate", "mlp.gate_proj"),
    name("ffn_up", "mlp.up_proj"),
    name("ffn_down", "mlp.down_proj"),
];
/// All experts of a layer are one tensor; each becomes one of its own, at the `*`.
const EXPERT_STACKS: &[Renamed] = &[
    name("ffn_gate_inp", "mlp.gate"),
    name("ffn_gate_exps", "mlp.experts.*.gate_proj"),
    name("ffn_up_exps", "mlp.experts.*.up_proj"),
    name("ffn_down_exps", "mlp.experts.*.down_proj"),
];
const GEMMA_NORMS: &[Renamed] = &[
    changed("attn_norm", "input_layernorm", Change::PlusOne),
    changed(
        "post_attention_norm",
        "post_attention_layernorm",
        Change::PlusOne,
    ),
    changed("ffn_norm", "pre_feedforward_layernorm", Change::PlusOne),
    changed(
        "post_ffw_norm",
        "post_feedforward_layernorm",
        Change::PlusOne,
    ),
];
const GEMMA_HEAD_NORMS: &[Renamed] = &[
    changed("attn_q_norm", "self_attn.q_norm", Change::PlusOne),
    changed("attn_k_norm", "self_attn.k_norm", Change::PlusOne),
];
const PHI3_PACKED: &[Renamed] = &[
    name("attn_qkv", "self_attn.qkv_proj"),
    name("attn_output", "self_attn.o_proj"),
    name("ffn_up", "mlp.gate_up_proj"),
    name("ffn_down", "mlp.down_proj"),
];
const GPT2_INNER: &[Renamed] = &[
    name("attn_norm", "ln_1"),
    changed("attn_qkv", "attn.c_attn", Change::Transposed),
    changed("attn_output", "attn.c_proj", Change::Transposed),
    name("ffn_norm", "ln_2"),
    changed("ffn_up", "mlp.c_fc", Change::Transposed),
    changed("ffn_down", "mlp.c_proj", Change::Transposed),
];

const LLAMA: Architecture = Architecture {
    name: "llama",
    class: "LlamaForCausalLM",
    class_of_experts: Some("MixtralForCausalLM"),
    fixed: "{}",
    fields: &[SIZES, EXPERTS],
    interleaved: true,
    head_dim: true,
    outer: OUTER,
    layers: "model.layers.",
    inner: &[ATTENTION, NORMS_BEFORE, FEED_FORWARD, EXPERT_STACKS],
    sentence_piece: SentencePiece::Llama,
};

const QWEN2: Architecture = Architecture {
    name: "qwen2",
    class: "Qwen2ForCausalLM",
    class_of_experts: None,
    fields: &[SIZES],
    interleaved: false,
    inner: &[ATTENTION, NORMS_BEFORE, FEED_FORWARD],
    ..LLAMA
};

const QWEN3: Architecture = Architecture {
    name: "qwen3",
    class: "Qwen3ForCausalLM",
    inner: &[ATTENTION, HEAD_NORMS, NORMS_BEFORE, FEED_FORWARD],
    ..QWEN2
};

const GEMMA2: Architecture = Architecture {
    name: "gemma2",
    class: "Gemma2ForCausalLM",
    fixed: r#"{"hidden_activation": "gelu_pytorch_tanh"}"#,
    fields: &[SIZES, WINDOW, SOFT_CAPS],
    outer: GEMMA_OUTER,
    inner: &[ATTENTION, GEMMA_NORMS, FEED_FORWARD],
    sentence_piece: SentencePiece::Gemma,
    ..QWEN2
};

/// All that are known.
pub(super) const ARCHITECTURES: &[Architecture] = &[
    LLAMA,
    QWEN2,
    QWEN3,
    Architecture {
        name: "qwen3moe",
        class: "Qwen3MoeForCausalLM",
        // The file does not say it, and llama.cpp always does it (src/models/qwen3moe.cpp).
        fixed: r#"{"norm_topk_prob": true}"#,
        fields: &[SIZES, EXPERTS, SMALL_EXPERTS],
        inner: &[ATTENTION, HEAD_NORMS, NORMS_BEFORE, EXPERT_STACKS],
        ..QWEN3
    },
    GEMMA2,
    Architecture {
        name: "gemma3",
        class: "Gemma3ForCausalLM",
        fields: &[SIZES, WINDOW, LOCAL, SOFT_CAPS],
        inner: &[ATTENTION, GEMMA_HEAD_NORMS, GEMMA_NORMS, FEED_FORWARD],
        ..GEMMA2
    },
    Architecture {
        name: "phi3",
        class: "Phi3ForCausalLM",
        fields: &[SIZES, WINDOW],
        inner: &[PHI3_PACKED, NORMS_BEFORE],
        sentence_piece: SentencePiece::Phi3,
        ..QWEN2
    },
    Architecture {
        name: "olmo2",
        class: "Olmo2ForCausalLM",
        inner: &[ATTENTION, HEAD_NORMS, NORMS_AFTER, FEED_FORWARD],
        ..QWEN2
    },
    Architecture {
        name: "smollm3",
        class: "SmolLM3ForCausalLM",
        class_of_experts: None,
        fields: &[SIZES],
        ..LLAMA
    },
    Architecture {
        name: "gpt2",
        class: "GPT2LMHeadModel",
        fields: &[GPT2_SIZES],
        head_dim: false,
        outer: GPT2_OUTER,
        layers: "transformer.h.",
        inner: &[GPT2_INNER],
        ..QWEN2
    },
];

/// Keys that change what a model computes, and that llama.cpp reads for some architectures. One that a row has no field for is
/// refused, unless its value changes nothing.
pub(super) const CHANGING: &[&str] = &[
    "attention.clamp_kqv",
    "attention.max_alibi_bias",
    "attention.output_scale",
    "attention.scale",
    "attention.sliding_window_pattern",
    "attention.temperature_scale",
    "attn_logit_softcapping",
    "embedding_scale",
    "expert_gating_func",
    "expert_shared_count",
    "expert_weights_scale",
    "final_logit_softcapping",
    "leading_dense_block_count",
    "logit_scale",
    "nextn_predict_layers",
    "residual_scale",
    "rope.dimension_sections",
    "rope.freq_base_swa",
    "router_logit_softcapping",
    "use_parallel_residual",
];

impl Architecture {
    /// The row of that name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().find(|row| row.name == name)
    }
}
