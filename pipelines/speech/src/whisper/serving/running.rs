//! A request in the batch: which of its windows are there, what they are asked, and what becomes of the answers.

use chandler_core::{Event, Events, HeardLanguage, RequestError, RequestId, Ticket};

use super::prepare::name;
use super::prepared::WhisperPrepared;
use super::track::Track;
use super::window::{Asked, Context, Judged, Window, unanswered};
use crate::error::Result;
use crate::listening::of_request;
use crate::whisper::decoding::{DecodingBatch, Outcome, WindowId};
use crate::whisper::model::{Description, Whisper};

/// A request in the batch.
pub(super) struct Running {
    pub(super) ticket: Ticket,
    pub(super) request: WhisperPrepared,
    pub(super) windows: Vec<Window>,
}

/// Whether a request goes on.
pub(super) enum Standing {
    GoesOn,
    Ended,
}

/// The batch and the model that it runs on.
pub(super) struct Workshop<'a> {
    pub(super) model: &'a Whisper,
    pub(super) batch: &'a mut DecodingBatch,
}

impl Running {
    pub(super) fn new(ticket: Ticket, request: WhisperPrepared) -> Self {
        Self {
            ticket,
            request,
            windows: Vec::new(),
        }
    }

    pub(super) fn id(&self) -> RequestId {
        self.ticket.id
    }

    /// Brings as many windows into the batch as it may have and there is room for, and hands over questions that there is room for.
    ///
    /// # Errors
    /// What the device says; a request's own error is the inner one.
    pub(super) fn bring(
        &mut self,
        shop: &mut Workshop<'_>,
        share: usize,
    ) -> Result<Result<(), RequestError>> {
        self.submit(shop)?;
        while self.windows.len() < share && shop.batch.free_windows() > 0 {
            if !self.open(shop)? {
                break;
            }
            self.submit(shop)?;
        }
        Ok(self.read_on())
    }

