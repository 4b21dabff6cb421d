//! What goes through the model in a step: everybody's next token, shares of the prompts, and guesses in the room that
//! is left. Apart from `batch`, which keeps who is there and what they own.

use chandler_core::RequestId;
use chandler_nn::error::NnError;
use chandler_nn::kv_cache::BlockCopies;

use crate::batch::Batch;
use crate::running::{Item, Part};
use crate::speculation::propose;

/// One step's work.
#[derive(Debug, Default)]
pub(crate) struct StepPlan {
    pub(crate) items: Vec<Item>,
    pub(crate) copies: BlockCopies,
    /// Requests that do not fit the cache even alone.
    pub(crate) misfits: Vec<RequestId>,
    /// Which of the tokens drawn last each item's token is; empty when all are known.
    pub(crate) from: Vec<usize>,
}

/// Prompt tokens that a step may still read.
struct Budget {
    left: usize,
    /// How many of them one request may take.
    share: usize,
}

/// Tokens of a prompt that are worth a pass: with very many prompts at once, the youngest wait for the next step.
const SMALLEST_SHARE: usize = 16;

impl Batch {
    /// Decides what goes through the model next. Every row that answers gets its token; prompts share `prefill_chunk`
    /// tokens. When blocks run out the youngest request makes room, to be read again later.
    pub(crate) fn plan(&mut self) -> StepPlan {
        self.unpause();
        let mut plan = StepPlan::default();
        // Again, since they joined: others may have read on.
        (0..self.running.len()).for_each(|at| self.adopt(at));
        let follows = self.followers();
        // Each prompt gets an equal share, so that a short one is not held up by a long one before it.
        let readers = self.running.iter().zip(&follows);
        let reading = readers
            .filter(|(r, follows)| r.reads() && !*follows)
            .count();
        let mut budget = Budget {
            left: self.limits.prefill_chunk,
            share: (self.limits.prefill_chunk / reading.max(1)).max(SMALLEST_SHARE),
        };
        let mut at = 0;
        while at < self.running.len() {
            if follows.get(at) == Some(&true) {
                at += 1;
                continue;
            }
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

    /// Who waits, since someone before it is about to compute the very block that it needs next: it takes that over in
    /// the next step, and nothing is computed twice.
    fn followers(&self) -> Vec<bool> {
        let mut follows: Vec<bool> = Vec::with_capacity(self.running.len());
        for running in &self.running {
            let mut older = self.running.iter().zip(&follows);
            let led =
                older.any(|(older, waits)| !waits && older.leads(running, self.pool.block_size()));
            follows.push(self.limits.prefix_cache && led);
        }
        follows
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
