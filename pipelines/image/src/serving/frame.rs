//! How a request's pictures are brought to the size that is drawn: whole, or the part about a mask alone (`padding_mask_crop`), which is put
//! back when it is drawn. Apart from `start`, which encodes and mixes them. After `diffusers` pipeline_stable_diffusion_inpaint.py.

use chandler_core::RequestError;
use image::{GrayImage, RgbImage, imageops};

use crate::error::{ImageError, Result};
use crate::pixels::{Pixels, Size};
use crate::region::Region;

const FIELD: &str = "padding_mask_crop";
/// Pixels of a picture that a part is put back into, at most: each drawing is an answer of that size.
const MOST_PIXELS: u64 = 1 << 26;

/// What of a request's pictures is drawn.
pub(super) struct Frame {
    /// Of the drawing.
    pub(super) size: Size,
    part: Option<Part>,
}

/// A part of pictures that is drawn, and what it is put back into.
pub(super) struct Part {
    region: Region,
    /// The whole picture.
    picture: RgbImage,
    /// Of the part; beyond it all is black.
    mask: GrayImage,
}

impl Frame {
    /// All of a picture.
    pub(super) fn whole(size: Size) -> Self {
        Self { size, part: None }
    }

    /// The part of a picture about what a mask leaves to be drawn, and `padding` pixels more.
    ///
    /// # Errors
    /// When the two are not of one size or too large, or the mask leaves nothing.
    pub(super) fn about(
        (picture, mask): (&Pixels, &Pixels),
        padding: u32,
        size: Size,
    ) -> Result<Self, RequestError> {
        let of = picture.size();
        if u64::from(of.width) * u64::from(of.height) > MOST_PIXELS {
            let message = format!(
                "image has {} × {} pixels; for {FIELD} it may have {MOST_PIXELS}",
                of.width, of.height
            );
            return Err(RequestError::field("image", message));
        }
        alike("mask", mask.size(), of)?;
        let mask = mask.grey();
        let Some(region) = Region::about(&mask, padding, size) else {
            let message = format!("mask is black all over, and {FIELD} draws what is white in it");
            return Err(RequestError::field("mask", message));
        };
        let Region {
            left,
            top,
            size: own,
        } = region;
        let part = Part {
            region,
            picture: picture.rgb8(),
            mask: imageops::crop_imm(&mask, left, top, own.width, own.height).to_image(),
        };
        Ok(Self {
            size,
            part: Some(part),
        })
    }

    /// What of a picture goes into the drawing; `field` is what the request calls it.
    ///
    /// # Errors
    /// When a part is drawn and this picture is of another size than the first.
    pub(super) fn of(&self, picture: Pixels, field: &str) -> Result<Pixels, RequestError> {
        let Some(part) = &self.part else {
            return Ok(picture);
        };
        alike(field, picture.size(), part.size())?;
        Ok(Pixels::of(Region::filled(
            &picture.part(part.region),
            self.size,
        )))
    }

    /// What drawings are put back into, where they are a part.
    pub(super) fn into_part(self) -> Option<Part> {
        self.part
    }
}

impl Part {
    /// Of the whole picture.
    pub(super) fn size(&self) -> Size {
        Size {
            width: self.picture.width(),
            height: self.picture.height(),
        }
    }

    /// The whole picture with a drawing of the part, red, green and blue of each pixel.
    pub(super) fn put_back(&self, rgb: Vec<u8>, drawn: Size) -> Result<Vec<u8>> {
        let lost = || ImageError::Input("a drawing is not as large as it was begun".to_owned());
        let drawn = RgbImage::from_raw(drawn.width, drawn.height, rgb).ok_or_else(lost)?;
        let whole = self.region.put_back(&drawn, &self.picture, &self.mask);
        Ok(whole.into_raw())
    }

    /// Bytes on the host.
    pub(super) fn bytes(&self) -> usize {
        self.picture.as_raw().len() + self.mask.as_raw().len()
    }
}

fn alike(field: &str, found: Size, first: Size) -> Result<(), RequestError> {
    if found == first {
        return Ok(());
    }
    let message = format!(
        "{field} has {} × {} pixels and the image {} × {}; for {FIELD} they must be of one size",
        found.width, found.height, first.width, first.height
    );
    Err(RequestError::field(field, message))
}
