//! One question to an engine in this process, and how long the answer took.

use std::time::{Duration, Instant};

use chandler_core::{Collected, Event, Input, RequestError};

use crate::engine::Engine;

/// An answer with its times.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The answer.
    pub collected: Collected,
    /// From asking to the first piece of text.
    pub first_token: Duration,
    /// From asking to the end.
    pub total: Duration,
}

impl Answer {
    /// The text of its only row.
    pub fn text(&self) -> &str {
        self.collected.rows.first().map_or("", |row| &row.text)
    }

    /// Tokens a second after the first one; `None` for an answer of one.
    pub fn tokens_per_second(&self) -> Option<f64> {
        let further = self
            .collected
            .usage
            .completion_tokens
            .checked_sub(1)
            .filter(|n| *n > 0)?;
        let seconds = self.total.saturating_sub(self.first_token).as_secs_f64();
        (seconds > 0.0).then(|| f64::from(further) / seconds)
    }
}

/// Asks and waits for the end. `on_event` sees everything as it comes and says whether to go on.
///
/// # Errors
/// The request's own error.
pub async fn ask(
    engine: &Engine,
    input: Input,
    mut on_event: impl FnMut(&Event) -> bool,
) -> Result<Answer, RequestError> {
    let asked = Instant::now();
    let mut subscription = engine.submit(input).await?;
    let mut collected = Collected::default();
    let mut first_token = None;
    while let Some(event) = subscription.next().await {
        if matches!(event, Event::Text(_) | Event::Segment(_)) {
            first_token.get_or_insert_with(|| asked.elapsed());
        }
        if !on_event(&event) || collected.add(event)? {
            break;
        }
    }
    let total = asked.elapsed();
    Ok(Answer {
        collected,
        first_token: first_token.unwrap_or(total),
        total,
    })
}
