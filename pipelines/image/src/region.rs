//! A part of a picture that is drawn larger: the rectangle about what a mask leaves to be drawn, the part at the size that it is drawn at, and
//! the drawing put back. To the byte as `diffusers` image_processor.py (`get_crop_region`, `_resize_and_fill`, `_resize_and_crop`,
//! `apply_overlay`) makes it with Pillow, but for transparency, which a picture has lost by then. Apart from `pixels`, which knows whole
//! pictures.

use image::{GrayImage, Rgb, RgbImage, imageops};

use crate::pixels::Size;
use crate::resample::{Filter, Span, resized, stretched};

/// A rectangle of a picture; it is not empty and lies within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) left: u32,
    pub(crate) top: u32,
    pub(crate) size: Size,
}

/// From where to where a rectangle goes along an axis.
type Along = (i64, i64);

impl Region {
    /// The rectangle about what is not black in a mask, and `padding` pixels more to each side, as far as it can be of the shape of `drawn`;
    /// nothing where all is black.
    pub(crate) fn about(mask: &GrayImage, padding: u32, drawn: Size) -> Option<Self> {
        let (width, height) = (i64::from(mask.width()), i64::from(mask.height()));
        let mut found: Option<[i64; 4]> = None;
        for (x, y, _) in mask.enumerate_pixels().filter(|(.., light)| light.0 != [0]) {
            let (x, y) = (i64::from(x), i64::from(y));
            let [left, top, right, bottom] = found.unwrap_or([x, y, x + 1, y + 1]);
            found = Some([left.min(x), top.min(y), right.max(x + 1), bottom.max(y + 1)]);
        }
        let [left, top, right, bottom] = found?;
        let padding = i64::from(padding);
        let across = ((left - padding).max(0), (right + padding).min(width));
        let down = ((top - padding).max(0), (bottom + padding).min(height));
        let length = |(from, to): Along| (to - from) as f64;
        let wanted = f64::from(drawn.width) / f64::from(drawn.height);
        let (across, down) = match length(across) / length(down) > wanted {
            true => (across, widened(down, length(across) / wanted, height)),
            false => (widened(across, length(down) * wanted, width), down),
        };
        Some(Self {
            left: across.0 as u32,
            top: down.0 as u32,
            size: Size {
                width: (across.1 - across.0) as u32,
                height: (down.1 - down.0) as u32,
            },
        })
    }

    /// This part of a picture, cut out, as large as it fits into `size` and in the middle of it; what is beyond goes on as its edges do.
    pub(crate) fn filled(part: &RgbImage, size: Size) -> RgbImage {
        let inner = fitted(size_of(part), size, false);
        let resized = resized(part, inner, Filter::Lanczos);
        let mut whole = RgbImage::new(size.width, size.height);
        let (above, before) = (
            middle(inner.height, size.height),
            middle(inner.width, size.width),
        );
        imageops::replace(&mut whole, &resized, before, above);
        // One of the two at most: the part touches two sides.
        for (bar, place) in bars(&resized, above, Axis::Down) {
            imageops::replace(&mut whole, &bar, 0, place);
        }
        for (bar, place) in bars(&resized, before, Axis::Across) {
            imageops::replace(&mut whole, &bar, place, 0);
        }
        whole
    }

    /// A picture with what was drawn of this part of it, where the part's mask is white; between black and white a mixture. (All of the
    /// mask beyond this part is black.)
    pub(crate) fn put_back(
        &self,
        drawn: &RgbImage,
        picture: &RgbImage,
        mask: &GrayImage,
    ) -> RgbImage {
        let (from, to) = (size_of(drawn), self.size);
        let cover = fitted(from, to, true);
        // Of the drawing only what is seen is made: of a thin part it may be a thousandth.
        let (across, left) = seen((from.width, cover.width), to.width);
        let (down, top) = seen((from.height, cover.height), to.height);
        let mut part = RgbImage::new(to.width, to.height);
        let resized = stretched(drawn, Filter::Lanczos, (across, down));
        imageops::replace(&mut part, &resized, left, top);
        let mut whole = picture.clone();
        for (x, y, light) in mask.enumerate_pixels() {
            if let (Some(old), Some(new)) = (
                whole.get_pixel_mut_checked(self.left + x, self.top + y),
                part.get_pixel_checked(x, y),
            ) {
                *old = over(*new, *old, 255 - light.0[0]);
            }
        }
        whole
    }
}

fn size_of(picture: &RgbImage) -> Size {
    Size {
        width: picture.width(),
        height: picture.height(),
    }
}

