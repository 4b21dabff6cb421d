//! A job's own store, in every spelling that clients of the seeds and of RunPod write. Apart from `destination` because
//! it is a list of names.

use reqwest::Url;
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::StorageError;
use super::destination::{Addressing, Credentials, Destination, Parts};

/// The object's names, the one that is about outputs only first.
pub const STORES: [&str; 4] = [
    "outputS3Config",
    "output_s3_config",
    "s3Config",
    "s3_config",
];

/// A field's names; the first is the one that errors name.
type Field = &'static [&'static str];

const ACCESS_KEY: Field = &[
    "accessId",
    "access_id",
    "accessKeyId",
    "access_key_id",
    "accessKey",
    "access_key",
    "aws_access_key_id",
];
const SECRET_KEY: Field = &[
    "accessSecret",
    "access_secret",
    "secretAccessKey",
    "secret_access_key",
    "secretKey",
    "secret_key",
    "aws_secret_access_key",
];
const TOKEN: Field = &["sessionToken", "session_token", "aws_session_token"];
const BUCKET: Field = &["bucketName", "bucket_name", "bucket"];
const ENDPOINT: Field = &["endpointUrl", "endpoint_url", "endpoint"];
const REGION: Field = &["region", "regionName", "region_name", "aws_region"];
const PREFIX: Field = &[
    "keyPrefix",
    "key_prefix",
    "prefix",
    "objectPath",
    "object_path",
];

/// The store that a job asks for: beside its input, or within it. `None` when it asks for none.
///
/// # Errors
/// [`StorageError::Config`], naming the field; never its value.
pub fn from_job(
    rest: &Map<String, Value>,
    input: &Value,
) -> Result<Option<Destination>, StorageError> {
    let places = [Some(rest), input.as_object()];
    let found = places.into_iter().flatten().find_map(|place| {
        STORES.iter().find_map(|name| {
            let value = place.get(*name)?;
            let said =
                !value.is_null() && value.as_object().is_none_or(|config| !config.is_empty());
            said.then_some((*name, value))
        })
    });
    let Some((name, value)) = found else {
        return Ok(None);
    };
    let config = value.as_object().ok_or_else(|| {
        StorageError::config(
            name,
            "give an object of accessId, accessSecret, bucketName and endpointUrl",
        )
    })?;
    read(name, config).map(Some)
}

fn read(name: &str, config: &Map<String, Value>) -> Result<Destination, StorageError> {
    let text = |field: Field| text(name, config, field);
    let needed = |field: Field| {
        text(field)?.ok_or_else(|| {
            let first = field.first().copied().unwrap_or_default();
            let others = field.get(1..).unwrap_or_default().join(", ");
            StorageError::config(
                format!("{name}.{first}"),
                format!("is missing; also read as {others}"),
            )
        })
    };
    let endpoint = match text(ENDPOINT)? {
        Some(address) => Some(endpoint(name, address)?),
        None => None,
    };
    let parts = Parts {
        endpoint,
        region: text(REGION)?.map(str::to_owned),
        bucket: text(BUCKET)?.map(str::to_owned),
        prefix: text(PREFIX)?.unwrap_or_default().to_owned(),
        addressing: Addressing::Auto,
        credentials: Some(Credentials {
            access_key: SecretString::from(needed(ACCESS_KEY)?),
            secret_key: SecretString::from(needed(SECRET_KEY)?),
            session_token: text(TOKEN)?.map(SecretString::from),
        }),
        from_job: true,
    };
    Destination::assemble(parts, || {
        StorageError::config(
            format!("{name}.bucketName"),
            "is missing, and endpointUrl names no bucket",
        )
    })
}

/// An address without a scheme is taken for https, as S3 clients do.
fn endpoint(name: &str, address: &str) -> Result<Url, StorageError> {
    let whole = match address.contains("://") {
        true => address.to_owned(),
        false => format!("https://{address}"),
    };
    let url = Url::parse(&whole).ok().filter(Url::has_host);
    url.ok_or_else(|| {
        StorageError::config(
            format!("{name}.endpointUrl"),
            "give an address such as https://account.r2.cloudflarestorage.com",
        )
    })
}

/// The first spelling that is there. Keys that were pasted with a line's end are meant without it.
fn text<'a>(
    name: &str,
    config: &'a Map<String, Value>,
    field: Field,
) -> Result<Option<&'a str>, StorageError> {
    let found = field
        .iter()
        .filter_map(|spelling| Some((spelling, config.get(*spelling)?)))
        .find(|(_, value)| !value.is_null());
    match found {
        None => Ok(None),
        Some((_, Value::String(text))) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
        Some((spelling, _)) => Err(StorageError::config(
            format!("{name}.{spelling}"),
            "give a text",
        )),
    }
}
