//! config.json: spellings, families' rules, and what is refused.

use chandler_nn::rope::RopeScaling;
use serde_json::{Value, json};

use super::{DecoderConfig, FeedForwardConfig, raw};
use crate::error::{Result, TextError};

fn config(change: impl FnOnce(&mut Value)) -> Result<DecoderConfig> {
    let mut value = json!({
        "architectures": ["LlamaForCausalLM"], "vocab_size": 10, "hidden_size": 12, "intermediate_size": 20,
        "num_hidden_layers": 1, "num_attention_heads": 3, "rms_norm_eps": 1e-5, "max_position_embeddings": 64,
    });
    change(&mut value);
    let Value::Object(written) = value else {
        return Err(TextError::config("config.json", "no object"));
    };
    raw::read(written)
}

fn complaint(change: impl FnOnce(&mut Value)) -> String {
    config(change).unwrap_err().to_string()
}

#[test]
fn old_and_new_spellings_of_rope_agree() {
    let old = config(|c| {
        c["rope_theta"] = json!(20000.0);
        c["rope_scaling"] = json!({"type": "linear", "factor": 2.0});
    });
    let new = config(|c| {
        c["rope_parameters"] = json!({"rope_type": "linear", "factor": 2.0, "rope_theta": 20000.0});
    });
    assert_eq!(
        format!("{:?}", old.unwrap().ropes),
        format!("{:?}", new.unwrap().ropes)
    );
}

#[test]
fn a_rope_with_both_names_of_its_type_is_read() {
    let both = config(|c| {
        c["rope_scaling"] = json!({"type": "linear", "rope_type": "linear", "factor": 2.0})
    });
    assert!(matches!(
        both.unwrap().ropes[0].scaling,
        RopeScaling::Linear { .. }
    ));
}

#[test]
fn what_is_not_supported_is_named() {
    let text = complaint(|c| c["architectures"] = json!(["MambaForCausalLM"]));
    assert!(
        text.contains("MambaForCausalLM") && text.contains("Qwen2ForCausalLM"),
        "{text}"
    );
    let text = complaint(|c| c["rope_scaling"] = json!({"rope_type": "longrope"}));
    assert!(text.contains("longrope"), "{text}");
    let text = complaint(|c| c["quantization_config"] = json!({"quant_method": "awq"}));
    assert!(text.contains("awq"), "{text}");
    let text = complaint(|c| c["layer_types"] = json!(["sliding_attention"]));
    assert!(text.contains("sliding_attention"), "{text}");
    let text = complaint(|c| c["hidden_act"] = json!("mystery"));
    assert!(
        text.contains("hidden_act") && text.contains("mystery"),
        "{text}"
    );
}

#[test]
fn absurd_sizes_are_named_and_nothing_is_allocated() {
    for name in [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
    ] {
        for size in [json!(0), json!(1u64 << 50)] {
            let text = complaint(|c| c[name] = size.clone());
            assert!(
                text.contains(name) || text.contains("head_dim"),
                "{name}: {text}"
            );
        }
        assert!(config(|c| c[name] = json!(-1)).is_err());
    }
    let text = complaint(|c| c["num_key_value_heads"] = json!(2));
    assert!(text.contains("num_key_value_heads"), "{text}");
}

/// The windows of the layers of a family of which `change` is all that is known.
fn windows(architecture: &str, layers: usize, change: Value) -> Result<Vec<Option<usize>>> {
    let config = config(|c| {
        c["architectures"] = json!([architecture]);
        c["num_hidden_layers"] = json!(layers);
        c["num_key_value_heads"] = json!(3);
        for (name, value) in change.as_object().unwrap() {
            c[name] = value.clone();
        }
    })?;
    let windows = config.layers.iter().map(|layer| layer.attention.window);
    Ok(windows.collect())
}

