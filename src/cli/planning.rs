//! From settings to a plan: where the model's headers are read, and when a card's word is taken instead. Apart from the command,
//! because what provisions plans too.

use std::ops::Range;

use super::exit::{Exit, FAILED, USAGE};
use super::places;
use crate::catalog::Tested;
use crate::catalog::plan::{Asked, Dtype, Files, Measured, Plan, PlanError, from_card, measure};
use crate::config::{Resolution, Settings};
use crate::weights::store::{Ask, Peek, Store};
use crate::weights::{Location, WeightsError};

/// What somebody wants of a plan besides the worker's settings.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// Tokens of a request.
    pub context: Option<u64>,
    /// Requests at once, each with its whole context.
    pub concurrency: Option<u64>,
    /// Pixels.
    pub width: Option<u64>,
    /// Pixels.
    pub height: Option<u64>,
    /// Whether the card's word is enough.
    pub from_card: bool,
}

/// Plans the model that the settings name.
///
/// # Errors
/// What is missing, and what would do: nothing is guessed.
pub fn plan(resolution: &Resolution, wishes: &Wishes) -> Result<Plan, Exit> {
    let model = &resolution.settings.model.value;
    if let Some(card) = &resolution.card
        && card.tested == Tested::NotServedYet
    {
        let message = format!(
            "model `{model}`: it is not served yet ({}), and there is nothing to plan",
            card.task.tag()
        );
        return Err(Exit::new(FAILED, message));
    }
    let asked = asked(&resolution.settings, wishes)?;
    let measured = measured(resolution, wishes)?;
    let plan = Plan::new(model, &measured, &asked, resolution.catalog.hardware());
    plan.map_err(|error| Exit::new(USAGE, format!("model `{model}`: {error}")))
}

fn asked(settings: &Settings, wishes: &Wishes) -> Result<Asked, Exit> {
    let wrong = |error: PlanError| Exit::new(USAGE, error.to_string());
    let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let size = match (wishes.width, wishes.height) {
        (None, None) => None,
        (Some(width), Some(height)) => Some((width, height)),
        _ => return Err(Exit::new(USAGE, "width and height: give both, or neither")),
    };
    let quantize = settings.quantize.value.as_ref();
    let quantize = quantize.map(|scheme| scheme.as_str().parse()).transpose();
    Ok(Asked {
        gpu: settings.device.0 != "cpu",
        dtype: match *settings.dtype {
            crate::config::Dtype::Auto => Dtype::Auto,
            crate::config::Dtype::F32 => Dtype::F32,
            crate::config::Dtype::F16 => Dtype::F16,
            crate::config::Dtype::Bf16 => Dtype::Bf16,
        },
        quantize: quantize.map_err(wrong)?,
        context: wishes
            .context
            .or(settings.max_model_len.map(|tokens| number(tokens.get()))),
        rows: wishes
            .concurrency
            .unwrap_or(number(settings.max_rows.get())),
        whole: wishes.concurrency.is_some() || wishes.context.is_some(),
        cache: settings.kv_cache.as_ref().map(|size| size.0),
        prefill: number(settings.prefill_chunk.get()),
        size,
    })
}

/// Reads the model's headers; takes its card's word where that was asked for, or where nobody can be asked.
fn measured(resolution: &Resolution, wishes: &Wishes) -> Result<Measured, Exit> {
    let model = &resolution.settings.model.value;
    let card = resolution.card.as_ref();
    let failed = |error: String| Exit::new(FAILED, format!("model `{model}`: {error}"));
    let by_card = || card.map(from_card);
    if wishes.from_card {
        let measured = by_card().ok_or_else(|| {
            failed("it has no card; `chandler models` lists those that have one".to_owned())
        })?;
        return measured.map_err(|error| failed(error.to_string()));
    }
    let wanted = places::model(resolution)?;
    if let (Location::Mock(_), Some(measured)) = (&wanted.location, by_card()) {
        return measured.map_err(|error| failed(error.to_string()));
    }
    let store = Store::new(places::store_options(&resolution.settings));
    let error = match look(&store, &wanted) {
        Ok(measured) => return Ok(measured),
        Err(error) => error,
    };
    let away = of_weights(&error).is_some_and(|error| {
        let absent = matches!(
            error,
            WeightsError::Offline(_) | WeightsError::NoPipelines(_)
        );
        absent || error.is_of_the_network()
    });
    let denied = matches!(of_weights(&error), Some(WeightsError::Denied { .. }));
    match (by_card(), away, denied) {
        (Some(Ok(measured)), true, _) => {
            tracing::warn!(%error, "its files cannot be read, and the card's numbers are used");
            Ok(measured)
        }
        (Some(Ok(_)), false, true) => Err(failed(format!(
            "{error}; or plan with the numbers of its card: --from-card"
        ))),
        (Some(Err(card)), true, _) => Err(failed(format!("{error}; and {card}"))),
        (None, true, _) => Err(failed(format!(
            "{error}; without the network a plan takes a directory with the model's files, or a card with its numbers (--models-file)"
        ))),
        _ => Err(failed(error.to_string())),
    }
}

fn look(store: &Store, wanted: &crate::weights::Wanted) -> Result<Measured, PlanError> {
    let peek = store.peek(wanted, &Ask::default());
    let peek = peek.map_err(|error| PlanError::Unreadable(Box::new(error)))?;
    let basis = format!("the headers of its files in {}", peek.place);
    measure(&Looked(peek), basis)
}

/// What the store says, where it was the store.
fn of_weights(error: &PlanError) -> Option<&WeightsError> {
    match error {
        PlanError::Unreadable(error) => error.downcast_ref(),
        _ => None,
    }
}

/// The store's files, as the plan looks at them.
struct Looked(Peek);

impl Files for Looked {
    fn list(&self) -> Vec<(String, u64)> {
        self.0.files().to_vec()
    }

    fn read(
        &self,
        path: &str,
        range: Range<u64>,
    ) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.0.read(path, range)?)
    }
}
