//! adapter_config.json: which layers an adapter is for, its ranks and scales, and what of it is not supported.
//! Mirrors `peft` tuners/lora/config.py (LoraConfig) and layer.py (update_layer, for the scale).

use serde::Deserialize;
use serde_json::{Map, Value};

use super::targets::{Pattern, Targets, TargetsRaw};
use super::{Module, refuse};
use crate::error::{NnError, Result};
use crate::weights::Snapshot;

/// The file.
pub const CONFIG_FILE: &str = "adapter_config.json";

/// Fields that say where an adapter comes from or how it was trained, and nothing about how it answers.
const NO_MATTER: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "peft_version",
    "inference_mode",
    "runtime_config",
    "lora_dropout",
    // How the base weight is stored, which matters to who merges.
    "fan_in_fan_out",
    // Ties copies of embeddings that `modules_to_save` makes, which is refused.
    "ensure_weight_tying",
    "megatron_core",
    // How `init_lora_weights` did its work; those of its kinds that change the base weights are refused.
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    // Without `use_qalora` it means nothing.
    "qalora_group_size",
];

/// What fields mean that change the answer and are not supported.
const UNSUPPORTED: &[(&str, &str)] = &[
    (
        "modules_to_save",
        "whole layers in place of the model's are not supported; train without them, or merge the adapter into the model",
    ),
    (
        "use_dora",
        "DoRA's learned magnitudes are not supported; merge the adapter into the model",
    ),
    (
        "lora_bias",
        "a bias of lora_B is not supported; merge the adapter into the model",
    ),
    (
        "trainable_token_indices",
        "trained embedding rows are not supported; merge the adapter into the model",
    ),
    (
        "target_parameters",
        "adapted parameters that are no linear layers, as fused experts are, are not supported",
    ),
    (
        "layer_replication",
        "it makes another model of the base, with more layers",
    ),
    (
        "alora_invocation_tokens",
        "an adapter that begins at a token of the prompt is not supported",
    ),
];

/// Initialisations that leave the base model's weights as they are. The others (pissa, olora, corda, loftq, lora_ga) take
/// something out of them, so that such an adapter beside the unchanged weights would answer wrongly.
const HARMLESS_INITS: &[&str] = &["gaussian", "orthogonal", "eva"];

/// The settings of an adapter.
#[derive(Debug)]
pub struct AdapterConfig {
    targets: Targets,
    rank: usize,
    alpha: f64,
    ranks: Vec<(Pattern, usize)>,
    alphas: Vec<(Pattern, f64)>,
    root_scaled: bool,
}

#[derive(Deserialize)]
struct Raw {
    peft_type: Option<String>,
    task_type: Option<String>,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: Option<bool>,
    bias: Option<String>,
    #[serde(default)]
    init_lora_weights: Value,
    rank_pattern: Option<Map<String, Value>>,
    alpha_pattern: Option<Map<String, Value>>,
    #[serde(flatten)]
    targets: TargetsRaw,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl AdapterConfig {
    /// Reads an adapter's adapter_config.json.
    ///
    /// # Errors
    /// [`NnError::SnapshotFile`] naming the field that is missing, absurd or asks for something that is not supported.
    pub fn from_snapshot(snapshot: &Snapshot) -> Result<Self> {
        let bytes = snapshot.read(CONFIG_FILE)?.ok_or_else(|| {
            let reason = "there is no such file; the directory of an adapter saved by peft has one";
            refuse(snapshot, CONFIG_FILE, reason)
        })?;
        let raw: Raw = serde_json::from_slice(&bytes)
            .map_err(|error| refuse(snapshot, CONFIG_FILE, error.to_string()))?;
        raw.settle()
            .map_err(|reason| refuse(snapshot, CONFIG_FILE, reason))
    }

    /// From the same fields where they are written in another place: beside the weights, as diffusers has them.
    ///
    /// # Errors
    /// What is wrong, as for [`from_snapshot`](Self::from_snapshot).
    pub fn from_fields(fields: Map<String, Value>) -> Result<Self, String> {
        let raw: Raw =
            serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())?;
        raw.settle()
    }

