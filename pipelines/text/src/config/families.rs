//! The families, a row each: what a family does that config.json does not say, and what it calls things.
//! Apart from the reading of config.json so that a new family is a row here and, as a rule, nothing anywhere else.

use chandler_nn::norm::NormKind;

/// When a projection has a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bias {
    Never,
    Always,
    /// Where `attention_bias` or `mlp_bias` says so.
    Asked,
}

/// What a norm of queries and keys goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryKeyNorm {
    /// Each head alone.
    Head,
    /// All heads together, before they are parted.
    All,
}

/// Which layers see `sliding_window` positions only, where `layer_types` does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Windows {
    /// None, and `layer_types` may not ask for any.
    Never,
    /// All, and `layer_types` may not say otherwise: transformers does not look at it.
    Everywhere,
    /// Those that `layer_types` names; all where it is missing.
    Named,
    /// Those from number `max_window_layers` on.
    FromMaxWindowLayers,
    /// All but each `sliding_window_pattern`-th.
    Pattern,
    /// Those without rotary embedding.
    WithoutRope,
}

/// The shape of the feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FeedForwardKind {
    /// down(activation(gate(x)) · up(x))
    Gated,
    /// down(activation(up(x)))
    Plain,
    /// Gated ones, of which a router chooses, in the layers that config.json names.
    Experts,
}

/// Layers that read one input: a tensor each, or one tensor with all their rows, one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Packing {
    Apart(&'static [&'static str]),
    Together(&'static str),
}

/// Names of tensors, without `.weight` and `.bias`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    /// What all names but the head's begin with; the one under which there is an embedding counts.
    pub(crate) prefixes: &'static [&'static str],
    pub(crate) embedding: &'static str,
    /// The table of learned positions, for the families that have one.
    pub(crate) positions: Option<&'static str>,
    pub(crate) layers: &'static str,
    pub(crate) final_norm: &'static str,
    pub(crate) heads: &'static [&'static str],
    pub(crate) layer: LayerNames,
}

/// Names in a layer. A norm without a name is one that the family does not have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerNames {
    pub(crate) before_attention: Option<&'static str>,
    pub(crate) after_attention: Option<&'static str>,
    pub(crate) before_feed_forward: Option<&'static str>,
    pub(crate) after_feed_forward: Option<&'static str>,
    /// Query, key and value.
    pub(crate) query_key_value: Packing,
    pub(crate) output: &'static str,
    /// The norms of queries and keys, for the families that have them.
    pub(crate) query_norm: &'static str,
    pub(crate) key_norm: &'static str,
    /// Gate and up, or up alone.
    pub(crate) up: Packing,
    pub(crate) down: &'static str,
    /// Whether matrices are stored [in, out], as GPT-2's Conv1D has them.
    pub(crate) transposed: bool,
}

/// What a family does differently where config.json does not say.
pub(crate) struct Family {
    /// The class's name in config.json.
    pub(crate) architecture: &'static str,
    /// What transformers' configuration class assumes for fields that config.json leaves out, as JSON.
    pub(crate) defaults: &'static str,
    /// Fields that the family calls otherwise: its name, and the one that is read here.
    pub(crate) renamed: &'static [(&'static str, &'static str)],
    /// The field that holds the decoder's configuration, in a file about several models.
    pub(crate) nested: Option<&'static str>,
    pub(crate) qkv_bias: Bias,
    pub(crate) output_bias: Bias,
    pub(crate) mlp_bias: Bias,
    pub(crate) norm: NormKind,
    pub(crate) query_key_norm: Option<QueryKeyNorm>,
    pub(crate) windows: Windows,
    pub(crate) feed_forward: FeedForwardKind,
    /// Whether embeddings are multiplied by √hidden_size.
    pub(crate) scaled_embedding: bool,
    pub(crate) names: Names,
}

