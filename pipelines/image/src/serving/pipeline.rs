//! A diffusion model as the engine sees it: each step is one pass of one part of the model, for whoever waits for that.

use std::sync::Arc;

use chandler_core::{
    Activity, Admission, Event, Events, Footprint, Occupancy, Parked, Pipeline, Prepare, RequestId,
    Step, StepError, Ticket,
};
use chandler_nn::device;
use chandler_nn::parking::Parking;

use super::coder::Coder;
use super::controls::Nets;
use super::denoise::Member;
use super::drawing::{Expert, ImagePrepared};
use super::encoders::TextEncoders;
use super::families::Denoiser;
use super::prepare::ImagePreparer;
use super::preview::{self, Tiny};
use super::turns::{Place, Turn};
use super::{decode, denoise, turns};
use crate::error::{ImageError, Result};
use crate::failure;
use crate::layers::Placement;
use crate::safety::SafetyChecker;

/// The parts of a loaded model.
pub(super) struct Model {
    pub(super) placement: Placement,
    /// The base model, and the refiner where there is one.
    pub(super) experts: Vec<ExpertParts>,
    pub(super) coder: Coder,
    /// Decodes previews, where there is one.
    pub(super) tiny: Option<Tiny>,
    pub(super) controls: Nets,
    /// Looks at finished pictures.
    pub(super) checker: Option<SafetyChecker>,
    /// Bytes of the adapters beside all of them.
    pub(super) adapter_bytes: u64,
}

/// What takes noise away, and what reads texts for it.
pub(super) struct ExpertParts {
    pub(super) encoders: TextEncoders,
    pub(super) denoiser: Box<dyn Denoiser>,
}

impl Model {
    pub(super) fn expert(&self, expert: Expert) -> Result<&ExpertParts> {
        self.parts(expert as usize)
    }

    fn parts(&self, number: usize) -> Result<&ExpertParts> {
        let parts = self.experts.get(number);
        parts.ok_or_else(|| ImageError::Input(format!("there is no expert of number {number}")))
    }

    /// Encodes a piece of what a request brought: the picture that it begins with, or one that steers it.
    fn look_at(&self, request: &mut ImagePrepared) -> Result<()> {
        if let Some(start) = request.start.as_mut().filter(|start| !start.is_encoded()) {
            return start.encode(&self.coder);
        }
        let mut steering = request.controls.iter_mut();
        match steering.find(|steering| !steering.is_embedded()) {
            Some(steering) => steering.embed(&self.controls, &self.placement),
            None => Ok(()),
        }
    }

    fn footprint(&self) -> Footprint {
        let rest = self.coder.bytes()
            + self.tiny.as_ref().map_or(0, Tiny::bytes)
            + self.controls.bytes()
            + self.checker.as_ref().map_or(0, SafetyChecker::bytes)
            + self.adapter_bytes;
        let mut footprint = device::footprint(&self.placement.device, rest);
        for ExpertParts { encoders, denoiser } in &self.experts {
            let [clip, t5] = encoders.bytes();
            let rest = device::footprint(&self.placement.device, clip + denoiser.bytes());
            let t5 = device::footprint(&encoders.t5_at.device, t5);
            footprint.device_bytes += rest.device_bytes + t5.device_bytes;
            footprint.host_bytes += rest.host_bytes + t5.host_bytes;
        }
        footprint
    }
}

/// A loaded diffusion model.
pub struct ImagePipeline {
    pub(super) model: Model,
    pub(super) preparer: Arc<ImagePreparer>,
    pub(super) running: Vec<(Ticket, ImagePrepared)>,
    /// Rows that a pass of the denoiser takes.
    pub(super) rows: usize,
    /// Steps so far.
    pub(super) turn: u64,
    /// Calls of the denoiser so far.
    pub(super) calls: u64,
    pub(super) parking: Parking,
}