/// A line stretched from and to so many pixels, of which the middle is seen, as much as there is room for; and where that begins.
fn seen((from, to): (u32, u32), room: u32) -> (Span, i64) {
    let place = middle(to, room);
    let hidden = u32::try_from(-place).unwrap_or(0);
    let made = hidden..to.min(hidden.saturating_add(room));
    let span = Span {
        made,
        ..Span::to(from, to)
    };
    (span, place.max(0))
}

/// A rectangle's side made as long as `wanted`, half to each side where there is room, and never longer than the picture's `most`.
fn widened((mut from, mut to): Along, wanted: f64, most: i64) -> Along {
    let missing = (wanted - (to - from) as f64) as i64;
    from -= missing / 2;
    to += missing - missing / 2;
    if to >= most {
        (from, to) = (from - (to - most), most);
    }
    if from < 0 {
        (from, to) = (0, to - from);
    }
    (from, to.min(most))
}

/// The size of `picture` when it is made to fit into another, or to `cover` it.
fn fitted(picture: Size, into: Size, cover: bool) -> Size {
    let shape = |size: Size| f64::from(size.width) / f64::from(size.height);
    let scaled = |side: u32, by: u32, of: u32| {
        let scaled = u64::from(side) * u64::from(by) / u64::from(of);
        u32::try_from(scaled).unwrap_or(u32::MAX).max(1)
    };
    let wider = shape(into) > shape(picture);
    let narrower = shape(into) < shape(picture);
    let (keeps_width, keeps_height) = match cover {
        false => (narrower, !narrower),
        true => (wider, !wider),
    };
    Size {
        width: match keeps_width {
            true => into.width,
            false => scaled(picture.width, into.height, picture.height),
        },
        height: match keeps_height {
            true => into.height,
            false => scaled(picture.height, into.width, picture.width),
        },
    }
}

