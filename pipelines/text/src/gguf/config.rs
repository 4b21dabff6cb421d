//! A GGUF file's metadata as the config.json that the same model has in the Hugging Face layout, so that one parser reads both.

use chandler_nn::weights::TensorSource;
use chandler_nn::weights::gguf::{self, GgufFile, Metadata};
use serde_json::{Map, Value, json};

use super::architectures::{ARCHITECTURES, Architecture, CHANGING, FieldKind};
use crate::error::{Result, TextError};

/// The table's row for a file.
///
/// # Errors
/// Names the architecture, and those that are served.
pub(super) fn architecture(metadata: &Metadata) -> Result<&'static Architecture> {
    const KEY: &str = "general.architecture";
    let known = || {
        let names: Vec<&str> = ARCHITECTURES.iter().map(|row| row.name).collect();
        names.join(", ")
    };
    let name = metadata.text(KEY)?.ok_or_else(|| {
        metadata.refuse(
            KEY,
            "is missing: this is no model, but perhaps a part of one",
        )
    })?;
    Architecture::named(name).ok_or_else(|| {
        metadata
            .refuse(
                KEY,
                &format!("is {name}, which is not served; {} are", known()),
            )
            .into()
    })
}

/// config.json's contents.
///
/// # Errors
/// Names the key that is missing or of another type, and the tensor that is.
pub(super) fn config(file: &GgufFile, row: &Architecture) -> Result<Value> {
    let metadata = file.metadata();
    let mut config: Map<String, Value> = serde_json::from_str(row.fixed)
        .map_err(|error| TextError::config(row.name, error.to_string()))?;
    for field in row.fields.iter().copied().flatten() {
        let key = format!("{}.{}", row.name, field.key);
        let value = match field.kind {
            FieldKind::Whole => metadata.unsigned(&key)?.map(Value::from),
            FieldKind::Number => metadata.number(&key)?.map(Value::from),
        };
        match value {
            Some(value) => {
                config.insert(field.name.to_owned(), value);
            }
            None if field.required => {
                return Err(metadata
                    .refuse(&key, "is missing: convert the model again")
                    .into());
            }
            None => {}
        }
    }
    refuse_changes(metadata, row)?;
    let experts = metadata.unsigned(&format!("{}.expert_count", row.name))?;
    let class = match (experts, row.class_of_experts) {
        (Some(1..), Some(class)) => class,
        _ => row.class,
    };
    if matches!(experts, None | Some(0)) {
        config.remove("num_local_experts");
        config.remove("num_experts_per_tok");
    }
    config.insert("architectures".to_owned(), json!([class]));
    heads(file, row, &mut config)?;
    rope(file, row, &mut config)?;
    tensors(file, row, &mut config)?;
    config.insert("eos_token_id".to_owned(), json!(end_tokens(metadata)?));
    Ok(Value::Object(config))
}

/// That nothing changes the numbers without being read.
fn refuse_changes(metadata: &Metadata, row: &Architecture) -> Result<()> {
    for name in CHANGING {
        let read = row
            .fields
            .iter()
            .copied()
            .flatten()
            .any(|field| field.key == *name);
        let key = format!("{}.{name}", row.name);
        let value = metadata.get(&key).filter(|_| !read);
        let neutral = match value {
            None | Some(gguf::Value::Integer(0) | gguf::Value::Bool(false)) => true,
            Some(gguf::Value::Float(number)) => {
                *number == 0.0 || (*number == 1.0 && *name != "attention.scale")
            }
            // A softmax over the experts, which is what the served ones have.
            Some(gguf::Value::Integer(1)) => *name == "expert_gating_func",
            _ => false,
        };
        if !neutral {
            let reason = format!(
                "changes what the model computes, and is not served for {}",
                row.name
            );
            return Err(metadata.refuse(&key, &reason).into());
        }
    }
    Ok(())
}

/// The width of a head, how much of it is rotated, and Gemma's scale of queries.
fn heads(file: &GgufFile, row: &Architecture, config: &mut Map<String, Value>) -> Result<()> {
    let metadata = file.metadata();
    let key = |name: &str| format!("{}.{name}", row.name);
    if !row.head_dim {
        return Ok(());
    }
    let whole = |name: &str| metadata.unsigned(&key(name));
    let hidden = whole("embedding_length")?.unwrap_or(0);
    let heads = whole("attention.head_count")?.unwrap_or(0);
    let usual = hidden.checked_div(heads).unwrap_or(0);
    let rotated = whole("rope.dimension_count")?;
    let width = match whole("attention.key_length")? {
        Some(width) => width,
        // Files that say only what is rotated are older than models whose heads are wider than usual.
        None => rotated.map_or(usual, |rotated| rotated.max(usual)),
    };
    if let Some(value) = whole("attention.value_length")?
        && value != width
    {
        let other = key("attention.value_length");
        let reason =
            format!("is {value}, and keys are {width} wide; heads of one width are served");
        return Err(metadata.refuse(&other, &reason).into());
    }
    config.insert("head_dim".to_owned(), json!(width));
    if let Some(rotated) = rotated
        && width > 0
        && rotated != width
    {
        let part = rotated as f64 / width as f64;
        config.insert("partial_rotary_factor".to_owned(), json!(part));
    }
    // The largest Gemma of either generation scales by embedding over heads, and the file does not say so (llama.cpp's
    // src/llama-model.cpp tells it by the number of layers, too).
    let layers = whole("block_count")?;
    let largest = matches!(
        (row.name, layers),
        ("gemma2", Some(46)) | ("gemma3", Some(62))
    );
    if row.name.starts_with("gemma") {
        let scale = if largest { usual } else { width };
        config.insert("query_pre_attn_scalar".to_owned(), json!(scale));
    }
    Ok(())
}