#[test]
fn layers_see_the_windows_that_transformers_gives_them() {
    let (all, some) = (None, Some(9));
    let nine = |more: Value| {
        let mut change = json!({"sliding_window": 9});
        for (name, value) in more.as_object().unwrap() {
            change[name] = value.clone();
        }
        change
    };
    let of = |architecture, change| windows(architecture, 4, change).unwrap();
    assert_eq!(of("MistralForCausalLM", nine(json!({}))), [some; 4]);
    assert_eq!(
        of("MistralForCausalLM", json!({"sliding_window": null})),
        [all; 4]
    );
    assert_eq!(of("MistralForCausalLM", json!({})), [Some(4096); 4]);
    assert_eq!(of("LlamaForCausalLM", nine(json!({}))), [all; 4]);
    assert_eq!(
        of("Qwen2ForCausalLM", nine(json!({"max_window_layers": 0}))),
        [all; 4]
    );
    let on = nine(json!({"use_sliding_window": true, "max_window_layers": 3}));
    assert_eq!(of("Qwen3ForCausalLM", on.clone()), [all, all, all, some]);
    assert_eq!(of("Qwen2ForCausalLM", on), [all, all, all, some]);
    assert_eq!(
        of("Gemma2ForCausalLM", nine(json!({}))),
        [some, all, some, all]
    );
    let named = json!({"layer_types": ["full_attention", "sliding_attention", "full_attention", "full_attention"]});
    assert_eq!(
        of("Gemma2ForCausalLM", nine(named.clone())),
        [all, some, all, all]
    );
    assert_eq!(
        of("MinistralForCausalLM", nine(named)),
        [all, some, all, all]
    );
    let third = nine(json!({"sliding_window_pattern": 3}));
    assert_eq!(of("Gemma3ForCausalLM", third), [some, some, all, some]);
    let smol = nine(json!({"use_sliding_window": true}));
    assert_eq!(of("SmolLM3ForCausalLM", smol), [all, all, all, some]);
    assert_eq!(of("SmolLM3ForCausalLM", nine(json!({}))), [all; 4]);
}

#[test]
fn layer_types_that_cannot_be_followed_are_named() {
    let complaint =
        |architecture, change| windows(architecture, 2, change).unwrap_err().to_string();
    let mixed =
        json!({"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 9});
    for architecture in ["MistralForCausalLM", "LlamaForCausalLM"] {
        let text = complaint(architecture, mixed.clone());
        assert!(
            text.contains("layer_types") && text.contains(architecture),
            "{text}"
        );
    }
    let text = complaint("Qwen3ForCausalLM", mixed);
    assert!(text.contains("sliding_window"), "{text}");
    let text = complaint(
        "Gemma2ForCausalLM",
        json!({"layer_types": ["full_attention"]}),
    );
    assert!(
        text.contains("layer_types: 1 entries for 2 layers"),
        "{text}"
    );
    let text = complaint(
        "Gemma2ForCausalLM",
        json!({"layer_types": ["chunked_attention", "full_attention"]}),
    );
    assert!(text.contains("chunked_attention"), "{text}");
    let text = complaint(
        "Gemma3ForCausalLM",
        json!({"use_bidirectional_attention": true}),
    );
    assert!(text.contains("use_bidirectional_attention"), "{text}");
}

#[test]
fn a_nested_config_with_gaps_is_filled_as_transformers_does() {
    // google/gemma-3-4b-it says no more than this about its text model.
    let written = json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "eos_token_id": [1, 106], "vision_config": {},
        "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}},
    });
    let config = raw::read(written.as_object().unwrap().clone()).unwrap();
    assert_eq!(
        (config.heads, config.kv_heads, config.head_dim),
        (8, 4, 256)
    );
    assert_eq!((config.vocab_size, config.max_position), (262_208, 131_072));
    assert!(config.tied && config.eos == [1, 106] && config.embedding_scale.is_some());
    let ropes: Vec<_> = config.ropes.iter().map(|r| (r.theta, &r.scaling)).collect();
    let linear = RopeScaling::Linear { factor: 8.0 };
    assert_eq!(ropes, [(1e4, &RopeScaling::None), (1e6, &linear)]);
    let of = |layer: usize| {
        (
            config.layers[layer].attention.window,
            config.layers[layer].rope,
        )
    };
    assert_eq!(of(4), (Some(1024), Some(0)));
    assert_eq!(of(5), (None, Some(1)));
    assert_eq!(config.layers[0].attention.scale, 1.0 / 16.0);
}

