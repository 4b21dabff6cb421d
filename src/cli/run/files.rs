//! Where drawn pictures go: a file, several with numbers, or standard output; and what is said of them as JSON.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use chandler_core::{Drawn, ImageInput};
use serde_json::{Value, json};

use crate::cli::exit::{Exit, USAGE};
use crate::pictures::{Encoding, Format, Parameters, Pixels, encode};

/// Where they go.
#[derive(Debug)]
pub(super) enum Files {
    /// Standard output, which takes one.
    Standard,
    /// A file, or one for each.
    Named {
        path: PathBuf,
        format: Format,
        several: bool,
    },
}

impl Files {
    /// A file of this name, or several.
    ///
    /// # Errors
    /// That its ending is no format's, or that it can lie nowhere.
    pub(super) fn named(path: &Path, several: bool) -> Result<Self, Exit> {
        let ending = path.extension().and_then(|ending| ending.to_str());
        let Some(format) = ending.and_then(Format::named) else {
            let message = format!(
                "--output is {}; its name must end in .png, .jpg or .webp",
                path.display()
            );
            return Err(Exit::new(USAGE, message));
        };
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let message = format!("--output: there is no directory {}", folder.display());
            return Err(Exit::new(USAGE, message));
        }
        Ok(Self::Named {
            path: path.to_owned(),
            format,
            several,
        })
    }

    pub(super) fn format(&self) -> Format {
        match self {
            Self::Standard => Format::Png,
            Self::Named { format, .. } => *format,
        }
    }

    /// Whether the format has a quality.
    pub(super) fn has_quality(&self) -> bool {
        self.format() == Format::Jpeg
    }

    /// The name of the picture of a number, from 1 on; none where it is standard output.
    fn path(&self, number: usize) -> Option<PathBuf> {
        match self {
            Self::Standard => None,
            Self::Named {
                path,
                several: false,
                ..
            } => Some(path.clone()),
            Self::Named { path, .. } => {
                let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_os_string();
                let mut name = part(path.file_stem());
                name.push(format!("-{number}."));
                name.push(part(path.extension()));
                Some(path.with_file_name(name))
            }
        }
    }

    /// Writes the pictures; the names that they have.
    ///
    /// # Errors
    /// A picture that could not be written.
    pub(super) fn write(
        &self,
        images: &[Drawn],
        encoding: Encoding,
        (input, model): (&ImageInput, &str),
    ) -> anyhow::Result<Vec<PathBuf>> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (prompt, negative) = (
            text(&input.prompt.first),
            text(&input.negative_prompt.first),
        );
        let mut written = Vec::new();
        for (number, drawn) in (1..).zip(images) {
            let parameters = Parameters {
                prompt: &prompt,
                negative_prompt: &negative,
                model,
                ..Parameters::default()
            };
            let parameters = parameters.of(&drawn.recipe, (drawn.width, drawn.height));
            let pixels = Pixels {
                width: drawn.width,
                height: drawn.height,
                rgb: &drawn.rgb,
            };
            let file = encode(pixels, encoding, Some(&parameters))?;
            match self.path(number) {
                Some(path) => {
                    std::fs::write(&path, file)
                        .with_context(|| format!("cannot write {}", path.display()))?;
                    written.push(path);
                }
                None => {
                    let mut out = std::io::stdout().lock();
                    let done = out.write_all(&file).and_then(|()| out.flush());
                    done.context("cannot write the picture")?;
                }
            }
        }
        Ok(written)
    }
}

/// One JSON object about all of them.
pub(super) fn report(
    model: &str,
    (images, files): (&[Drawn], &[PathBuf]),
    (load, first_step, total): (Duration, Option<Duration>, Duration),
) -> Value {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    let pictures: Vec<Value> = images
        .iter()
        .zip(files)
        .map(|(drawn, file)| {
            let recipe = &drawn.recipe;
            json!({
                "file": file.to_string_lossy(),
                "seed": recipe.seed,
                "width": drawn.width,
                "height": drawn.height,
                "steps": recipe.steps,
                "scheduler": recipe.scheduler,
                "guidance_scale": recipe.guidance_scale,
                "true_cfg_scale": recipe.true_guidance_scale,
                "strength": recipe.strength,
                "flagged": recipe.flagged,
            })
        })
        .collect();
    json!({
        "model": model,
        "images": pictures,
        "load_ms": load.as_millis() as u64,
        "first_step_ms": first_step.map(milliseconds),
        "total_ms": milliseconds(total),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_pictures_have_numbers() {
        let name = |path: &str, several: bool| {
            let files = Files::named(Path::new(path), several).unwrap();
            files.path(2).unwrap().to_string_lossy().into_owned()
        };
        assert_eq!(name("out.png", false), "out.png");
        assert_eq!(name("out.png", true), "out-2.png");
        assert_eq!(name("/tmp/a.b.JPG", true), "/tmp/a.b-2.JPG");
    }

    #[test]
    fn a_name_says_the_format() {
        let format = |path: &str| Files::named(Path::new(path), false).map(|files| files.format());
        assert_eq!(format("a.jpeg").unwrap(), Format::Jpeg);
        assert_eq!(format("a.WEBP").unwrap(), Format::WebP);
        for path in ["a", "a.gif", "/nowhere/at/all/a.png"] {
            assert_eq!(format(path).unwrap_err().code, USAGE);
        }
    }
}
