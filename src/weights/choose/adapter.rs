//! An adapter's files: the two that peft saves, or one file of pairs, as image models' adapters are handed about. Apart from the
//! choice of a model's files, of which there are many.

use super::folder::STEMS;
use super::{Choice, Listed, has, small, split};

/// What peft saves.
const PEFT: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];
/// What diffusers calls the one file.
const DIFFUSERS: &str = "pytorch_lora_weights.safetensors";
/// Files that an error lists.
const LISTED: usize = 5;

/// Chooses; `wanted` is the file that was named.
pub(super) fn choose(files: &[Listed<'_>], wanted: Option<&str>) -> Result<Choice, String> {
    let names: Vec<&str> = files.iter().map(|file| file.path).collect();
    match file(&names, wanted) {
        Ok(file) => {
            let needed = match file == PEFT[1] {
                true => PEFT.map(str::to_owned).into(),
                false => [file].into(),
            };
            Ok(split(files, &needed, wanted.map(str::to_owned)))
        }
        Err(_) if has(files, "adapter_model.bin") => Err(
            "the adapter is there as a pickle only (adapter_model.bin), which is a program and is never opened: save it with \
             safe_serialization=True, or use a revision that has adapter_model.safetensors"
                .to_owned(),
        ),
        Err(reason) => Err(format!("{reason}; {}", small::what_is_there(files))),
    }
}

/// The file of an adapter's weights among these of its folder; `wanted` is the one that was named.
///
/// # Errors
/// When there is none, or when it could be any of several.
pub fn file(names: &[&str], wanted: Option<&str>) -> Result<String, String> {
    let there = |name: &str| names.contains(&name);
    if let Some(wanted) = wanted {
        return match there(wanted) {
            true => Ok(wanted.to_owned()),
            false => Err(format!("there is no {wanted}")),
        };
    }
    if PEFT.iter().all(|name| there(name)) {
        return Ok(PEFT[1].to_owned());
    }
    if there(DIFFUSERS) {
        return Ok(DIFFUSERS.to_owned());
    }
    let own = |name: &&&str| {
        let is_weights = name.ends_with(".safetensors") && !name.contains('/');
        let model = |stem: &&str| {
            let rest = name.strip_prefix(*stem);
            rest.is_some_and(|rest| rest.starts_with(['.', '-']) && !rest.starts_with("-lora"))
        };
        is_weights && !STEMS.iter().any(model)
    };
    let found: Vec<&str> = names.iter().filter(own).copied().collect();
    match found.as_slice() {
        [one] if *one != PEFT[1] => Ok((*one).to_owned()),
        [] | [_] => Err(
            "there is no adapter: adapter_config.json and adapter_model.safetensors, as peft saves them, or one file of pairs in \
             safetensors are wanted"
                .to_owned(),
        ),
        [first, ..] => {
            let shown: Vec<&str> = found.iter().take(LISTED).copied().collect();
            let more = if found.len() > LISTED { " and others" } else { "" };
            Err(format!(
                "any of {}{more} could be the adapter: name it, as in NAME=PLACE/{first}",
                shown.join(", ")
            ))
        }
    }
}
