//! A CTC model as the engine sees it: utterances of whoever is there go through together, a stage of the model a step.

use std::sync::Arc;

use chandler_core::{
    Activity, Admission, Event, Events, Footprint, Occupancy, Parked, Pipeline, Prepare,
    RequestError, RequestId, Step, StepError, Ticket,
};
use chandler_nn::device;
use chandler_nn::parking::Parking;

use super::prepare::CtcPreparer;
use super::prepared::{CtcPrepared, Said};
use super::underway::{Member, Underway};
use crate::ctc::{Adapter, Ctc, Spoken};
use crate::error::Result;
use crate::failure;
use crate::listening::of_request;

/// A loaded CTC model.
pub struct CtcPipeline {
    pub(super) model: Ctc,
    pub(super) preparer: Arc<CtcPreparer>,
    pub(super) running: Vec<(Ticket, CtcPrepared)>,
    pub(super) underway: Option<Underway>,
    /// Requests at once.
    pub(super) most: usize,
    /// Utterances, and their samples, that go through together at most.
    pub(super) together: (usize, usize),
    /// Whose turn it is first.
    pub(super) turn: usize,
    /// The model's own weights. Other languages' stay where they are: they come and go with requests, and are small.
    pub(super) parking: Parking,
}

/// An utterance that is taken up: its samples, its language's layers, and whose it is.
type Taken = (Vec<f32>, Arc<Adapter>, Member);

impl CtcPipeline {
    /// Takes up utterances of all requests in turn, as many as go through together.
    fn take_up(&mut self, failed: &mut Vec<(RequestId, RequestError)>) -> Vec<Taken> {
        let (most, samples) = self.together;
        let (mut taken, mut held): (Vec<Taken>, usize) = (Vec::new(), 0);
        let count = self.running.len();
        loop {
            let before = taken.len();
            for place in 0..count {
                let at = (self.turn + place) % count;
                if taken.len() >= most || (held >= samples && held > 0) {
                    return taken;
                }
                let Some((ticket, request)) = self.running.get_mut(at) else {
                    continue;
                };
                if ticket.cancelled.is_raised() || failed.iter().any(|(id, _)| *id == ticket.id) {
                    continue;
                }
                match next_utterance(ticket.id, request, &self.model) {
                    Ok(Some(next)) => {
                        held += next.0.len();
                        taken.push(next);
                    }
                    Ok(None) => {}
                    Err(error) => failed.push((ticket.id, error)),
                }
            }
            if taken.len() == before {
                return taken;
            }
        }
    }

    fn advance(&mut self, events: &mut Events) -> Result<usize> {
        let Some(underway) = &mut self.underway else {
            return Ok(0);
        };
        let count = underway.members.len();
        if self.model.advance(&mut underway.hearing)? {
            let spoken = self.model.spoken(&underway.hearing)?;
            if let Some(underway) = self.underway.take() {
                for (member, spoken) in underway.members.into_iter().zip(spoken) {
                    self.say(&member, &spoken, events);
                }
            }
        }
        Ok(count)
    }

    /// An utterance's text becomes a segment of its request.
    fn say(&mut self, member: &Member, spoken: &[Spoken], events: &mut Events) {
        let Some(id) = member.owner else {
            return;
        };
        let found = self.running.iter_mut().find(|(ticket, _)| ticket.id == id);
        let Some((_, request)) = found else {
            return;
        };
        let text = request.language.vocabulary.text(spoken);
        let segment = request.segment(&Said {
            channel: member.channel,
            words: &text.words,
            text: &text.text,
            at: member.at,
            samples_per_frame: self.model.config.samples_per_frame(),
            sample_rate: self.preparer.ear.sample_rate,
        });
        request.tell_heard(id, events);
        if let Some(segment) = segment {
            events.push(id, Event::Segment(Box::new(segment)));
        }
        if let Some(track) = request.tracks.get_mut(member.channel) {
            track.next += 1;
            track.out = track.out.saturating_sub(1);
            let place = track
                .stretches
                .get(track.next)
                .map_or(member.at, |next| next.start);
            track.heard.forget_before(place);
        }
        request.tell_progress(id, (member, self.preparer.ear.sample_rate), events);
    }

    fn take_out(&mut self, id: RequestId) -> Option<CtcPrepared> {
        let at = self
            .running
            .iter()
            .position(|(ticket, _)| ticket.id == id)?;
        let (_, mut request) = self.running.remove(at);
        for track in &mut request.tracks {
            track.out = 0;
        }
        self.underway.take_if(|underway| underway.forget(id));
        Some(request)
    }
}

