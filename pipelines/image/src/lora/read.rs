//! An adapter's file: its tensors put in pairs by module, every key accounted for and every shape checked. Apart from `key` and
//! `names`, which say what a key means.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use candle_core::{DType, Device};
use chandler_nn::error::NnError;
use chandler_nn::lora::{self, Adapter, AdapterConfig, Pair};
use chandler_nn::weights::{HostTensor, TensorSource, quoted};
use serde_json::{Map, Value};

use super::key::{Item, Key, Place};
use super::names::{Module, Names, Piece, Rows};

/// Keys that a message lists.
const LISTED: usize = 4;
/// What diffusers calls its settings of an adapter in the file's own texts.
const SETTINGS: &str = "lora_adapter_metadata";

/// A part of the pipeline, for whoever reads a file for it.
pub(super) struct Readable {
    pub(super) place: Place,
    /// The part's folder.
    pub(super) folder: String,
    pub(super) names: Names,
}

/// What a file has for one of its modules.
#[derive(Default)]
struct Found {
    down: Option<HostTensor>,
    up: Option<HostTensor>,
    alpha: Option<HostTensor>,
}

/// What is wrong with a file.
pub(super) type Reason = String;

/// Reads a file: for each of the parts, in their order, its pairs. `own` is what adapter_config.json says, which peft saves beside an
/// adapter of one part, the denoiser.
///
/// # Errors
/// Names the keys that belong to no module or to another kind of adapter, the module whose pair is not whole, the tensor whose shape
/// does not fit, the setting that is not supported.
pub(super) fn read(
    source: &dyn TensorSource,
    parts: &[Readable],
    own: Option<AdapterConfig>,
) -> Result<Vec<Adapter>, Reason> {
    let settings = match own {
        Some(own) => alone(own, parts),
        None => settings(source, parts)?,
    };
    let mut unfit = Unfit::default();
    let mut found: BTreeMap<(usize, String), Found> = BTreeMap::new();
    for name in source.names() {
        match place(&name, parts) {
            Err(reason) => unfit.add(&name, reason),
            Ok((part, key)) => {
                let found = found.entry((part, key.module)).or_default();
                let slot = match key.item {
                    Item::Down => &mut found.down,
                    Item::Up => &mut found.up,
                    Item::Alpha => &mut found.alpha,
                };
                match slot {
                    Some(_) => unfit.add(&name, "it is there under two names".to_owned()),
                    None => *slot = Some(source.tensor(&name).map_err(told)?),
                }
            }
        }
    }
    unfit.into_result()?;
    if found.is_empty() {
        return Err("it has no tensors".to_owned());
    }
    let mut pairs: Vec<HashMap<String, Pair>> = parts.iter().map(|_| HashMap::new()).collect();
    for ((number, name), found) in &found {
        let (Some(part), Some(pairs)) = (parts.get(*number), pairs.get_mut(*number)) else {
            continue;
        };
        for piece in part.names.find(name).unwrap_or_default() {
            let Some(module) = part.names.modules.get(piece.module) else {
                continue;
            };
            let settings = settings.get(*number).and_then(Option::as_ref);
            let pair = found.pair(module, piece, settings).map_err(|reason| {
                let folder = &part.folder;
                format!("{folder}.{}: {reason}", module.name)
            })?;
            if pairs.insert(module.name.clone(), pair).is_some() {
                return Err(format!(
                    "{}.{} is there twice, under names of different trainers",
                    part.folder, module.name
                ));
            }
        }
    }
    Ok(pairs.into_iter().map(Adapter::new).collect())
}

/// Whose a tensor is.
fn place(name: &str, parts: &[Readable]) -> Result<(usize, Key), Reason> {
    let key = Key::parse(name)?;
    let mut readable = parts.iter().enumerate();
    let Some((number, part)) = readable.find(|(_, part)| part.place == key.place) else {
        return Err(match key.place {
            Place::TextEncoder(number) => format!(
                "it is for text encoder {number}, which this model has not, or which is none of CLIP's"
            ),
            Place::Denoiser => "this model has no denoiser".to_owned(),
        });
    };
    match part.names.find(&key.module) {
        Some(_) => Ok((number, key)),
        None => Err(format!(
            "{} has no such module: an adapter of another model",
            part.folder
        )),
    }
}

/// The denoiser's settings.
fn alone(own: AdapterConfig, parts: &[Readable]) -> Vec<Option<AdapterConfig>> {
    let mut own = Some(own);
    let take = |part: &Readable| match part.place {
        Place::Denoiser => own.take(),
        Place::TextEncoder(_) => None,
    };
    parts.iter().map(take).collect()
}

/// What peft's configuration of each part says, where the file has it.
fn settings(
    source: &dyn TensorSource,
    parts: &[Readable],
) -> Result<Vec<Option<AdapterConfig>>, Reason> {
    let Some(text) = source.metadata(SETTINGS) else {
        return Ok(Vec::new());
    };
    let wrong = |reason: String| format!("{SETTINGS}: {reason}");
    let all: Map<String, Value> =
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let of_part = |part: &Readable| {
        let own = |name: &String| {
            Some(
                name.strip_prefix(&part.folder)?
                    .strip_prefix('.')?
                    .to_owned(),
            )
        };
        let fields: Map<String, Value> = all
            .iter()
            .filter_map(|(name, value)| Some((own(name)?, value.clone())))
            .collect();
        match fields.is_empty() {
            true => Ok(None),
            false => AdapterConfig::from_fields(fields).map(Some).map_err(wrong),
        }
    };
    parts.iter().map(of_part).collect()
}

