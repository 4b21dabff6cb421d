//! The language model as a step machine: plan, one pass over everybody's rows, then a token for each row that is ready.
//! What a request has said changes only after the pass has succeeded, so that a failed step loses nothing.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use chandler_core::{
    Activity, Admission, ErrorKind, Event, Events, Footprint, Occupancy, Parked, Pipeline, Prepare,
    RequestError, RequestId, Step, StepError, Tally, Ticket,
};
use chandler_nn::attention::Span;
use chandler_nn::device;
use chandler_nn::error::NnError;
use chandler_nn::kv_cache::{BlockPool, BlockTable, CacheShape, KvCache};
use chandler_nn::parking::Parking;
use chandler_nn::sampling::{Draw, Drawn, draw};

use crate::batch::Batch;
use crate::decoder::{Decoder, Pass, Recordings, Tokens};
use crate::deliver::Next;
use crate::error::TextError;
use crate::failure::{self, Appetite, Size};
use crate::launched::{Drawing, Launched};
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
    /// Where tokens are chosen; by the device and its tuning when not given. With guesses it is on the host.
    pub drawing: Option<Drawing>,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            max_rows: 32,
            prefill_chunk: 256,
            prefix_cache: true,
            speculate: 0,
            drawing: None,
        }
    }
}

/// A loaded language model.
pub struct TextPipeline {
    pub(crate) decoder: Decoder,
    pub(crate) cache: KvCache,
    /// Passes of the decoder over the cache.
    pub(crate) recordings: Recordings,
    pub(crate) device: candle_core::Device,
    pub(crate) weight_bytes: u64,
    pub(crate) limits: BatchLimits,
    pub(crate) preparer: Arc<TextPreparer>,
    pub(crate) batch: Batch,
    pub(crate) drawing: Drawing,
    /// The pass that is under way, if one is.
    pub(crate) launched: Option<Launched>,
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

    /// Runs the planned tokens through the model, those of a plan ahead as `before` has drawn them. Returns the wanted logits.
    fn run(
        &mut self,
        plan: &StepPlan,
        before: Option<&Tensor>,
    ) -> Result<Option<Tensor>, TextError> {
        let mut rows = Rows::default();
        let mut tables: Vec<&BlockTable> = Vec::with_capacity(plan.items.len());
        for item in &plan.items {
            let (Some(request), Some(table)) =
                (self.batch.request(item.id), self.batch.table(item))
            else {
                return Err(lost(item).into());
            };
            rows.add(item, request, before.is_some())?;
            tables.push(table);
        }
        let mut start = 0;
        let mut spans = Vec::with_capacity(tables.len());
        for (item, table) in plan.items.iter().zip(&tables) {
            let end = start + item.positions.len();
            spans.push(Span {
                rows: start..end,
                context: item.positions.end,
                blocks: table.blocks(),
            });
            start = end;
        }
        let there = before
            .map(|tokens| chosen(tokens, &plan.from))
            .transpose()?;
        self.cache.copy_blocks(&plan.copies)?;
        let pass = Pass {
            tokens: match &there {
                Some(there) => Tokens::There(there),
                None => Tokens::Known(&rows.tokens),
            },
            positions: &rows.positions,
            slots: &rows.slots,
            spans: &spans,
            adapters: rows.adapters.as_slice(),
            wanted: &rows.wanted,
        };
        self.passes += 1;
        self.recordings
            .forward(&self.decoder, &pass, &mut self.cache)
    }

    /// The pass after the one that is under way, launched before that one's tokens are read, where it can be; then they are read.
    fn go_on(&mut self, launched: Launched, events: &mut Events) -> Result<usize, StepError> {
        let ahead = self.batch.plan_ahead(&launched);
        let work = ahead.as_ref().map_or(0, |plan| plan.items.len());
        if let Some(plan) = ahead {
            let size = Size::of(&plan);
            let next = self.launch(plan, launched.drawn.tokens());
            self.launched = Some(next.map_err(|error| self.failure(&error, size))?);
        }
        let (items, drawn) = launched.into_parts();
        let size = Size {
            tokens: items.len(),
            wanted: items.len(),
        };
        let done = drawn.read().map_err(TextError::from).and_then(|tokens| {
            let next: Vec<Next<'_>> = tokens.into_iter().map(Next::Token).collect();
            self.commit(items, &next, events)
        });
        done.map_err(|error| self.failure(&error, size))?;
        Ok(work)
    }

    fn launch(&mut self, plan: StepPlan, before: &Tensor) -> Result<Launched, TextError> {
        let logits = self.run(&plan, Some(before))?;
        let draws: Option<Vec<Draw<'_>>> = self.batch.draws(&plan).into_iter().collect();
        let (Some(logits), Some(draws)) = (logits, draws) else {
            return Err(NnError::Device("a pass ahead has nothing to draw".to_owned()).into());
        };
        let drawn = draw(&logits, &draws, Some(before))?;
        Ok(Launched::new(plan.items, drawn))
    }

