//! The reader that is pulled: packets in, blocks at the wanted rate out. Holds one packet, one decoded packet and the
//! resamplers' windows, however long the file is.

use std::time::Duration;

use symphonia::core::packet::Packet;

use super::codec::{self, Codec, Lost};
use super::demux::{Broken, Demuxer, Next};
use super::error::AudioError;
use super::resample::{Rates, Resampler};
use super::source::Source;
use super::{ACCEPTED_CHANNELS, ACCEPTED_RATES, MOST_CHANNELS, RATES};

/// Samples of a block at least, but for the last one: below this the calls cost more than the copying.
const BLOCK: usize = 4096;
/// Packets in a row that may fail before the file counts as damaged; an MP3 cut in its middle loses a handful.
const MOST_LOST_IN_A_ROW: u32 = 200;
/// Silence put in for one lost packet at most: its length is the file's own claim.
const LONGEST_GAP: Duration = Duration::from_secs(1);
/// Streams that may follow each other in one file, and changes of rate: each costs a decoder or a filter's plan, and a
/// hostile file could ask for one every hundred bytes.
const MOST_RESTARTS: u32 = 1000;
const MOST_RATES: u32 = 20;
/// Beyond this a sample is an error in a float file, and its square would not be finite.
const LOUDEST: f32 = 1e6;

/// What becomes of several channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// Their mean, as one.
    #[default]
    Mono,
    /// Each for itself.
    Separate,
}

/// What is wanted of a file.
#[derive(Debug, Clone)]
pub struct Options {
    /// Samples a second that come out.
    pub sample_rate: u32,
    /// What becomes of several channels.
    pub layout: Layout,
    /// More sound than this is an error; the file's own claim of its length plays no part.
    pub max_duration: Option<Duration>,
}

impl Default for Options {
    /// Mono at 16 kHz, a day at most.
    fn default() -> Self {
        Self {
            sample_rate: 16_000,
            layout: Layout::Mono,
            max_duration: Some(Duration::from_secs(24 * 3600)),
        }
    }
}

/// What was wrong in a file that could be decoded all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Damage {
    /// Packets that could not be decoded; silence stands in their place.
    pub lost_packets: u64,
    /// The file ends in the middle of something.
    pub cut_short: bool,
}

/// Samples of the same time in every channel.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    channels: &'a [Vec<f32>],
}

impl<'a> Block<'a> {
    /// One vector per channel, all of one length, -1 to 1 (lossy codecs may go a little beyond).
    pub fn channels(&self) -> &'a [Vec<f32>] {
        self.channels
    }

    /// The only channel of a [`Layout::Mono`] reader, else the first.
    pub fn mono(&self) -> &'a [f32] {
        self.channels.first().map_or(&[], Vec::as_slice)
    }
}

/// An open audio file.
pub struct Reader {
    demuxer: Demuxer,
    codec: Codec,
    options: Options,
    channels: usize,
    decoded: Vec<Vec<f32>>,
    mixed: Vec<Vec<f32>>,
    resamplers: Vec<Resampler>,
    /// The rate that the resamplers are for.
    rate: u32,
    out: Vec<Vec<f32>>,
    /// Frames to leave out yet, once the first packet told.
    skip: Option<u64>,
    /// Frames of sound yet to come, where the file says so.
    left: Option<u64>,
    given: u64,
    lost_in_a_row: u32,
    last_loss: Option<String>,
    damage: Damage,
    restarts: u32,
    rate_changes: u32,
    state: State,
}

/// How far a reader is.
enum State {
    /// Packets may be left.
    Reading,
    /// All samples are in the last block.
    Ended,
    /// As ended, but for this error, which comes after the samples that were good.
    Failing(AudioError),
    /// The error was given.
    Failed,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("container", &self.container())
            .field("codec", &self.codec())
            .field("given", &self.given)
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// Finds out what the bytes are and opens the decoder. The samples are not looked at yet.
    ///
    /// # Errors
    /// Not audio, an unsupported codec, a damaged header, a rate or channel count out of range; or the source fails.
    pub fn open(source: impl Into<Source>, options: Options) -> Result<Self, AudioError> {
        let demuxer = Demuxer::open(source.into())?;
        let parameters = demuxer.parameters();
        let codec = Codec::new(parameters)?;
        if codec.rate() != 0 {
            checked_rate(codec.rate())?;
        }
        let declared = parameters.channels.as_ref().map_or(1, |c| c.count());
        checked_channels(declared)?;
        let channels = match options.layout {
            Layout::Mono => 1,
            Layout::Separate => declared,
        };
        Ok(Self {
            demuxer,
            codec,
            channels,
            decoded: Vec::new(),
            mixed: vec![Vec::new(); channels],
            resamplers: Vec::new(),
            rate: 0,
            out: vec![Vec::new(); channels],
            skip: None,
            left: None,
            given: 0,
            lost_in_a_row: 0,
            last_loss: None,
            damage: Damage::default(),
            restarts: 0,
            rate_changes: 0,
            state: State::Reading,
            options,
        })
    }

