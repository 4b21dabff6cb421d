//! Pictures as files, and as the numbers that models take: decoded within limits, turned as their camera says, resized.
//! Apart from the autoencoder, which knows no files. After `diffusers` image_processor.py (`VaeImageProcessor`).

use std::io::Cursor;

use chandler_core::{Picture, RequestError};
use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageReader, Limits, Luma, Rgb, RgbImage};

use crate::region::Region;
use crate::resample::{self, Filter};

/// Pixels a side at most, and bytes that decoding may take: beyond it is a picture that was made to fill the machine.
const MOST_SIDE: u32 = 16_384;
const MOST_BYTES: u64 = 256 << 20;

/// A size in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// A decoded picture. Colours are taken as they are written, also where they are transparent, as Pillow's `convert("RGB")` does for the
/// pipelines of diffusers.
#[derive(Debug, Clone)]
pub struct Pixels(DynamicImage);

impl Pixels {
    /// Decodes a file; `field` is what the request calls it.
    ///
    /// # Errors
    /// When it is no picture of a kind that is read, or larger than the limits.
    pub fn decode(picture: &Picture, field: &str) -> Result<Self, RequestError> {
        let wrong = |reason: String| RequestError::field(field, format!("{field} {reason}"));
        let reader = ImageReader::new(Cursor::new(picture.bytes()));
        let mut reader = reader
            .with_guessed_format()
            .map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let Some(format) = reader.format() else {
            return Err(wrong(format!(
                "is no picture: its {} bytes begin like none; PNG, JPEG and WebP are read",
                picture.bytes().len()
            )));
        };
        let mut limits = Limits::default();
        limits.max_image_width = Some(MOST_SIDE);
        limits.max_image_height = Some(MOST_SIDE);
        limits.max_alloc = Some(MOST_BYTES);
        reader.limits(limits.clone());
        let undecodable = |error: image::ImageError| match error {
            image::ImageError::Limits(_) => wrong(format!(
                "is too large a picture: at most {MOST_SIDE} pixels a side and {} MiB decoded are taken",
                MOST_BYTES >> 20
            )),
            other => wrong(format!(
                "is a picture ({format:?}) that cannot be decoded: {other}"
            )),
        };
        let mut decoder = reader.into_decoder().map_err(undecodable)?;
        // Decoding into a buffer of our own is not counted by the crate itself.
        let mut left = limits;
        left.reserve(decoder.total_bytes()).map_err(undecodable)?;
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut image = DynamicImage::from_decoder(decoder).map_err(undecodable)?;
        image.apply_orientation(orientation);
        Ok(Self(image))
    }

    /// Its size.
    pub fn size(&self) -> Size {
        Size {
            width: self.0.width(),
            height: self.0.height(),
        }
    }

    /// Red, green and blue from -1 to 1, [3, height, width], at another size.
    pub fn rgb(&self, size: Size) -> Vec<f32> {
        self.planes(size, |value| value / 127.5 - 1.0)
    }

    /// Red, green and blue from 0 to 1, [3, height, width], at another size.
    pub fn unit_rgb(&self, size: Size) -> Vec<f32> {
        self.planes(size, |value| value / 255.0)
    }

    fn planes(&self, size: Size, of: impl Fn(f32) -> f32 + Copy) -> Vec<f32> {
        let rgb = self.resized(size);
        let plane = |channel: usize| {
            let values = rgb.pixels().map(move |pixel| pixel.0.get(channel).copied());
            values.map(move |value| of(f32::from(value.unwrap_or(0))))
        };
        (0..3).flat_map(plane).collect()
    }

    /// How light it is, as a mask: 1 where it is at least half white, 0 elsewhere, [height, width], at another size.
    pub fn mask(&self, size: Size) -> Vec<f32> {
        let rgb = self.resized(size);
        let pixels = rgb.pixels();
        pixels
            .map(|pixel| if light(*pixel) >= 128 { 1.0 } else { 0.0 })
            .collect()
    }

    /// A picture that is made already.
    pub(crate) fn of(rgb: RgbImage) -> Self {
        Self(DynamicImage::ImageRgb8(rgb))
    }

    /// Red, green and blue of each pixel.
    pub(crate) fn rgb8(&self) -> RgbImage {
        self.0.to_rgb8()
    }

    /// Red, green and blue of each pixel of a part.
    pub(crate) fn part(&self, Region { left, top, size }: Region) -> RgbImage {
        self.0
            .crop_imm(left, top, size.width, size.height)
            .to_rgb8()
    }

    /// How light each pixel is.
    pub(crate) fn grey(&self) -> GrayImage {
        let rgb = self.rgb8();
        GrayImage::from_fn(rgb.width(), rgb.height(), |x, y| {
            Luma([light(*rgb.get_pixel(x, y))])
        })
    }

    /// As diffusers resizes: what is transparent loses that first.
    fn resized(&self, size: Size) -> RgbImage {
        resample::resized(&self.rgb8(), size, Filter::Lanczos)
    }
}

/// Pillow's conversion to grey, after ITU-R 601.
fn light(Rgb([r, g, b]): Rgb<u8>) -> u8 {
    let sum = u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7471;
    ((sum + 0x8000) >> 16) as u8
}

