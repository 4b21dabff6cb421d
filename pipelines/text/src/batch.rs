//! Who is in the batch, and which cache blocks they own; what they do in a step is decided in `planning`.
//! No tensor and no text here: this is bookkeeping, and is kept apart so that it can be read as such.

use std::collections::VecDeque;

use chandler_core::{Occupancy, RequestId, Tally, Ticket};
use chandler_nn::kv_cache::{BlockPool, BlockTable};

use crate::pipeline::BatchLimits;
use crate::prepared::TextPrepared;
use crate::running::{Item, Running};

/// The requests inside, and the cache's blocks.
pub(crate) struct Batch {
    pub(crate) pool: BlockPool,
    /// Oldest first.
    pub(crate) running: Vec<Running>,
    /// Taken out because blocks ran short; first in line when there are some.
    paused: VecDeque<(Ticket, TextPrepared)>,
    pub(crate) limits: BatchLimits,
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
    pub(crate) fn adopt(&mut self, at: usize) {
        let Some(running) = self.running.get_mut(at) else {
            return;
        };
        if !self.limits.prefix_cache || running.request.scores_prompt() || !running.reads() {
            return;
        }
        if !std::mem::replace(&mut running.request.progress.looked_up, true) {
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

    /// Whether somebody had to make room.
    pub(crate) fn has_paused(&self) -> bool {
        !self.paused.is_empty()
    }

    /// After a pass: forgets tokens that were guessed and did not stand, and lets others find the row's full blocks. `ahead`: the
    /// answer's last token is on its way through the model.
    pub(crate) fn settle(&mut self, id: RequestId, row: usize, ahead: bool) {
        let Some(running) = self.running.iter_mut().find(|r| r.ticket.id == id) else {
            return;
        };
        let request = &mut running.request;
        let Some(Some(table)) = running.tables.get_mut(row) else {
            return;
        };
        // The last token of an answer has not gone through the model otherwise.
        let answer = request.rows.get(row).map_or(0, |r| r.generated.len());
        let through = request.plan.prompt.len() + answer.saturating_sub(usize::from(!ahead));
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

    /// Takes those back in who had to make room, as far as there is some.
    pub(crate) fn unpause(&mut self) {
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

    /// The youngest makes room, to be read again later.
    pub(crate) fn pause_youngest(&mut self) {
        if let Some(last) = self.running.len().checked_sub(1) {
            let (ticket, request) = self.take_at(last);
            self.tally.preemptions += 1;
            self.paused.push_front((ticket, request));
        }
    }
}
