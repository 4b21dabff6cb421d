//! The language model as a step machine: plan, one pass over everybody's rows, then a token for each row that is ready.
//! What a request has said changes only after the pass has succeeded, so that a failed step loses nothing.

use std::sync::Arc;

use candle_core::DType;
use chandler_core::{
    Activity, Admission, ErrorKind, Event, Events, Footprint, Occupancy, Parked, Pipeline, Prepare,
    RequestError, RequestId, Step, StepError, Tally, Ticket,
};
use chandler_nn::attention::Span;
use chandler_nn::device;
use chandler_nn::error::NnError;
use chandler_nn::kv_cache::{BlockPool, BlockTable, CacheShape, KvCache};
use chandler_nn::parking::Parking;

use crate::batch::Batch;
use crate::decoder::{Decoder, Pass};
use crate::error::TextError;
use crate::failure::{self, Appetite, Size};
use crate::planning::StepPlan;
use crate::prepare::TextPreparer;
use crate::prepared::TextPrepared;
use crate::running::Item;
use crate::tokenizer::Tokenizer;

/// How much a pipeline does at once, and what it may spare itself. No answer depends on any of it.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Rows at once.
    pub max_rows: usize,
    /// Tokens of prompts per step.
    pub prefill_chunk: usize,
    /// Whether full cache blocks are kept for whoever comes with the same tokens.
    pub prefix_cache: bool,
    /// Tokens that each row is guessed ahead by what stood before in its own text; 0 guesses nothing.
    pub speculate: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            max_rows: 32,
            prefill_chunk: 256,
            prefix_cache: true,
            speculate: 0,
        }
    }
}

/// A loaded language model.
pub struct TextPipeline {
    pub(crate) decoder: Decoder,
    pub(crate) cache: KvCache,
    pub(crate) device: candle_core::Device,
    pub(crate) weight_bytes: u64,
    pub(crate) limits: BatchLimits,
    pub(crate) preparer: Arc<TextPreparer>,
    pub(crate) batch: Batch,
    pub(crate) passes: u64,
    pub(crate) appetite: Appetite,
    /// Sample requests that run together, time after time, before the first user's.
    pub(crate) warm_up: Vec<usize>,
    pub(crate) parking: Parking,
}

/// A pool and a batch over a fresh cache.
pub(crate) fn empty_batch(shape: CacheShape, limits: BatchLimits) -> Result<Batch, NnError> {
    let pool = BlockPool::new(shape.blocks, shape.block_size)?;
    Ok(Batch::new(pool, limits))
}

impl TextPipeline {
    /// Passes through the model since it was loaded.
    pub fn passes(&self) -> u64 {
        self.passes
    }

    pub(crate) fn tokenizer(&self) -> Arc<Tokenizer> {
        Arc::clone(&self.preparer.tokenizer)
    }

    /// Runs the planned tokens through the model. Returns the wanted logits, row after row.
    fn run(&mut self, plan: &StepPlan) -> Result<Vec<f32>, TextError> {
        let mut rows = Rows::default();
        let mut tables: Vec<&BlockTable> = Vec::with_capacity(plan.items.len());
        for item in &plan.items {
            let (Some(request), Some(table)) =
                (self.batch.request(item.id), self.batch.table(item))
            else {
                return Err(lost(item).into());
            };
            rows.add(item, request)?;
            tables.push(table);
        }
        let mut start = 0;
        let mut spans = Vec::with_capacity(tables.len());
        let adapters = rows.adapters.as_slice();
        for (item, table) in plan.items.iter().zip(&tables) {
            let end = start + item.positions.len();
            spans.push(Span {
                rows: start..end,
                context: item.positions.end,
                blocks: table.blocks(),
            });
            start = end;
        }
        self.cache.copy_blocks(&plan.copies)?;
        let pass = Pass {
            tokens: &rows.tokens,
            positions: &rows.positions,
            slots: &rows.slots,
            spans: &spans,
            adapters,
            wanted: &rows.wanted,
        };
        self.passes += 1;
        match self.decoder.forward(&pass, &mut self.cache)? {
            Some(logits) => Ok(logits
                .to_dtype(DType::F32)?
                .flatten_all()?
                .to_vec1::<f32>()?),
            None => Ok(Vec::new()),
        }
    }
}

