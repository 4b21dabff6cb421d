//! The first pass over a recording: every sample is decoded once, so that a damaged file is told before anything runs, and how long it
//! is, how loud and where somebody speaks are known. Memory is bounded: frames are kept only as far as [`KEPT_BYTES`].

use std::time::Duration;

use chandler_core::Audio;

use super::{Ear, of_request, open};
use crate::audio::{AudioError, Layout, Reader};
use crate::vad::{Detector, Segment, VadOptions};

/// Bytes of frames that a track keeps of its beginning: 17 minutes of 80 bins. What is beyond is read again when it is wanted.
pub(crate) const KEPT_BYTES: usize = 32 << 20;

/// What is to be found out of a recording.
pub(crate) struct Wanted<'a> {
    pub(crate) audio: &'a Audio,
    pub(crate) ear: &'a Ear,
    /// Each channel for itself.
    pub(crate) apart: bool,
    pub(crate) max_seconds: Option<f64>,
    /// Where somebody speaks is wanted, found by these rules.
    pub(crate) activity: Option<&'a VadOptions>,
    /// Bytes of frames that each track keeps; [`KEPT_BYTES`], less in tests.
    pub(crate) kept_bytes: usize,
}

/// What was found.
pub(crate) struct Recording {
    /// Samples of each channel.
    pub(crate) samples: u64,
    /// One for each channel that is transcribed.
    pub(crate) tracks: Vec<Sketch>,
}

/// One channel.
pub(crate) struct Sketch {
    /// The first frames, not finished.
    pub(crate) kept: Vec<f32>,
    /// All frames.
    pub(crate) frames: usize,
    pub(crate) loudest: f32,
    /// Where somebody speaks, where that was wanted.
    pub(crate) speech: Option<Vec<Segment>>,
}

/// Hears all of a recording once.
///
/// # Errors
/// What is wrong with the audio, and options of voice activity that are out of range.
pub(crate) fn listen(wanted: &Wanted<'_>) -> Result<Recording, chandler_core::RequestError> {
    let layout = match wanted.apart {
        true => Layout::Separate,
        false => Layout::Mono,
    };
    let most = wanted.max_seconds.map(Duration::from_secs_f64);
    let reader = open(wanted.audio, wanted.ear, layout, most);
    let mut reader = reader.map_err(|error| of_request(&error))?;
    let mut listeners = Vec::with_capacity(reader.channels());
    for _ in 0..reader.channels() {
        listeners.push(Listener::new(wanted)?);
    }
    let samples = read(&mut reader, &mut listeners).map_err(|error| of_request(&error))?;
    let damage = reader.damage();
    if damage.lost_packets > 0 || damage.cut_short {
        tracing::warn!(
            lost_packets = damage.lost_packets,
            cut_short = damage.cut_short,
            "the audio is damaged and was read as far as it goes"
        );
    }
    Ok(Recording {
        samples,
        tracks: listeners
            .into_iter()
            .map(|listener| listener.sketch(samples))
            .collect(),
    })
}

fn read(reader: &mut Reader, listeners: &mut [Listener<'_>]) -> Result<u64, AudioError> {
    let mut samples = 0;
    while let Some(block) = reader.read()? {
        samples += block.mono().len() as u64;
        for (listener, channel) in listeners.iter_mut().zip(block.channels()) {
            listener.push(channel);
        }
    }
    Ok(samples)
}

/// Hears one channel.
struct Listener<'a> {
    ear: &'a Ear,
    stream: super::ear::Stream,
    kept_numbers: usize,
    new: Vec<f32>,
    kept: Vec<f32>,
    loudest: f32,
    detector: Option<Detector>,
    speech: Vec<Segment>,
}

impl<'a> Listener<'a> {
    fn new(wanted: &Wanted<'a>) -> Result<Self, chandler_core::RequestError> {
        let detector = wanted.activity.map(Detector::new).transpose();
        let detector = detector.map_err(|error| {
            let field = format!("vad_parameters.{}", error.field);
            chandler_core::RequestError::field(field, format!("vad_parameters: {error}"))
        })?;
        Ok(Self {
            ear: wanted.ear,
            stream: wanted.ear.stream(),
            // Whole frames.
            kept_numbers: wanted.kept_bytes / 4 / wanted.ear.width() * wanted.ear.width(),
            new: Vec::new(),
            kept: Vec::new(),
            loudest: wanted.ear.loudest(&[]),
            detector,
            speech: Vec::new(),
        })
    }

    fn push(&mut self, samples: &[f32]) {
        self.stream.push(samples, &mut self.new);
        self.take();
        if let Some(detector) = &mut self.detector {
            detector.push(samples, &mut self.speech);
        }
    }

    fn take(&mut self) {
        self.loudest = self.loudest.max(self.ear.loudest(&self.new));
        let room = self.kept_numbers - self.kept.len();
        let new = self.new.get(..room).unwrap_or(&self.new);
        self.kept.extend_from_slice(new);
        self.new.clear();
    }

    fn sketch(mut self, samples: u64) -> Sketch {
        self.stream.end(&mut self.new);
        self.take();
        if let Some(mut detector) = self.detector.take() {
            detector.finish(&mut self.speech);
            self.detector = Some(detector);
        }
        // A recording's samples fit memory's addresses by far: a day at 16 kHz is 2^31.
        let frames = (samples / self.ear.hop() as u64) as usize;
        self.kept.truncate(frames * self.ear.width());
        self.kept.shrink_to_fit();
        Sketch {
            kept: self.kept,
            frames,
            loudest: self.loudest,
            speech: self.detector.is_some().then_some(self.speech),
        }
    }
}
