//! What a request gets that does not say: the defaults of the reference's own pipelines, and which sizes a model can do.
//! Apart from `prepare`, which puts a request together.

use chandler_core::RequestError;

use crate::model_index::Family;
use crate::pixels::Size;

/// Pictures of one request at most.
pub(super) const MOST_PICTURES: u32 = 64;
/// Pixels a side at most.
const MOST_SIDE: u32 = 8192;
/// Bytes that a denoiser's row takes for each element of the latents' plane, for a first level of 320 channels: the skips of the way
/// down (some 2000 numbers) and what the widest block works on (some 4000).
const DENOISER_BYTES: u64 = 4 * 6000;
const DENOISER_CHANNELS: u64 = 320;
/// Buffers of twice the decoder's last channels that it holds at once, for each pixel.
const DECODER_BUFFERS: u64 = 4;
/// Pixels beyond which a picture is decoded in tiles, so that decoding takes no more.
pub(super) const TILED_PIXELS: u64 = 1024 * 1024;

/// Steps, when nobody says.
pub(super) fn steps(scheduler: &str) -> u32 {
    match scheduler {
        // `LatentConsistencyModelPipeline.__call__`.
        "LCMScheduler" => 4,
        _ => 50,
    }
}

/// Guidance, when nobody says.
pub(super) fn guidance(family: Family, distilled: bool) -> f64 {
    match (family, distilled) {
        (_, true) => 8.5,
        (Family::StableDiffusion, false) => 7.5,
        (Family::StableDiffusionXl, false) => 5.0,
    }
}

/// How much of a first picture may change, when nobody says.
pub(super) fn strength(family: Family, masked: bool) -> f64 {
    match (family, masked) {
        (Family::StableDiffusion, false) => 0.8,
        (Family::StableDiffusion, true) => 1.0,
        (Family::StableDiffusionXl, false) => 0.3,
        (Family::StableDiffusionXl, true) => 0.9999,
    }
}

/// The sizes that a loaded model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// What both sides are multiples of: pixels for each element of the latents.
    pub(super) factor: u32,
    /// The size it was trained at.
    pub(super) usual: Size,
    /// Bytes that are free for the work; `None` where nobody knows.
    pub(super) free: Option<u64>,
    /// Channels of the denoiser's first level and of the decoder's last.
    pub(super) channels: [u64; 2],
}

impl Sizes {
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
        let factor = self.factor;
        if asked == 0 || !asked.is_multiple_of(factor) || asked > MOST_SIDE {
            let below = (asked.min(MOST_SIDE) / factor).max(1) * factor;
            let message = format!(
                "{field} is {asked}; it must be a multiple of {factor} from {factor} to {}, such as {below}",
                MOST_SIDE / factor * factor
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
        let most = MOST_SIDE / self.factor;
        let side = |side: u32| {
            let units = (f64::from(side) * scale / f64::from(self.factor)) as u32;
            units.clamp(1, most) * self.factor
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
        let [denoiser, _] = self.channels;
        latents * DENOISER_BYTES * denoiser / DENOISER_CHANNELS
    }

    /// Bytes that a guided picture of this size takes on its way, roughly.
    fn needed(&self, size: Size) -> u64 {
        let pixels = u64::from(size.width) * u64::from(size.height);
        let [_, decoder] = self.channels;
        let denoising = 2 * self.row(size);
        let decoding = pixels.min(TILED_PIXELS) * 2 * decoder * 4 * DECODER_BUFFERS;
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
            usual: Size {
                width: 512,
                height: 512,
            },
            free,
            channels: [320, 128],
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
