//! A prompt, and perhaps a picture to begin with; and the pictures that are drawn, as files.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use chandler_core::{
    Denoising, Drawn, Event, Guidance, ImageInput, Input, Picture, Prompts, Start, Task,
};

use super::drawing::Drawing;
use super::files::Files;
use super::{Given, Loaded, Run};
use crate::cli::ask::{Answer, ask};
use crate::cli::exit::{Exit, USAGE};
use crate::cli::output;
use crate::pictures::Encoding;

const HEADING: &str = "Pictures";

/// What may be said of pictures and of nothing else.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Flags {
    /// Where the picture goes: a .png, .jpg or .webp file; several become NAME-1.png and so on [default: standard output, as PNG]
    #[arg(short, long, value_name = "FILE", help_heading = HEADING)]
    output: Option<PathBuf>,
    /// What is not to be seen
    #[arg(long, value_name = "TEXT", help_heading = HEADING)]
    negative_prompt: Option<String>,
    /// Columns of pixels [default: the model's own]
    #[arg(long, value_name = "PIXELS", help_heading = HEADING)]
    width: Option<u32>,
    /// Rows of pixels [default: the model's own]
    #[arg(long, value_name = "PIXELS", help_heading = HEADING)]
    height: Option<u32>,
    /// Steps from noise to picture [default: the model's own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = HEADING)]
    steps: Option<u32>,
    /// How closely the prompt is followed; at most 1 runs without, in half the time [default: the model's own]
    #[arg(long, value_name = "SCALE", value_parser = at_least_0, help_heading = HEADING)]
    guidance_scale: Option<f64>,
    /// A class of diffusers, or a name that is in use for one [default: the model's own]
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    scheduler: Option<String>,
    /// A picture file to begin with
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    image: Option<PathBuf>,
    /// A picture file whose white part says what of --image is drawn anew
    #[arg(long, value_name = "FILE", requires = "image", help_heading = HEADING)]
    mask: Option<PathBuf>,
    /// How much of --image may change, from 0 to 1 [default: the model's own]
    #[arg(long, value_name = "PART", requires = "image", value_parser = part, help_heading = HEADING)]
    strength: Option<f64>,
    /// Draws the part about --mask alone, with so many pixels around it, as large as a whole picture, and puts it back
    #[arg(long, value_name = "PIXELS", requires = "mask", help_heading = HEADING)]
    padding_mask_crop: Option<u32>,
    /// Pictures; each has the seed after the one before
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64), help_heading = HEADING)]
    number: Option<u32>,
    /// A JPEG's quality, from 1 to 100 [default: 95]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100), help_heading = HEADING)]
    quality: Option<u8>,
}

fn at_least_0(text: &str) -> Result<f64, String> {
    let number = text.parse().ok();
    let number = number.filter(|number: &f64| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| "it must be a number of at least 0".to_owned())
}

fn part(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|part| (0.0..=1.0).contains(part));
    number.ok_or_else(|| "it must be a number from 0 to 1".to_owned())
}

/// What was read before the model was loaded, which may take minutes.
#[derive(Debug)]
pub(super) struct Ready {
    image: Option<Picture>,
    mask: Option<Picture>,
    files: Files,
}

impl Flags {
    /// One that was typed.
    pub(super) fn typed(&self) -> Option<&'static str> {
        let typed = [
            (self.output.is_some(), "--output"),
            (self.negative_prompt.is_some(), "--negative-prompt"),
            (self.width.is_some(), "--width"),
            (self.height.is_some(), "--height"),
            (self.steps.is_some(), "--steps"),
            (self.guidance_scale.is_some(), "--guidance-scale"),
            (self.scheduler.is_some(), "--scheduler"),
            (self.image.is_some(), "--image"),
            (self.mask.is_some(), "--mask"),
            (self.strength.is_some(), "--strength"),
            (self.padding_mask_crop.is_some(), "--padding-mask-crop"),
            (self.number.is_some(), "--number"),
            (self.quality.is_some(), "--quality"),
        ];
        typed
            .into_iter()
            .find_map(|(typed, flag)| typed.then_some(flag))
    }

    /// Looks at what can be looked at without the model.
    ///
    /// # Errors
    /// A file that cannot be read or written, or that the pictures have nowhere to go.
    pub(super) fn ready(&self, json: bool) -> anyhow::Result<Ready> {
        let several = self.number.unwrap_or(1) > 1;
        let files = match &self.output {
            Some(path) if path != Path::new("-") => Files::named(path, several)?,
            _ if json => {
                let message = "--json prints where the pictures are; add --output FILE";
                return Err(Exit::new(USAGE, message).into());
            }
            _ if several => {
                let message = "several pictures do not fit into one output; add --output FILE";
                return Err(Exit::new(USAGE, message).into());
            }
            _ if std::io::stdout().is_terminal() => {
                let message = "a picture is nothing for a terminal; add --output FILE, or send standard output to a file or a program";
                return Err(Exit::new(USAGE, message).into());
            }
            _ => Files::Standard,
        };
        if self.quality.is_some() && !files.has_quality() {
            let message = "--quality is for JPEG files; give --output a name that ends in .jpg";
            return Err(Exit::new(USAGE, message).into());
        }
        Ok(Ready {
            image: self.image.as_deref().map(read).transpose()?,
            mask: self.mask.as_deref().map(read).transpose()?,
            files,
        })
    }
}