impl ImagePipeline {
    /// Passes of the denoiser so far, whatever their rows: what a test counts to see that requests share them.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    fn next(&self) -> Option<Turn> {
        let requests = self.running.iter().enumerate();
        let requests: Vec<(usize, &ImagePrepared)> = requests
            .filter(|(_, (ticket, _))| !ticket.cancelled.is_raised())
            .map(|(at, (_, request))| (at, request))
            .collect();
        let sizes = &self.preparer.sizes;
        turns::next(&requests, &|request| {
            sizes.rows(request.asked.size, self.rows)
        })
    }

    /// Does a piece of work; gives back the rows that it had.
    fn work(&mut self, turn: &Turn, events: &mut Events) -> Result<usize> {
        match turn {
            Turn::Read(at) => {
                self.read(*at, events)?;
                Ok(1)
            }
            Turn::Encode(at) => {
                if let Some((_, request)) = self.running.get_mut(*at) {
                    self.model.look_at(request)?;
                    request.touch(self.turn);
                }
                Ok(1)
            }
            Turn::Denoise(places) => self.denoise(places, events),
            Turn::Decode((at, index)) => {
                if let Some((ticket, request)) = self.running.get_mut(*at) {
                    decode::decode(&self.model, (ticket.id, request), *index, events)?;
                }
                self.touch(&[(*at, *index)]);
                Ok(1)
            }
            Turn::Check((at, index)) => {
                if let Some((ticket, request)) = self.running.get_mut(*at) {
                    decode::check(&self.model, (ticket.id, request), *index, events)?;
                }
                self.touch(&[(*at, *index)]);
                Ok(1)
            }
            Turn::Preview((at, index)) => {
                if let Some((ticket, request)) = self.running.get_mut(*at) {
                    let latent = request.asked.latent;
                    if let Some(drawing) = request.drawings.get_mut(*index) {
                        preview::preview(&self.model, (ticket.id, drawing), latent, events)?;
                    }
                }
                self.touch(&[(*at, *index)]);
                Ok(1)
            }
        }
    }

    /// A piece of a request's texts.
    fn read(&mut self, at: usize, events: &mut Events) -> Result<()> {
        let Some((ticket, request)) = self.running.get_mut(at) else {
            return Ok(());
        };
        let asked = Arc::clone(&request.asked);
        let number = request.conditions.len();
        let Some(reading) = asked.readings.get(number) else {
            return Ok(());
        };
        let ExpertParts { encoders, denoiser } = self.model.parts(number)?;
        let mut encoding = match request.encoding.take() {
            Some(encoding) => encoding,
            None => {
                // Adapters are the base model's.
                let loras = if number == 0 {
                    asked.loras.as_slice()
                } else {
                    &[]
                };
                encoders.begin(reading, loras)?
            }
        };
        match encoders.advance(&mut encoding, reading, denoiser.as_ref())? {
            Some(conditions) => request.conditions.push(conditions),
            None => request.encoding = Some(encoding),
        }
        if !request.is_read() {
            request.touch(self.turn);
        } else if !std::mem::replace(&mut request.told, true) {
            let started = Event::Started {
                prompt_tokens: asked.tokens,
                cached_tokens: 0,
            };
            events.push(ticket.id, started);
        }
        Ok(())
    }

    fn denoise(&mut self, places: &[Place], events: &mut Events) -> Result<usize> {
        for (at, index) in places {
            if let Some((_, request)) = self.running.get_mut(*at) {
                denoise::begin(&self.model, request, *index)?;
            }
        }
        // A picture of which nothing is to be changed has no step.
        let steps = |(at, index): &Place| {
            let request = self.running.get(*at).map(|(_, request)| request);
            let drawing = request.and_then(|request| request.drawings.get(*index));
            drawing.is_some_and(|drawing| drawing.sampler.call().is_some())
        };
        let stepping: Vec<Place> = places
            .iter()
            .filter(|place| steps(place))
            .copied()
            .collect();
        let members: Vec<Member<'_>> = stepping
            .iter()
            .filter_map(|(at, index)| {
                let (_, request) = self.running.get(*at)?;
                Some(Member {
                    request,
                    index: *index,
                })
            })
            .collect();
        let rows = members.iter().map(|m| m.request.rows_each()).sum();
        let predicted = denoise::predict(&self.model, &members)?;
        let advanced = members
            .iter()
            .zip(&predicted)
            .map(|(member, predicted)| denoise::advanced(&self.model, member, predicted))
            .collect::<Result<Vec<_>>>()?;
        self.calls += u64::from(rows > 0);
        for ((at, index), drawing) in stepping.into_iter().zip(advanced) {
            if let Some((ticket, request)) = self.running.get_mut(at) {
                if let Some(place) = request.drawings.get_mut(index) {
                    *place = drawing;
                }
                let (done, total) = request.progress();
                events.push(ticket.id, Event::Progress { done, total });
            }
        }
        self.touch(places);
        Ok(rows)
    }

    /// These have had their turn.
    fn touch(&mut self, places: &[Place]) {
        for (at, index) in places {
            let request = self.running.get_mut(*at);
            let drawing = request.and_then(|(_, request)| request.drawings.get_mut(*index));
            if let Some(drawing) = drawing {
                drawing.turn = self.turn;
            }
        }
    }

    fn take_out(&mut self, id: RequestId) -> Option<ImagePrepared> {
        let mut places = self.running.iter();
        let at = places.position(|(ticket, _)| ticket.id == id)?;
        let (_, mut request) = self.running.remove(at);
        request.leave_device();
        Some(request)
    }

    fn rows_inside(&self) -> usize {
        let rows = |(_, request): &(Ticket, ImagePrepared)| {
            let open = request.drawings.iter().filter(|drawing| !drawing.is_done());
            open.count() * request.rows_each()
        };
        self.running.iter().map(rows).sum()
    }
}

