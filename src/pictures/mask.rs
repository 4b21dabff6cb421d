//! Masks as OpenAI's clients send them, transparent where the picture is to be drawn anew, as ours: white there, black where it stays.

use std::io::Cursor;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, GenericImageView, ImageEncoder, ImageReader, Limits, Pixel};

use super::PictureError;

/// Pixels of a side, and bytes that decoding may take: what an image model takes of a picture to begin with, and below what hurts.
const SIDE: u32 = 16_384;
const BYTES: u64 = 512 << 20;
/// From which on the models take a mask's grey for white.
const WHITE: u8 = 128;

/// A grey PNG file that is the whiter the more transparent the picture is.
///
/// # Errors
/// That it is no picture, or one that is nowhere transparent by half: nothing of it would be drawn anew.
pub fn of_transparency(file: &[u8]) -> Result<Vec<u8>, PictureError> {
    let unreadable = |error: &dyn std::fmt::Display| PictureError::Unreadable(error.to_string());
    let mut reader = ImageReader::new(Cursor::new(file))
        .with_guessed_format()
        .map_err(|error| unreadable(&error))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE);
    limits.max_image_height = Some(SIDE);
    limits.max_alloc = Some(BYTES);
    reader.limits(limits);
    let picture = reader.decode().map_err(|error| unreadable(&error))?;
    if !picture.color().has_alpha() {
        return Err(PictureError::Opaque);
    }
    let (width, height) = picture.dimensions();
    let picture = picture.to_rgba8();
    let alphas = picture.pixels().map(|pixel| pixel.to_rgba().0[3]);
    let grey: Vec<u8> = alphas.map(|alpha| u8::MAX - alpha).collect();
    if grey.iter().all(|grey| *grey < WHITE) {
        return Err(PictureError::Opaque);
    }
    let mut out = Vec::new();
    let written =
        PngEncoder::new(&mut out).write_image(&grey, width, height, ExtendedColorType::L8);
    written.map_err(|error| PictureError::Encoding {
        width,
        height,
        format: "png",
        why: error.to_string(),
    })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, Rgba, RgbaImage};

    use super::*;

    fn file(picture: &RgbaImage) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        picture.write_to(&mut out, ImageFormat::Png).unwrap();
        out.into_inner()
    }

    #[test]
    fn what_is_transparent_becomes_white() {
        let mut picture = RgbaImage::from_pixel(3, 1, Rgba([9, 9, 9, 255]));
        picture.put_pixel(1, 0, Rgba([9, 9, 9, 0]));
        picture.put_pixel(2, 0, Rgba([9, 9, 9, 155]));
        let mask = of_transparency(&file(&picture)).unwrap();
        let mask = image::load_from_memory(&mask).unwrap().to_luma8();
        assert_eq!(
            (mask.dimensions(), mask.as_raw().as_slice()),
            ((3, 1), &[0, 255, 100][..])
        );
    }

    #[test]
    fn a_mask_without_transparency_is_told_so() {
        let solid = RgbaImage::from_pixel(3, 1, Rgba([0, 0, 0, 255]));
        assert!(matches!(
            of_transparency(&file(&solid)),
            Err(PictureError::Opaque)
        ));
        let hardly = RgbaImage::from_pixel(3, 1, Rgba([0, 0, 0, 200]));
        assert!(matches!(
            of_transparency(&file(&hardly)),
            Err(PictureError::Opaque)
        ));
        let mut grey = Vec::new();
        let written = PngEncoder::new(&mut grey).write_image(&[0; 4], 2, 2, ExtendedColorType::L8);
        written.unwrap();
        assert!(matches!(of_transparency(&grey), Err(PictureError::Opaque)));
        let error = of_transparency(b"text").unwrap_err();
        assert!(matches!(error, PictureError::Unreadable(_)), "{error}");
    }

    #[test]
    fn a_picture_that_says_it_is_enormous_is_not_taken_in() {
        let mut file = file(&RgbaImage::new(1, 1));
        // The width, and the checksum of the head that holds it.
        file[16..20].copy_from_slice(&100_000u32.to_be_bytes());
        let sum = crc32fast::hash(&file[12..29]);
        file[29..33].copy_from_slice(&sum.to_be_bytes());
        assert!(matches!(
            of_transparency(&file),
            Err(PictureError::Unreadable(_))
        ));
    }
}