    /// The container's name, such as `Ogg`.
    pub fn container(&self) -> &'static str {
        self.demuxer.container()
    }

    /// The codec's name, such as `Opus`.
    pub fn codec(&self) -> String {
        codec::name(self.demuxer.parameters().codec)
    }

    /// Samples a second of the file itself; 0 where only the first packet tells.
    pub fn source_rate(&self) -> u32 {
        self.codec.rate()
    }

    /// Channels that come out.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Samples a second that come out.
    pub fn sample_rate(&self) -> u32 {
        self.options.sample_rate
    }

    /// How long the file says it is. Good for progress; it may lie in either direction, and some files do not say.
    pub fn declared_duration(&self) -> Option<Duration> {
        self.demuxer.declared_duration()
    }

    /// How much has come out.
    pub fn position(&self) -> Duration {
        let rate = u64::from(self.options.sample_rate.max(1));
        Duration::from_secs(self.given / rate)
            + Duration::from_nanos(self.given % rate * 1_000_000_000 / rate)
    }

    /// What was wrong so far and could be passed over.
    pub fn damage(&self) -> Damage {
        self.damage
    }

    /// The next block, or `None` at the end. After an error there is nothing more.
    ///
    /// # Errors
    /// The file is damaged beyond passing over, longer than the limit, or holds no sample at all; or the source fails.
    pub fn read(&mut self) -> Result<Option<Block<'_>>, AudioError> {
        self.out.iter_mut().for_each(Vec::clear);
        if let Err(error) = self.fill() {
            // What was decoded before is good.
            self.flush();
            self.state = State::Failing(error);
        }
        let count = self.out.first().map_or(0, Vec::len);
        self.given += count as u64;
        if let Some(limit) = self.options.max_duration
            && count > 0
            && self.position() > limit
        {
            self.state = State::Failed;
            return Err(AudioError::TooLong { limit });
        }
        if count > 0 {
            return Ok(Some(Block {
                channels: &self.out,
            }));
        }
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Failing(error) => Err(error),
            State::Ended if self.given == 0 => Err(self.nothing()),
            _ => Ok(None),
        }
    }

    /// All that is left, one vector per channel. For files that are known to be short: this holds them whole.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read_to_end(&mut self) -> Result<Vec<Vec<f32>>, AudioError> {
        let mut all = vec![Vec::new(); self.channels];
        while let Some(block) = self.read()? {
            for (all, new) in all.iter_mut().zip(block.channels()) {
                all.extend_from_slice(new);
            }
        }
        Ok(all)
    }

    fn fill(&mut self) -> Result<(), AudioError> {
        while matches!(self.state, State::Reading)
            && self.out.first().is_none_or(|c| c.len() < BLOCK)
        {
            match self.demuxer.next() {
                Ok(Next::Packet(packet)) => self.packet(&packet)?,
                Ok(Next::Restart) => self.restart()?,
                Ok(Next::End) => self.end(),
                Ok(Next::CutShort) => {
                    self.damage.cut_short = true;
                    self.end();
                }
                Err(Broken::Read(error)) => return Err(AudioError::Read(error)),
                Err(Broken::Rules(reason)) => return Err(self.damaged(reason)),
            }
        }
        Ok(())
    }

    /// The next of several streams in one file, as internet radio and `cat a.ogg b.ogg` make them.
    fn restart(&mut self) -> Result<(), AudioError> {
        self.restarts += 1;
        if self.restarts > MOST_RESTARTS {
            return Err(self.damaged(format!(
                "more than {MOST_RESTARTS} streams follow each other"
            )));
        }
        self.codec =
            Codec::new(self.demuxer.parameters()).map_err(|e| self.damaged(e.to_string()))?;
        (self.skip, self.left) = (None, None);
        Ok(())
    }

    fn packet(&mut self, packet: &Packet) -> Result<(), AudioError> {
        let mut decoded = std::mem::take(&mut self.decoded);
        let outcome = self.codec.decode(packet, &mut decoded);
        match outcome {
            Ok(()) => self.lost_in_a_row = 0,
            Err(Lost::Decoder(reason)) => return Err(self.damaged(reason)),
            Err(Lost::Packet(reason)) => {
                self.damage.lost_packets += 1;
                self.lost_in_a_row += 1;
                if self.lost_in_a_row > MOST_LOST_IN_A_ROW {
                    return Err(self.damaged(reason));
                }
                self.last_loss = Some(reason);
                self.silence(packet, &mut decoded);
            }
        }
        let rate = self.codec.rate();
        // Before the first good packet the length of a lost one cannot be told in frames.
        if rate != 0 && !decoded.is_empty() {
            self.frames(packet, &mut decoded, rate)?;
        }
        self.decoded = decoded;
        Ok(())
    }

    /// Stands in for a packet that could not be decoded, so that what follows keeps its time.
    fn silence(&self, packet: &Packet, decoded: &mut [Vec<f32>]) {
        let rate = self.codec.rate();
        let longest = LONGEST_GAP.as_secs() * u64::from(rate);
        let frames = self.demuxer.frames_of_packet(packet, rate).min(longest);
        for plane in decoded {
            plane.clear();
            plane.resize(usize::try_from(frames).unwrap_or(0), 0.0);
        }
    }

    /// Decoded frames: without the encoder's padding, mixed, resampled.
    fn frames(
        &mut self,
        packet: &Packet,
        decoded: &mut [Vec<f32>],
        rate: u32,
    ) -> Result<(), AudioError> {
        checked_rate(rate)?;
        checked_channels(decoded.len())?;
        if self.skip.is_none() {
            let pre_skip = self.codec.pre_skip();
            self.skip = Some(self.demuxer.frames_before_sound(packet, rate, pre_skip));
            self.left = self.demuxer.frames_of_sound(rate);
        }
        self.cut(decoded);
        self.mix(decoded)?;
        if self.rate != rate {
            self.change_rate(rate)?;
        }
        let channels = self
            .resamplers
            .iter_mut()
            .zip(&self.mixed)
            .zip(&mut self.out);
        for ((resampler, samples), out) in channels {
            resampler.push(samples, out);
        }
        Ok(())
    }

    fn change_rate(&mut self, rate: u32) -> Result<(), AudioError> {
        self.rate_changes += 1;
        if self.rate_changes > MOST_RATES {
            return Err(self.damaged(format!(
                "the sample rate changes more than {MOST_RATES} times"
            )));
        }
        self.flush();
        let rates = Rates::new(rate, self.options.sample_rate);
        self.resamplers = (0..self.channels).map(|_| Resampler::new(&rates)).collect();
        self.rate = rate;
        Ok(())
    }

    fn cut(&mut self, decoded: &mut [Vec<f32>]) {
        let frames = decoded.first().map_or(0, Vec::len);
        let skip = self.skip.unwrap_or(0).min(frames as u64);
        self.skip = self.skip.map(|s| s - skip);
        let kept = (frames as u64 - skip).min(self.left.unwrap_or(u64::MAX));
        self.left = self.left.map(|l| l - kept);
        // Both are at most the number of frames.
        let (skip, kept) = (skip as usize, kept as usize);
        for plane in decoded {
            plane.drain(..skip.min(plane.len()));
            plane.truncate(kept);
        }
    }

    fn mix(&mut self, decoded: &[Vec<f32>]) -> Result<(), AudioError> {
        let sound = |s: f32| {
            if s.is_nan() {
                0.0
            } else {
                s.clamp(-LOUDEST, LOUDEST)
            }
        };
        if self.options.layout == Layout::Separate && decoded.len() != self.channels {
            return Err(self.damaged(format!(
                "the number of channels changes from {} to {}",
                self.channels,
                decoded.len()
            )));
        }
        if self.options.layout == Layout::Separate || decoded.len() == 1 {
            for (mixed, plane) in self.mixed.iter_mut().zip(decoded) {
                mixed.clear();
                mixed.extend(plane.iter().map(|s| sound(*s)));
            }
            return Ok(());
        }
        let Some(mixed) = self.mixed.first_mut() else {
            return Ok(());
        };
        let share = 1.0 / decoded.len() as f32;
        mixed.clear();
        mixed.resize(decoded.first().map_or(0, Vec::len), 0.0);
        for plane in decoded {
            for (sum, sample) in mixed.iter_mut().zip(plane) {
                *sum += sound(*sample) * share;
            }
        }
        Ok(())
    }

    fn flush(&mut self) {
        for (resampler, out) in self.resamplers.iter_mut().zip(&mut self.out) {
            resampler.finish(out);
        }
    }

    fn end(&mut self) {
        self.flush();
        self.state = State::Ended;
    }

    fn damaged(&self, reason: String) -> AudioError {
        AudioError::Damaged {
            at: self.position(),
            reason,
        }
    }

    /// Why there is no sample at all.
    fn nothing(&mut self) -> AudioError {
        match self.last_loss.take() {
            Some(reason) => self.damaged(reason),
            None if self.damage.cut_short => {
                self.damaged("the file ends before its first sample".to_string())
            }
            None => AudioError::Empty("the file is whole and holds no samples"),
        }
    }
}

fn checked_rate(rate: u32) -> Result<(), AudioError> {
    if RATES.contains(&rate) {
        return Ok(());
    }
    Err(AudioError::OutOfRange {
        field: "the sample rate",
        value: u64::from(rate),
        accepted: ACCEPTED_RATES,
    })
}

fn checked_channels(channels: usize) -> Result<(), AudioError> {
    if (1..=MOST_CHANNELS).contains(&channels) {
        return Ok(());
    }
    Err(AudioError::OutOfRange {
        field: "the number of channels",
        value: channels as u64,
        accepted: ACCEPTED_CHANNELS,
    })
}