    /// Opens the next window. `false` when there is none now.
    fn open(&mut self, shop: &mut Workshop<'_>) -> Result<bool> {
        let description = &shop.model.description;
        match (&self.request.language, self.request.plan.only_language) {
            (None, _) => return self.open_for_language(shop),
            (Some(_), true) => return Ok(false),
            (Some(_), false) => {}
        }
        self.begin(description);
        for (index, track) in self.request.tracks.iter_mut().enumerate() {
            if let Some((chunk, plan, frames)) = track.next_window() {
                let id = shop.batch.open(frames)?;
                self.windows
                    .push(Window::transcript(id, index, (chunk, plan)));
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The first window that has anything in it tells the language.
    fn open_for_language(&mut self, shop: &mut Workshop<'_>) -> Result<bool> {
        if !self.windows.is_empty() {
            return Ok(false);
        }
        let window_frames = shop.model.description.timing.window_frames;
        let mut heard = self.request.tracks.iter_mut().enumerate();
        if let Some((index, track)) = heard.find(|(_, track)| !track.is_silent()) {
            let Some(frames) = track.first_frames(window_frames) else {
                return Ok(false);
            };
            self.windows.push(Window {
                id: shop.batch.open(frames)?,
                track: index,
                asked: Asked::Language,
                submitted: false,
            });
            return Ok(true);
        }
        Ok(false)
    }

    /// Begins the transcripts, now that the language is known.
    fn begin(&mut self, description: &Description) {
        let request = &mut self.request;
        let Some((_, code)) = &request.language else {
            return;
        };
        let mut options = request.plan.sequential.clone();
        options.language.clone_from(code);
        for track in &mut request.tracks {
            track.begin(description, &options);
        }
    }

    /// Hands over the questions that wait, as far as there is room.
    fn submit(&mut self, shop: &mut Workshop<'_>) -> Result<()> {
        let context = Context {
            plan: &self.request.plan,
            description: &shop.model.description,
            language: self.request.language.as_ref().and_then(|(token, _)| *token),
        };
        for window in self.windows.iter_mut().filter(|window| !window.submitted) {
            let job = window.job(&context);
            if job.sequences() > shop.batch.free_sequences() {
                return Ok(());
            }
            shop.batch.submit(shop.model, window.id, job)?;
            window.submitted = true;
        }
        Ok(())
    }

    /// Reads a piece of each file whose frames are waited for.
    fn read_on(&mut self) -> Result<(), RequestError> {
        for track in &mut self.request.tracks {
            track.read_on().map_err(|error| of_request(&error))?;
        }
        Ok(())
    }

    /// Takes the answer about one of its windows.
    ///
    /// # Errors
    /// The request's own.
    pub(super) fn take(
        &mut self,
        (id, outcome): (WindowId, Outcome),
        shop: &mut Workshop<'_>,
    ) -> Result<(), RequestError> {
        let Some(at) = self.windows.iter().position(|window| window.id == id) else {
            return Ok(());
        };
        let description = &shop.model.description;
        if let Some(Window {
            asked: Asked::Language,
            ..
        }) = self.windows.get(at)
        {
            self.learn_language(outcome, description)?;
            return self.go_on_with(at, shop);
        }
        let context = Context {
            plan: &self.request.plan,
            description,
            language: self.request.language.as_ref().and_then(|(token, _)| *token),
        };
        let Some(window) = self.windows.get_mut(at) else {
            return Ok(());
        };
        window.submitted = false;
        let prompt = window.before_alignment(&context).len();
        let chunks = self.request.tracks.get_mut(window.track);
        let Some(chunks) = chunks.and_then(|track| track.chunks()) else {
            return Err(unanswered(outcome));
        };
        let over = match &mut window.asked {
            Asked::Language => true,
            Asked::Alignment(chunk, _) => {
                let Outcome::Aligned(alignment) = outcome else {
                    return Err(unanswered(outcome));
                };
                chunks.aligned(*chunk, &alignment, prompt);
                true
            }
            Asked::Transcript(transcript) => match transcript.judge(outcome, &context)? {
                Judged::Doubted => false,
                Judged::Believed(chunk, attempt) => match chunks.decoded(chunk, attempt) {
                    Some(plan) => {
                        window.asked = Asked::Alignment(chunk, plan);
                        false
                    }
                    None => true,
                },
            },
        };
        if over {
            shop.batch.close(id);
            self.windows.remove(at);
        }
        Ok(())
    }

    fn learn_language(
        &mut self,
        outcome: Outcome,
        description: &Description,
    ) -> Result<(), RequestError> {
        let Outcome::Languages(probabilities) = outcome else {
            return Err(unanswered(outcome));
        };
        let languages = &description.generation.tokens.languages;
        let mut all: Vec<(u32, String, f32)> = languages
            .iter()
            .zip(probabilities)
            .map(|(language, probability)| (language.id, language.code.clone(), probability))
            .collect();
        // Equals stay in the order of their tokens, as argmax has it.
        all.sort_by(|a, b| b.2.total_cmp(&a.2));
        let Some((id, code, probability)) = all.first().cloned() else {
            return Err(RequestError::internal("the model has no languages"));
        };
        self.request.heard.language = Some(HeardLanguage {
            probability: Some(probability),
            probabilities: all.into_iter().map(|(_, code, p)| (code, p)).collect(),
            ..name(&code)
        });
        self.request.language = Some((Some(id), code));
        Ok(())
    }

    /// The window whose language was asked is the first of its track's transcript: it need not be encoded again.
    fn go_on_with(&mut self, at: usize, shop: &mut Workshop<'_>) -> Result<(), RequestError> {
        let mut window = self.windows.remove(at);
        if !self.request.plan.only_language {
            self.begin(&shop.model.description);
            let track = self.request.tracks.get_mut(window.track);
            if let Some(plan) = track.and_then(|track| track.next_plan()) {
                window = Window::transcript(window.id, window.track, plan);
                self.windows.push(window);
                return Ok(());
            }
        }
        shop.batch.close(window.id);
        Ok(())
    }

    /// Says what is new, and whether the request has ended.
    pub(super) fn tell(&mut self, description: &Description, events: &mut Events) -> Standing {
        let id = self.id();
        let request = &mut self.request;
        // Where there is nothing to hear, no language is ever found.
        let silent = request.tracks.iter().all(Track::is_silent);
        let answered = request.plan.only_language
            && request.heard.language.is_some()
            && self.windows.is_empty();
        let known = request.language.is_some() && !request.plan.only_language;
        if !request.told && (known || silent || answered) {
            request.told = true;
            events.push(id, Event::Heard(Box::new(request.heard.clone())));
        }
        if silent || answered {
            events.push(id, Event::Done(request.usage));
            return Standing::Ended;
        }
        let mut news = false;
        for (channel, track) in request.tracks.iter_mut().enumerate() {
            for segment in track.take_final(channel, description) {
                request.usage.completion_tokens += segment.tokens.len() as u32;
                events.push(id, Event::Segment(Box::new(segment)));
                news = true;
            }
        }
        if known && request.tracks.iter().all(|track| track.is_done()) {
            events.push(id, Event::Done(request.usage));
            return Standing::Ended;
        }
        request.tell_progress(id, news, (description, events));
        Standing::GoesOn
    }

    /// Takes it out of the batch, so that it can come again.
    pub(super) fn leave(mut self, batch: &mut DecodingBatch) -> WhisperPrepared {
        for window in self.windows.drain(..) {
            batch.close(window.id);
        }
        for track in &mut self.request.tracks {
            track.take_back();
        }
        self.request
    }
}

impl WhisperPrepared {
    fn tell_progress(
        &mut self,
        id: RequestId,
        news: bool,
        (description, events): (&Description, &mut Events),
    ) {
        /// Milliseconds of audio between two progresses without news.
        const APART: u32 = 1000;
        let tracks = self.tracks.len().max(1) as f64;
        let done: f64 = self
            .tracks
            .iter()
            .map(|track| track.done(description))
            .sum();
        let total = (self.heard.duration * 1000.0) as u32;
        let done = ((done / tracks * 1000.0) as u32).min(total);
        if done > self.progress && (news || done >= self.progress.saturating_add(APART)) {
            self.progress = done;
            events.push(id, Event::Progress { done, total });
        }
    }
}
