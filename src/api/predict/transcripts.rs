//! Predictions of speech as events: segments of each instance as they are final, how far each is, and at the end the predictions
//! that would have come whole. Apart from OpenAI's events of one transcript, which have other words.

use chandler_core::{Collected, Event, Heard, SpokenSegment, TextDelta, Usage};
use serde_json::{Value, json};

use crate::api::audio::answer;
use crate::api::audio::fields::Wish;
use crate::api::sse::{Frames, Writer};

/// Writes them.
pub(super) struct Events {
    instances: Vec<Instance>,
    progress: bool,
}

struct Instance {
    wish: Wish,
    /// All that was heard so far.
    heard: Collected,
    /// Segments that have gone out.
    told: u64,
}

impl Events {
    pub(super) fn new(wishes: Vec<Wish>, progress: bool) -> Self {
        let instances = wishes.into_iter().map(|wish| Instance {
            wish,
            heard: Collected::default(),
            told: 0,
        });
        Self {
            instances: instances.collect(),
            progress,
        }
    }

    fn progress_of(&self, number: usize, seconds: f64) -> Option<Value> {
        let transcript = self.instances.get(number)?.heard.transcript.as_deref()?;
        let mut event = answer::progress(seconds, &transcript.heard);
        event["instance"] = number.into();
        self.progress.then_some(event)
    }

    fn add(&mut self, number: usize, event: Event) {
        if let Some(instance) = self.instances.get_mut(number) {
            // Why ignored: failures do not come this way, and whether it was the last one is not asked here.
            let _ = instance.heard.add(event);
        }
    }
}

impl Writer for Events {
    fn text(&mut self, _: usize, _: TextDelta, _: &mut Frames) {}

    fn heard(&mut self, number: usize, heard: Heard, frames: &mut Frames) {
        self.add(number, Event::Heard(Box::new(heard)));
        if let Some(event) = self.progress_of(number, 0.0) {
            frames.push(&event);
        }
    }

    fn segment(&mut self, number: usize, segment: SpokenSegment, frames: &mut Frames) {
        if let Some(instance) = self.instances.get_mut(number) {
            let told = answer::segment(&segment, instance.told, &instance.wish);
            frames
                .push(&json!({"type": "transcript.segment", "instance": number, "segment": told}));
            instance.told += 1;
        }
        self.add(number, Event::Segment(Box::new(segment)));
    }

    fn progress(&mut self, number: usize, (done, _): (u32, u32), frames: &mut Frames) {
        if let Some(event) = self.progress_of(number, f64::from(done) / 1000.0) {
            frames.push(&event);
        }
    }

    fn ended(&mut self, number: usize, usage: Usage) {
        self.add(number, Event::Done(usage));
    }

    fn close(&mut self, _: Usage, frames: &mut Frames) {
        let instances = std::mem::take(&mut self.instances).into_iter();
        let predictions = instances.map(|one| answer::prediction(one.heard, &one.wish));
        let predictions: Vec<Value> = predictions.collect();
        frames.push(&json!({"type": "predictions", "predictions": predictions}));
    }
}
