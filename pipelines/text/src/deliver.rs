//! What a pass has brought, handed out: the prompt's scores, each row's next tokens, and the end.
//! Apart from the pass itself, which knows rows of numbers and no request.

use std::sync::Arc;

use chandler_core::{Event, Events, RequestError, RequestId, TextDelta, Token, Usage};
use chandler_nn::sampling::log_probabilities;

use crate::error::TextError;
use crate::pipeline::{TextPipeline, lost};
use crate::ranking::best;
use crate::row::{Row, scored};
use crate::running::{Item, Part};

/// What a row's next token comes from.
#[derive(Clone, Copy)]
pub(crate) enum Next<'a> {
    /// Raw logits, from which it is chosen.
    Logits(&'a [f32]),
    /// It was drawn on the device.
    Token(u32),
}

impl TextPipeline {
    /// Hands out what the pass has brought: one `next` for each wanted row of the items, and one for an item whose request has left.
    pub(crate) fn commit(
        &mut self,
        items: Vec<Option<Item>>,
        next: &[Next<'_>],
        events: &mut Events,
    ) -> Result<(), TextError> {
        let mut next = next.iter().copied();
        for item in items {
            let Some(item) = item else {
                next.next();
                continue;
            };
            let mine: Vec<Next<'_>> = next.by_ref().take(item.wanted.len()).collect();
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
                Part::Answer { last: true } => self.answer(&item, &mine, events),
                Part::Answer { last: false } => {
                    self.settle(&item);
                    Ok(())
                }
            };
            if let Err(error) = outcome {
                self.batch.take(item.id);
                events.push(item.id, Event::Failed(error));
            }
        }
        Ok(())
    }

    fn settle(&mut self, item: &Item) {
        let ahead = self.launched.as_ref();
        let ahead = ahead.is_some_and(|launched| launched.has(item.id, item.row));
        self.batch.settle(item.id, item.row, ahead);
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
                    cached_tokens: running.request.progress.cached as u32,
                },
            );
        }
    }

    /// Some of the prompt has gone through; after its last token every row forks off and those that are new begin.
    fn read_prompt(
        &mut self,
        item: &Item,
        last: bool,
        next: &[Next<'_>],
        events: &mut Events,
    ) -> Result<(), RequestError> {
        self.settle(item);
        let tokenizer = self.tokenizer();
        let Some(running) = self.batch.get_mut(item.id) else {
            return Ok(());
        };
        let plan = Arc::clone(&running.request.plan);
        if running.request.scores_prompt() {
            let positions = item.positions.clone();
            for (position, next) in positions.zip(next) {
                // Tokens are never drawn on the device for who wants these.
                let Next::Logits(raw) = next else { continue };
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
        let mut echoes = Vec::new();
        for (index, row) in running.request.rows.iter_mut().enumerate() {
            if !row.generated.is_empty() || row.finish.is_some() {
                continue;
            }
            if !row.echoed {
                echoes.extend(row.echo(scores.clone()).map(|echo| (index, echo)));
            }
            fresh.push(index);
        }
        for (index, echo) in echoes {
            self.say(item.id, index, echo, events);
        }
        self.batch.fork(item.id);
        let Some(next) = next.last().copied() else {
            return Err(RequestError::internal(
                "a prompt was read without its last row",
            ));
        };
        for index in fresh {
            self.choose(item.id, index, next, events)?;
            self.close_row(item.id, index, events);
        }
        self.release_ended(item.id);
        Ok(())
    }

    /// Chooses a row's next token, and one more after each guess that turned out right.
    fn answer(
        &mut self,
        item: &Item,
        next: &[Next<'_>],
        events: &mut Events,
    ) -> Result<(), RequestError> {
        let mut accepted = 0;
        for (at, next) in next.iter().enumerate() {
            // Each choice is made as without guesses: from the logits after all tokens before it, and no others.
            let chosen = self.choose(item.id, item.row, *next, events)?;
            if chosen.is_none() || chosen != item.proposed.get(at).copied() {
                break;
            }
            accepted += 1;
        }
        self.batch.learn(item, accepted);
        self.settle(item);
        self.close_row(item.id, item.row, events);
        Ok(())
    }

    /// Chooses the next token of a row, or takes the one that was drawn; `None` when the row has ended already.
    fn choose(
        &mut self,
        id: RequestId,
        index: usize,
        next: Next<'_>,
        events: &mut Events,
    ) -> Result<Option<u32>, RequestError> {
        let tokenizer = self.tokenizer();
        let Some(running) = self.batch.get_mut(id) else {
            return Ok(None);
        };
        let request = &mut running.request;
        let Some(row) = request.rows.get_mut(index) else {
            return Ok(None);
        };
        if row.finish.is_some() {
            return Ok(None);
        }
        let delta = match next {
            Next::Logits(raw) => row.advance(&tokenizer, raw)?,
            Next::Token(id) => row.accept(&tokenizer, id)?,
        };
        let chosen = row.generated.last().copied();
        if let (Some(candidate), Some(id), Next::Logits(raw)) =
            (request.candidates.get_mut(index), chosen, next)
        {
            candidate.scored(log_probabilities(raw, id, 0).0);
        }
        self.say(id, index, delta, events);
        Ok(chosen)
    }

    /// Gives out what a row has said, or keeps it until it is known which rows are the best.
    fn say(&mut self, id: RequestId, index: usize, delta: TextDelta, events: &mut Events) {
        let candidate = self
            .batch
            .get_mut(id)
            .and_then(|running| running.request.candidates.get_mut(index));
        match candidate {
            Some(candidate) => candidate.said.append(delta),
            None => events.push(id, Event::Text(delta)),
        }
    }

    /// Gives a row's blocks back if it has ended, and ends the request with its last row.
    fn close_row(&mut self, id: RequestId, index: usize, events: &mut Events) {
        let row = self.batch.request(id).and_then(|r| r.rows.get(index));
        if row.is_some_and(|row| row.finish.is_some()) {
            self.batch.end_row(id, index);
            self.end_if_over(id, events);
        }
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
        let request = &mut running.request;
        let candidates = std::mem::take(&mut request.candidates);
        let usage = Usage {
            prompt_tokens: request.plan.prompt.len() as u32,
            cached_tokens: request.progress.cached as u32,
            completion_tokens: request
                .rows
                .iter()
                .map(|row| row.generated.len() as u32)
                .sum(),
            reasoning_tokens: request.rows.iter().map(Row::thought_tokens).sum(),
            ..Usage::default()
        };
        let keep = request.plan.keep as usize;
        self.batch.take(id);
        for delta in best(candidates, keep) {
            events.push(id, Event::Text(delta));
        }
        events.push(id, Event::Done(usage));
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
