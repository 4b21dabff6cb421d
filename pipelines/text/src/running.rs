//! A request in the batch, and what it takes through the model in a step. Apart from `batch`, which decides between
//! requests, so that each can be read without the other.

use std::ops::Range;

use chandler_core::{RequestId, Ticket, Token};
use chandler_nn::kv_cache::BlockTable;

use crate::prepared::TextPrepared;
use crate::speculation::Reach;

/// A request in the batch.
pub(crate) struct Running {
    pub(crate) ticket: Ticket,
    pub(crate) request: TextPrepared,
    /// One table while the prompt is read, then one per row; `None` once a row has ended.
    pub(crate) tables: Vec<Option<BlockTable>>,
    /// How far each row is guessed ahead.
    pub(crate) reach: Vec<Reach>,
    /// The prompt's tokens with their log-probabilities, as far as they are known.
    pub(crate) scores: Vec<Token>,
}

impl Running {
    pub(crate) fn new(ticket: Ticket, request: TextPrepared) -> Self {
        Self {
            ticket,
            tables: vec![Some(BlockTable::salted(request.plan.salt))],
            reach: vec![Reach::default(); request.rows.len()],
            request,
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
    pub(crate) fn reads(&self) -> bool {
        let behind = |(row, table): (usize, &Option<BlockTable>)| {
            let table = table.as_ref();
            table.is_some_and(|table| table.len() + 1 < self.request.len(row))
        };
        !self.has_forked() || self.tables.iter().enumerate().any(behind)
    }

    pub(crate) fn has_forked(&self) -> bool {
        self.unread() == 0 && self.tables.len() == self.request.rows.len()
    }

    /// Tokens of the prompt that are in the cache, while it is being read.
    fn read(&self) -> Option<usize> {
        match self.tables.as_slice() {
            [Some(only)] if self.unread() > 0 => Some(only.len()),
            _ => None,
        }
    }

    /// Whether it is about to compute a block of the prompt that `other` needs next and can take over.
    pub(crate) fn leads(&self, other: &Self, block_size: usize) -> bool {
        let (Some(read), Some(others)) = (self.read(), other.read()) else {
            return false;
        };
        let end = others + block_size;
        let (own, theirs) = (&self.request.plan, &other.request.plan);
        let shares = own.salt == theirs.salt && !other.request.scores_prompt();
        // Not the last token of the other's prompt: it computes that one itself.
        shares
            && others.is_multiple_of(block_size)
            && !self.ticket.cancelled.is_raised()
            && (others..end).contains(&read)
            && end < theirs.prompt.len()
            && own
                .prompt
                .get(..end)
                .is_some_and(|block| theirs.prompt.starts_with(block))
    }

    /// Tokens that a table will hold before it has to be forked, or before its row's next token is known.
    pub(crate) fn known(&self, table: usize) -> usize {
        if self.tables.len() == self.request.rows.len() {
            self.request.len(table)
        } else {
            self.request.plan.prompt.len()
        }
    }

    /// Whether every row has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.request.rows.iter().all(|row| row.finish.is_some())
    }

    /// What it would take through the model next, of `left` tokens that may be read; and how many of those are left.
    pub(crate) fn next(&self, mut left: usize) -> (Vec<Portion>, usize) {
        let mut portions = Vec::new();
        if self.has_forked() {
            for (row, table) in self.tables.iter().enumerate() {
                let Some(table) = table else { continue };
                let pending = self.request.len(row).saturating_sub(table.len());
                let len = if pending == 1 { 1 } else { pending.min(left) };
                left -= if pending == 1 { 0 } else { len };
                let last = len == pending;
                portions.push(Portion {
                    row,
                    positions: table.len()..table.len() + len,
                    part: Part::Answer { last },
                });
            }
        } else if let Some(Some(table)) = self.tables.first() {
            let len = self.unread().min(left);
            left -= len;
            let last = len == self.unread();
            portions.push(Portion {
                row: 0,
                positions: table.len()..table.len() + len,
                part: Part::Prompt { last },
            });
        }
        portions.retain(|portion| !portion.positions.is_empty());
        (portions, left)
    }
}

/// Some tokens of one row that could go through the model next.
pub(crate) struct Portion {
    pub(crate) row: usize,
    /// Positions in the sequence.
    pub(crate) positions: Range<usize>,
    pub(crate) part: Part,
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
    /// Tokens at its end that are guesses; the model's own choice decides which of them stay.
    pub(crate) proposed: Vec<u32>,
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
    pub(crate) fn wanted(self, len: usize, scores_prompt: bool) -> Range<usize> {
        match self {
            Self::Prompt { .. } if scores_prompt => 0..len,
            Self::Prompt { last: true } | Self::Answer { last: true } => len - 1..len,
            Self::Prompt { last: false } | Self::Answer { last: false } => 0..0,
        }
    }
}
