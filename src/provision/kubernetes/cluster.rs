//! The cluster's API through the `kube` crate, which knows how a kubeconfig logs in: certificates, tokens, programs that give
//! tokens, and the account of the pod that we are in.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use hyper_util::client::legacy;
use kube::client::{AuthError, Body};
use secrecy::SecretString;
use tokio::sync::OnceCell;

use super::ID;
use crate::provision::platform::Answer;
use crate::provision::wire::{last_cause, within};
use crate::provision::{Api, Login, Lost, Patience, ProvisionError, Wire};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// A cluster that can be asked.
#[derive(Clone)]
pub struct Cluster {
    /// Its address, without a slash at its end.
    pub(super) url: String,
    pub(super) api: Api,
}

impl Cluster {
    /// The cluster of a kubeconfig's context, or the one around this process. Nothing is asked yet, and no program that gives
    /// a login is run.
    ///
    /// # Errors
    /// When no client can be built on this machine.
    pub fn new(mut config: kube::Config, patience: Patience) -> Result<Self, ProvisionError> {
        // Attempts are counted in one place, and it is not there.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT);
        let url = config.cluster_url.to_string();
        let line = Line {
            config,
            client: OnceCell::new(),
        };
        let api = Api::new(ID, Arc::new(Kubeconfig), patience)?.on_wire(Arc::new(line));
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            api,
        })
    }
}

/// The client adds the login itself.
struct Kubeconfig;

impl Login for Kubeconfig {
    fn authorization(&self) -> Answer<'_, Option<SecretString>> {
        Box::pin(async { Ok(None) })
    }

    fn remedy(&self) -> String {
        "`kubectl auth can-i --list` says what the kubeconfig's user may do".to_owned()
    }
}

/// `kube`'s client as a wire. Made at the first request: it runs on the runtime that it is made in.
struct Line {
    config: kube::Config,
    client: OnceCell<kube::Client>,
}

impl Line {
    async fn client(&self) -> Result<&kube::Client, Lost> {
        let make = async || kube::Client::try_from(self.config.clone());
        let made = self.client.get_or_try_init(make).await;
        made.map_err(|error| Lost::Unsent(reason(&error)))
    }
}

impl Wire for Line {
    fn carry(&self, request: reqwest::Request) -> BoxFuture<'_, Result<reqwest::Response, Lost>> {
        Box::pin(async move {
            let limit = request.timeout().copied();
            let request = http::Request::try_from(request)
                .map_err(|error| Lost::Unsent(error.to_string()))?;
            let request = request.map(|body| {
                let bytes = body.as_bytes().map(<[u8]>::to_vec);
                Body::from(bytes.unwrap_or_default())
            });
            let client = self.client().await?;
            match within(limit, client.send(request)).await {
                Some(Ok(response)) => Ok(response
                    .map(|body| reqwest::Body::wrap_stream(body.into_data_stream()))
                    .into()),
                Some(Err(error)) => Err(lost(&error)),
                None => Err(Lost::Unknown("no answer in time".to_owned())),
            }
        })
    }
}

/// Whether the request left this machine.
fn lost(error: &kube::Error) -> Lost {
    let reason = reason(error);
    match matches!(error, kube::Error::Auth(_)) || is_connect(error) {
        true => Lost::Unsent(reason),
        false => Lost::Unknown(reason),
    }
}

/// Whether no connection came about, however deep the error that says so is.
fn is_connect(error: &kube::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(one) = cause {
        if let Some(error) = one.downcast_ref::<legacy::Error>() {
            return error.is_connect();
        }
        if let Some(error) = one.downcast_ref::<AuthError>() {
            // The login failed, so that nothing was sent with it.
            tracing::debug!(%error, "no login");
            return true;
        }
        cause = one.source();
    }
    false
}

/// What happened. What a program that gives tokens has printed may be a token, and is not repeated.
fn reason(error: &kube::Error) -> String {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(one) = cause {
        if let Some(AuthError::AuthExecRun { cmd, out }) = one.downcast_ref::<AuthError>() {
            // Its variables stand before it.
            let program = cmd
                .split_once("\" \"")
                .map_or(cmd.as_str(), |(_, rest)| rest);
            let program = program.trim_matches('"');
            return format!(
                "`{program}`, which gives the login, ended with {}",
                out.status
            );
        }
        cause = one.source();
    }
    last_cause(error).unwrap_or_else(|| error.to_string())
}
