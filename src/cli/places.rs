//! From settings to the weight store's words: which place a model or an adapter is at, and what the store may do. The one place
//! where models.toml, `--model` and `--lora` meet the store.

use std::num::NonZeroUsize;

use super::exit::{Exit, USAGE};
use crate::catalog::{Card, Catalog, Origin};
use crate::config::{
    Dtype, MirrorScope, NamedAdapter, Resolution, S3Addressing, Settings, Switch, Variant,
};
use crate::storage::{Access, Addressing, Credentials};
use crate::weights::gs::{GsOptions, Login};
use crate::weights::hub::HubOptions;
use crate::weights::mirror::Scope;
use crate::weights::s3::S3Options;
use crate::weights::{Kind, Location, MirrorPlace, StoreOptions, Wanted};

/// The model that the settings name.
///
/// # Errors
/// A name that leads nowhere, with the names that are near.
pub fn model(resolution: &Resolution) -> Result<Wanted, Exit> {
    let settings = &resolution.settings;
    let card = resolution.card.as_ref();
    let text = match card.map(Card::origin) {
        Some(Origin::Within(name) | Origin::Hub(name)) => name,
        None => settings.model.as_str(),
    };
    let hint = near(&resolution.catalog, card, &settings.model);
    let refuse = |reason: String| Exit::new(USAGE, format!("{reason}{hint}"));
    let location = Location::read(text).map_err(|error| refuse(error.to_string()))?;
    let bare = matches!(&location, Location::Hub { repo, .. } if !repo.contains('/'));
    if bare && !hint.is_empty() && !text.starts_with("hf://") {
        // Only the hub's oldest repositories have no owner, and a misspelt card is likelier than one of those.
        return Err(refuse(format!(
            "model `{text}` has no card and is no directory (a repository of that name on the hub would be hf://{text})"
        )));
    }
    Ok(Wanted {
        hint,
        languages: settings.speech_languages.value.clone(),
        ..Wanted::model(with_revision(location, settings))
    })
}

/// Where a ControlNet is.
///
/// # Errors
/// When its place is none, or another file than one in safetensors.
pub fn control(control: &NamedAdapter) -> Result<Wanted, Exit> {
    let NamedAdapter { name, path, .. } = control;
    let location = beside(path, &CONTROL)
        .map_err(|reason| Exit::new(USAGE, format!("control: {name}={path}: {reason}")))?;
    Ok(Wanted::model(location))
}

/// Where a refiner is.
///
/// # Errors
/// When its place is none, or another file than one in safetensors.
pub fn refiner(place: &str) -> Result<Wanted, Exit> {
    only("refiner", place, &REFINER)
}

/// Where a tiny autoencoder is.
///
/// # Errors
/// When its place is none.
pub fn preview(place: &str) -> Result<Wanted, Exit> {
    only("preview", place, &PREVIEW)
}

fn only(setting: &str, place: &str, what: &Beside) -> Result<Wanted, Exit> {
    let location = beside(place, what)
        .map_err(|reason| Exit::new(USAGE, format!("{setting}: {place}: {reason}")))?;
    Ok(Wanted::model(location))
}

/// Where an adapter is.
///
/// # Errors
/// A place that is none.
pub fn adapter(adapter: &NamedAdapter) -> Result<Wanted, Exit> {
    let NamedAdapter { name, path, .. } = adapter;
    adapter_at(path).map_err(|reason| Exit::new(USAGE, format!("lora: {name}={path}: {reason}")))
}

/// Where an adapter is that nobody has named.
///
/// # Errors
/// A place that is none.
pub fn adapter_at(text: &str) -> Result<Wanted, String> {
    Ok(Wanted {
        kind: Kind::Adapter,
        ..Wanted::model(beside(text, &ADAPTER)?)
    })
}

/// What goes beside a model.
struct Beside {
    /// Its name in errors.
    what: &'static str,
    /// What it may be, to say when it is a file that it can't be.
    wanted: &'static str,
}

