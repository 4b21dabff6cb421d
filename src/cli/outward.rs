//! From settings to what the worker reaches by itself: downloads, the store of outputs, the webhook.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chandler_core::RequestError;
use futures_util::future::BoxFuture;

use super::exit::{Exit, USAGE};
use super::{places, version};
use crate::api::{Artifacts, NewArtifact};
use crate::config::{Settings, Switch};
use crate::engine::Engine;
use crate::reach::{self, AllowedHosts, Limits};
use crate::runpod::OutputStore;
use crate::runpod::local::{Hook, Notice};
use crate::storage::{Object, Operator, Uploader, object_key};
use crate::webhook::{Courier, Patience, Place, Readiness, Subject, Target, deliver_result};

/// The longest that S3 signs an address for.
const WEEK: Duration = Duration::from_secs(604_800);

/// Says that proxy variables do not count where the guard does: who set them expects otherwise.
pub fn tell_about_proxies() {
    const NAMES: [&str; 6] = [
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ];
    let set = |name: &&&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if let Some(name) = NAMES.iter().find(set) {
        tracing::info!(
            "{name} is set: addresses that come with requests and jobs are reached without the proxy, which would resolve \
             names behind the check of what may be reached; the webhook and the operator's own object store go through it"
        );
    }
}

/// For addresses that come with requests and jobs.
pub fn guard(settings: &Settings) -> reach::Client {
    let allowed = AllowedHosts {
        entries: settings.allow_hosts.value.clone(),
        everything: *settings.allow_private_urls == Switch::On,
    };
    let limits = Limits {
        bytes: settings.max_download.0,
        time: *settings.download_timeout,
    };
    reach::Client::new(allowed, limits)
}

/// Where outputs go that are not sent inline.
///
/// # Errors
/// A setting that is missing or will not do.
pub fn outputs(settings: &Settings) -> Result<OutputStore, Exit> {
    let usage = |message: String| Exit::new(USAGE, message);
    let expiry = *settings.output_url_expiry;
    if expiry > WEEK || expiry.is_zero() {
        return Err(usage(
            "output_url_expiry: a store signs addresses for 7d at most; give a time from 1s to 7d"
                .to_owned(),
        ));
    }
    let uploader = Uploader::new(guard(settings), expiry);
    let inline = settings.output_inline_limit.as_ref();
    let inline = inline.map(|size| usize::try_from(size.0).unwrap_or(usize::MAX));
    OutputStore::new(uploader, operator(settings), inline).map_err(|error| usage(error.to_string()))
}

/// The operator's store for files of answers that are asked for by address; `None` where there is none.
pub fn artifacts(settings: &Settings) -> Option<Arc<dyn Artifacts>> {
    let operator = operator(settings);
    // What is wrong with it was said at the start.
    operator.destination(SystemTime::now()).ok().flatten()?;
    let uploader = Uploader::new(guard(settings), *settings.output_url_expiry);
    Some(Arc::new(Kept { uploader, operator }))
}

/// That store.
#[derive(Debug)]
struct Kept {
    uploader: Uploader,
    operator: Operator,
}

impl Artifacts for Kept {
    fn keep(&self, artifact: NewArtifact) -> BoxFuture<'_, Result<String, RequestError>> {
        Box::pin(async move {
            // Anew for each: a bucket may be named by the month.
            let to = self.operator.destination(SystemTime::now());
            let to = to.map_err(|error| RequestError::internal(error.to_string()))?;
            let to = to.ok_or_else(|| RequestError::internal("the object store is gone"))?;
            let object = Object {
                key: object_key(to.prefix(), &artifact.request, artifact.extension),
                body: artifact.bytes,
                content_type: artifact.content_type.to_owned(),
            };
            let stored = self.uploader.upload(&to, object).await;
            let stored = stored.map_err(|error| {
                RequestError::internal(format!("the picture could not be stored: {error}"))
            })?;
            Ok(stored.url)
        })
    }
}

