//! How a picture is made what a vision tower looks at: its shorter side resized, the middle cut out, the colours moved to around 0.
//! Mirrors `transformers` models/clip/image_processing_clip.py, `CLIPImageProcessor`.

use chandler_nn::fields::Fields;
use image::{RgbImage, imageops};
use serde_json::Value;

use crate::error::{ImageError, Result};
use crate::pixels::Size;
use crate::resample::{self, Filter};

const MOST_SIDE: usize = 1 << 12;

/// What `CLIPImageProcessor` has for what is not written.
const DEFAULT_SIDE: usize = 224;
const MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const DEVIATION: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];
/// Pillow's number for the bicubic filter.
const BICUBIC: f64 = 3.0;

/// A picture's way to a vision tower.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageProcessor {
    /// What the shorter side becomes.
    shortest: usize,
    /// What is cut out of the middle.
    cut: usize,
    mean: [f64; 3],
    deviation: [f64; 3],
}

impl ImageProcessor {
    /// Reads the fields of a preprocessor_config.json for a tower that looks at `side` pixels.
    ///
    /// # Errors
    /// Names the field that asks for something that is not supported.
    pub fn of(fields: &Fields, side: usize) -> Result<Self> {
        for name in ["do_resize", "do_center_crop", "do_rescale", "do_normalize"] {
            if fields.flag(name)? == Some(false) {
                return Err(fields.fault(name, "false is not supported").into());
            }
        }
        if let Some(other) = fields
            .number("resample")?
            .filter(|resample| *resample != BICUBIC)
        {
            let message = format!("{other} is not supported; 3, bicubic, is");
            return Err(fields.fault("resample", message).into());
        }
        let of_255 = |factor: &f64| (factor * 255.0 - 1.0).abs() > 1e-6;
        if let Some(other) = fields.number("rescale_factor")?.filter(of_255) {
            let message = format!("{other} is not supported; 1/255 is");
            return Err(fields.fault("rescale_factor", message).into());
        }
        let shortest = edge(fields, "size", "shortest_edge")?;
        let cut = edge(fields, "crop_size", "height")?;
        if cut != side || cut > shortest || edge(fields, "crop_size", "width")? != cut {
            let message = format!(
                "{cut} out of {shortest} pixels does not make the {side} that the vision model looks at"
            );
            return Err(fields.fault("crop_size", message).into());
        }
        Ok(Self {
            shortest,
            cut,
            mean: triple(fields, "image_mean", MEAN)?,
            deviation: triple(fields, "image_std", DEVIATION)?,
        })
    }

    /// Red, green and blue of each pixel to numbers [3, side, side].
    ///
    /// # Errors
    /// When there are not as many bytes as the size says.
    pub fn process(&self, rgb: &[u8], size: Size) -> Result<Vec<f32>> {
        let picture = RgbImage::from_raw(size.width, size.height, rgb.to_vec());
        let picture = picture.ok_or_else(|| {
            let Size { width, height } = size;
            ImageError::Input(format!("{} bytes of {width}×{height} pixels", rgb.len()))
        })?;
        let resized = self.resized(&picture);
        let from = |side: u32| side.saturating_sub(self.cut as u32) / 2;
        let (x, y) = (from(resized.width()), from(resized.height()));
        let cut = imageops::crop_imm(&resized, x, y, self.cut as u32, self.cut as u32).to_image();
        let plane = |channel: usize| {
            let (mean, deviation) = (self.mean[channel], self.deviation[channel]);
            let values = cut.pixels().map(move |pixel| pixel.0[channel]);
            values.map(move |value| ((f64::from(value) / 255.0 - mean) / deviation) as f32)
        };
        Ok((0..3).flat_map(plane).collect())
    }

    fn resized(&self, picture: &RgbImage) -> RgbImage {
        let (width, height) = picture.dimensions();
        let shorter = width.min(height).max(1);
        let to = |side: u32| match side == shorter {
            true => self.shortest as u32,
            false => (self.shortest as u64 * u64::from(side) / u64::from(shorter)) as u32,
        };
        let size = Size {
            width: to(width),
            height: to(height),
        };
        resample::resized(picture, size, Filter::Bicubic)
    }
}

/// A length that is written as a number or under a name.
fn edge(fields: &Fields, field: &str, name: &str) -> Result<usize> {
    let value = match fields.get(field) {
        None | Some(Value::Null) => return Ok(DEFAULT_SIDE),
        Some(Value::Object(object)) => object.get(name),
        Some(other) => Some(other),
    };
    let value = value.cloned().unwrap_or(Value::Null);
    let inner = Fields::of(
        &format!("preprocessor_config.json: {field}"),
        serde_json::json!({ name: value }),
    );
    Ok(inner.needed_size(name, MOST_SIDE)?)
}

/// A number for each colour.
fn triple(fields: &Fields, name: &str, default: [f64; 3]) -> Result<[f64; 3]> {
    let Some(value) = fields.get(name).filter(|value| !value.is_null()) else {
        return Ok(default);
    };
    let wrong = || {
        fields.fault(
            name,
            format!("{value} is not a number for each of three colours"),
        )
    };
    let numbers: [f64; 3] = serde_json::from_value(value.clone()).map_err(|_| wrong())?;
    match numbers
        .iter()
        .all(|number| number.is_finite() && *number != 0.0)
    {
        true => Ok(numbers),
        false => Err(wrong().into()),
    }
}