/// The next utterance of a request whose samples are at hand; those too short to say anything are passed over.
fn next_utterance(
    id: RequestId,
    request: &mut CtcPrepared,
    model: &Ctc,
) -> Result<Option<Taken>, RequestError> {
    for (channel, track) in request.tracks.iter_mut().enumerate() {
        while let Some(stretch) = track.waiting() {
            let Some(samples) = track.heard.frames(&stretch) else {
                let begins = track.stretches.get(track.next).unwrap_or(&stretch).start;
                // A long silence is not gathered up.
                track.heard.forget_before(begins);
                track.heard.read_on().map_err(|error| of_request(&error))?;
                break;
            };
            if model.config.frames(samples.len()) == 0 {
                if track.out > 0 {
                    break;
                }
                track.next += 1;
                continue;
            }
            track.out += 1;
            let member = Member {
                owner: Some(id),
                channel,
                at: stretch.start,
            };
            return Ok(Some((
                samples,
                Arc::clone(&request.language.adapter),
                member,
            )));
        }
    }
    Ok(None)
}

impl CtcPrepared {
    fn tell_heard(&mut self, id: RequestId, events: &mut Events) {
        if !std::mem::replace(&mut self.told, true) {
            events.push(id, Event::Heard(Box::new(self.heard.clone())));
        }
    }

    fn tell_progress(&self, id: RequestId, (member, rate): (&Member, u32), events: &mut Events) {
        let Some(track) = self.tracks.get(member.channel) else {
            return;
        };
        let place = match track.stretches.get(track.next) {
            Some(next) => next.start,
            None => track.heard.timeline.length(),
        };
        let channels = self.tracks.len().max(1) as f64;
        let seconds = track.heard.timeline.end(place as f64 / f64::from(rate));
        let done = (member.channel as f64 * self.heard.duration + seconds) / channels;
        events.push(
            id,
            Event::Progress {
                done: (done * 1000.0) as u32,
                total: (self.heard.duration * 1000.0) as u32,
            },
        );
    }
}

impl Pipeline for CtcPipeline {
    type Prepared = CtcPrepared;

    fn preparer(&self) -> Arc<dyn Prepare<Prepared = CtcPrepared>> {
        Arc::clone(&self.preparer) as _
    }

    fn admit(&mut self, ticket: Ticket, request: CtcPrepared) -> Admission<CtcPrepared> {
        if self.running.len() >= self.most {
            return Admission::Full(request);
        }
        self.running.push((ticket, request));
        Admission::Taken
    }

    fn step(&mut self, events: &mut Events) -> Result<Step, StepError> {
        let rows = self.running.len();
        if rows == 0 {
            return Ok(Step::IDLE);
        }
        self.parking.check_awake()?;
        let mut failed = Vec::new();
        if self.underway.is_none() {
            let taken = self.take_up(&mut failed);
            self.turn = self.turn.wrapping_add(1);
            if !taken.is_empty() {
                let utterances: Vec<_> = taken
                    .iter()
                    .map(|(samples, adapter, _)| (samples.as_slice(), Arc::clone(adapter)))
                    .collect();
                let begun = self.model.begin(&utterances);
                self.underway = Some(Underway {
                    hearing: begun.map_err(|error| failure::of_pass(&error))?,
                    members: taken.into_iter().map(|(_, _, member)| member).collect(),
                });
            }
        }
        let work = self
            .advance(events)
            .map_err(|error| failure::of_pass(&error))?;
        for (id, error) in failed {
            if self.take_out(id).is_some() {
                events.push(id, Event::Failed(error));
            }
        }
        let mut ended = Vec::new();
        let mut moving = false;
        for (ticket, request) in &mut self.running {
            if ticket.cancelled.is_raised() {
                continue;
            }
            moving = true;
            if request.tracks.iter().all(|track| track.is_done()) {
                request.tell_heard(ticket.id, events);
                events.push(ticket.id, Event::Done(request.usage));
                ended.push(ticket.id);
            }
        }
        for id in ended {
            self.take_out(id);
        }
        let activity = match moving || work > 0 || !events.is_empty() {
            true => Activity::Worked,
            false => Activity::Waiting,
        };
        Ok(Step {
            activity,
            rows,
            work,
        })
    }

    fn cancel(&mut self, id: RequestId) {
        self.take_out(id);
    }

    fn suspend(&mut self, id: RequestId) -> Option<CtcPrepared> {
        self.take_out(id)
    }

    fn reset(&mut self) -> Result<(), StepError> {
        device::failure::recover(&self.model.placement.device)?;
        self.underway = None;
        Ok(())
    }

    fn parking_space(&self) -> Option<u64> {
        self.parking.space()
    }

    fn park(&mut self) -> Result<Parked, StepError> {
        self.parking.park()
    }

    fn wake(&mut self) -> Result<(), StepError> {
        self.parking.wake()
    }

    fn step_bound(&self) -> usize {
        self.together.0
    }

    fn occupancy(&self) -> Occupancy {
        Occupancy {
            requests: self.running.len(),
            rows: self.running.len(),
            ..Occupancy::default()
        }
    }

    fn footprint(&self) -> Footprint {
        let held = self.model.bytes() as u64;
        let held = device::footprint(&self.model.placement.device, held);
        self.parking.footprint(held)
    }
}
