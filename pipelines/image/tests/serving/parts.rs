//! A part of a picture that is drawn larger and put back: what is refused, and what is left as it was. The pictures are compared in `parity`.

use std::io::Cursor;

use chandler_core::{
    Control, Denoising, ImageInput, Input, Picture, Pipeline, Prompts, RequestError, Start,
};
use image::{ImageFormat, Rgb, RgbImage};

use super::{load, run};

fn png(width: u32, height: u32, of: impl Fn(u32, u32) -> [u8; 3]) -> Picture {
    let image = RgbImage::from_fn(width, height, |x, y| Rgb(of(x, y)));
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    Picture::new(bytes.into_inner())
}

fn coloured(x: u32, y: u32) -> [u8; 3] {
    [(x * 7) as u8, (y * 9) as u8, 200]
}

fn white_spot(x: u32, y: u32) -> [u8; 3] {
    match (20..26).contains(&x) && (4..10).contains(&y) {
        true => [255; 3],
        false => [0; 3],
    }
}

fn request(mask: Option<Picture>) -> ImageInput {
    ImageInput {
        prompt: Prompts::one("a cat"),
        seed: Some(3),
        denoising: Denoising {
            steps: Some(2),
            ..Denoising::default()
        },
        start: Some(Start {
            image: png(30, 24, coloured),
            strength: Some(1.0),
            mask,
            padding_mask_crop: Some(2),
        }),
        ..ImageInput::default()
    }
}

#[test]
fn what_is_black_in_the_mask_stays_to_the_bit() {
    let answer = run(
        &mut load("sd", 4),
        vec![request(Some(png(30, 24, white_spot)))],
    );
    let drawn = &answer[0].images[0];
    assert_eq!((drawn.width, drawn.height), (30, 24));
    let mut changed = 0;
    for (at, pixel) in drawn.rgb.chunks_exact(3).enumerate() {
        let (x, y) = (at as u32 % 30, at as u32 / 30);
        let same = pixel == coloured(x, y);
        assert!(same || white_spot(x, y) != [0; 3], "{x} {y}");
        changed += usize::from(!same);
    }
    assert!(changed > 18, "{changed} of 36");
}

#[test]
fn what_makes_no_part_is_refused_with_its_field() {
    let pipeline = load("sd", 4);
    let refused = |input: ImageInput| -> RequestError {
        match pipeline.preparer().prepare(Input::Image(Box::new(input))) {
            Ok(_) => panic!("it was taken"),
            Err(error) => error,
        }
    };
    for (mask, said) in [
        (None, "padding_mask_crop is 2 and there is no mask"),
        (Some(png(30, 24, |_, _| [0; 3])), "mask is black all over"),
        (
            Some(png(15, 12, white_spot)),
            "mask has 15 × 12 pixels and the image 30 × 24",
        ),
    ] {
        let error = refused(request(mask));
        assert_eq!(error.field.as_deref(), Some("mask"));
        assert!(error.message.starts_with(said), "{error}");
    }
    let steered = ImageInput {
        controls: vec![Control {
            model: None,
            image: png(8, 8, coloured),
            scale: 1.0,
            start: 0.0,
            end: 1.0,
        }],
        ..request(Some(png(30, 24, white_spot)))
    };
    assert_eq!(
        refused(steered).field.as_deref(),
        Some("controls"),
        "there is no ControlNet"
    );
}
