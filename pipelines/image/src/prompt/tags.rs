//! Adapters that a prompt asks for, in the syntax of AUTOMATIC1111's web UI: `<lora:name:0.8>`. Apart from `weighting`, since such a tag
//! is no part of the text. Mirrors its modules/extra_networks.py (parse_prompt) and extensions-builtin/Lora/extra_networks_lora.py.

use chandler_core::RequestError;

const OPEN: &str = "<lora:";

/// The text without its tags, and the adapters that they name with their weights, 1 where none is written. Other tags are text.
///
/// # Errors
/// A tag that is not closed, has no name, or has anything but one weight; `field` is what errors name.
pub fn loras(text: &str, field: &str) -> Result<(String, Vec<(String, f32)>), RequestError> {
    let (mut kept, mut found) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let refuse = |inside: &str| {
            let shown: String = inside.chars().take(80).collect();
            let message = format!(
                "{OPEN}{shown}: <lora:name> or <lora:name:weight> is wanted, with one weight for the whole adapter"
            );
            RequestError::field(field, message)
        };
        let (inside, after) = after.split_once('>').ok_or_else(|| refuse(after))?;
        let (name, weight) = match inside.split_once(':') {
            None => (inside, Some(1.0)),
            Some((name, weight)) => (name, weight.trim().parse().ok()),
        };
        match weight {
            Some(weight) if !name.trim().is_empty() => {
                found.push((name.trim().to_owned(), weight));
            }
            _ => return Err(refuse(inside)),
        }
        kept.push_str(before);
        rest = after;
    }
    kept.push_str(rest);
    Ok((kept, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_taken_out_and_weigh_one_unless_they_say_otherwise() {
        let text = "a <lora:ink:0.5>cat <lora: my style > and <b> (dog:1.2)<lora:x:-1>";
        let (kept, found) = loras(text, "prompt").unwrap();
        assert_eq!(kept, "a cat  and <b> (dog:1.2)");
        let expected = [("ink", 0.5), ("my style", 1.0), ("x", -1.0)];
        assert_eq!(
            found,
            expected.map(|(name, weight)| (name.to_owned(), weight))
        );
        assert_eq!(
            loras("1 < 2", "prompt").unwrap(),
            ("1 < 2".to_owned(), Vec::new())
        );
    }

    #[test]
    fn what_is_no_tag_is_refused_with_its_field() {
        for text in [
            "<lora:ink:0.5",
            "<lora::1>",
            "<lora:ink:much>",
            "<lora:ink:1:0.5>",
            "<lora:ink:te=1>",
        ] {
            let error = loras(text, "prompt_2").unwrap_err();
            assert_eq!(error.field.as_deref(), Some("prompt_2"), "{text}");
        }
    }
}