const CONTROL: Beside = Beside {
    what: "ControlNet",
    wanted: "a ControlNet is a directory or repository in the diffusers layout, or a .safetensors file in the original one",
};
const REFINER: Beside = Beside {
    what: "refiner",
    wanted: "a refiner is a directory or repository in the diffusers layout, or a .safetensors file in the original one",
};
const PREVIEW: Beside = Beside {
    what: "tiny autoencoder",
    wanted: "a tiny autoencoder is a directory or repository with config.json and its weights beside it",
};
const ADAPTER: Beside = Beside {
    what: "adapter",
    wanted: "an adapter is read as peft saves it or as one file in safetensors, not as GGUF: give the directory, repository or file \
         that holds it",
};

/// The place of something that goes beside a model, and is never in GGUF.
fn beside(text: &str, beside: &Beside) -> Result<Location, String> {
    let location = Location::read(text).map_err(|error| error.to_string())?;
    match &location {
        Location::Mock(_) | Location::Demo(_) => {
            Err(format!("this is a model, and no {}", beside.what))
        }
        _ => match location.file() {
            Some(file) if !file.ends_with(".safetensors") => Err(beside.wanted.to_owned()),
            _ => Ok(location),
        },
    }
}

/// Adds the revision of the settings where the place itself names none.
fn with_revision(location: Location, settings: &Settings) -> Location {
    let Some(set) = settings.revision.as_ref() else {
        return location;
    };
    match location {
        Location::Hub {
            repo,
            revision: None,
            file,
        } => Location::Hub {
            repo,
            revision: Some(set.clone()),
            file,
        },
        Location::Hub {
            revision: Some(ref own),
            ..
        } => {
            if own != set {
                tracing::warn!(
                    revision = set,
                    "the model's own @{own} wins over the setting"
                );
            }
            location
        }
        _ => {
            tracing::warn!(revision = set, model = %location, "this model has no revisions; the setting is ignored");
            location
        }
    }
}

/// A model that has no card and is not here may be a misspelt card.
fn near(catalog: &Catalog, card: Option<&Card>, model: &str) -> String {
    let near = if card.is_none() {
        catalog.near(model)
    } else {
        Vec::new()
    };
    if near.is_empty() {
        return String::new();
    }
    format!("; or did you mean {}?", near.join(", "))
}

/// What the store is told.
pub fn store_options(settings: &Settings) -> StoreOptions {
    StoreOptions {
        hub: HubOptions {
            endpoint: settings
                .hub_endpoint
                .0
                .as_str()
                .trim_end_matches('/')
                .to_owned(),
            token: settings.hf_token.value.clone(),
            offline: *settings.hub_offline == Switch::On,
            connect_timeout: *settings.hub_etag_timeout,
            answer_timeout: *settings.hub_etag_timeout,
            ..HubOptions::default()
        },
        s3: s3_options(settings),
        gs: gs_options(settings),
        mirror: mirror(settings),
        cache: settings.hub_cache.value.clone(),
        read_caches: settings
            .hub_read_caches
            .iter()
            .filter(|path| path.as_os_str() != "none")
            .cloned()
            .collect(),
        budget: settings.hub_cache_budget.as_ref().map(|size| size.0),
        symlinks: *settings.hub_disable_symlinks == Switch::Off,
        offline: *settings.hub_offline == Switch::On,
        connections: settings.download_connections.map(NonZeroUsize::get),
        stall: *settings.hub_download_timeout,
        variants: variants(settings),
    }
}

fn s3_options(settings: &Settings) -> S3Options {
    let keys = settings.s3_access_key.value.clone();
    let keys = keys.zip(settings.s3_secret_key.value.clone());
    S3Options {
        access: Access {
            endpoint: settings.s3_endpoint.as_ref().map(|url| url.0.clone()),
            region: settings.s3_region.value.clone(),
            addressing: addressing(settings),
            credentials: keys.map(|(access_key, secret_key)| Credentials {
                access_key,
                secret_key,
                session_token: settings.s3_session_token.value.clone(),
            }),
        },
        ..S3Options::default()
    }
}

fn gs_options(settings: &Settings) -> GsOptions {
    let login = match (&settings.gs_token.value, &settings.gs_credentials.value) {
        (Some(token), _) => Login::Token(token.clone()),
        (None, Some(file)) => Login::File(file.clone()),
        (None, None) => Login::Auto,
    };
    GsOptions {
        endpoint: settings.gs_endpoint.as_ref().map(|url| url.0.clone()),
        login,
        metadata_host: settings.gs_metadata_host.value.clone(),
        ..GsOptions::default()
    }
}

