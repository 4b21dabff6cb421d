//! The language model as a step machine: plan, one pass over everybody's rows, then a token for each row that is ready.
//! What a request has said changes only after the pass has succeeded, so that a failed step loses nothing.

use std::sync::Arc;

use candle_core::DType;
use chandler_core::{
    Activity, Admission, ErrorKind, Event, Events, Footprint, Occupancy, Pipeline, Prepare,
    RequestError, RequestId, Step, StepError, Ticket, Token, Usage,
};
use chandler_nn::attention::Span;
use chandler_nn::error::NnError;
use chandler_nn::kv_cache::{BlockPool, BlockTable, CacheShape, KvCache};

use crate::batch::{Batch, Item, Part, StepPlan};
use crate::decoder::{Decoder, Pass};
use crate::error::TextError;
use crate::prepare::{TextPrepared, TextPreparer};
use crate::row::{Row, scored};
use crate::tokenizer::Tokenizer;

/// How much a pipeline does at once.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Rows at once.
    pub max_rows: usize,
    /// Tokens of prompts per step.
    pub prefill_chunk: usize,
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
}

/// A pool and a batch over a fresh cache.
pub(crate) fn empty_batch(shape: CacheShape, limits: BatchLimits) -> Result<Batch, NnError> {
    let pool = BlockPool::new(shape.blocks, shape.block_size)?;
    Ok(Batch::new(pool, limits.max_rows, limits.prefill_chunk))
}

impl TextPipeline {
    /// Passes through the model since it was loaded.
    pub fn passes(&self) -> u64 {
        self.passes
    }

