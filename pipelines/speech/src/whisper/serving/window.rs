//! A window that is in the batch for a request, and what is asked of it: its language, one transcript after another until one is
//! believed, and how that one lies on it.

use chandler_core::RequestError;

use super::plan::{Draw, Plan};
use crate::whisper::chunks::ChunkId;
use crate::whisper::decoding::{AlignmentJob, DecodeJob, Job, Outcome, WindowId};
use crate::whisper::fallback::Attempt;
use crate::whisper::model::Description;
use crate::whisper::prompt::before_alignment;
use crate::whisper::sequential::{AlignmentPlan, WindowPlan};

/// A window in the batch.
pub(super) struct Window {
    pub(super) id: WindowId,
    pub(super) track: usize,
    pub(super) asked: Asked,
    /// Whether the question has been handed to the batch.
    pub(super) submitted: bool,
}

/// What is asked of it.
pub(super) enum Asked {
    Language,
    Transcript(Transcript),
    Alignment(ChunkId, AlignmentPlan),
}

/// A transcript that is being made.
pub(super) struct Transcript {
    pub(super) chunk: ChunkId,
    pub(super) plan: WindowPlan,
    /// The place of its temperature in the ladder.
    pub(super) attempt: usize,
}

/// What is known that questions are made from.
pub(super) struct Context<'a> {
    pub(super) plan: &'a Plan,
    pub(super) description: &'a Description,
    /// The language's token.
    pub(super) language: Option<u32>,
}

/// What a transcript led to.
pub(super) enum Judged {
    /// Nobody believes it: the next temperature is tried.
    Doubted,
    Believed(ChunkId, Attempt),
}

impl Window {
    /// A window of which a transcript is wanted.
    pub(super) fn transcript(
        id: WindowId,
        track: usize,
        (chunk, plan): (ChunkId, WindowPlan),
    ) -> Self {
        Self {
            id,
            track,
            asked: Asked::Transcript(Transcript {
                chunk,
                plan,
                attempt: 0,
            }),
            submitted: false,
        }
    }

    /// The question, as the batch takes it.
    pub(super) fn job(&self, context: &Context<'_>) -> Job {
        let Context {
            plan,
            description,
            language,
        } = context;
        match &self.asked {
            Asked::Language => Job::Detect,
            Asked::Transcript(transcript) => {
                let WindowPlan {
                    previous, number, ..
                } = &transcript.plan;
                let prompt = plan.prompt(description, *language, (previous, *number == 0));
                let draw = Draw {
                    track: self.track,
                    window: *number,
                    attempt: transcript.attempt,
                };
                let temperature = plan.temperatures.get(transcript.attempt).copied();
                let most = plan
                    .max_new_tokens
                    .map(|most| most.min(description.config.target_positions / 2));
                Job::Decode(DecodeJob {
                    sot: prompt.sot,
                    max_tokens: prompt.most_tokens(most, &description.config),
                    rules: plan.rules.clone(),
                    strategy: plan.strategy(temperature.unwrap_or(0.0), draw),
                    prompt: prompt.tokens,
                })
            }
            Asked::Alignment(_, alignment) => Job::Align(AlignmentJob {
                prompt: self.before_alignment(context),
                text: alignment.text.clone(),
                eot: description.generation.tokens.eot,
                positions: alignment.positions,
            }),
        }
    }

    /// The tokens before a text that is aligned.
    pub(super) fn before_alignment(&self, context: &Context<'_>) -> Vec<u32> {
        let tokens = &context.description.generation.tokens;
        before_alignment(tokens, context.language, context.plan.asked.task)
    }
}

impl Transcript {
    /// Looks at an attempt: the last one is believed in any case.
    pub(super) fn judge(
        &mut self,
        outcome: Outcome,
        context: &Context<'_>,
    ) -> Result<Judged, RequestError> {
        let Outcome::Decoded(decoded) = outcome else {
            return Err(unanswered(outcome));
        };
        let Context {
            plan, description, ..
        } = context;
        let temperature = plan.temperatures.get(self.attempt).copied().unwrap_or(0.0);
        let tokens = &description.generation.tokens;
        let attempt = Attempt::new(decoded, temperature, &description.tokenizer, tokens);
        let is_last = self.attempt + 1 >= plan.temperatures.len();
        if !is_last && plan.sequential.thresholds.doubts(&attempt) {
            self.attempt += 1;
            return Ok(Judged::Doubted);
        }
        Ok(Judged::Believed(self.chunk, attempt))
    }
}

/// The error of a question that has no answer.
pub(super) fn unanswered(outcome: Outcome) -> RequestError {
    let reason = match outcome {
        Outcome::Failed(reason) => reason,
        _ => "it answered another question".to_owned(),
    };
    RequestError::internal(format!("the model failed on this audio: {reason}"))
}