impl Found {
    /// The pair of a module, of which the file may have more outputs.
    fn pair(
        &self,
        module: &Module,
        piece: &Piece,
        settings: Option<&AdapterConfig>,
    ) -> Result<Pair, Reason> {
        let (Some(down), Some(up)) = (&self.down, &self.up) else {
            return Err("of its pair there is only one, or only the alpha".to_owned());
        };
        let rank = down.shape().first().copied().unwrap_or(0);
        let wide = |mut shape: Vec<usize>, dimensions: usize| {
            shape.resize(dimensions, 1);
            shape
        };
        let dimensions = module.shape.inputs.len() + 1;
        let down_shape = [&[rank], module.shape.inputs.as_slice()].concat();
        let down = shaped(down, &down_shape, rank, module)?;
        let up_shape = wide(vec![piece.rows.of, rank], dimensions);
        let up = shaped(up, &up_shape, rank, module)?;
        let up = rows(&up, &piece.rows).map_err(told)?;
        let scale = self.scale(rank, module, settings)?;
        Ok(Pair::new(down, up, scale))
    }

    /// What the product is multiplied by.
    fn scale(
        &self,
        rank: usize,
        module: &Module,
        settings: Option<&AdapterConfig>,
    ) -> Result<f64, Reason> {
        match (&self.alpha, settings) {
            (Some(_), Some(_)) => Err(
                "there are both a tensor alpha and peft's settings, which say the same thing differently"
                    .to_owned(),
            ),
            (Some(alpha), None) => {
                let alpha = number(alpha)?;
                Ok(alpha / rank.max(1) as f64)
            }
            (None, Some(settings)) => {
                let module = lora::Module {
                    names: vec![module.name.clone()],
                    inputs: module.shape.inputs.iter().product(),
                    outputs: module.shape.outputs,
                    head: false,
                };
                let (wanted, scale) = settings.rank_and_scale(&module).map_err(told)?;
                match wanted == rank {
                    true => Ok(scale),
                    false => Err(format!(
                        "peft's settings give it rank {wanted}, and its tensors have {rank}"
                    )),
                }
            }
            (None, None) => Ok(1.0),
        }
    }
}

/// A tensor in this shape, which may be written without ones at the end, or with more of them: the same layer is linear in one
/// library and a convolution of one pixel in another.
fn shaped(
    tensor: &HostTensor,
    shape: &[usize],
    rank: usize,
    module: &Module,
) -> Result<HostTensor, Reason> {
    fn bare(shape: &[usize]) -> &[usize] {
        match shape {
            [rest @ .., 1] if rest.len() >= 2 => bare(rest),
            shape => shape,
        }
    }
    if rank == 0 || bare(tensor.shape()) != bare(shape) {
        return Err(format!(
            "tensor {} has shape {:?}; {shape:?} is wanted: rank {rank} beside a layer of {:?} to {}",
            quoted(tensor.name()),
            tensor.shape(),
            module.shape.inputs,
            module.shape.outputs
        ));
    }
    tensor.reshaped(shape.to_vec()).map_err(told)
}

/// Spans of a tensor's rows, one after the other.
fn rows(tensor: &HostTensor, rows: &Rows) -> Result<HostTensor, NnError> {
    if let [(start, len)] = rows.spans.as_slice() {
        return tensor.rows(*start, *len);
    }
    let mut bytes = Vec::with_capacity(tensor.bytes().len());
    let mut shape = tensor.shape().to_vec();
    if let Some(first) = shape.first_mut() {
        *first = rows.spans.iter().map(|(_, len)| len).sum();
    }
    for (start, len) in &rows.spans {
        bytes.extend_from_slice(tensor.rows(*start, *len)?.bytes());
    }
    let rows = HostTensor::from_bytes(tensor.name(), tensor.stored(), shape, bytes)?;
    Ok(rows.with_roster(tensor.roster().cloned()))
}

/// The only number of a tensor, which trainers write as a float or as a whole number.
fn number(tensor: &HostTensor) -> Result<f64, Reason> {
    let wrong = || {
        format!(
            "tensor {} of shape {:?} is not one finite number",
            quoted(tensor.name()),
            tensor.shape()
        )
    };
    if tensor.elements() != 1 || tensor.quantized().is_some() {
        return Err(wrong());
    }
    let tensor = tensor.to_tensor(&Device::Cpu, tensor.dtype());
    let wide = tensor
        .map_err(told)?
        .to_dtype(DType::F64)
        .and_then(|x| x.flatten_all()?.to_vec1::<f64>());
    let numbers = wide.map_err(|error| told(error.into()))?;
    let first = numbers.first().copied().filter(|number| number.is_finite());
    first.ok_or_else(wrong)
}

/// Keys that cannot be used, by why.
#[derive(Default)]
struct Unfit(BTreeMap<Reason, Vec<String>>);

impl Unfit {
    fn add(&mut self, name: &str, reason: Reason) {
        self.0.entry(reason).or_default().push(quoted(name));
    }

    /// All of them, the first few by name.
    fn into_result(self) -> Result<(), Reason> {
        let mut message = String::new();
        for (reason, keys) in self.0.iter().take(LISTED) {
            let more = keys.len().saturating_sub(LISTED);
            let shown = keys.iter().take(LISTED).cloned().collect::<Vec<_>>();
            let between = if message.is_empty() { "" } else { "; " };
            // Writing to a text cannot fail.
            let _ = write!(message, "{between}tensor {}", shown.join(", "));
            if more > 0 {
                let _ = write!(message, " and {more} more");
            }
            let _ = write!(message, ": {reason}");
        }
        match self.0.len() {
            0 => Ok(()),
            kinds if kinds > LISTED => Err(format!("{message}; and others")),
            _ => Err(message),
        }
    }
}

fn told(error: NnError) -> Reason {
    error.to_string()
}