/// Where something begins that lies in the middle of something else.
fn middle(inner: u32, outer: u32) -> i64 {
    i64::from(outer / 2) - i64::from(inner / 2)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Axis {
    Across,
    Down,
}

/// What goes on beyond both ends of a picture, `thick` pixels each, and where: Pillow's stretch of an edge that has no width.
fn bars(picture: &RgbImage, thick: i64, axis: Axis) -> Vec<(RgbImage, i64)> {
    let Some(thick) = u32::try_from(thick).ok().filter(|thick| *thick > 0) else {
        return Vec::new();
    };
    let (width, height) = picture.dimensions();
    let length = if axis == Axis::Down { height } else { width };
    let edge = |at: u32, place: i64| {
        let bar = Span {
            from: at,
            to: at,
            ..Span::to(length, thick)
        };
        let bar = match axis {
            Axis::Down => stretched(picture, Filter::Bicubic, (Span::whole(width), bar)),
            Axis::Across => stretched(picture, Filter::Bicubic, (bar, Span::whole(height))),
        };
        (bar, place)
    };
    vec![
        edge(0, 0),
        edge(length, i64::from(thick) + i64::from(length)),
    ]
}

/// `old` over `new`, where it counts for `alpha` of 255: Pillow's way through a picture whose colours are multiplied with alpha
/// (`paste`, `rgba2rgbA` back, `ImagingAlphaComposite`), each with its rounding.
fn over(new: Rgb<u8>, old: Rgb<u8>, alpha: u8) -> Rgb<u8> {
    const PRECISION: u32 = 7;
    let alpha = u32::from(alpha);
    if alpha == 0 {
        return new;
    }
    let share = alpha << PRECISION;
    let rest = (255 << PRECISION) - share;
    let by_255 = |x: u32| ((x >> 8) + x) >> 8;
    let mixed = |new: u8, old: u8| {
        let multiplied = by_255(u32::from(old) * alpha + 0x80);
        let old = if alpha == 255 {
            multiplied
        } else {
            (255 * multiplied / alpha).min(255)
        };
        let sum = old * share + u32::from(new) * rest + (0x80 << PRECISION);
        (by_255(sum) >> PRECISION) as u8
    };
    let ([a, b, c], [x, y, z]) = (new.0, old.0);
    Rgb([mixed(a, x), mixed(b, y), mixed(c, z)])
}

#[cfg(test)]
mod tests {
    use image::Luma;

    use super::*;

    fn size((width, height): (u32, u32)) -> Size {
        Size { width, height }
    }

    /// As in the tests of `resample`.
    fn wave(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let value = |c: u32| ((x * x * (3 + c) + y * (11 * c + 5) + x * y) % 256) as u8;
            Rgb([value(0), value(1), value(2)])
        })
    }

    /// The sum of all bytes, and of each times its place counted from 1.
    fn sums(picture: &RgbImage) -> [u64; 2] {
        let bytes = picture.as_raw().iter().map(|byte| u64::from(*byte));
        let placed = (1..).zip(bytes.clone()).map(|(at, byte)| at * byte);
        [bytes.sum(), placed.sum()]
    }

    fn region([left, top, right, bottom]: [u32; 4]) -> Region {
        Region {
            left,
            top,
            size: size((right - left, bottom - top)),
        }
    }

    #[test]
    fn regions_are_those_of_diffusers() {
        // VaeImageProcessor.get_crop_region: the mask's size and what is white of it, padding, the drawing's size; the region.
        for (whole, [a, b, c, d], padding, drawn, expected) in [
            ((33, 27), [17, 8, 22, 15], 3, (18, 22), [14, 5, 25, 18]),
            ((33, 27), [1, 3, 31, 6], 3, (18, 22), [0, 0, 33, 27]),
            ((33, 27), [1, 3, 31, 6], 0, (64, 8), [1, 3, 31, 6]),
            ((20, 40), [0, 0, 1, 1], 0, (16, 16), [0, 0, 1, 1]),
            ((20, 40), [19, 39, 20, 40], 2, (24, 16), [16, 37, 20, 40]),
            ((20, 40), [3, 5, 17, 36], 100, (16, 32), [0, 0, 20, 40]),
            ((50, 30), [44, 10, 50, 29], 1, (16, 16), [29, 9, 50, 30]),
            ((7, 9), [3, 4, 4, 5], 0, (9, 7), [3, 4, 4, 5]),
        ] {
            let white = |x: u32, y: u32| (a..c).contains(&x) && (b..d).contains(&y);
            let light = |x, y| Luma([if white(x, y) { 255 } else { 0 }]);
            let mask = GrayImage::from_fn(whole.0, whole.1, light);
            let found = Region::about(&mask, padding, size(drawn));
            assert_eq!(found, Some(region(expected)), "{a} {b} {c} {d}");
        }
        assert_eq!(Region::about(&GrayImage::new(4, 4), 9, size((8, 8))), None);
    }

    #[test]
    fn parts_are_filled_and_put_back_to_the_byte() {
        let picture = wave(23, 17);
        // _resize_and_fill of the part; none, above and below, and beside it.
        for (place, drawn, expected) in [
            ([2, 3, 14, 9], (24, 12), [109_406, 47_174_552]),
            ([2, 3, 14, 9], (16, 24), [139_517, 80_261_174]),
            ([0, 0, 23, 3], (9, 11), [33_440, 5_049_396]),
            ([5, 1, 9, 17], (12, 12), [57_374, 12_142_402]),
            ([5, 5, 6, 6], (8, 9), [22_976, 2_211_040]),
        ] {
            let [left, top, right, bottom] = place;
            let part = imageops::crop_imm(&picture, left, top, right - left, bottom - top);
            let part = Region::filled(&part.to_image(), size(drawn));
            assert_eq!(part.dimensions(), drawn);
            assert_eq!(sums(&part), expected, "{place:?} {drawn:?}");
        }
        let light = picture.pixels().map(|Rgb([r, g, b])| {
            let sum = u32::from(*r) * 19_595 + u32::from(*g) * 38_470 + u32::from(*b) * 7471;
            ((sum + 0x8000) >> 16) as u8
        });
        let light = GrayImage::from_raw(23, 17, light.collect()).unwrap();
        // apply_overlay, with a mask of all shades that is black beyond the part.
        for (place, (width, height), expected) in [
            ([2, 3, 14, 9], (24, 12), [143_174, 86_156_962]),
            ([2, 3, 14, 9], (16, 24), [143_776, 86_384_066]),
            ([3, 1, 5, 16], (9, 7), [143_554, 86_308_982]),
            ([0, 0, 23, 17], (8, 8), [127_723, 78_977_906]),
        ] {
            let [left, top, right, bottom] = place;
            let mask = imageops::crop_imm(&light, left, top, right - left, bottom - top);
            let drawn = wave(width, height);
            let whole = region(place).put_back(&drawn, &picture, &mask.to_image());
            assert_eq!(sums(&whole), expected, "{place:?} {width} {height}");
        }
    }

    #[test]
    fn of_a_drawing_no_more_is_made_than_is_seen() {
        // Made whole, what covers this part would have 2,097,152 columns of 16,384 pixels.
        let picture = RgbImage::new(1, 16_384);
        let mask = GrayImage::from_pixel(1, 16_384, Luma([255]));
        let region = Region::about(&mask, 65_536, size((8192, 64))).unwrap();
        let drawn = RgbImage::from_pixel(8192, 64, Rgb([9, 8, 7]));
        let whole = region.put_back(&drawn, &picture, &mask);
        assert!(whole.pixels().all(|pixel| *pixel == Rgb([9, 8, 7])));
    }
}