    /// Whether the adapter is for this layer.
    ///
    /// # Errors
    /// [`NnError::Input`] when a pattern takes too long on a name.
    pub fn is_for(&self, module: &Module) -> Result<bool> {
        for name in &module.names {
            if self.targets.name(name, module.head).map_err(pattern)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The layer's rank, and what the pair's product is multiplied by.
    ///
    /// # Errors
    /// As for [`is_for`](Self::is_for).
    pub fn rank_and_scale(&self, module: &Module) -> Result<(usize, f64)> {
        let rank = first(&self.ranks, module)?.unwrap_or(self.rank);
        let alpha = first(&self.alphas, module)?.unwrap_or(self.alpha);
        let divisor = match self.root_scaled {
            true => (rank as f64).sqrt(),
            false => rank as f64,
        };
        Ok((rank, alpha / divisor))
    }
}

/// The value of the first pattern that a module's path, or its end, is matched by.
fn first<T: Copy>(patterns: &[(Pattern, T)], module: &Module) -> Result<Option<T>> {
    for (wanted, value) in patterns {
        for name in &module.names {
            if wanted.matches(name).map_err(pattern)? {
                return Ok(Some(*value));
            }
        }
    }
    Ok(None)
}

fn pattern(reason: String) -> NnError {
    NnError::Input {
        what: CONFIG_FILE,
        reason,
    }
}

impl Raw {
    fn settle(self) -> Result<AdapterConfig, String> {
        self.check()?;
        for (field, value) in &self.rest {
            refuse_field(field, value)?;
        }
        let ranks = patterns("rank_pattern", self.rank_pattern, |value| {
            let rank = value.as_u64().and_then(|rank| usize::try_from(rank).ok());
            rank.filter(|rank| *rank > 0)
        })?;
        let alphas = patterns("alpha_pattern", self.alpha_pattern, Value::as_f64)?;
        Ok(AdapterConfig {
            targets: Targets::new(self.targets)?,
            rank: self.r,
            alpha: self.lora_alpha,
            ranks,
            alphas,
            root_scaled: self.use_rslora.unwrap_or(false),
        })
    }

    fn check(&self) -> Result<(), String> {
        match self.peft_type.as_deref() {
            None | Some("LORA") => {}
            Some(other) => return Err(format!("peft_type: {other} is not served; LORA is")),
        }
        match self.task_type.as_deref() {
            None | Some("CAUSAL_LM") => {}
            Some(other) => return Err(format!("task_type: {other} is not served; CAUSAL_LM is")),
        }
        if self.r == 0 {
            return Err("r: it is 0 and must be 1 or more".to_owned());
        }
        if !self.lora_alpha.is_finite() {
            return Err(format!("lora_alpha: {} is no number", self.lora_alpha));
        }
        match self.bias.as_deref() {
            None | Some("none") => {}
            Some(other) => {
                return Err(format!(
                    "bias: {other:?} trains the model's own biases, which is not supported; \"none\" is, or merge the adapter into the model"
                ));
            }
        }
        match &self.init_lora_weights {
            Value::Null | Value::Bool(_) => Ok(()),
            Value::String(kind) if HARMLESS_INITS.contains(&kind.as_str()) => Ok(()),
            other => Err(format!(
                "init_lora_weights: {other} changes the base model's weights, which an adapter beside them cannot; convert it with \
                 peft (`save_pretrained(…, path_initial_model_for_weight_conversion=…)`)"
            )),
        }
    }
}

/// Refuses a field that is set, unless it does not matter.
fn refuse_field(field: &str, value: &Value) -> Result<(), String> {
    let unset = match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    };
    if unset || NO_MATTER.contains(&field) {
        return Ok(());
    }
    let known = UNSUPPORTED.iter().find(|(name, _)| *name == field);
    let why = known.map_or(
        "what it does to the answer is not known here, so that leaving it out could be wrong",
        |(_, why)| *why,
    );
    Err(format!("{field}: it is set to {value}: {why}"))
}

fn patterns<T>(
    field: &str,
    written: Option<Map<String, Value>>,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<(Pattern, T)>, String> {
    let entries = written.unwrap_or_default();
    let entries = entries.iter().map(|(key, value)| {
        let number = read(value)
            .ok_or_else(|| format!("{field}: {key}: {value} is not a number above 0"))?;
        let pattern = Pattern::ending(key).map_err(|error| format!("{field}: {error}"))?;
        Ok((pattern, number))
    });
    entries.collect()
}
