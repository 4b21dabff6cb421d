//! Pictures at another size, to the byte as Pillow makes them, which is what models were trained and are compared with: the `image` crate's
//! filters are the same, but it rounds once where Pillow rounds after each direction, and a value at an edge comes out several steps away.
//! Mirrors Pillow's src/libImaging/Resample.c (`precompute_coeffs`, `ImagingResampleHorizontal_8bpc` and its vertical twin), version 13.

use std::f64::consts::PI;
use std::ops::Range;

use image::{Rgb, RgbImage};

use crate::pixels::Size;

/// Bits behind the point of a weight: a pixel times a weight, summed up, has room in 32 bits.
const PRECISION: u32 = 32 - 8 - 2;
const CHANNELS: usize = 3;

/// How much a pixel at some distance weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    /// With a = -0.5.
    Bicubic,
    /// Over three pixels to each side.
    Lanczos,
}

impl Filter {
    /// Distance from which on pixels weigh nothing.
    fn support(self) -> f64 {
        match self {
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        match self {
            Self::Bicubic => match x.abs() {
                x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
                x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
                _ => 0.0,
            },
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    match x == 0.0 {
        true => 1.0,
        false => (x * PI).sin() / (x * PI),
    }
}

/// The pixels that one of the new ones is made of: from which on, and how much each weighs.
struct Window {
    from: usize,
    weights: Vec<i32>,
}

/// From where to where a line is stretched, over how many new pixels, and which of them are made. One that has no length is its edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) new: u32,
    pub(crate) made: Range<u32>,
}

impl Span {
    /// All of a line, as it is.
    pub(crate) fn whole(length: u32) -> Self {
        Self::to(length, length)
    }

    /// All of a line over `new` pixels.
    pub(crate) fn to(length: u32, new: u32) -> Self {
        Self {
            from: 0,
            to: length,
            new,
            made: 0..new,
        }
    }

    /// New pixels that are made.
    fn count(&self) -> u32 {
        self.made.end.saturating_sub(self.made.start)
    }
}

/// The windows of the new pixels of a line of `length` that are made.
fn windows(length: u32, span: &Span, filter: Filter) -> Vec<Window> {
    let first = f64::from(span.from);
    let scale = f64::from(span.to - span.from) / f64::from(span.new);
    // What becomes smaller is a mean over more pixels.
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let window = |at: u32| {
        let center = first + (f64::from(at) + 0.5) * scale;
        let from = (center - support + 0.5).max(0.0) as usize;
        let to = ((center + support + 0.5) as usize).min(length as usize);
        let weight = |pixel: usize| filter.weight((pixel as f64 - center + 0.5) * (1.0 / stretch));
        let weights: Vec<f64> = (from..to).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: f64| {
            let weight = if sum == 0.0 { weight } else { weight / sum };
            // Rounded away from zero, as a cast of the sum with half of its sign does.
            (weight * f64::from(1u32 << PRECISION)).round() as i32
        };
        Window {
            from,
            weights: weights.into_iter().map(fixed).collect(),
        }
    };
    span.made.clone().map(window).collect()
}

/// A new pixel; `place` says where the old ones of its line are.
fn pixel(window: Option<&Window>, old: &[u8], place: impl Fn(usize) -> usize) -> Rgb<u8> {
    let Some(Window { from, weights }) = window else {
        return Rgb([0; CHANNELS]);
    };
    let half = 1i32 << (PRECISION - 1);
    let mut sums = [half; CHANNELS];
    for (at, weight) in (*from..).zip(weights) {
        let start = place(at) * CHANNELS;
        for (sum, byte) in sums.iter_mut().zip(old.get(start..).unwrap_or_default()) {
            *sum += i32::from(*byte) * weight;
        }
    }
    Rgb(sums.map(|sum| (sum >> PRECISION).clamp(0, 255) as u8))
}

/// A picture at another size.
pub(crate) fn resized(picture: &RgbImage, size: Size, filter: Filter) -> RgbImage {
    let (width, height) = picture.dimensions();
    let spans = (Span::to(width, size.width), Span::to(height, size.height));
    stretched(picture, filter, spans)
}

/// A part of a picture at another size, with what is about it as it weighs in; `from` is never behind `to`.
pub(crate) fn stretched(
    picture: &RgbImage,
    filter: Filter,
    (across_span, down_span): (Span, Span),
) -> RgbImage {
    let (width, height) = picture.dimensions();
    let across = |picture: &RgbImage| across(picture, filter, &across_span);
    let down = |picture: &RgbImage| down(picture, filter, &down_span);
    // Which comes first changes the rounding. Since version 13 Pillow takes rows away first where there are many to be taken away.
    let lost = |before: u32, span: &Span| i64::from(before) - i64::from(span.new);
    let (rows, columns) = (lost(height, &down_span), lost(width, &across_span));
    match rows > 0 && rows > 2 * columns {
        true => across(&down(picture)),
        false => down(&across(picture)),
    }
}

/// At another width.
fn across(picture: &RgbImage, filter: Filter, span: &Span) -> RgbImage {
    let (width, height) = picture.dimensions();
    if *span == Span::whole(width) {
        return picture.clone();
    }
    let (windows, old) = (windows(width, span, filter), picture.as_raw());
    RgbImage::from_fn(span.count(), height, |x, y| {
        let row = y as usize * width as usize;
        pixel(windows.get(x as usize), old, |at| row + at)
    })
}

/// At another height.
fn down(picture: &RgbImage, filter: Filter, span: &Span) -> RgbImage {
    let (width, height) = picture.dimensions();
    if *span == Span::whole(height) {
        return picture.clone();
    }
    let (windows, old) = (windows(height, span, filter), picture.as_raw());
    RgbImage::from_fn(width, span.count(), |x, y| {
        pixel(windows.get(y as usize), old, |at| {
            at * width as usize + x as usize
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let value = |c: u32| ((x * x * (3 + c) + y * (11 * c + 5) + x * y) % 256) as u8;
            Rgb([value(0), value(1), value(2)])
        })
    }

    fn sums(filter: Filter, size: (u32, u32)) -> [u64; 2] {
        let (width, height) = size;
        let made = resized(&wave(23, 17), Size { width, height }, filter);
        assert_eq!(made.dimensions(), size);
        let bytes = made.as_raw().iter().map(|byte| u64::from(*byte));
        let placed = (1..)
            .zip(bytes.clone())
            .map(|(at, byte): (u64, u64)| at * byte);
        [bytes.sum(), placed.sum()]
    }

    #[test]
    fn pictures_are_pillows_to_the_byte() {
        // Image.fromarray(wave).resize(size, filter) of Pillow 13: the sum of all bytes, and of each times its place counted from 1.
        assert_eq!(sums(Filter::Bicubic, (23, 17)), [144_348, 86_588_818]);
        assert_eq!(sums(Filter::Bicubic, (9, 5)), [16_651, 1_158_965]);
        assert_eq!(sums(Filter::Bicubic, (64, 40)), [944_938, 3_705_436_546]);
        assert_eq!(sums(Filter::Bicubic, (23, 6)), [51_034, 10_835_315]);
        assert_eq!(sums(Filter::Bicubic, (11, 31)), [125_854, 65_793_486]);
        assert_eq!(sums(Filter::Bicubic, (31, 11)), [125_908, 65_899_753]);
        assert_eq!(sums(Filter::Bicubic, (21, 6)), [46_588, 9_032_985]);
        assert_eq!(sums(Filter::Lanczos, (21, 6)), [46_609, 9_037_624]);
        assert_eq!(sums(Filter::Lanczos, (20, 9)), [66_462, 18_382_670]);
        assert_eq!(sums(Filter::Lanczos, (23, 17)), [144_348, 86_588_818]);
        assert_eq!(sums(Filter::Lanczos, (9, 5)), [16_656, 1_160_013]);
        assert_eq!(sums(Filter::Lanczos, (64, 40)), [944_823, 3_705_932_309]);
        assert_eq!(sums(Filter::Lanczos, (23, 6)), [51_063, 10_840_999]);
        assert_eq!(sums(Filter::Lanczos, (11, 31)), [125_883, 65_804_901]);
    }
}