/// A black pixel as a PNG file, for whoever needs a picture and has none.
pub(crate) fn blank_png() -> Vec<u8> {
    // Signature; header of 1×1 in grey; a zero behind a filter's byte, deflated; end.
    const FILE: &[u8] =
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0\x3a\x7e\x9b\x55\
        \0\0\0\nIDAT\x78\x9c\x63\x60\0\0\0\x02\0\x01\x48\xaf\xa4\x71\0\0\0\0IEND\xae\x42\x60\x82";
    FILE.to_vec()
}

/// Red, green and blue of each pixel from the autoencoder's [3, height, width], where -1 is black and 1 is white.
pub fn to_rgb8(planes: &[f32]) -> Vec<u8> {
    let plane = planes.len() / 3;
    let (red, rest) = planes.split_at(plane);
    let (green, blue) = rest.split_at(plane.min(rest.len()));
    let byte = |value: &f32| ((value / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
    let pixels = red.iter().zip(green).zip(blue);
    pixels
        .flat_map(|((r, g), b)| [byte(r), byte(g), byte(b)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::ImageFormat;

    fn png(width: u32, height: u32, of: impl Fn(u32, u32) -> [u8; 3]) -> Picture {
        let image = RgbImage::from_fn(width, height, |x, y| Rgb(of(x, y)));
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        Picture::new(bytes.into_inner())
    }

    #[test]
    fn a_picture_comes_back_as_it_was() {
        let of = |x: u32, y: u32| [(x * 20) as u8, (y * 30) as u8, 255];
        let pixels = Pixels::decode(&png(5, 3, of), "image").unwrap();
        let size = pixels.size();
        assert_eq!(
            size,
            Size {
                width: 5,
                height: 3
            }
        );
        let planes = pixels.rgb(size);
        assert_eq!(planes.len(), 45);
        assert_eq!((planes[0], planes[44]), (-1.0, 1.0));
        let flat: Vec<u8> = (0..3)
            .flat_map(|y| (0..5).flat_map(move |x| of(x, y)))
            .collect();
        assert_eq!(to_rgb8(&planes), flat);
    }

    #[test]
    fn what_is_transparent_has_its_colour() {
        let image = image::RgbaImage::from_fn(2, 1, |x, _| image::Rgba([255, 0, 255, x as u8]));
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        let pixels = Pixels::decode(&Picture::new(bytes.into_inner()), "image").unwrap();
        let planes = [1.0, 1.0, -1.0, -1.0, 1.0, 1.0];
        assert_eq!(pixels.rgb(pixels.size()), planes);
    }

    #[test]
    fn the_blank_picture_is_one() {
        let pixels = Pixels::decode(&Picture::new(blank_png()), "image").unwrap();
        let size = Size {
            width: 2,
            height: 2,
        };
        assert_eq!(
            pixels.size(),
            Size {
                width: 1,
                height: 1
            }
        );
        assert_eq!(pixels.rgb(size), [-1.0; 12]);
    }

    #[test]
    fn a_mask_is_black_or_white() {
        let half = png(4, 2, |x, _| if x < 2 { [127; 3] } else { [128; 3] });
        let pixels = Pixels::decode(&half, "mask").unwrap();
        let mask = pixels.mask(pixels.size());
        assert_eq!(mask, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
        assert_eq!(
            pixels
                .mask(Size {
                    width: 8,
                    height: 8
                })
                .len(),
            64
        );
    }

    #[test]
    fn what_is_no_picture_is_an_error_that_names_the_field() {
        let error = Pixels::decode(&Picture::new(b"hello".to_vec()), "init_image").unwrap_err();
        assert_eq!(error.field.as_deref(), Some("init_image"));
        assert!(error.message.contains("PNG, JPEG and WebP"), "{error}");
        let mut cut = png(40, 40, |x, y| [(x * y) as u8; 3]).bytes().to_vec();
        cut.truncate(cut.len() / 2);
        let error = Pixels::decode(&Picture::new(cut), "image").unwrap_err();
        assert!(error.message.contains("cannot be decoded"), "{error}");
    }

    #[test]
    fn a_picture_that_says_it_is_enormous_is_refused_before_it_is_decoded() {
        // Too many columns; and, of 8 bytes a pixel, too many of these.
        for (width, height, depth_and_kind) in [(60_000, 4, [8, 2]), (8192, 8192, [16, 6])] {
            let mut bytes = png(4, 4, |_, _| [0; 3]).bytes().to_vec();
            bytes[16..20].copy_from_slice(&u32::to_be_bytes(width));
            bytes[20..24].copy_from_slice(&u32::to_be_bytes(height));
            bytes[24..26].copy_from_slice(&depth_and_kind);
            // The header's checksum is set right again.
            let checksum = crc(&bytes[12..29]);
            bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
            let error = Pixels::decode(&Picture::new(bytes), "image").unwrap_err();
            assert!(error.message.contains("too large"), "{error}");
        }
    }

    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |c, _| {
                (c >> 1) ^ (0xEDB8_8320 & 0u32.wrapping_sub(c & 1))
            })
        })
    }
}
