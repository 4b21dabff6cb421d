//! What distinguishes speech from what is around it, per frame: how far each band stands above the noise there, whether
//! the frame has a pitch, how flat it is, how fast it changes. The noise in a band is its quiet moments in the seconds
//! before and the second after (minimum statistics after Martin, 2001, with a look ahead, because a recording is there to
//! be looked ahead in).

use std::collections::VecDeque;
use std::sync::Arc;

use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner};

use super::spectrum::{BANDS, Frame, PITCH_BINS, RATE, TRANSFORM, edges};

/// Frames over which a minimum is taken first: 100 ms.
const BLOCK: usize = 10;
/// Blocks before and after the present one in which the noise is looked for; the recording's first as many in any case.
const PAST: usize = 20;
const FUTURE: usize = 10;
/// The quietest blocks whose mean is the noise.
const QUIET: usize = 3;
/// Bands are grouped for the classifier.
const GROUP: usize = 3;
/// Numbers per frame.
pub(super) const MEASURES: usize = BANDS / GROUP + 5;
/// The autocorrelation is taken at this rate, of the frequencies below half of it.
const PITCH_RATE: usize = RATE * 2 * (PITCH_BINS - 1) / TRANSFORM;
/// Voices are looked for between these, in Hz.
const LOWEST_VOICE: usize = 70;
const HIGHEST_VOICE: usize = 400;

/// One frame's measures, each around 0 to 2.
pub(super) type Measures = [f32; MEASURES];

/// Frames in, measures out, a second later.
pub(super) struct Measurer {
    frames: VecDeque<Frame>,
    /// The minimum of each band in each block, the oldest first.
    blocks: VecDeque<[f32; BANDS]>,
    /// Index of the oldest block.
    first_block: usize,
    /// The block that is being filled: its minima so far, and its frames.
    open: ([f32; BANDS], usize),
    /// The last three frames' bands, for smoothing.
    recent: VecDeque<[f32; BANDS]>,
    /// Frames measured so far, and the noise in the block of the last.
    measured: usize,
    noise: Option<(usize, [f32; BANDS])>,
    last: [f32; BANDS],
    pitch: Pitch,
}

impl Measurer {
    pub(super) fn new() -> Self {
        Self {
            frames: VecDeque::new(),
            blocks: VecDeque::new(),
            first_block: 0,
            open: ([f32::MAX; BANDS], 0),
            recent: VecDeque::new(),
            measured: 0,
            noise: None,
            last: [0.0; BANDS],
            pitch: Pitch::new(),
        }
    }

    /// Takes a frame and hands over the measures of those whose surroundings are known.
    pub(super) fn push(&mut self, frame: Frame, mut each: impl FnMut(Measures)) {
        self.recent.push_back(frame.bands);
        if self.recent.len() > 3 {
            self.recent.pop_front();
        }
        let share = 1.0 / self.recent.len() as f32;
        for (band, least) in self.open.0.iter_mut().enumerate() {
            let smoothed: f32 = self.recent.iter().filter_map(|b| b.get(band)).sum::<f32>() * share;
            *least = least.min(smoothed);
        }
        self.open.1 += 1;
        self.frames.push_back(frame);
        if self.open.1 == BLOCK {
            self.close_block();
            // A block is known when the blocks after it are, and the first ones when the first three seconds are.
            let known = self.first_block + self.blocks.len();
            if known > PAST + FUTURE {
                self.measure(known.saturating_sub(FUTURE), &mut each);
            }
        }
    }

    /// Hands over the measures of what is left.
    pub(super) fn finish(&mut self, mut each: impl FnMut(Measures)) {
        if self.open.1 > 0 {
            self.close_block();
        }
        self.measure(usize::MAX, &mut each);
    }

    fn close_block(&mut self) {
        self.blocks.push_back(self.open.0);
        self.open = ([f32::MAX; BANDS], 0);
    }

    /// Measures the frames of all blocks before `end`.
    fn measure(&mut self, end: usize, each: &mut impl FnMut(Measures)) {
        while self.measured / BLOCK < end
            && let Some(frame) = self.frames.pop_front()
        {
            let block = self.measured / BLOCK;
            let noise = match self.noise {
                Some((known, noise)) if known == block => noise,
                _ => self.noise_around(block),
            };
            self.noise = Some((block, noise));
            let measures = self.one(&frame, &noise);
            self.measured += 1;
            each(measures);
        }
    }

