//! Who is in the batch, which of their tokens go through the model next, and which cache blocks they own.
//! No tensor and no text here: planning is bookkeeping, and is kept apart so that it can be read as such.

use std::collections::VecDeque;

use chandler_core::{Occupancy, RequestId, Tally, Ticket};
use chandler_nn::error::NnError;
use chandler_nn::kv_cache::{BlockCopies, BlockPool, BlockTable};

use crate::pipeline::BatchLimits;
use crate::prepare::TextPrepared;
use crate::running::{Item, Part, Running};
use crate::speculation::propose;

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
    limits: BatchLimits,
    /// All but the blocks evicted, which the pool counts.
    tally: Tally,
}

impl Batch {
    pub(crate) fn new(pool: BlockPool, limits: BatchLimits) -> Self {
        Self {
            pool: match limits.prefix_cache {
                true => pool.keeping_prefixes(),
                false => pool,
            },
            running: Vec::new(),
            paused: VecDeque::new(),
            limits,
            tally: Tally::default(),
        }
    }

    /// Goes on counting where another batch stopped.
    pub(crate) fn counting_from(self, tally: Tally) -> Self {
        Self { tally, ..self }
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally {
            prefix_evicted_blocks: self.tally.prefix_evicted_blocks + self.pool.evicted_blocks(),
            ..self.tally
        }
    }

    fn rows(&self) -> usize {
        self.running.iter().map(|r| r.request.rows.len()).sum()
    }

    pub(crate) fn occupancy(&self) -> Occupancy {
        Occupancy {
            requests: self.running.len() + self.paused.len(),
            rows: self.rows(),
            blocks_used: self.pool.blocks() - self.pool.free_blocks(),
            blocks_kept: self.pool.kept_blocks(),
            blocks_total: self.pool.blocks(),
        }
    }

    /// Tokens that one step takes through the model at most.
    pub(crate) fn bound(&self) -> usize {
        self.limits.max_rows + self.limits.prefill_chunk
    }

