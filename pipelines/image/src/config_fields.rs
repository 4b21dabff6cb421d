//! Fields that the configurations of several models write alike: one value for all blocks or a list of one for each, and values of which one
//! alone is supported. Apart from the configurations, which say what they are.

use chandler_nn::fields::Fields;
use serde_json::Value;

use crate::error::Result;

/// What a value is, where it is one.
type Of<'a, T> = &'a dyn Fn(&Value) -> Option<T>;

/// The values of a field for `blocks` blocks: one for all, a list, or `default` where nothing is written.
///
/// # Errors
/// Names the field, what was found and `what` would do.
pub(crate) fn per_block<T: Clone>(
    fields: &Fields,
    name: &str,
    (blocks, default): (usize, T),
    (what, of): (&str, Of<'_, T>),
) -> Result<Vec<T>> {
    let found = match fields.get(name) {
        None => Some(vec![default; blocks]),
        Some(Value::Array(list)) if list.len() == blocks => list.iter().map(of).collect(),
        Some(Value::Array(_)) => None,
        Some(one) => of(one).map(|one| vec![one; blocks]),
    };
    found.ok_or_else(|| {
        let value = fields.get(name).unwrap_or(&Value::Null);
        let message = format!("{value} is neither {what} nor a list of {blocks}");
        fields.fault(name, message).into()
    })
}

/// A whole number from 1 to `most`.
pub(crate) fn size(most: usize) -> impl Fn(&Value) -> Option<usize> {
    move |value| count(value, most).filter(|n| *n > 0)
}

/// A whole number from 0 to `most`.
pub(crate) fn count(value: &Value, most: usize) -> Option<usize> {
    let n = usize::try_from(value.as_u64()?).ok()?;
    (n <= most).then_some(n)
}

/// Texts that must be there.
///
/// # Errors
/// Names the field when it is no list of texts.
pub(crate) fn texts(fields: &Fields, name: &str, default: &[&str]) -> Result<Vec<String>> {
    let Some(value) = fields.get(name) else {
        return Ok(default.iter().map(|text| (*text).to_owned()).collect());
    };
    let list = value.as_array().and_then(|list| {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        list.iter().map(text).collect()
    });
    list.ok_or_else(|| {
        let message = format!("{value} is not a list of texts");
        fields.fault(name, message).into()
    })
}

/// Sizes of a list that is at most `most.0` long, each at most `most.1`.
///
/// # Errors
/// Names the field when it is no such list.
pub(crate) fn sizes(
    fields: &Fields,
    name: &str,
    default: &[usize],
    most: (usize, usize),
) -> Result<Vec<usize>> {
    let Some(value) = fields.get(name) else {
        return Ok(default.to_vec());
    };
    let list = value
        .as_array()
        .filter(|list| (1..=most.0).contains(&list.len()))
        .and_then(|list| list.iter().map(size(most.1)).collect());
    list.ok_or_else(|| {
        let message = format!(
            "{value} is not a list of 1 to {} whole numbers from 1 to {}",
            most.0, most.1
        );
        fields.fault(name, message).into()
    })
}

/// Refuses what is written for a field when it is not `known`, which is what the code does; null and absent are `known` too.
///
/// # Errors
/// Names the field, the value and what would do.
pub(crate) fn only(fields: &Fields, name: &str, known: &Value) -> Result<()> {
    let same = |value: &Value| match (value.as_f64(), known.as_f64()) {
        (Some(value), Some(known)) => value == known,
        _ => value == known,
    };
    match fields.get(name) {
        Some(value) if !same(value) => {
            let message = format!("{value} is not supported; {known} is");
            Err(fields.fault(name, message).into())
        }
        _ => Ok(()),
    }
}
