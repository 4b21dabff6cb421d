//! Reading the fields of a scheduler's configuration with the defaults of its class, each error naming field, value and what would do.
//! Apart from `chandler_nn`'s `Fields` because defaults and choices are the rule here: diffusers leaves out what is as its class has it.

use std::ops::RangeInclusive;

use chandler_nn::fields::Fields;
use serde_json::Value;

use crate::error::Result;

/// The fields of one configuration.
pub(super) struct Reader<'a>(pub &'a Fields);

impl Reader<'_> {
    /// True or false.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        Ok(self.0.flag(name)?.unwrap_or(default))
    }

    /// A whole number.
    pub fn whole(
        &self,
        name: &str,
        within: RangeInclusive<usize>,
        default: usize,
    ) -> Result<usize> {
        let Some(given) = self.0.number(name)? else {
            return Ok(default);
        };
        let fits = given.fract() == 0.0
            && given >= *within.start() as f64
            && given <= *within.end() as f64;
        if !fits {
            let (low, high) = (within.start(), within.end());
            let message = format!("{given} is not a whole number from {low} to {high}");
            return Err(self.0.fault(name, message).into());
        }
        Ok(given as usize)
    }

    /// A number within bounds, when there is one.
    pub fn number(&self, name: &str, within: RangeInclusive<f64>) -> Result<Option<f64>> {
        let Some(given) = self.0.number(name)? else {
            return Ok(None);
        };
        if !within.contains(&given) {
            let (low, high) = (within.start(), within.end());
            let message = format!("{given} is not a number from {low} to {high}");
            return Err(self.0.fault(name, message).into());
        }
        Ok(Some(given))
    }

    /// A number within bounds, or its default.
    pub fn number_or(&self, name: &str, within: RangeInclusive<f64>, default: f64) -> Result<f64> {
        Ok(self.number(name, within)?.unwrap_or(default))
    }

    /// One of some words.
    pub fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)], default: T) -> Result<T> {
        let Some(given) = self.0.text(name)? else {
            return Ok(default);
        };
        let found = choices.iter().find(|(word, _)| *word == given);
        match found {
            Some((_, choice)) => Ok(*choice),
            None => {
                let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
                let message = format!("{given:?} is not one of: {}", words.join(", "));
                Err(self.0.fault(name, message).into())
            }
        }
    }

    /// A list of numbers, when there is one.
    pub fn numbers(&self, name: &str, most: usize) -> Result<Option<Vec<f64>>> {
        let Some(value) = self.0.get(name) else {
            return Ok(None);
        };
        let of = |value: &Value| {
            let listed = value.as_array().filter(|listed| listed.len() <= most)?;
            listed.iter().map(Value::as_f64).collect()
        };
        match of(value) {
            Some(numbers) => Ok(Some(numbers)),
            None => Err(self.fault(name, format!("it is not a list of at most {most} numbers"))),
        }
    }

    /// An error about a field.
    pub fn fault(&self, name: &str, message: impl Into<String>) -> crate::error::ImageError {
        self.0.fault(name, message).into()
    }
}