    fn noise_around(&mut self, block: usize) -> [f32; BANDS] {
        while self.first_block + PAST < block {
            self.blocks.pop_front();
            self.first_block += 1;
        }
        let span = (block + FUTURE + 1).max(PAST + FUTURE + 1) - self.first_block;
        let mut noise = [0.0; BANDS];
        let mut column = Vec::with_capacity(span);
        for (band, level) in noise.iter_mut().enumerate() {
            column.clear();
            column.extend(self.blocks.iter().take(span).filter_map(|b| b.get(band)));
            column.sort_unstable_by(f32::total_cmp);
            column.truncate(QUIET);
            *level = column.iter().sum::<f32>() / column.len().max(1) as f32;
        }
        noise
    }

    fn one(&mut self, frame: &Frame, noise: &[f32; BANDS]) -> Measures {
        let mut above = [0.0; BANDS];
        for ((above, level), noise) in above.iter_mut().zip(&frame.bands).zip(noise) {
            *above = (level - noise).clamp(0.0, 40.0);
        }
        let change = above
            .iter()
            .zip(&self.last)
            .map(|(a, b)| (a - b).abs())
            .sum::<f32>()
            / BANDS as f32;
        self.last = above;
        let (harmonicity, lag) = self.pitch.find(frame, &above);
        let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len().max(1) as f32;
        let mut measures = [0.0; MEASURES];
        let groups = above.chunks(GROUP).map(|group| mean(group) / 20.0);
        let level = mean(&frame.bands) / 40.0 + 1.5;
        let rest = [
            harmonicity,
            lag,
            frame.flatness / 4.0 + 1.0,
            change / 10.0,
            level,
        ];
        for (to, value) in measures.iter_mut().zip(groups.chain(rest)) {
            *to = value;
        }
        measures
    }
}

/// Finds how periodic a frame is: the autocorrelation of what stands above the noise, at its best lag.
struct Pitch {
    inverse: Arc<dyn ComplexToReal<f32>>,
    bins: Vec<Complex32>,
    lags: Vec<f32>,
    scratch: Vec<Complex32>,
    /// The autocorrelation that the window alone has.
    window: Vec<f32>,
    /// The band of each bin; none below the first band, where there is rumble.
    bands: Vec<Option<usize>>,
}

impl Pitch {
    fn new() -> Self {
        let inverse = RealFftPlanner::<f32>::new().plan_fft_inverse(2 * (PITCH_BINS - 1));
        Self {
            bins: inverse.make_input_vec(),
            lags: inverse.make_output_vec(),
            scratch: inverse.make_scratch_vec(),
            inverse,
            window: window_correlation(),
            bands: (0..PITCH_BINS)
                .map(|bin| {
                    edges()
                        .iter()
                        .position(|(from, to)| (*from..*to).contains(&bin))
                })
                .collect(),
        }
    }

    /// (0 to 1, the lag as a share of the longest).
    fn find(&mut self, frame: &Frame, above: &[f32; BANDS]) -> (f32, f32) {
        let kept = self.bins.iter_mut().zip(&frame.low).zip(&self.bands);
        for ((bin, power), band) in kept {
            let decibels = band.and_then(|b| above.get(b)).copied().unwrap_or(0.0);
            // Spectral subtraction, then a root, which keeps one strong formant from being the whole of it.
            let share = 1.0 - 10f32.powf(-(decibels - 3.0).max(0.0) / 10.0);
            *bin = Complex32::new((power * share).sqrt(), 0.0);
        }
        let done =
            self.inverse
                .process_with_scratch(&mut self.bins, &mut self.lags, &mut self.scratch);
        debug_assert!(done.is_ok(), "the planner's own buffers fit");
        let whole = self.lags.first().copied().unwrap_or(0.0);
        if whole <= 1e-9 {
            return (0.0, 0.0);
        }
        let longest = PITCH_RATE / LOWEST_VOICE;
        let (mut best, mut at) = (0.0f32, 0);
        for lag in PITCH_RATE / HIGHEST_VOICE..=longest {
            let (Some(value), Some(window)) = (self.lags.get(lag), self.window.get(lag)) else {
                break;
            };
            let normal = value / whole / window;
            if normal > best {
                (best, at) = (normal, lag);
            }
        }
        (best.min(1.2), at as f32 / longest as f32)
    }
}

/// Of a Hann window of 480 at 16 kHz, at the lags of PITCH_RATE (Boersma 1993, eq. 8), but for the root in the spectrum.
fn window_correlation() -> Vec<f32> {
    (0..PITCH_BINS)
        .map(|lag| {
            let x = (lag * RATE) as f32 / (PITCH_RATE * 480) as f32;
            let angle = std::f32::consts::TAU * x;
            let value =
                (1.0 - x) * (2.0 + angle.cos()) / 3.0 + angle.sin() / (2.0 * std::f32::consts::PI);
            value.max(0.2)
        })
        .collect()
}
