//! PixArt's requests: texts of any length share passes, and what a model cannot be asked for is refused. The pictures are compared in `parity`.

use chandler_core::{Denoising, ImageInput, Input, Pipeline, Prompts};

use super::{load, run};

fn request(prompt: &str, guidance: f64) -> ImageInput {
    let mut input = ImageInput {
        prompt: Prompts::one(prompt),
        width: Some(16),
        height: Some(12),
        seed: Some(7),
        denoising: Denoising {
            steps: Some(3),
            ..Denoising::default()
        },
        ..ImageInput::default()
    };
    input.guidance.scale = Some(guidance);
    input
}

#[test]
fn texts_of_any_length_share_passes_and_each_picture_is_as_alone() {
    let asked = [
        request("a cat", 2.0),
        request("the red cat on the house in the water of the sky", 1.0),
        request("", 3.0),
    ];
    let mut pipeline = load("pixart_alpha", 8);
    let together = run(&mut pipeline, asked.to_vec());
    assert!(pipeline.calls() <= 5, "{} passes", pipeline.calls());
    let mut seen = Vec::new();
    for (input, drawn) in asked.into_iter().zip(&together) {
        let alone = run(&mut load("pixart_alpha", 8), vec![input]);
        assert_eq!(alone[0].images[0].rgb, drawn.images[0].rgb);
        assert!(
            !seen.contains(&&drawn.images[0].rgb),
            "another text, another picture"
        );
        seen.push(&drawn.images[0].rgb);
    }
}

#[test]
fn texts_are_read_in_small_letters() {
    let drawn = |prompt: &str| run(&mut load("pixart_sigma", 8), vec![request(prompt, 2.0)]);
    let (loud, quiet) = (drawn("  The RED (Cat:1.3) "), drawn("the red (cat:1.3)"));
    assert_eq!(loud[0].images[0].rgb, quiet[0].images[0].rgb);
    assert_ne!(
        quiet[0].images[0].rgb,
        drawn("the red cat")[0].images[0].rgb
    );
}

#[test]
fn what_it_cannot_do_is_told() {
    let pipeline = load("pixart_sigma", 8);
    let refused = |change: &dyn Fn(&mut ImageInput)| {
        let mut input = request("a cat", 2.0);
        change(&mut input);
        let prepared = pipeline.preparer().prepare(Input::Image(Box::new(input)));
        match prepared {
            Ok(_) => panic!("it was taken"),
            Err(error) => (error.field.unwrap_or_default(), error.message),
        }
    };
    let (field, message) = refused(&|input| input.prompt = Prompts::one("cat ".repeat(400)));
    assert_eq!(field, "prompt");
    assert!(message.ends_with("this model reads 300"), "{message}");
    assert_eq!(refused(&|input| input.clip_skip = Some(1)).0, "clip_skip");
    assert_eq!(refused(&|input| input.width = Some(18)).0, "width");
    let second = |input: &mut ImageInput| input.prompt.second = Some("a house".to_owned());
    assert_eq!(refused(&second).0, "prompt_2");
}