/// How buckets are addressed.
pub fn addressing(settings: &Settings) -> Addressing {
    match *settings.s3_addressing {
        S3Addressing::Auto => Addressing::Auto,
        S3Addressing::Path => Addressing::Path,
        S3Addressing::Virtual => Addressing::Virtual,
    }
}

fn mirror(settings: &Settings) -> Option<MirrorPlace> {
    let place = settings.mirror.as_ref()?;
    Some(MirrorPlace {
        bucket: place.bucket.clone(),
        prefix: place.prefix.clone(),
        scope: match *settings.mirror_scope {
            MirrorScope::Off => Scope::Off,
            MirrorScope::Shared => Scope::Shared,
            MirrorScope::Private => Scope::Private,
        },
    })
}

/// Marks of precision in the order of preference; the empty one is no mark.
fn variants(settings: &Settings) -> Vec<String> {
    let plain = String::new;
    match &*settings.variant {
        Variant::Default => vec![plain()],
        Variant::Named(name) => vec![name.clone(), plain()],
        Variant::Auto => match *settings.dtype {
            Dtype::F16 => vec!["fp16".to_owned(), plain()],
            Dtype::Bf16 => vec!["bf16".to_owned(), plain()],
            Dtype::Auto | Dtype::F32 => vec![plain()],
        },
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::config::{Given, Value, resolve};

    fn resolution(environment: &[(&str, &str)]) -> Resolution {
        resolve(&Given::in_environment(environment)).unwrap()
    }

    fn place(environment: &[(&str, &str)]) -> Result<String, Exit> {
        model(&resolution(environment)).map(|wanted| wanted.location.to_string())
    }

    #[test]
    fn an_adapters_file_may_be_named_wherever_it_is() {
        let at = |text: &str| adapter_at(text).unwrap().location.to_string();
        for (text, place) in [
            ("org/name:ink.safetensors", "org/name:ink.safetensors"),
            ("org/name/ink.safetensors", "org/name:ink.safetensors"),
            ("org/name@v1/ink.safetensors", "org/name@v1:ink.safetensors"),
            (
                "s3://bucket/loras/ink.safetensors",
                "s3://bucket/loras/ink.safetensors",
            ),
            ("org/name", "org/name"),
        ] {
            assert_eq!(at(text), place);
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ink.safetensors");
        assert!(adapter_at(path.to_str().unwrap()).is_err());
        std::fs::write(&path, b"x").unwrap();
        assert_eq!(
            at(path.to_str().unwrap()),
            format!("file {}", path.display())
        );
        assert!(adapter_at("org/name:model.gguf").is_err());
        assert!(adapter_at("demo").is_err());
    }

    #[test]
    fn a_card_leads_to_the_hub_and_a_revision_goes_along() {
        let hub = "TinyLlama/TinyLlama-1.1B-Chat-v1.0";
        assert_eq!(place(&[("CHANDLER_MODEL", "tinyllama")]).unwrap(), hub);
        let set = [("CHANDLER_MODEL", "org/name"), ("CHANDLER_REVISION", "dev")];
        assert_eq!(place(&set).unwrap(), "org/name@dev");
        let own = [
            ("CHANDLER_MODEL", "org/name@v1"),
            ("CHANDLER_REVISION", "dev"),
        ];
        assert_eq!(place(&own).unwrap(), "org/name@v1");
        let vertex = [
            ("AIP_MODE", "PREDICTION"),
            ("AIP_STORAGE_URI", "gs://bucket/model"),
        ];
        assert_eq!(place(&vertex).unwrap(), "gs://bucket/model");
    }

    #[test]
    fn a_misspelt_card_is_named_before_the_hub_is_asked() {
        let error = place(&[("CHANDLER_MODEL", "tinylama")]).unwrap_err();
        assert_eq!(error.code, USAGE);
        assert!(
            error.message.contains("tinyllama") && error.message.contains("hf://tinylama"),
            "{error}"
        );
        assert_eq!(
            place(&[("CHANDLER_MODEL", "hf://tinylama")]).unwrap(),
            "tinylama"
        );
        let wanted = model(&resolution(&[(
            "CHANDLER_MODEL",
            "TinyLlama/TinyLlama-1.1B-Chat-v1.O",
        )]));
        assert!(wanted.unwrap().hint.contains("did you mean"));
        let error = place(&[("CHANDLER_MODEL", "./nowhere")]).unwrap_err();
        assert!(error.message.contains("./nowhere"), "{error}");
    }

    #[test]
    fn an_adapter_is_a_directory_a_repository_or_a_folder_in_a_bucket() {
        let read = |text: &str| {
            let adapters = crate::config::Adapters::parse(text).unwrap();
            adapter(&adapters.0[0]).map(|wanted| wanted.location.to_string())
        };
        assert_eq!(
            read("sql=someone/sql-lora@v2").unwrap(),
            "someone/sql-lora@v2"
        );
        assert_eq!(read("sql=s3://adapters/sql").unwrap(), "s3://adapters/sql");
        for bad in [
            "sql=/nowhere/sql",
            "sql=demo",
            "sql=o/n:Q4_0",
            "sql=s3://a/b.gguf",
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.message.contains(bad), "{error}");
        }
    }

    #[test]
    fn a_controlnet_may_be_one_file() {
        let read = |text: &str| {
            let controls = crate::config::Adapters::parse(text).unwrap();
            control(&controls.0[0]).map(|wanted| wanted.location.to_string())
        };
        assert_eq!(read("a=o/n").unwrap(), "o/n");
        let file = read("a=o/n:canny.safetensors").unwrap();
        assert_eq!(file, "o/n:canny.safetensors");
        let error = read("a=o/n:canny.gguf").unwrap_err();
        assert!(error.message.contains("control: a="), "{error}");
    }

    #[test]
    fn the_precision_follows_the_dtype_unless_it_is_named() {
        let of = |environment: &[(&str, &str)]| variants(&resolution(environment).settings);
        assert_eq!(of(&[]), [""]);
        assert_eq!(of(&[("CHANDLER_DTYPE", "f16")]), ["fp16", ""]);
        let named = [("CHANDLER_DTYPE", "f16"), ("CHANDLER_VARIANT", "non_ema")];
        assert_eq!(of(&named), ["non_ema", ""]);
        assert_eq!(
            of(&[("CHANDLER_DTYPE", "f16"), ("CHANDLER_VARIANT", "default")]),
            [""]
        );
    }

    #[test]
    fn what_is_set_reaches_the_store() {
        let set = [
            ("CHANDLER_MIRROR", "s3://models/hub"),
            ("CHANDLER_MIRROR_SCOPE", "shared"),
            ("HF_ENDPOINT", "http://127.0.0.1:9/hub/"),
            ("HF_HUB_OFFLINE", "1"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "7"),
            ("CHANDLER_HUB_READ_CACHES", "/a,/b"),
            ("CHANDLER_HUB_CACHE_BUDGET", "1GiB"),
            ("AWS_ACCESS_KEY_ID", "runpods"),
            ("CHANDLER_S3_ACCESS_KEY", "ours"),
            ("CHANDLER_S3_SECRET_KEY", "hush"),
        ];
        let options = store_options(&resolution(&set).settings);
        assert_eq!(options.mirror.as_ref().unwrap().scope, Scope::Shared);
        assert_eq!(options.hub.endpoint, "http://127.0.0.1:9/hub");
        assert!(options.offline && options.hub.offline);
        assert_eq!(options.stall.as_secs(), 7);
        assert_eq!(options.read_caches.len(), 2);
        assert_eq!(options.budget, Some(1 << 30));
        let keys = options.s3.access.credentials.as_ref().unwrap();
        assert_eq!(keys.access_key.expose_secret(), "ours");
        assert!(!format!("{options:?}").contains("hush"));
        let half = [("AWS_ACCESS_KEY_ID", "a")];
        let options = store_options(&resolution(&half).settings);
        assert!(options.s3.access.credentials.is_none());
    }
}