const LLAMA_NAMES: Names = Names {
    prefixes: &["model."],
    embedding: "embed_tokens",
    positions: None,
    layers: "layers",
    final_norm: "norm",
    heads: &["lm_head"],
    layer: LayerNames {
        before_attention: Some("input_layernorm"),
        after_attention: None,
        before_feed_forward: Some("post_attention_layernorm"),
        after_feed_forward: None,
        query_key_value: Packing::Apart(&[
            "self_attn.q_proj",
            "self_attn.k_proj",
            "self_attn.v_proj",
        ]),
        output: "self_attn.o_proj",
        query_norm: "self_attn.q_norm",
        key_norm: "self_attn.k_norm",
        up: Packing::Apart(&["mlp.gate_proj", "mlp.up_proj"]),
        down: "mlp.down_proj",
        transposed: false,
    },
};

/// modeling_llama.py
const LLAMA: Family = Family {
    architecture: "LlamaForCausalLM",
    defaults: "{}",
    renamed: &[],
    nested: None,
    qkv_bias: Bias::Asked,
    output_bias: Bias::Asked,
    mlp_bias: Bias::Asked,
    norm: NormKind::Rms,
    query_key_norm: None,
    windows: Windows::Never,
    feed_forward: FeedForwardKind::Gated,
    scaled_embedding: false,
    names: LLAMA_NAMES,
};

/// modeling_mistral.py
const MISTRAL: Family = Family {
    architecture: "MistralForCausalLM",
    defaults: r#"{"sliding_window": 4096, "num_key_value_heads": 8}"#,
    qkv_bias: Bias::Never,
    output_bias: Bias::Never,
    mlp_bias: Bias::Never,
    windows: Windows::Everywhere,
    ..LLAMA
};

/// modeling_qwen3.py
const QWEN3: Family = Family {
    architecture: "Qwen3ForCausalLM",
    defaults: r#"{"head_dim": 128, "use_sliding_window": false, "max_window_layers": 28}"#,
    mlp_bias: Bias::Never,
    query_key_norm: Some(QueryKeyNorm::Head),
    windows: Windows::FromMaxWindowLayers,
    ..LLAMA
};

/// modeling_gemma2.py
const GEMMA2: Family = Family {
    architecture: "Gemma2ForCausalLM",
    defaults: r#"{"vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-6, "tie_word_embeddings": true, "query_pre_attn_scalar": 256,
        "sliding_window": 4096, "sliding_window_pattern": 2, "final_logit_softcapping": 30.0,
        "attn_logit_softcapping": 50.0}"#,
    renamed: &[("hidden_activation", "hidden_act")],
    mlp_bias: Bias::Never,
    norm: NormKind::RmsUnitOffset,
    windows: Windows::Pattern,
    scaled_embedding: true,
    names: Names {
        layer: LayerNames {
            after_attention: Some("post_attention_layernorm"),
            before_feed_forward: Some("pre_feedforward_layernorm"),
            after_feed_forward: Some("post_feedforward_layernorm"),
            ..LLAMA_NAMES.layer
        },
        ..LLAMA_NAMES
    },
    ..LLAMA
};

/// modeling_gemma3.py, the text model
const GEMMA3: Family = Family {
    architecture: "Gemma3ForCausalLM",
    defaults: r#"{"vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "tie_word_embeddings": true, "query_pre_attn_scalar": 256,
        "sliding_window": 4096, "sliding_window_pattern": 6, "rope_theta": 1e6, "rope_local_base_freq": 1e4}"#,
    query_key_norm: Some(QueryKeyNorm::Head),
    ..GEMMA2
};

/// modeling_phi3.py
const PHI3: Family = Family {
    architecture: "Phi3ForCausalLM",
    names: Names {
        layer: LayerNames {
            query_key_value: Packing::Together("self_attn.qkv_proj"),
            up: Packing::Together("mlp.gate_up_proj"),
            ..LLAMA_NAMES.layer
        },
        ..LLAMA_NAMES
    },
    defaults: r#"{"original_max_position_embeddings": 4096}"#,
    ..MISTRAL
};