impl Pipeline for ImagePipeline {
    type Prepared = ImagePrepared;

    fn preparer(&self) -> Arc<dyn Prepare<Prepared = ImagePrepared>> {
        Arc::clone(&self.preparer) as _
    }

    fn admit(&mut self, ticket: Ticket, mut request: ImagePrepared) -> Admission<ImagePrepared> {
        let rows = request.drawings.len() * request.rows_each();
        if !self.running.is_empty() && self.rows_inside() + rows > self.preparer.inside {
            return Admission::Full(request);
        }
        // Who comes late waits for one turn, not for as many as the others have had.
        request.touch(self.turn);
        self.running.push((ticket, request));
        Admission::Taken
    }

    fn step(&mut self, events: &mut Events) -> Result<Step, StepError> {
        if self.running.is_empty() {
            return Ok(Step::IDLE);
        }
        self.parking.check_awake()?;
        let rows = self.rows_inside();
        let Some(turn) = self.next() else {
            return Ok(Step {
                activity: Activity::Waiting,
                rows,
                work: 0,
            });
        };
        self.turn += 1;
        let work = self
            .work(&turn, events)
            .map_err(|error| failure::of_pass(&error))?;
        self.running.retain(|(_, request)| !request.is_done());
        Ok(Step {
            activity: Activity::Worked,
            rows,
            work,
        })
    }

    fn cancel(&mut self, id: RequestId) {
        self.take_out(id);
    }

    fn suspend(&mut self, id: RequestId) -> Option<ImagePrepared> {
        self.take_out(id)
    }

    fn reset(&mut self) -> Result<(), StepError> {
        device::failure::recover(&self.model.placement.device)
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
        // A guided picture is two rows, and one picture always runs.
        self.rows.max(2)
    }

    fn occupancy(&self) -> Occupancy {
        Occupancy {
            requests: self.running.len(),
            rows: self.rows_inside(),
            ..Occupancy::default()
        }
    }

    fn footprint(&self) -> Footprint {
        self.parking.footprint(self.model.footprint())
    }
}
