//! A pass whose tokens are drawn on the device and not read yet, and the pass after it, which takes them from there: what the host does
//! for a token is done while the device computes the next. Apart from `planning`, which decides when every token is known.

use chandler_core::RequestId;
use chandler_nn::sampling::{Draw, Drawn};

use crate::batch::Batch;
use crate::planning::StepPlan;
use crate::row::Row;
use crate::running::{Item, Part};

/// Where tokens are chosen, and when they are read. No answer depends on it but by rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawing {
    /// All logits are read, and tokens chosen on the host.
    OnHost,
    /// Tokens are drawn on the device where nothing else is wanted of their logits.
    OnDevice,
    /// And read when the next pass is under way.
    Ahead,
}

/// A pass of one token a row.
pub(crate) struct Launched {
    /// One a token; none where its request has left.
    items: Vec<Option<Item>>,
    pub(crate) drawn: Drawn,
}

impl Launched {
    pub(crate) fn new(items: Vec<Item>, drawn: Drawn) -> Self {
        Self {
            items: items.into_iter().map(Some).collect(),
            drawn,
        }
    }

    /// Which of its tokens a row has.
    pub(crate) fn place(&self, id: RequestId, row: usize) -> Option<usize> {
        let mine = |item: &Item| item.id == id && item.row == row;
        self.items
            .iter()
            .position(|item| item.as_ref().is_some_and(mine))
    }

    /// Whether a row has gone through it.
    pub(crate) fn has(&self, id: RequestId, row: usize) -> bool {
        self.place(id, row).is_some()
    }

    /// The request has left: should it come back, this is not its token.
    pub(crate) fn forget(&mut self, id: RequestId) {
        for item in &mut self.items {
            item.take_if(|item| item.id == id);
        }
    }

    /// Its items, and what is to be read.
    pub(crate) fn into_parts(self) -> (Vec<Option<Item>>, Drawn) {
        (self.items, self.drawn)
    }
}

impl StepPlan {
    /// Whether the pass after it can be planned before its tokens are known: everyone says one token, and none is guessed.
    pub(crate) fn is_steady(&self) -> bool {
        let says_one = |item: &Item| {
            item.part == Part::Answer { last: true }
                && item.proposed.is_empty()
                && item.positions.len() == 1
        };
        self.misfits.is_empty() && self.items.iter().all(says_one)
    }
}

impl Batch {
    /// The pass after `launched`: everyone's next token, but for rows that end with the one that is not known yet. None when somebody
    /// has joined, left or waits, or blocks run short: then the tokens are read first. A row that turns out to have ended has gone
    /// through it in vain, and nobody reads what it has left.
    pub(crate) fn plan_ahead(&mut self, launched: &Launched) -> Option<StepPlan> {
        let rows = self.rows_ahead(launched)?;
        let needed = |&(at, row, _): &(usize, usize, usize)| {
            let table = self.running.get(at)?.tables.get(row)?.as_ref()?;
            Some(self.pool.needed(table, 1))
        };
        let needed: Option<usize> = rows.iter().map(needed).sum();
        if rows.is_empty() || needed? > self.pool.free_blocks() {
            return None;
        }
        let mut plan = StepPlan::default();
        for (at, row, from) in rows {
            let running = self.running.get_mut(at)?;
            let table = running.tables.get_mut(row)?.as_mut()?;
            let start = table.len();
            let appended = self.pool.append(table, 1).ok()?;
            plan.copies.extend(appended.copies);
            plan.from.push(from);
            plan.items.push(Item {
                id: running.ticket.id,
                row,
                positions: start..start + 1,
                slots: appended.slots,
                part: Part::Answer { last: true },
                proposed: Vec::new(),
                wanted: 0..1,
            });
        }
        Some(plan)
    }

    /// Which request, which of its rows, and which of the tokens is the row's.
    fn rows_ahead(&self, launched: &Launched) -> Option<Vec<(usize, usize, usize)>> {
        if self.has_paused() {
            return None;
        }
        let mut rows = Vec::new();
        for (at, running) in self.running.iter().enumerate() {
            if running.ticket.cancelled.is_raised() {
                return None;
            }
            let open = running.tables.iter().enumerate();
            for (row, _) in open.filter(|(_, table)| table.is_some()) {
                let from = launched.place(running.ticket.id, row)?;
                let said = running.request.rows.get(row)?.generated.len();
                if said + 1 < running.request.plan.max_tokens as usize {
                    rows.push((at, row, from));
                }
            }
        }
        Some(rows)
    }

    /// What decides about the token after each wanted row of a pass, the tokens before which are drawn already or all known. None where
    /// the row's logits have to be read: for probabilities, a grammar, guesses, or several answers to one prompt.
    pub(crate) fn draws(&mut self, plan: &StepPlan) -> Vec<Option<Draw<'_>>> {
        for item in &plan.items {
            let running = self.get_mut(item.id);
            if let Some(row) = running.and_then(|r| r.request.rows.get_mut(item.row)) {
                row.remember();
            }
        }
        let undecided = usize::from(!plan.from.is_empty());
        let mut draws = Vec::new();
        for item in plan.items.iter().filter(|item| !item.wanted.is_empty()) {
            let place = draws.len();
            let last = plan.from.get(place).copied();
            let row = self.drawable(item);
            draws.push(row.and_then(|row| row.draw(place, undecided, last)));
            draws.resize_with(place + item.wanted.len(), || None);
        }
        draws
    }

    /// The row whose next token alone is wanted of an item.
    fn drawable(&self, item: &Item) -> Option<&Row> {
        let request = self.request(item.id)?;
        let alone = request.rows.len() == 1 || matches!(item.part, Part::Answer { .. });
        let plain = item.wanted.len() == 1 && item.proposed.is_empty();
        let drawable = alone && plain && request.candidates.is_empty() && !request.scores_prompt();
        request.rows.get(item.row).filter(|_| drawable)
    }
}