    /// A pass all of whose tokens are known: what it brings is handed out, or is under way where the next pass can follow it so.
    fn begin_pass(&mut self, plan: StepPlan, events: &mut Events) -> Result<(), TextError> {
        let logits = self.run(&plan, None)?;
        let Some(logits) = logits else {
            return self.commit(all(plan.items), &[], events);
        };
        let draws = match self.drawing {
            Drawing::OnHost => Vec::new(),
            Drawing::OnDevice | Drawing::Ahead => self.batch.draws(&plan),
        };
        let drawable: Vec<Draw<'_>> = draws.iter().copied().flatten().collect();
        let is_drawn: Vec<bool> = (0..logits.dim(0)?)
            .map(|row| matches!(draws.get(row), Some(Some(_))))
            .collect();
        let rest = undrawn(&logits, &is_drawn)?;
        let drawn = match drawable.is_empty() {
            true => None,
            false => Some(draw(&logits, &drawable, None)?),
        };
        match drawn {
            Some(drawn) if rest.is_none() && self.drawing == Drawing::Ahead && plan.is_steady() => {
                self.launched = Some(Launched::new(plan.items, drawn));
                Ok(())
            }
            drawn => {
                let rest: Vec<f32> = match rest {
                    Some(rest) => rest.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?,
                    None => Vec::new(),
                };
                let mut rest = rest.chunks_exact(self.preparer.info.vocab_size);
                let drawn = drawn.map(Drawn::read).transpose()?.unwrap_or_default();
                let mut drawn = drawn.into_iter();
                let next = is_drawn.into_iter().filter_map(|is_drawn| match is_drawn {
                    true => drawn.next().map(Next::Token),
                    false => rest.next().map(Next::Logits),
                });
                let next: Vec<Next<'_>> = next.collect();
                self.commit(all(plan.items), &next, events)
            }
        }
    }

    fn failure(&self, error: &TextError, size: Size) -> StepError {
        failure::of_pass(error, size, self.appetite, &self.device)
    }

    /// The request leaves, wherever it is.
    fn release(&mut self, id: RequestId) -> Option<TextPrepared> {
        if let Some(launched) = &mut self.launched {
            launched.forget(id);
        }
        self.batch.take(id)
    }
}

fn all(items: Vec<Item>) -> Vec<Option<Item>> {
    items.into_iter().map(Some).collect()
}

/// The rows of logits that nothing was drawn from; none where there is none.
fn undrawn(logits: &Tensor, is_drawn: &[bool]) -> Result<Option<Tensor>, TextError> {
    let rest = (0u32..).zip(is_drawn).filter(|(_, is_drawn)| !**is_drawn);
    let rest: Vec<u32> = rest.map(|(row, _)| row).collect();
    if rest.is_empty() {
        return Ok(None);
    }
    if rest.len() == is_drawn.len() {
        return Ok(Some(logits.clone()));
    }
    let rest = Tensor::new(rest, logits.device())?;
    Ok(Some(logits.index_select(&rest, 0)?))
}

/// Some of the tokens, in this order.
fn chosen(tokens: &Tensor, from: &[usize]) -> Result<Tensor, TextError> {
    if from.iter().copied().eq(0..tokens.elem_count()) {
        return Ok(tokens.clone());
    }
    let from: Vec<u32> = from.iter().map(|from| *from as u32).collect();
    let from = Tensor::new(from, tokens.device())?;
    Ok(tokens.index_select(&from, 0)?)
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
    /// `drawn`: its tokens are on the device.
    fn add(&mut self, item: &Item, request: &TextPrepared, drawn: bool) -> Result<(), NnError> {
        let start = self.positions.len();
        if !drawn {
            self.tokens
                .extend(request.tokens(item.row, item.positions.clone()));
            self.tokens.extend(&item.proposed);
            if self.tokens.len() != start + item.positions.len() {
                return Err(lost(item));
            }
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
            // What the last ones left under way is nobody's.
            self.launched = None;
            return Ok(Step::IDLE);
        }
        self.parking.check_awake()?;
        let rows = occupied.rows;
        if let Some(launched) = self.launched.take() {
            let work = self.go_on(launched, events)?;
            return Ok(Step {
                activity: Activity::Worked,
                rows,
                work,
            });
        }
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
        let size = Size::of(&plan);
        let done = self.begin_pass(plan, events);
        done.map_err(|error| self.failure(&error, size))?;
        Ok(Step {
            activity: Activity::Worked,
            rows,
            work,
        })
    }

    fn cancel(&mut self, id: RequestId) {
        self.release(id);
    }

    fn suspend(&mut self, id: RequestId) -> Option<TextPrepared> {
        self.release(id)
    }

    fn warm_up_batches(&self) -> Vec<usize> {
        self.warm_up.clone()
    }

    fn reset(&mut self) -> Result<(), StepError> {
        self.launched = None;
        // They take memory, of which there may be none.
        self.recordings.clear();
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
