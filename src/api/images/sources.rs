//! Pictures to begin with, in JSON: which fields hold the picture, its mask and what ControlNets are shown.

use chandler_core::{Control, Picture, RequestError};
use serde_json::Value;

use super::fields::name;
use crate::api::json::{Fields, wrong};
use crate::api::sent::{Kind, Sent, Ways};
use crate::api::state::Api;

/// Bytes of a picture: OpenAI's bound for its edits.
const LIMIT: u64 = 50 << 20;
/// ControlNets of one request at most.
const MOST_CONTROLS: usize = 8;
const ANY: Ways = Ways {
    base64: true,
    address: true,
};

/// Where the pictures of a request are.
#[derive(Debug, Default)]
pub(in crate::api) struct Sources {
    image: Option<Sent>,
    mask: Option<Sent>,
    controls: Vec<(Control, Sent)>,
}

/// Which pictures came as files.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Files {
    pub(super) image: bool,
    pub(super) mask: bool,
}

/// The pictures themselves.
#[derive(Debug, Default)]
pub(in crate::api) struct Brought {
    pub(super) image: Option<Picture>,
    pub(super) mask: Option<Picture>,
    pub(super) controls: Vec<Control>,
}

/// What a picture may be.
pub(in crate::api) const KIND: Kind = Kind {
    a: "a picture",
    the: "the picture",
    all: "the pictures",
    media: "image",
    limit: LIMIT,
    limited_by: "",
};

/// The same where no file may be as large.
pub(in crate::api) fn kind(api: &Api) -> Kind {
    Kind {
        limit: LIMIT.min(api.settings.upload_limit),
        ..KIND
    }
}

/// Reads them.
///
/// # Errors
/// A field that holds none, or a mask without a picture.
pub(in crate::api) fn read(kind: &Kind, fields: &Fields<'_>) -> Result<Sources, RequestError> {
    read_beside(kind, fields, Files::default())
}

/// Reads those that did not come as files of a form.
///
/// # Errors
/// As [`read`], and a picture that came in both ways.
pub(super) fn read_beside(
    kind: &Kind,
    fields: &Fields<'_>,
    came: Files,
) -> Result<Sources, RequestError> {
    let sources = Sources {
        image: one(kind, fields, "image")?,
        mask: one(kind, fields, "mask")?,
        controls: controls(kind, fields)?,
    };
    for (sent, file) in [(&sources.image, came.image), (&sources.mask, came.mask)] {
        if let (Some(sent), true) = (sent, file) {
            let message = format!(
                "{} is given beside a file; one of them holds the picture",
                sent.field
            );
            return Err(RequestError::field(sent.field.clone(), message));
        }
    }
    if came.image {
        return Ok(sources);
    }
    if let (None, Some(mask)) = (&sources.image, &sources.mask) {
        let name = mask.field.clone();
        let message =
            format!("{name} is given without an image; it says what of the image is drawn anew");
        return Err(RequestError::field(name, message));
    }
    for key in ["strength", "padding_mask_crop"] {
        if sources.image.is_none() && fields.has(key) {
            let name = name(fields, key);
            let message = format!(
                "{name} is given without an image, of which it says how much may change; give an image or leave it out"
            );
            return Err(RequestError::field(name, message));
        }
    }
    Ok(sources)
}

/// A picture by one of its fields: `image`, `image_base64` or `image_url`.
fn one(kind: &Kind, fields: &Fields<'_>, key: &str) -> Result<Option<Sent>, RequestError> {
    let (base64, url) = (format!("{key}_base64"), format!("{key}_url"));
    let ways = [
        (key, ANY),
        (
            base64.as_str(),
            Ways {
                address: false,
                ..ANY
            },
        ),
        (
            url.as_str(),
            Ways {
                base64: false,
                ..ANY
            },
        ),
    ];
    let mut found: Option<Sent> = None;
    for (key, ways) in ways {
        let Some((name, text)) = text(fields, key)? else {
            continue;
        };
        if let Some(other) = found {
            let message = format!(
                "{name} is given beside {}; one of them holds the picture",
                other.field
            );
            return Err(RequestError::field(name, message));
        }
        found = Some(kind.read(name, text, ways)?);
    }
    Ok(found)
}

/// A field's text. OpenAI's clients send JSON as an object with an address, or a list of one.
fn text<'a>(fields: &Fields<'a>, key: &str) -> Result<Option<(String, &'a str)>, RequestError> {
    let Some(found) = fields.find(key) else {
        return Ok(None);
    };
    let mut value = found.value;
    if let Value::Array(list) = value {
        match list.as_slice() {
            [] => return Ok(None),
            [only] => value = only,
            several => {
                let message = format!(
                    "{} has {} entries; one picture can be begun with",
                    found.name,
                    several.len()
                );
                return Err(RequestError::unsupported(found.name, message));
            }
        }
    }
    let value = value
        .get("image_url")
        .or_else(|| value.get("url"))
        .unwrap_or(value);
    match value.as_str() {
        Some(text) => Ok(Some((found.name, text.trim()))),
        None => Err(wrong(
            &found.name,
            value,
            "base64, a data URL or an http(s) address",
        )),
    }
}