/// Rotary embeddings: pairs, and how positions are stretched.
fn rope(file: &GgufFile, row: &Architecture, config: &mut Map<String, Value>) -> Result<()> {
    let metadata = file.metadata();
    let key = |name: &str| format!("{}.rope.scaling.{name}", row.name);
    if row.interleaved {
        config.insert("rope_interleave".to_owned(), json!(true));
    }
    let original = metadata.unsigned(&key("original_context_length"))?;
    let factor = metadata.number(&key("factor"))?;
    let attention_factor = metadata.number(&key("attn_factor"))?;
    let factors = |name: &str| -> Result<Option<Vec<f32>>> {
        let there = file.contains(name);
        Ok(there.then(|| file.tensor(name)?.to_f32()).transpose()?)
    };
    // Llama 3's stretching comes as what every frequency is divided by: the same as a longrope of one list.
    let (short, long) = match factors("rope_freqs.weight")? {
        Some(factors) => (Some(factors.clone()), Some(factors)),
        None => (
            factors("rope_factors_short.weight")?,
            factors("rope_factors_long.weight")?,
        ),
    };
    let context = config.get("max_position_embeddings").cloned();
    if let (Some(short), Some(long)) = (short, long) {
        let mut scaling = json!({"rope_type": "longrope"});
        // One list is for the whole context, whatever length the model was trained with at first.
        let (original, attention_factor) = match short == long {
            true => (None, Some(1.0)),
            false => (original, attention_factor),
        };
        scaling["short_factor"] = json!(short);
        scaling["long_factor"] = json!(long);
        scaling["original_max_position_embeddings"] = original.map_or(json!(context), Value::from);
        if let Some(attention_factor) = attention_factor {
            scaling["attention_factor"] = json!(attention_factor);
        }
        if let Some(original) = original {
            config.insert(
                "original_max_position_embeddings".to_owned(),
                json!(original),
            );
        }
        config.insert("rope_scaling".to_owned(), scaling);
        return Ok(());
    }
    let kind = metadata.text(&key("type"))?;
    let scaling = match (kind, factor) {
        (None | Some("none"), _) | (Some("linear"), None | Some(1.0)) => return Ok(()),
        (Some("linear"), Some(factor)) => json!({"rope_type": "linear", "factor": factor}),
        (Some("yarn"), Some(factor)) => {
            let mut scaling = json!({"rope_type": "yarn", "factor": factor});
            if let Some(original) = original {
                scaling["original_max_position_embeddings"] = json!(original);
            }
            for (name, field) in [
                ("yarn_beta_fast", "beta_fast"),
                ("yarn_beta_slow", "beta_slow"),
            ] {
                if let Some(value) = metadata.number(&key(name))? {
                    scaling[field] = json!(value);
                }
            }
            scaling
        }
        (Some(other), _) => {
            let reason = format!(
                "is {other}, and this file does not have what it needs; none, linear with a factor, yarn with a \
                                  factor, and lists of factors as tensors are read"
            );
            return Err(metadata.refuse(&key("type"), &reason).into());
        }
    };
    config.insert("rope_scaling".to_owned(), scaling);
    Ok(())
}

/// What only the tensors say: the vocabulary, whether there is a head, and biases.
fn tensors(file: &GgufFile, row: &Architecture, config: &mut Map<String, Value>) -> Result<()> {
    const TABLE: &str = "token_embd.weight";
    // The metadata counts the tokenizer's tokens, and the table may have more rows.
    let rows = match file.shape(TABLE) {
        Some([rows, _]) => *rows,
        _ => {
            return Err(file
                .tensor(TABLE)
                .map(|_| ())
                .map_or_else(TextError::from, |()| {
                    TextError::config(TABLE, "it is no matrix")
                }));
        }
    };
    config.insert("vocab_size".to_owned(), json!(rows));
    config.insert(
        "tie_word_embeddings".to_owned(),
        json!(!file.contains("output.weight")),
    );
    if row.name == "llama" {
        let bias = |name: &str| json!(file.contains(&format!("blk.0.{name}.bias")));
        config.insert("attention_bias".to_owned(), bias("attn_q"));
        config.insert("mlp_bias".to_owned(), bias("ffn_up"));
    }
    Ok(())
}

/// The tokens that end an answer: those that are named as such, and, as llama.cpp does (`llama_vocab::impl::load`, "auto-detect
/// EOG tokens"), the control tokens that end a turn in the families that are served. A GGUF has no generation_config.json.
fn end_tokens(metadata: &Metadata) -> Result<Vec<u64>> {
    const ENDS: [&str; 8] = [
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|eom_id|>",
        "<EOT>",
    ];
    const CONTROL: i64 = 3;
    let mut ends = Vec::new();
    for name in ["eos", "eot", "eom"] {
        ends.extend(metadata.unsigned(&format!("tokenizer.ggml.{name}_token_id"))?);
    }
    let tokens = metadata.texts("tokenizer.ggml.tokens")?.unwrap_or_default();
    let types = metadata
        .integers("tokenizer.ggml.token_type")?
        .unwrap_or_default();
    for (id, (token, kind)) in tokens.iter().zip(types).enumerate() {
        if *kind == CONTROL && ENDS.contains(&token.as_str()) {
            ends.push(id as u64);
        }
    }
    ends.sort_unstable();
    ends.dedup();
    Ok(ends)
}
