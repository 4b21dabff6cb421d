//! Which sizes a model can do, and how many rows of them at once. Apart from `prepare`, which puts a request together.

use chandler_core::RequestError;

use super::families::Design;
use crate::autoencoder::AutoencoderConfig;
use crate::pixels::Size;

/// Pixels a side at most.
const MOST_SIDE: u32 = 8192;
/// Buffers of twice the decoder's last channels that it holds at once, for each pixel.
const DECODER_BUFFERS: u64 = 4;
/// Pixels beyond which a picture is decoded in tiles, so that decoding takes no more.
pub(super) const TILED_PIXELS: u64 = 1024 * 1024;

/// The sizes that a loaded model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Pixels for each side of a latent.
    pub(super) factor: u32,
    /// What both sides are multiples of: a latent, or a token of some.
    pub(super) unit: u32,
    /// Pixels a side at most.
    pub(super) most: u32,
    /// The size it was trained at.
    pub(super) usual: Size,
    /// Bytes that are free for the work; `None` where nobody knows.
    pub(super) free: Option<u64>,
    /// Bytes that a row of the denoiser takes for each element of the latents' plane, roughly.
    pub(super) row_bytes: u64,
    /// Channels of the decoder's last level.
    pub(super) decoder: u64,
}

impl Sizes {
    /// The sizes of a model; how much is free is nothing that it knows.
    pub(super) fn new(design: &Design, vae: &AutoencoderConfig) -> Self {
        let factor = vae.pixels();
        let side = |latents: usize| u32::try_from(latents * factor).unwrap_or(MOST_SIDE);
        let [rows, columns] = design.usual;
        Self {
            factor: factor as u32,
            unit: (factor * design.patch) as u32,
            most: design.most.map_or(MOST_SIDE, side).min(MOST_SIDE),
            usual: Size {
                width: side(columns),
                height: side(rows),
            },
            free: None,
            row_bytes: design.row_bytes,
            decoder: vae.block_out_channels.first().map_or(1, |c| *c as u64),
        }
    }

    /// The size of a request's pictures.
    ///
    /// # Errors
    /// One that the model does not do, or for which there is too little memory, with the largest of its shape.
    pub(super) fn of(
        &self,
        width: Option<u32>,
        height: Option<u32>,
        start: Option<Size>,
    ) -> Result<Size, RequestError> {
        let usual = start.map_or(self.usual, |size| self.near(size));
        let size = Size {
            width: self.side("width", width, usual.width)?,
            height: self.side("height", height, usual.height)?,
        };
        let Some(free) = self.free.filter(|free| self.needed(size) > *free) else {
            return Ok(size);
        };
        let largest = self.largest(size, free);
        let field = if width.is_some() || height.is_none() {
            "width"
        } else {
            "height"
        };
        let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
        let message = format!(
            "{}×{} needs about {} MiB and {} MiB are free for it; {}×{} would fit",
            size.width,
            size.height,
            mebibytes(self.needed(size)),
            mebibytes(free),
            largest.width,
            largest.height
        );
        Err(RequestError::field(field, message).with_code("size_too_large"))
    }

    fn side(&self, field: &str, asked: Option<u32>, usual: u32) -> Result<u32, RequestError> {
        let Some(asked) = asked else {
            return Ok(usual);
        };
        let (unit, most) = (self.unit, self.most / self.unit * self.unit);
        if asked == 0 || !asked.is_multiple_of(unit) || asked > most {
            let below = (asked.min(most) / unit).max(1) * unit;
            let message = format!(
                "{field} is {asked}; it must be a multiple of {unit} from {unit} to {most}, such as {below}"
            );
            return Err(RequestError::field(field, message));
        }
        Ok(asked)
    }

    /// The size for a first picture of another size: its own, or that of its shape with as many pixels as the usual one has when it has
    /// more than twice of these.
    fn near(&self, size: Size) -> Size {
        let area = |size: Size| f64::from(size.width) * f64::from(size.height);
        let scale = match area(size) > 2.0 * area(self.usual) {
            true => (area(self.usual) / area(size)).sqrt(),
            false => 1.0,
        };
        self.scaled(size, scale)
    }

    fn scaled(&self, size: Size, scale: f64) -> Size {
        let most = (self.most / self.unit).max(1);
        let side = |side: u32| {
            let units = (f64::from(side) * scale / f64::from(self.unit)) as u32;
            units.clamp(1, most) * self.unit
        };
        Size {
            width: side(size.width),
            height: side(size.height),
        }
    }

