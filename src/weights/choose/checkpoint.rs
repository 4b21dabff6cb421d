//! A diffusion checkpoint in one file, in the layout that its publisher trained it in. Apart from `folder`, whose files go with a
//! configuration.

use std::collections::BTreeSet;

use super::{Choice, Listed, has, small, split};

/// Folders whose small files count when they lie beside a checkpoint.
const BESIDE: [&str; 10] = [
    "unet",
    "transformer",
    "vae",
    "text_encoder",
    "text_encoder_2",
    "text_encoder_3",
    "tokenizer",
    "tokenizer_2",
    "tokenizer_3",
    "scheduler",
];
/// Names that an error lists at most.
const LISTED: usize = 12;

/// The one that was named, and small files beside it.
pub(super) fn named(files: &[Listed<'_>], name: &str) -> Result<Choice, String> {
    if !has(files, name) {
        let there = small::what_is_there(files);
        return Err(format!("it does not have the file {name}; {there}"));
    }
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let prefix = |part: &str| match folder {
        "" => format!("{part}/"),
        folder => format!("{folder}/{part}/"),
    };
    let mut needed = BTreeSet::from([name.to_owned()]);
    for part in BESIDE {
        needed.extend(small::beside(&prefix(part), files));
    }
    Ok(split(files, &needed, Some(name.to_owned())))
}

/// The only one there is, where nobody said which.
pub(super) fn only(files: &[Listed<'_>], names: &[&str], place: &str) -> Result<Choice, String> {
    match names {
        [one] => named(files, one),
        several => {
            let listed: Vec<&str> = several.iter().copied().take(LISTED).collect();
            let first = several.first().copied().unwrap_or_default();
            Err(format!(
                "it holds {} checkpoints, and which one is meant is not said: give {place}:{first}, or another; it has {}",
                several.len(),
                listed.join(", ")
            ))
        }
    }
}