    fn tokenizer(&self) -> Arc<Tokenizer> {
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

    /// Hands out what the pass has brought.
    fn commit(
        &mut self,
        plan: StepPlan,
        logits: &[f32],
        events: &mut Events,
    ) -> Result<(), TextError> {
        let vocab = self.preparer.info.vocab_size;
        let mut logits = logits.chunks_exact(vocab);
        for item in plan.items {
            let mine: Vec<&[f32]> = logits.by_ref().take(item.wanted.len()).collect();
            if mine.len() != item.wanted.len() {
                return Err(lost(&item).into());
            }
            if self.batch.request(item.id).is_none() {
                // An earlier item of this step ended the request.
                continue;
            }
            self.begin(item.id, events);
            let outcome = match item.part {
                Part::Prompt { last } => self.read_prompt(&item, last, &mine, events),
                Part::Answer { last: true } => {
                    self.answer(item.id, item.row..item.row + 1, &mine, events)
                }
                Part::Answer { last: false } => Ok(()),
            };
            if let Err(error) = outcome {
                self.batch.take(item.id);
                events.push(item.id, Event::Failed(error));
            }
        }
        Ok(())
    }

    fn begin(&mut self, id: RequestId, events: &mut Events) {
        if let Some(running) = self.batch.get_mut(id)
            && !running.request.started
        {
            running.request.started = true;
            events.push(
                id,
                Event::Started {
                    prompt_tokens: running.request.plan.prompt.len() as u32,
                    cached_tokens: 0,
                },
            );
        }
    }

    /// Some of the prompt has gone through; after its last token every row forks off and those that are new begin.
    fn read_prompt(
        &mut self,
        item: &Item,
        last: bool,
        logits: &[&[f32]],
        events: &mut Events,
    ) -> Result<(), RequestError> {
        let tokenizer = self.tokenizer();
        let Some(running) = self.batch.get_mut(item.id) else {
            return Ok(());
        };
        let plan = Arc::clone(&running.request.plan);
        if plan.scores_prompt() {
            let positions = item.positions.clone();
            for (position, raw) in positions.zip(logits) {
                score_prompt(
                    &mut running.scores,
                    &plan.prompt,
                    position,
                    raw,
                    &|id, raw| Token {
                        prompt: true,
                        special: tokenizer.is_special(id),
                        ..scored(&tokenizer, raw, id, plan.logprobs.unwrap_or(0))
                    },
                );
            }
        }
        if !last {
            return Ok(());
        }
        let scores = std::mem::take(&mut running.scores);
        let mut fresh = Vec::new();
        for (index, row) in running.request.rows.iter_mut().enumerate() {
            if !row.generated.is_empty() || row.finish.is_some() {
                continue;
            }
            if !row.echoed
                && let Some(delta) = row.echo(scores.clone())
            {
                events.push(item.id, Event::Text(delta));
            }
            fresh.push(index);
        }
        self.batch.fork(item.id);
        let final_logits = logits.last().copied().unwrap_or_default();
        for index in fresh {
            self.answer(item.id, index..index + 1, &[final_logits], events)?;
        }
        self.release_ended(item.id);
        Ok(())
    }

    /// Chooses the next token of rows from their logits.
    fn answer(
        &mut self,
        id: RequestId,
        rows: std::ops::Range<usize>,
        logits: &[&[f32]],
        events: &mut Events,
    ) -> Result<(), RequestError> {
        let tokenizer = self.tokenizer();
        for (index, raw) in rows.zip(logits) {
            let Some(running) = self.batch.get_mut(id) else {
                return Ok(());
            };
            let Some(row) = running.request.rows.get_mut(index) else {
                return Ok(());
            };
            if row.finish.is_none() {
                let delta = row.advance(&tokenizer, raw)?;
                events.push(id, Event::Text(delta));
            }
            if row.finish.is_some() {
                self.batch.end_row(id, index);
            }
        }
        self.end_if_over(id, events);
        Ok(())
    }

    /// Rows that had ended before the request was suspended need no blocks.
    fn release_ended(&mut self, id: RequestId) {
        let ended: Vec<usize> = match self.batch.get_mut(id) {
            Some(running) => (0..running.request.rows.len())
                .filter(|i| {
                    running
                        .request
                        .rows
                        .get(*i)
                        .is_some_and(|row| row.finish.is_some())
                })
                .collect(),
            None => Vec::new(),
        };
        for row in ended {
            self.batch.end_row(id, row);
        }
    }

    fn end_if_over(&mut self, id: RequestId, events: &mut Events) {
        let Some(running) = self.batch.get_mut(id).filter(|r| r.has_ended()) else {
            return;
        };
        let request = &running.request;
        let usage = Usage {
            prompt_tokens: request.plan.prompt.len() as u32,
            cached_tokens: 0,
            completion_tokens: request
                .rows
                .iter()
                .map(|row| row.generated.len() as u32)
                .sum(),
            reasoning_tokens: request.rows.iter().map(Row::thought_tokens).sum(),
        };
        self.batch.take(id);
        events.push(id, Event::Done(usage));
    }
}

/// The rows of a pass, as the model takes them.
#[derive(Default)]
struct Rows {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    slots: Vec<u32>,
    wanted: Vec<u32>,
}

impl Rows {
    fn add(&mut self, item: &Item, request: &TextPrepared) -> Result<(), NnError> {
        let start = self.tokens.len();
        let generated: &[u32] = request.rows.get(item.row).map_or(&[], |row| &row.generated);
        let prompt = request.plan.prompt.as_slice();
        for position in item.positions.clone() {
            let token = prompt
                .get(position)
                .or_else(|| generated.get(position - prompt.len()))
                .ok_or_else(|| lost(item))?;
            self.tokens.push(*token);
            self.positions.push(position as u32);
        }
        self.slots.extend(&item.slots);
        self.wanted
            .extend(item.wanted.clone().map(|row| (start + row) as u32));
        Ok(())
    }
}

/// The logits at a position of the prompt are about the token after it; the first token has none.
fn score_prompt(
    scores: &mut Vec<Token>,
    prompt: &[u32],
    position: usize,
    raw: &[f32],
    score: &dyn Fn(u32, &[f32]) -> Token,
) {
    if position == 0 && scores.is_empty() {
        scores.extend(prompt.first().map(|id| Token {
            logprob: None,
            top: Vec::new(),
            ..score(*id, raw)
        }));
    }
    if let Some(next) = prompt.get(position + 1) {
        scores.push(score(*next, raw));
    }
}

fn lost(item: &Item) -> NnError {
    NnError::Device(format!(
        "request {} was lost between planning and the pass",
        item.id
    ))
}

/// What a failure means for the batch: memory that ran out, a device that is gone, or something in between.
fn failure(error: TextError) -> StepError {
    let text = error.to_string();
    let lower = text.to_lowercase();
    if lower.contains("out of memory") || lower.contains("out_of_memory") {
        StepError::OutOfMemory(text)
    } else if lower.contains("illegal_address")
        || lower.contains("device lost")
        || lower.contains("launch_failed")
    {
        StepError::Fatal(text)
    } else {
        StepError::Batch(text)
    }
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
                "n is {rows}; this worker runs at most {} rows at once",
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
        if self.batch.requests() == 0 {
            return Ok(Step::IDLE);
        }
        let rows = self.batch.rows();
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
        let logits = self.run(&plan).map_err(failure)?;
        self.commit(plan, &logits, events).map_err(failure)?;
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

    fn reset(&mut self) -> Result<(), StepError> {
        // The cache itself stays: what its slots hold is never read before it is written again, and a second cache beside
        // the first would be asked for when memory is shortest.
        self.batch = empty_batch(self.cache.shape(), self.limits)
            .map_err(|error| StepError::Fatal(error.to_string()))?;
        Ok(())
    }

    fn step_bound(&self) -> usize {
        self.batch.bound()
    }

    fn occupancy(&self) -> Occupancy {
        Occupancy {
            requests: self.batch.requests(),
            rows: self.batch.rows(),
            blocks_used: self.batch.blocks_used(),
            blocks_total: self.batch.blocks(),
        }
    }

    fn footprint(&self) -> Footprint {
        let held = self.weight_bytes + self.cache.bytes() as u64;
        match self.device.is_cpu() {
            true => Footprint {
                device_bytes: 0,
                host_bytes: held,
            },
            false => Footprint {
                device_bytes: held,
                host_bytes: 0,
            },
        }
    }
}