    /// Rows of one pass for pictures of this size: as many as there is memory for, a guided picture at least, and at most `most`.
    pub(super) fn rows(&self, size: Size, most: usize) -> usize {
        let Some(free) = self.free else {
            return most;
        };
        let fit = free / self.row(size).max(1);
        most.min(usize::try_from(fit).unwrap_or(most))
            .max(2.min(most))
    }

    /// Bytes that a row of the denoiser takes, roughly.
    fn row(&self, size: Size) -> u64 {
        let pixels = u64::from(size.width) * u64::from(size.height);
        let latents = pixels / u64::from(self.factor).pow(2);
        latents * self.row_bytes
    }

    /// Bytes that a guided picture of this size takes on its way, roughly.
    pub(super) fn needed(&self, size: Size) -> u64 {
        let pixels = u64::from(size.width) * u64::from(size.height);
        let denoising = 2 * self.row(size);
        let decoding = pixels.min(TILED_PIXELS) * 2 * self.decoder * 4 * DECODER_BUFFERS;
        denoising.max(decoding)
    }

    /// The largest size of a shape that fits.
    fn largest(&self, size: Size, free: u64) -> Size {
        let fits = |scale: f64| self.needed(self.scaled(size, scale)) <= free;
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..24 {
            let middle = (low + high) / 2.0;
            match fits(middle) {
                true => low = middle,
                false => high = middle,
            }
        }
        self.scaled(size, low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(free: Option<u64>) -> Sizes {
        Sizes {
            factor: 8,
            unit: 8,
            most: MOST_SIDE,
            usual: Size {
                width: 512,
                height: 512,
            },
            free,
            row_bytes: 24_000,
            decoder: 128,
        }
    }

    #[test]
    fn a_size_that_is_no_multiple_is_told_one_that_is() {
        let of = |width, height| sizes(None).of(width, height, None);
        let size = of(None, Some(768)).unwrap();
        assert_eq!((size.width, size.height), (512, 768));
        let error = of(Some(500), None).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("width"));
        assert!(error.message.contains("multiple of 8") && error.message.ends_with("such as 496"));
        assert!(of(Some(0), None).is_err() && of(None, Some(9000)).is_err());
    }

    #[test]
    fn tokens_are_whole_and_no_more_than_the_model_has_places_for() {
        let sizes = Sizes {
            unit: 16,
            most: 1540,
            ..sizes(None)
        };
        assert!(sizes.of(Some(1536), Some(16), None).is_ok());
        for (side, told) in [(24, "such as 16"), (1552, "to 1536, such as 1536")] {
            let error = sizes.of(Some(side), None, None).unwrap_err();
            assert!(error.message.ends_with(told), "{error}");
        }
        let photograph = Size {
            width: 1300,
            height: 300,
        };
        let near = sizes.of(None, None, Some(photograph)).unwrap();
        assert_eq!((near.width, near.height), (1296, 288));
    }

    #[test]
    fn a_first_picture_gives_its_size_unless_it_is_a_photograph() {
        let of = |width, height| {
            sizes(None)
                .of(None, None, Some(Size { width, height }))
                .unwrap()
        };
        assert_eq!(
            of(515, 399),
            Size {
                width: 512,
                height: 392
            }
        );
        assert_eq!(of(16_384, 8).width, MOST_SIDE);
        let photograph = of(4000, 3000);
        assert_eq!(
            photograph,
            Size {
                width: 584,
                height: 440
            }
        );
        assert_eq!(
            of(3, 3),
            Size {
                width: 8,
                height: 8
            }
        );
    }

    #[test]
    fn a_pass_has_as_many_rows_as_memory_has_room_for() {
        let size = |side| Size {
            width: side,
            height: side,
        };
        // 4096 latents of 24 kB each.
        assert_eq!(sizes(Some(500 << 20)).rows(size(512), 32), 5);
        assert_eq!(sizes(Some(500 << 20)).rows(size(1024), 32), 2);
        assert_eq!(sizes(None).rows(size(1024), 32), 32);
        assert_eq!(sizes(Some(1)).rows(size(512), 1), 1);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let sizes = sizes(Some(1200 << 20));
        assert!(sizes.of(Some(512), Some(512), None).is_ok());
        let error = sizes.of(Some(2048), Some(1024), None).unwrap_err();
        assert_eq!(error.code, Some("size_too_large"));
        let told = error.message.rsplit("; ").next().unwrap();
        let (width, height) = told.trim_end_matches(" would fit").split_once('×').unwrap();
        let fits =
            |w: &str, h: &str| sizes.of(Some(w.parse().unwrap()), Some(h.parse().unwrap()), None);
        assert!(fits(width, height).is_ok(), "{told}");
        assert!(width.parse::<u32>().unwrap() > 512, "{told}");
    }
}