fn read(path: &Path) -> anyhow::Result<Picture> {
    let bytes = std::fs::read(path);
    let bytes = bytes.with_context(|| format!("cannot read the picture {}", path.display()))?;
    Ok(Picture::new(bytes))
}

/// Whether a model of this task draws.
pub(super) fn draws(task: Task) -> bool {
    matches!(
        task,
        Task::TextToImage | Task::ImageToImage | Task::ImageInpainting
    )
}

/// Asks, shows how far the drawing is, and writes the files.
pub(super) async fn draw(
    run: &Run,
    loaded: &Loaded<'_>,
    (given, ready): (Given, Ready),
) -> anyhow::Result<()> {
    if run.temperature.is_some() {
        let message = "--temperature is for text and speech; leave it out of a picture";
        return Err(Exit::new(USAGE, message).into());
    }
    let input = input(run, given, &ready)?;
    let began = Instant::now();
    let mut drawing = Drawing::new(loaded.bars, began);
    let mut first_step = None;
    let answer = ask(
        &loaded.worker.engine,
        Input::Image(Box::new(input.clone())),
        |event| {
            if let Event::Progress { done, total } = event {
                first_step.get_or_insert_with(|| began.elapsed());
                drawing.show((*done, *total), Instant::now());
            }
            true
        },
    )
    .await?;
    drop(drawing);
    let images = &answer.collected.images;
    if images.is_empty() {
        anyhow::bail!("the model has ended without a picture");
    }
    let encoding = Encoding {
        format: ready.files.format(),
        quality: run.image.quality,
    };
    let id = &loaded.worker.id;
    let written = ready.files.write(images, encoding, (&input, id))?;
    if run.json {
        let times = (loaded.load, first_step, answer.total);
        let report = super::files::report(id, (images, &written), times);
        output::print(&format!("{report}\n"))?;
    } else {
        for (path, drawn) in written.iter().zip(images) {
            eprintln!("{} (seed {})", path.display(), drawn.recipe.seed);
        }
    }
    say_flagged(images);
    if run.verbose {
        say_speed(loaded.load, first_step, &answer);
    }
    Ok(())
}

fn say_flagged(images: &[Drawn]) {
    for drawn in images.iter().filter(|drawn| drawn.recipe.flagged) {
        eprintln!(
            "the model's checker took picture {} for something not to be shown: it is black",
            drawn.index + 1
        );
    }
}

fn say_speed(load: Duration, first_step: Option<Duration>, answer: &Answer) {
    let images = &answer.collected.images;
    let steps: u32 = images.first().map_or(0, |drawn| drawn.recipe.steps);
    let speed = f64::from(steps) / answer.total.as_secs_f64().max(1e-9);
    let size = images.first().map(|drawn| (drawn.width, drawn.height));
    let (width, height) = size.unwrap_or_default();
    eprintln!(
        "loaded in {load:.2?}, first step after {:.2?}, {} of {width}x{height} drawn in {steps} steps and {:.2?}, {speed:.2} steps/s",
        first_step.unwrap_or(answer.total),
        match images.len() {
            1 => "1 picture".to_owned(),
            several => format!("{several} pictures"),
        },
        answer.total,
    );
}

fn input(run: &Run, given: Given, ready: &Ready) -> anyhow::Result<ImageInput> {
    let flags = &run.image;
    let prompt = given.text()?;
    let start = ready.image.clone().map(|image| Start {
        image,
        strength: flags.strength,
        mask: ready.mask.clone(),
        padding_mask_crop: flags.padding_mask_crop,
    });
    Ok(ImageInput {
        prompt: Prompts::one(prompt),
        negative_prompt: Prompts {
            first: flags.negative_prompt.clone(),
            ..Prompts::default()
        },
        width: flags.width,
        height: flags.height,
        denoising: Denoising {
            steps: flags.steps,
            scheduler: flags.scheduler.clone(),
            ..Denoising::default()
        },
        guidance: Guidance {
            scale: flags.guidance_scale,
            ..Guidance::default()
        },
        seed: run.seed,
        n: flags.number.unwrap_or(1),
        start,
        ..ImageInput::default()
    })
}