fn operator(settings: &Settings) -> Operator {
    let place = settings.output_s3.as_ref();
    Operator {
        place: place.map(|place| (place.bucket.clone(), place.prefix.clone())),
        bucket_endpoint: settings
            .bucket_endpoint_url
            .as_ref()
            .map(|url| url.0.clone()),
        bucket_name: settings.bucket_name.value.clone(),
        bucket_access_key: settings.bucket_access_key_id.value.clone(),
        bucket_secret_key: settings.bucket_secret_access_key.value.clone(),
        endpoint: settings.s3_endpoint.as_ref().map(|url| url.0.clone()),
        region: settings.s3_region.value.clone(),
        access_key: settings.s3_access_key.value.clone(),
        secret_key: settings.s3_secret_key.value.clone(),
        session_token: settings.s3_session_token.value.clone(),
        addressing: places::addressing(settings),
    }
}

/// Delivers the results of the local API's jobs to the webhooks that they name, as the platform does.
pub fn deliver_results(settings: &Settings) -> Hook {
    let client = guard(settings);
    Arc::new(move |notice: Notice| {
        let client = client.clone();
        tokio::spawn(async move {
            let delivered = deliver_result(&client, &notice.url, &notice.body, Patience::PLATFORM);
            if let Err(error) = delivered.await {
                tracing::warn!(request_id = %notice.body["id"], %error, "a job's webhook did not take its result");
            }
        });
    })
}

/// Starts to tell the operator's webhook what becomes of the model; `None` when there is no webhook.
pub fn announce(settings: &Settings, engine: &Engine, model: &str) -> Option<Readiness> {
    let url = settings.webhook_url.as_ref()?.0.clone();
    let secret = settings.webhook_secret.value.clone();
    if secret.is_none() {
        tracing::info!("webhook messages are not signed; CHANDLER_WEBHOOK_SECRET would sign them");
    }
    let target = Target {
        name: "webhook",
        url,
        secret,
    };
    let courier = Courier::start(target, Patience::default());
    let subject = Subject {
        model: model.to_owned(),
        worker: Place::read(|name| std::env::var(name).ok()),
        version: version::SHORT.to_owned(),
    };
    Some(Readiness::announce(engine, courier, subject))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Given, resolve};

    fn settings(environment: &[(&str, &str)]) -> Settings {
        let given = Given::in_environment(environment);
        resolve(&given).unwrap().settings
    }

    #[test]
    fn a_store_for_outputs_that_is_set_up_by_half_ends_the_start() {
        assert!(outputs(&settings(&[])).is_ok());
        assert!(
            outputs(&settings(&[
                ("AWS_ACCESS_KEY_ID", "a"),
                ("AWS_ENDPOINT_URL", "https://s3.example")
            ]))
            .is_ok()
        );
        let whole = [
            (
                "BUCKET_ENDPOINT_URL",
                "https://results.s3.eu-west-1.amazonaws.com",
            ),
            ("BUCKET_ACCESS_KEY_ID", "a"),
            ("BUCKET_SECRET_ACCESS_KEY", "hush"),
        ];
        assert!(outputs(&settings(&whole)).is_ok());
        let error = outputs(&settings(&whole[..2])).unwrap_err();
        assert_eq!(error.code, USAGE);
        assert!(
            error.message.contains("BUCKET_SECRET_ACCESS_KEY"),
            "{error}"
        );
        let error = outputs(&settings(&[("OUTPUT_S3_URL", "s3://results/x")])).unwrap_err();
        assert!(error.message.contains("AWS_SECRET_ACCESS_KEY"), "{error}");
        let error = outputs(&settings(&[("CHANDLER_OUTPUT_URL_EXPIRY", "8d")])).unwrap_err();
        assert!(
            error.message.contains("output_url_expiry") && error.message.contains("7d"),
            "{error}"
        );
    }

    #[test]
    fn runpods_own_switches_open_the_guard() {
        let check = |environment: &[(&str, &str)], url: &str| {
            guard(&settings(environment)).check(url).is_ok()
        };
        assert!(!check(&[], "http://10.0.0.1/"));
        for yes in ["1", "true", "yes"] {
            assert!(check(
                &[("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", yes)],
                "http://10.0.0.1/"
            ));
        }
        let hosts = [("CHANDLER_ALLOW_HOSTS", "10.0.0.0/8, localhost:9000")];
        assert!(check(&hosts, "http://10.0.0.1/") && check(&hosts, "http://localhost:9000/"));
        assert!(!check(&hosts, "http://127.0.0.1:9000/"));
        let small = guard(&settings(&[("RUNPOD_MAX_DOWNLOAD_BYTES", "1000")]));
        assert!(
            format!("{small:?}").contains("bytes: 1000, time: 60s"),
            "{small:?}"
        );
    }
}