/// modeling_gpt2.py
const GPT2: Family = Family {
    architecture: "GPT2LMHeadModel",
    defaults: r#"{"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "tie_word_embeddings": true}"#,
    renamed: &[
        ("n_positions", "max_position_embeddings"),
        ("n_embd", "hidden_size"),
        ("n_layer", "num_hidden_layers"),
        ("n_head", "num_attention_heads"),
        ("n_inner", "intermediate_size"),
        ("activation_function", "hidden_act"),
        ("layer_norm_epsilon", "rms_norm_eps"),
    ],
    qkv_bias: Bias::Always,
    output_bias: Bias::Always,
    mlp_bias: Bias::Always,
    norm: NormKind::Layer,
    feed_forward: FeedForwardKind::Plain,
    names: Names {
        prefixes: &["transformer.", ""],
        embedding: "wte",
        positions: Some("wpe"),
        layers: "h",
        final_norm: "ln_f",
        heads: &["lm_head"],
        layer: LayerNames {
            before_attention: Some("ln_1"),
            after_attention: None,
            before_feed_forward: Some("ln_2"),
            after_feed_forward: None,
            query_key_value: Packing::Together("attn.c_attn"),
            output: "attn.c_proj",
            up: Packing::Apart(&["mlp.c_fc"]),
            down: "mlp.c_proj",
            transposed: true,
            ..LLAMA_NAMES.layer
        },
    },
    ..LLAMA
};

/// Sources: `transformers` modeling_*.py and configuration_*.py of each.
pub(crate) const FAMILIES: &[Family] = &[
    LLAMA,
    Family {
        architecture: "Qwen2ForCausalLM",
        defaults: r#"{"use_sliding_window": false, "max_window_layers": 28}"#,
        qkv_bias: Bias::Always,
        output_bias: Bias::Never,
        mlp_bias: Bias::Never,
        windows: Windows::FromMaxWindowLayers,
        ..LLAMA
    },
    QWEN3,
    MISTRAL,
    Family {
        architecture: "MinistralForCausalLM",
        windows: Windows::Named,
        ..MISTRAL
    },
    GEMMA2,
    GEMMA3,
    // The text half of the model that also sees; its images are refused as every text model's are.
    Family {
        architecture: "Gemma3ForConditionalGeneration",
        nested: Some("text_config"),
        names: Names {
            prefixes: &["language_model.model.", "model.language_model."],
            heads: &["language_model.lm_head", "lm_head"],
            ..GEMMA3.names
        },
        ..GEMMA3
    },
    PHI3,
    Family {
        architecture: "SmolLM3ForCausalLM",
        defaults: r#"{"num_key_value_heads": 4, "use_sliding_window": false, "no_rope_layer_interval": 4,
            "rope_theta": 2e6, "tie_word_embeddings": true}"#,
        windows: Windows::WithoutRope,
        ..LLAMA
    },
    Family {
        architecture: "MixtralForCausalLM",
        defaults: r#"{"num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2, "norm_topk_prob": true,
            "rope_theta": 1e6}"#,
        renamed: &[("num_local_experts", "num_experts")],
        feed_forward: FeedForwardKind::Experts,
        ..MISTRAL
    },
    Family {
        architecture: "Qwen3MoeForCausalLM",
        defaults: r#"{"use_sliding_window": false, "num_experts": 128, "num_experts_per_tok": 8,
            "norm_topk_prob": false, "moe_intermediate_size": 768}"#,
        renamed: &[("num_local_experts", "num_experts")],
        windows: Windows::Everywhere,
        feed_forward: FeedForwardKind::Experts,
        ..QWEN3
    },
    Family {
        architecture: "Olmo2ForCausalLM",
        mlp_bias: Bias::Never,
        query_key_norm: Some(QueryKeyNorm::All),
        names: Names {
            layer: LayerNames {
                before_attention: None,
                after_attention: Some("post_attention_layernorm"),
                before_feed_forward: None,
                after_feed_forward: Some("post_feedforward_layernorm"),
                ..LLAMA_NAMES.layer
            },
            ..LLAMA_NAMES
        },
        ..LLAMA
    },
    GPT2,
];