#[test]
fn experts_are_where_the_config_puts_them() {
    let config = config(|c| {
        c["architectures"] = json!(["Qwen3MoeForCausalLM"]);
        c["num_hidden_layers"] = json!(6);
        c["decoder_sparse_step"] = json!(2);
        c["mlp_only_layers"] = json!([3]);
    })
    .unwrap();
    let sparse = config.layers.iter().map(|layer| match layer.feed_forward {
        FeedForwardConfig::Experts(experts) => experts.count == 128 && experts.per_token == 8,
        _ => false,
    });
    assert!(sparse.eq([false, true, false, false, false, true]));
    let text = complaint(|c| {
        c["architectures"] = json!(["MixtralForCausalLM"]);
        c["num_key_value_heads"] = json!(3);
        c["num_experts_per_tok"] = json!(9);
    });
    assert!(text.contains("num_experts_per_tok"), "{text}");
}

#[test]
fn a_longrope_model_serves_its_trained_length_until_more_is_asked_for() {
    let model = || {
        config(|c| {
            c["architectures"] = json!(["Phi3ForCausalLM"]);
            c["max_position_embeddings"] = json!(128);
            c["original_max_position_embeddings"] = json!(64);
            c["rope_scaling"] =
                json!({"type": "su", "short_factor": [1.0, 1.5], "long_factor": [2.0, 4.0]});
        })
        .unwrap()
    };
    let first = |config: DecoderConfig| match &config.ropes[0].scaling {
        RopeScaling::LongRope {
            factors, factor, ..
        } => (factors[0], *factor, config.max_position),
        other => panic!("{other:?}"),
    };
    assert_eq!(first(model()), (1.0, 2.0, 64));
    assert_eq!(
        first(model().for_context(Some(50)).unwrap()),
        (1.0, 2.0, 50)
    );
    assert_eq!(
        first(model().for_context(Some(65)).unwrap()),
        (2.0, 2.0, 65)
    );
    let text = model().for_context(Some(129)).unwrap_err().to_string();
    assert!(
        text.contains("max_model_len") && text.contains("128"),
        "{text}"
    );
    let text = complaint(|c| {
        c["architectures"] = json!(["Phi3ForCausalLM"]);
        c["rope_scaling"] = json!({"type": "su", "short_factor": [1.0], "long_factor": [2.0, 4.0]});
    });
    assert!(
        text.contains("short_factor: 1 factors for 2 pairs"),
        "{text}"
    );
}

#[test]
fn an_error_names_a_field_as_its_family_does() {
    let gpt2 = |name: &str, value: Value| {
        let written = json!({"architectures": ["GPT2LMHeadModel"], name: value});
        raw::read(written.as_object().unwrap().clone())
    };
    let config = gpt2("n_inner", Value::Null).unwrap();
    assert_eq!(
        config.layers[0].feed_forward,
        FeedForwardConfig::Plain { width: 4 * 768 }
    );
    assert_eq!(
        (config.learned_positions, config.ropes.len()),
        (Some(1024), 0)
    );
    for (name, value) in [
        ("n_embd", json!(0)),
        ("n_layer", json!(1u64 << 40)),
        ("layer_norm_epsilon", json!(2.0)),
    ] {
        let text = gpt2(name, value).unwrap_err().to_string();
        assert!(text.starts_with(&format!("config.json: {name}")), "{text}");
    }
}
