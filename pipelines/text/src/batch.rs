//! Who is in the batch, which of their tokens go through the model next, and which cache blocks they own.
//! No tensor and no text here: planning is bookkeeping, and is kept apart so that it can be read as such.

use std::collections::VecDeque;
use std::ops::Range;

use chandler_core::{RequestId, Ticket};
use chandler_nn::error::NnError;
use chandler_nn::kv_cache::{BlockCopies, BlockPool, BlockTable};

use crate::prepare::TextPrepared;

/// A request in the batch.
pub(crate) struct Running {
    pub(crate) ticket: Ticket,
    pub(crate) request: TextPrepared,
    /// One table while the prompt is read, then one per row; `None` once a row has ended.
    tables: Vec<Option<BlockTable>>,
    /// The prompt's tokens with their log-probabilities, as far as they are known.
    pub(crate) scores: Vec<chandler_core::Token>,
}

impl Running {
    fn new(ticket: Ticket, request: TextPrepared) -> Self {
        Self {
            ticket,
            request,
            tables: vec![Some(BlockTable::new())],
            scores: Vec::new(),
        }
    }

    /// Tokens of the prompt that are still to be read.
    fn unread(&self) -> usize {
        match self.tables.as_slice() {
            [Some(only)] => self.request.plan.prompt.len().saturating_sub(only.len()),
            _ => 0,
        }
    }

    /// Whether it has more to read than the next token of each row.
    fn reads(&self) -> bool {
        let prompt = self.request.plan.prompt.len();
        let behind = |(table, row): (&Option<BlockTable>, &crate::row::Row)| {
            table
                .as_ref()
                .is_some_and(|table| table.len() + 1 < prompt + row.generated.len())
        };
        !self.has_forked() || self.tables.iter().zip(&self.request.rows).any(behind)
    }

    fn has_forked(&self) -> bool {
        self.unread() == 0 && self.tables.len() == self.request.rows.len()
    }

    /// Whether every row has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.request.rows.iter().all(|row| row.finish.is_some())
    }
}

/// Consecutive tokens of one sequence that go through the model in this step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) id: RequestId,
    /// Which row; the prompt is read by row 0 for all.
    pub(crate) row: usize,
    /// Positions in the sequence.
    pub(crate) positions: Range<usize>,
    pub(crate) slots: Vec<u32>,
    pub(crate) part: Part,
    /// Which of its tokens' logits are wanted, counted from its first.
    pub(crate) wanted: Range<usize>,
}

/// What an item's tokens are to the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Some of the prompt, and whether its last token is among them.
    Prompt { last: bool },
    /// Some of the answer; `last` when the next token can be chosen after it.
    Answer { last: bool },
}

impl Part {
    fn wanted(self, len: usize, scores_prompt: bool) -> Range<usize> {
        match self {
            Self::Prompt { .. } if scores_prompt => 0..len,
            Self::Prompt { last: true } | Self::Answer { last: true } => len - 1..len,
            Self::Prompt { last: false } | Self::Answer { last: false } => 0..0,
        }
    }
}

/// One step's work.
#[derive(Debug, Default)]
pub(crate) struct StepPlan {
    pub(crate) items: Vec<Item>,
    pub(crate) copies: BlockCopies,
    /// Requests that do not fit the cache even alone.
    pub(crate) misfits: Vec<RequestId>,
}

/// Prompt tokens that a step may still read.
struct Budget {
    left: usize,
    /// How many of them one request may take.
    share: usize,
}

/// Tokens of a prompt that are worth a pass: with very many prompts at once, the youngest wait for the next step.
const SMALLEST_SHARE: usize = 16;

/// The requests inside, and the cache's blocks.
pub(crate) struct Batch {
    pool: BlockPool,
    /// Oldest first.
    running: Vec<Running>,
    /// Taken out because blocks ran short; first in line when there are some.
    paused: VecDeque<(Ticket, TextPrepared)>,
    max_rows: usize,
    prefill_chunk: usize,
}