    /// Whether a request may join now.
    pub(crate) fn has_room(&self, request: &TextPrepared) -> bool {
        if self.running.is_empty() && self.paused.is_empty() {
            return true;
        }
        let promised: usize = self.running.iter().map(|r| self.still_to_take(r)).sum();
        let wanted = self.blocks_to_resume(request);
        let wanted = wanted.saturating_sub(self.blocks_shared(request));
        self.paused.is_empty()
            && self.rows() + request.rows.len() <= self.limits.max_rows
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

    /// Blocks of a request's prompt that are there already, in the hands of others that run.
    fn blocks_shared(&self, request: &TextPrepared) -> usize {
        let prompt = &request.plan.prompt;
        match (request.scores_prompt(), prompt.split_last()) {
            (false, Some((_, before))) => {
                let found = self.pool.owned_prefix(request.plan.salt, before);
                self.pool.blocks_for(found)
            }
            _ => 0,
        }
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

    /// Takes a request in, with whatever of its prompt is known already: those who ask for room next find it taken.
    pub(crate) fn join(&mut self, ticket: Ticket, request: TextPrepared) {
        self.running.push(Running::new(ticket, request));
        self.adopt(self.running.len() - 1);
    }

    /// Takes over blocks that others have computed. The last token that is known is computed whatever is found, for its
    /// logits; and all of a prompt whose own log-probabilities are wanted.
    fn adopt(&mut self, at: usize) {
        let Some(running) = self.running.get_mut(at) else {
            return;
        };
        if !self.limits.prefix_cache || running.request.scores_prompt() || !running.reads() {
            return;
        }
        if !std::mem::replace(&mut running.request.reading.looked_up, true) {
            self.tally.prefix_lookup_tokens += running.request.plan.prompt.len() as u64;
        }
        for index in 0..running.tables.len() {
            let known = running.known(index);
            let Some(Some(table)) = running.tables.get_mut(index) else {
                continue;
            };
            let start = table.len();
            if start + self.pool.block_size() < known {
                let next = running.request.tokens(index, start..known - 1);
                let found = self.pool.adopt(table, &next);
                let fresh = running.request.found(start..start + found);
                self.tally.prefix_hit_tokens += fresh as u64;
            }
        }
    }

    /// After a pass: forgets tokens that were guessed and did not stand, and lets others find the row's full blocks.
    pub(crate) fn settle(&mut self, id: RequestId, row: usize) {
        let Some(running) = self.running.iter_mut().find(|r| r.ticket.id == id) else {
            return;
        };
        let request = &mut running.request;
        let Some(Some(table)) = running.tables.get_mut(row) else {
            return;
        };
        // The last token of an answer has not gone through the model.
        let answer = request.rows.get(row).map_or(0, |r| r.generated.len());
        let through = request.plan.prompt.len() + answer.saturating_sub(1);
        if table.len() > through {
            self.pool.truncate(table, through);
        }
        request.read_to(table.len());
        if self.pool.has_unpublished(table) {
            let fresh = request.tokens(row, self.pool.published(table)..table.len());
            self.pool.publish(table, &fresh);
        }
    }

    /// Counts a row's guesses, and those of them that stood.
    pub(crate) fn learn(&mut self, item: &Item, accepted: usize) {
        let proposed = item.proposed.len();
        if proposed == 0 {
            return;
        }
        self.tally.proposed_tokens += proposed as u64;
        self.tally.accepted_tokens += accepted as u64;
        if let Some(running) = self.get_mut(item.id)
            && let Some(reach) = running.reach.get_mut(item.row)
        {
            reach.learn(proposed, accepted);
        }
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
            left: self.limits.prefill_chunk,
            share: (self.limits.prefill_chunk / reading.max(1)).max(SMALLEST_SHARE),
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
        if self.limits.speculate > 0 {
            self.speculate(&mut plan);
        }
        plan
    }

    /// Lengthens the items of rows that answer by guesses, as far as the step's bound and the free blocks allow.
    fn speculate(&mut self, plan: &mut StepPlan) {
        let planned: usize = plan.items.iter().map(|item| item.positions.len()).sum();
        let mut spare = self.bound().saturating_sub(planned);
        for item in &mut plan.items {
            if item.part != (Part::Answer { last: true }) || item.positions.len() != 1 {
                continue;
            }
            let Some(running) = self.running.iter_mut().find(|r| r.ticket.id == item.id) else {
                continue;
            };
            let (request, reach) = (&running.request, running.reach.get(item.row));
            let Some(row) = request.rows.get(item.row) else {
                continue;
            };
            // One token comes without a guess.
            let left = (request.plan.max_tokens as usize).saturating_sub(row.generated.len() + 1);
            let most = reach.map_or(0, |reach| reach.of(self.limits.speculate));
            let guesses = propose(
                &request.plan.prompt,
                &row.generated,
                most.min(left).min(spare),
            );
            let Some(Some(table)) = running.tables.get_mut(item.row) else {
                continue;
            };
            if let Ok(appended) = self.pool.append(table, guesses.len()) {
                spare -= guesses.len();
                plan.copies.extend(appended.copies);
                item.positions.end += guesses.len();
                item.wanted.end += guesses.len();
                item.slots.extend(appended.slots);
                item.proposed = guesses;
            }
        }
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
            self.tally.preemptions += 1;
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
        // Again, since its twin before it may have read on.
        self.adopt(at);
        let Some(running) = self.running.get_mut(at) else {
            return Ok(());
        };
        if running.ticket.cancelled.is_raised() {
            return Ok(());
        }
        let allowed = budget.left.min(budget.share);
        let (portions, left) = running.next(allowed);
        let need: usize = portions
            .iter()
            .filter_map(|portion| {
                let table = running.tables.get(portion.row)?.as_ref()?;
                Some(self.pool.needed(table, portion.positions.len()))
            })
            .sum();
        if need > self.pool.free_blocks() {
            return Err(NnError::CacheFull {
                needed: need,
                free: self.pool.free_blocks(),
            });
        }
        let id = running.ticket.id;
        let scores_prompt = running.request.scores_prompt();
        for portion in portions {
            if let Some(Some(table)) = running.tables.get_mut(portion.row) {
                let appended = self.pool.append(table, portion.positions.len())?;
                plan.copies.extend(appended.copies);
                plan.items.push(Item {
                    id,
                    row: portion.row,
                    wanted: portion.part.wanted(portion.positions.len(), scores_prompt),
                    positions: portion.positions,
                    slots: appended.slots,
                    part: portion.part,
                    proposed: Vec::new(),
                });
            }
        }
        budget.left -= allowed - left;
        Ok(())
    }
}