/// The rows of a pass, as the model takes them.
#[derive(Default)]
struct Rows {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    slots: Vec<u32>,
    wanted: Vec<u32>,
    /// Of each item.
    adapters: Vec<Option<u32>>,
}

impl Rows {
    fn add(&mut self, item: &Item, request: &TextPrepared) -> Result<(), NnError> {
        let start = self.tokens.len();
        self.tokens
            .extend(request.tokens(item.row, item.positions.clone()));
        self.tokens.extend(&item.proposed);
        if self.tokens.len() != start + item.positions.len() {
            return Err(lost(item));
        }
        let positions = item.positions.clone();
        self.positions.extend(positions.map(|p| p as u32));
        self.adapters.push(request.plan.adapter);
        self.slots.extend(&item.slots);
        self.wanted
            .extend(item.wanted.clone().map(|row| (start + row) as u32));
        Ok(())
    }
}

pub(crate) fn lost(item: &Item) -> NnError {
    NnError::Device(format!(
        "request {} was lost between planning and the pass",
        item.id
    ))
}

impl Pipeline for TextPipeline {
    type Prepared = TextPrepared;

    fn preparer(&self) -> Arc<dyn Prepare<Prepared = TextPrepared>> {
        Arc::clone(&self.preparer) as _
    }

    fn admit(&mut self, ticket: Ticket, request: TextPrepared) -> Admission<TextPrepared> {
        let rows = request.rows.len();
        if rows > self.limits.max_rows {
            let message = format!(
                "the request has {rows} rows; this worker runs at most {} at once",
                self.limits.max_rows
            );
            return Admission::Refused(RequestError::field("n", message));
        }
        if !self.batch.has_room(&request) {
            return Admission::Full(request);
        }
        self.batch.join(ticket, request);
        Admission::Taken
    }

    fn step(&mut self, events: &mut Events) -> Result<Step, StepError> {
        let occupied = self.batch.occupancy();
        if occupied.requests == 0 {
            return Ok(Step::IDLE);
        }
        self.parking.check_awake()?;
        let rows = occupied.rows;
        let plan = self.batch.plan();
        for id in &plan.misfits {
            self.batch.take(*id);
            let message = "the key-value cache is too small for this request even alone";
            events.push(
                *id,
                Event::Failed(RequestError::new(ErrorKind::OutOfMemory, message)),
            );
        }
        let work: usize = plan.items.iter().map(|item| item.positions.len()).sum();
        if work == 0 {
            let activity = if plan.misfits.is_empty() {
                Activity::Waiting
            } else {
                Activity::Worked
            };
            return Ok(Step {
                activity,
                rows: 0,
                work,
            });
        }
        let size = Size {
            tokens: work,
            wanted: plan.items.iter().map(|item| item.wanted.len()).sum(),
        };
        let done = self
            .run(&plan)
            .and_then(|logits| self.commit(plan, &logits, events));
        done.map_err(|error| failure::of_pass(&error, size, self.appetite, &self.device))?;
        Ok(Step {
            activity: Activity::Worked,
            rows,
            work,
        })
    }

    fn cancel(&mut self, id: RequestId) {
        self.batch.take(id);
    }

    fn suspend(&mut self, id: RequestId) -> Option<TextPrepared> {
        self.batch.take(id)
    }

    fn warm_up_batches(&self) -> Vec<usize> {
        self.warm_up.clone()
    }

    fn reset(&mut self) -> Result<(), StepError> {
        device::failure::recover(&self.device)?;
        // The cache itself stays: what its slots hold is never read before it is written again, and a second cache beside
        // the first would be asked for when memory is shortest.
        // What is known of its contents goes: the failed step may have written half of it.
        self.forget_cached()
    }

    fn parking_space(&self) -> Option<u64> {
        self.parking.space()
    }

    fn park(&mut self) -> Result<Parked, StepError> {
        self.leave_device()
    }

    fn wake(&mut self) -> Result<(), StepError> {
        self.return_to_device()
    }

    fn step_bound(&self) -> usize {
        self.batch.bound()
    }

    fn occupancy(&self) -> Occupancy {
        self.batch.occupancy()
    }

    fn tally(&self) -> Tally {
        self.batch.tally()
    }

    fn footprint(&self) -> Footprint {
        let held = self.weight_bytes + self.cache.bytes() as u64;
        self.parking
            .footprint(device::footprint(&self.device, held))
    }
}
