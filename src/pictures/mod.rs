//! Pictures as files: pixels to PNG, JPEG or WebP with what they were drawn from in their metadata, and masks out of transparency.
//! Apart from the front doors because all of them write these; nothing here waits, so that callers run it off the async threads.

mod exif;
mod mask;
mod parameters;

use std::borrow::Cow;
use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};

pub use mask::of_transparency;
pub use parameters::Parameters;

/// JPEG's quality where none is said: above it files grow, and nobody sees why.
const QUALITY: u8 = 95;
/// The text chunk in which A1111's web UI writes what a picture was drawn from; other programs read it too.
const KEYWORD: &str = "parameters";

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Lossless.
    #[default]
    Png,
    /// Lossy, with a quality.
    Jpeg,
    /// Lossless as it is written here.
    WebP,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Png, Self::Jpeg, Self::WebP];

    /// The format of a name or of a file name's ending.
    pub fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "png" => Some(Self::Png),
            "jpeg" | "jpg" => Some(Self::Jpeg),
            "webp" => Some(Self::WebP),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::WebP => "webp",
        }
    }

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::WebP => "image/webp",
        }
    }
}

/// How a picture becomes a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Encoding {
    /// The format.
    pub format: Format,
    /// 1 to 100, of formats that have one.
    pub quality: Option<u8>,
}

/// A picture in memory.
#[derive(Debug, Clone, Copy)]
pub struct Pixels<'a> {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Red, green and blue of each pixel, row after row.
    pub rgb: &'a [u8],
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The pixels are not as many as their sides say, or too many for the format.
    #[error("a picture of {width}×{height} could not be written as {format}: {why}")]
    Encoding {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// The format's name.
        format: &'static str,
        /// What the encoder says.
        why: String,
    },
    /// It is no picture, or one of a kind that is not read here.
    #[error("it is not a picture that can be read ({0}); it must be a PNG, JPEG or WebP file")]
    Unreadable(String),
    /// A mask in which nothing is said about transparency.
    #[error(
        "it has no transparency; a mask's transparent part is what is drawn anew: save it as a PNG with an alpha channel"
    )]
    Opaque,
}

/// Writes a picture as a file.
///
/// # Errors
/// [`PictureError::Encoding`].
pub fn encode(
    pixels: Pixels<'_>,
    encoding: Encoding,
    parameters: Option<&Parameters<'_>>,
) -> Result<Vec<u8>, PictureError> {
    let text = parameters.map(ToString::to_string);
    let written = match encoding.format {
        Format::Png => png(pixels, text.as_deref()),
        Format::Jpeg => {
            let mut out = Vec::new();
            let quality = encoding.quality.unwrap_or(QUALITY).clamp(1, 100);
            let encoder = JpegEncoder::new_with_quality(&mut out, quality);
            with_exif(encoder, pixels, text.as_deref()).map(|()| out)
        }
        Format::WebP => {
            let mut out = Vec::new();
            let encoder = WebPEncoder::new_lossless(Cursor::new(&mut out));
            with_exif(encoder, pixels, text.as_deref()).map(|()| out)
        }
    };
    written.map_err(|why| PictureError::Encoding {
        width: pixels.width,
        height: pixels.height,
        format: encoding.format.name(),
        why,
    })
}

fn with_exif(
    mut encoder: impl ImageEncoder,
    pixels: Pixels<'_>,
    text: Option<&str>,
) -> Result<(), String> {
    check(pixels)?;
    // A file without its metadata is better than none.
    if let Some(exif) = text.and_then(exif::comment)
        && let Err(error) = encoder.set_exif_metadata(exif)
    {
        tracing::warn!(%error, "a picture goes without its parameters");
    }
    let written = encoder.write_image(
        pixels.rgb,
        pixels.width,
        pixels.height,
        ExtendedColorType::Rgb8,
    );
    written.map_err(|error| error.to_string())
}