fn controls(kind: &Kind, fields: &Fields<'_>) -> Result<Vec<(Control, Sent)>, RequestError> {
    let Some(list) = fields.array("controls")? else {
        return Ok(Vec::new());
    };
    let place = name(fields, "controls");
    if list.len() > MOST_CONTROLS {
        let message = format!(
            "{place} has {} entries; it may have at most {MOST_CONTROLS}",
            list.len()
        );
        return Err(RequestError::field(place, message));
    }
    let one = |(at, value): (usize, &Value)| {
        let place = format!("{place}[{at}]");
        let map = value.as_object();
        let map = map.ok_or_else(|| wrong(&place, value, "{image, model, scale, start, end}"))?;
        control(kind, &Fields::within(place, map))
    };
    list.iter().enumerate().map(one).collect()
}

fn control(kind: &Kind, fields: &Fields<'_>) -> Result<(Control, Sent), RequestError> {
    let image = one(kind, fields, "image")?;
    let image = image.ok_or_else(|| fields.missing("image", "the picture that steers"))?;
    let control = Control {
        model: fields.string("model")?.map(str::to_owned),
        image: Picture::new(Vec::new()),
        scale: fields.number("scale", 0.0..=10.0)?.unwrap_or(1.0),
        start: fields.number("start", 0.0..=1.0)?.unwrap_or(0.0),
        end: fields.number("end", 0.0..=1.0)?.unwrap_or(1.0),
    };
    Ok((control, image))
}

/// The pictures of several requests, in their order.
///
/// # Errors
/// The first that could not be had, or that they are too much together.
pub(in crate::api) async fn bring(
    api: &Api,
    all: Vec<Sources>,
) -> Result<Vec<Brought>, RequestError> {
    let (mut sent, mut places) = (Vec::new(), Vec::new());
    for sources in all {
        let (controls, steering): (Vec<Control>, Vec<Sent>) = sources.controls.into_iter().unzip();
        places.push((sources.image.is_some(), sources.mask.is_some(), controls));
        sent.extend(
            sources
                .image
                .into_iter()
                .chain(sources.mask)
                .chain(steering),
        );
    }
    let files = kind(api).bring(api, sent).await?;
    let mut files = files.into_iter().map(Picture::new);
    let mut next = || {
        let file = files.next();
        file.ok_or_else(|| RequestError::internal("a picture was lost on its way"))
    };
    let mut brought = Vec::with_capacity(places.len());
    for (has_image, has_mask, controls) in places {
        let image = if has_image { Some(next()?) } else { None };
        let mask = if has_mask { Some(next()?) } else { None };
        let mut steering = Vec::with_capacity(controls.len());
        for control in controls {
            let image = next()?;
            steering.push(Control { image, ..control });
        }
        brought.push(Brought {
            image,
            mask,
            controls: steering,
        });
    }
    Ok(brought)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::images::fields::SPELLINGS;

    const SMALL: Kind = Kind { limit: 100, ..KIND };

    fn of(body: Value) -> Result<Sources, String> {
        let fields = Fields::new(body.as_object().unwrap()).spelled(SPELLINGS);
        read(&SMALL, &fields).map_err(|error| error.field.unwrap())
    }

    #[test]
    fn pictures_come_in_the_ways_that_clients_have() {
        for body in [
            json!({"image": "AAE="}),
            json!({"init_image": "data:image/png;base64,AAE="}),
            json!({"image_base64": "AAE="}),
            json!({"image": ["AAE="], "mask_image": "AAE="}),
            json!({"image": [{"image_url": "data:image/png;base64,AAE="}]}),
        ] {
            let sources = of(body.clone()).unwrap();
            let place = sources.image.unwrap().place;
            assert!(
                matches!(place, crate::api::sent::Place::Here(bytes) if bytes == [0, 1]),
                "{body}"
            );
        }
        let controls = of(json!({"controls": [{"image": "AAE=", "scale": 0.5, "model": "canny"}]}));
        let (control, _) = &controls.unwrap().controls[0];
        assert_eq!(
            (control.scale, control.end, control.model.as_deref()),
            (0.5, 1.0, Some("canny"))
        );
    }

    #[test]
    fn what_holds_no_picture_is_refused_by_name() {
        for (body, field) in [
            (json!({"image": ""}), "image"),
            (json!({"init_image": "a*b"}), "init_image"),
            (json!({"image": ["AAE=", "AAE="]}), "image"),
            (json!({"image": 7}), "image"),
            (json!({"image_url": "AAE="}), "image_url"),
            (
                json!({"image": "AAE=", "image_url": "http://a/"}),
                "image_url",
            ),
            (json!({"mask": "AAE="}), "mask"),
            (json!({"denoising_strength": 0.5}), "denoising_strength"),
            (json!({"image": "A".repeat(200)}), "image"),
            (json!({"controls": [{}]}), "controls[0].image"),
            (json!({"controls": [7]}), "controls[0]"),
        ] {
            assert_eq!(of(body.clone()).unwrap_err(), field, "{body}");
        }
    }
}