impl Batch {
    pub(crate) fn new(pool: BlockPool, max_rows: usize, prefill_chunk: usize) -> Self {
        Self {
            pool,
            running: Vec::new(),
            paused: VecDeque::new(),
            max_rows,
            prefill_chunk,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.running.iter().map(|r| r.request.rows.len()).sum()
    }

    pub(crate) fn requests(&self) -> usize {
        self.running.len() + self.paused.len()
    }

    pub(crate) fn blocks_used(&self) -> usize {
        self.pool.blocks() - self.pool.free_blocks()
    }

    pub(crate) fn blocks(&self) -> usize {
        self.pool.blocks()
    }

    /// Tokens that one step takes through the model at most.
    pub(crate) fn bound(&self) -> usize {
        self.max_rows + self.prefill_chunk
    }

    /// Whether a request may join now.
    pub(crate) fn has_room(&self, request: &TextPrepared) -> bool {
        if self.running.is_empty() && self.paused.is_empty() {
            return true;
        }
        let promised: usize = self.running.iter().map(|r| self.still_to_take(r)).sum();
        let wanted = self.blocks_to_resume(request);
        self.paused.is_empty()
            && self.rows() + request.rows.len() <= self.max_rows
            && promised + wanted <= self.pool.free_blocks()
    }

    /// Blocks that a request takes until each of its rows can say the next token: what it has said is read again, too.
    fn blocks_to_resume(&self, request: &TextPrepared) -> usize {
        let open = request.rows.iter().filter(|row| row.finish.is_none());
        let rows: usize = open
            .map(|row| self.pool.blocks_for(row.generated.len()) + 1)
            .sum();
        self.pool.blocks_for(request.plan.prompt.len()) + rows
    }

    /// Blocks that a running request was promised when it joined and has not taken yet.
    fn still_to_take(&self, running: &Running) -> usize {
        let taken: usize = running
            .tables
            .iter()
            .flatten()
            .map(|table| table.blocks().len())
            .sum();
        self.blocks_to_resume(&running.request)
            .saturating_sub(taken)
    }

    pub(crate) fn join(&mut self, ticket: Ticket, request: TextPrepared) {
        self.running.push(Running::new(ticket, request));
    }

    /// Takes a request out of wherever it is, and its blocks back.
    pub(crate) fn take(&mut self, id: RequestId) -> Option<TextPrepared> {
        if let Some(at) = self.paused.iter().position(|(ticket, _)| ticket.id == id) {
            return self.paused.remove(at).map(|(_, request)| request);
        }
        let at = self.running.iter().position(|r| r.ticket.id == id)?;
        Some(self.take_at(at).1)
    }

    fn take_at(&mut self, at: usize) -> (Ticket, TextPrepared) {
        let taken = self.running.remove(at);
        for table in taken.tables.into_iter().flatten() {
            self.pool.free(table);
        }
        (taken.ticket, taken.request)
    }

    pub(crate) fn request(&self, id: RequestId) -> Option<&TextPrepared> {
        self.running
            .iter()
            .find(|r| r.ticket.id == id)
            .map(|r| &r.request)
    }

    pub(crate) fn get_mut(&mut self, id: RequestId) -> Option<&mut Running> {
        self.running.iter_mut().find(|r| r.ticket.id == id)
    }

    /// Block table of an item's row.
    pub(crate) fn table(&self, item: &Item) -> Option<&BlockTable> {
        let running = self.running.iter().find(|r| r.ticket.id == item.id)?;
        running.tables.get(item.row)?.as_ref()
    }

    /// Gives a row's blocks back; it has ended.
    pub(crate) fn end_row(&mut self, id: RequestId, row: usize) {
        let Some(at) = self.running.iter().position(|r| r.ticket.id == id) else {
            return;
        };
        let table = self
            .running
            .get_mut(at)
            .and_then(|r| r.tables.get_mut(row)?.take());
        if let Some(table) = table {
            self.pool.free(table);
        }
    }

    /// Gives every row of a request whose prompt is read a table of its own, sharing the prompt's blocks.
    pub(crate) fn fork(&mut self, id: RequestId) {
        let Some(running) = self.running.iter_mut().find(|r| r.ticket.id == id) else {
            return;
        };
        let wanted = running.request.rows.len();
        while running.tables.len() < wanted
            && let Some(Some(first)) = running.tables.first()
        {
            let forked = self.pool.fork(first);
            running.tables.push(Some(forked));
        }
    }

    /// Decides what goes through the model next. Every row that answers gets its token; prompts share `prefill_chunk` tokens. When blocks run out the youngest request makes room, to be read again later.
    pub(crate) fn plan(&mut self) -> StepPlan {
        self.unpause();
        let mut plan = StepPlan::default();
        // Each prompt gets an equal share, so that a short one is not held up by a long one before it.
        let reading = self.running.iter().filter(|r| r.reads()).count();
        let mut budget = Budget {
            left: self.prefill_chunk,
            share: (self.prefill_chunk / reading.max(1)).max(SMALLEST_SHARE),
        };
        let mut at = 0;
        while at < self.running.len() {
            match self.plan_request(at, &mut budget, &mut plan) {
                Ok(()) => at += 1,
                Err(NnError::CacheFull { .. }) if at + 1 < self.running.len() => {
                    self.pause_youngest()
                }
                Err(_) if at > 0 => self.pause_youngest(),
                Err(_) => {
                    plan.misfits
                        .extend(self.running.get(at).map(|r| r.ticket.id));
                    at += 1;
                }
            }
        }
        plan
    }

    fn unpause(&mut self) {
        while let Some((ticket, request)) = self.paused.pop_front() {
            let waiting = std::mem::take(&mut self.paused);
            let room = self.has_room(&request);
            self.paused = waiting;
            if !room {
                self.paused.push_front((ticket, request));
                return;
            }
            self.join(ticket, request);
        }
    }

    fn pause_youngest(&mut self) {
        if let Some(last) = self.running.len().checked_sub(1) {
            let (ticket, request) = self.take_at(last);
            self.paused.push_front((ticket, request));
        }
    }

    /// Adds one request's items. On an error it has added none.
    fn plan_request(
        &mut self,
        at: usize,
        budget: &mut Budget,
        plan: &mut StepPlan,
    ) -> Result<(), NnError> {
        let Some(running) = self.running.get_mut(at) else {
            return Ok(());
        };
        if running.ticket.cancelled.is_raised() {
            return Ok(());
        }
        let mut wanted = Vec::new();
        let mut left = budget.left.min(budget.share);
        let before = left;
        if running.has_forked() {
            for (row, state) in running.request.rows.iter().enumerate() {
                let Some(Some(table)) = running.tables.get(row) else {
                    continue;
                };
                let end = running.request.plan.prompt.len() + state.generated.len();
                let pending = end - table.len();
                let len = if pending == 1 { 1 } else { pending.min(left) };
                left -= if pending == 1 { 0 } else { len };
                let last = len == pending;
                wanted.push((row, table.len()..table.len() + len, Part::Answer { last }));
            }
        } else if let Some(Some(table)) = running.tables.first() {
            let unread = running.request.plan.prompt.len() - table.len();
            let len = unread.min(left);
            left -= len;
            let last = len == unread;
            wanted.push((0, table.len()..table.len() + len, Part::Prompt { last }));
        }
        wanted.retain(|(_, positions, _)| !positions.is_empty());
        let need: usize = wanted
            .iter()
            .filter_map(|(row, positions, _)| {
                Some(
                    self.pool
                        .needed(running.tables.get(*row)?.as_ref()?, positions.len()),
                )
            })
            .sum();
        if need > self.pool.free_blocks() {
            return Err(NnError::CacheFull {
                needed: need,
                free: self.pool.free_blocks(),
            });
        }
        let id = running.ticket.id;
        let scores_prompt = running.request.plan.scores_prompt();
        for (row, positions, part) in wanted {
            if let Some(Some(table)) = running.tables.get_mut(row) {
                let appended = self.pool.append(table, positions.len())?;
                plan.copies.extend(appended.copies);
                plan.items.push(Item {
                    id,
                    row,
                    wanted: part.wanted(positions.len(), scores_prompt),
                    positions,
                    slots: appended.slots,
                    part,
                });
            }
        }
        budget.left -= before - left;
        Ok(())
    }
}