/// Why not through `image`: it has no way to write text chunks.
fn png(pixels: Pixels<'_>, text: Option<&str>) -> Result<Vec<u8>, String> {
    let said = |error: png::EncodingError| error.to_string();
    check(pixels)?;
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, pixels.width, pixels.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    // An eighth larger than the best on pictures, and many times faster: the client waits.
    encoder.set_compression(png::Compression::Fast);
    if let Some(text) = text {
        let (keyword, text) = (KEYWORD.to_owned(), text.to_owned());
        // A tEXt chunk holds Latin-1 alone; older readers know no other.
        let added = match text.is_ascii() {
            true => encoder.add_text_chunk(keyword, text),
            false => encoder.add_itxt_chunk(keyword, text),
        };
        added.map_err(said)?;
    }
    let mut writer = encoder.write_header().map_err(said)?;
    writer.write_image_data(pixels.rgb).map_err(said)?;
    writer.finish().map_err(said)?;
    Ok(out)
}

/// Encoders of `image` panic where the pixels are not as many as was said.
fn check(pixels: Pixels<'_>) -> Result<(), String> {
    let wanted = 3 * u64::from(pixels.width) * u64::from(pixels.height);
    match pixels.rgb.len() as u64 {
        0 => Err("it has no pixels".to_owned()),
        bytes if bytes == wanted => Ok(()),
        bytes => Err(format!("it has {bytes} bytes of pixels, not {wanted}")),
    }
}

/// The metadata's text as one that fits on a line: what a value of the parameters must be.
fn on_a_line(text: &str) -> Cow<'_, str> {
    match text.contains(['\n', '\r']) {
        true => text
            .split(['\n', '\r'])
            .collect::<Vec<_>>()
            .join(" ")
            .into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RGB: [u8; 18] = [
        255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7, 255, 255, 255, 0, 0, 0,
    ];
    const PIXELS: Pixels<'_> = Pixels {
        width: 3,
        height: 2,
        rgb: &RGB,
    };

    fn parameters(prompt: &str) -> Parameters<'_> {
        Parameters {
            prompt,
            seed: u64::MAX,
            steps: 4,
            width: 3,
            height: 2,
            ..Parameters::default()
        }
    }

    fn encoded(format: Format, parameters: Option<&Parameters<'_>>) -> Vec<u8> {
        let encoding = Encoding {
            format,
            quality: None,
        };
        encode(PIXELS, encoding, parameters).unwrap()
    }

    #[test]
    fn pixels_come_back_out_of_every_format() {
        for format in Format::ALL {
            for note in [None, Some(&parameters("a ü"))] {
                let file = encoded(format, note);
                let guessed = image::guess_format(&file).unwrap();
                assert_eq!(guessed.to_mime_type(), format.content_type());
                let read = image::load_from_memory(&file).unwrap().to_rgb8();
                assert_eq!(read.dimensions(), (3, 2));
                if format != Format::Jpeg {
                    assert_eq!(read.as_raw(), &RGB, "{format:?}");
                }
            }
        }
    }

    #[test]
    fn a_png_says_what_it_was_drawn_from_in_the_chunk_that_others_read() {
        for (prompt, is_latin) in [("a red circle", true), ("ein roter Kreis, größer", false)] {
            let file = encoded(Format::Png, Some(&parameters(prompt)));
            let reader = png::Decoder::new(Cursor::new(file)).read_info().unwrap();
            let info = reader.info();
            let text = match is_latin {
                true => info.uncompressed_latin1_text[0].text.clone(),
                false => info.utf8_text[0].get_text().unwrap(),
            };
            assert_eq!(
                text,
                format!("{prompt}\nSteps: 4, Seed: 18446744073709551615, Size: 3x2")
            );
        }
        let bare = encoded(Format::Png, None);
        assert!(!bare.windows(4).any(|four| four == b"tEXt"));
    }

    #[test]
    fn quality_makes_a_jpeg_smaller() {
        let rgb: Vec<u8> = (0u32..3 * 64 * 64).map(|i| (i * i / 7) as u8).collect();
        let length = |quality| {
            let encoding = Encoding {
                format: Format::Jpeg,
                quality: Some(quality),
            };
            let pixels = Pixels {
                width: 64,
                height: 64,
                rgb: &rgb,
            };
            encode(pixels, encoding, None).unwrap().len()
        };
        assert!(length(10) * 2 < length(100));
    }

    #[test]
    fn pixels_that_are_too_few_are_an_error_and_no_panic() {
        for format in Format::ALL {
            let encoding = Encoding {
                format,
                quality: None,
            };
            for (width, height) in [(3, 3), (0, 0)] {
                let pixels = Pixels {
                    width,
                    height,
                    rgb: &RGB,
                };
                assert!(encode(pixels, encoding, None).is_err());
            }
        }
    }
}
