//! `serve --register`: which address a gateway is told, found where the flags, the platform or the port say it, and what the worker
//! offers there. The telling is `webhook::Registration`'s.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use uuid::Uuid;

use super::exit::{Exit, USAGE};
use crate::api::ApiSettings;
use crate::config::{Platform, Settings};
use crate::engine::Engine;
use crate::reach;
use crate::webhook::{Courier, Limits, Offer, Patience, Place, Registration, Routes, Target};

/// An attempt's time: what is told is told again, so that one that hangs is not waited for as long as an event's.
const ATTEMPT: std::time::Duration = std::time::Duration::from_secs(5);
/// An address of nobody's (RFC 5737): the route to it is the one to the world. Nothing is sent there.
const WORLD: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

/// Where the worker is.
pub struct Here<'a> {
    /// As the environment's marks say.
    pub platform: Platform,
    /// The address that was bound.
    pub bound: SocketAddr,
    /// The environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

/// Starts to tell the gateway; `None` where there is none.
///
/// # Errors
/// That the worker's own address is not known, and what to give.
pub fn start(
    settings: &Settings,
    here: &Here<'_>,
    api: &ApiSettings,
    engine: &Engine,
) -> Result<Option<Registration>, Exit> {
    let Some(gateway) = settings.register.as_ref() else {
        return Ok(None);
    };
    let every = *settings.register_every;
    if every < std::time::Duration::from_secs(1) {
        let message =
            "register_every: give 1s or more; a gateway that is told more often learns nothing new";
        return Err(Exit::new(USAGE, message));
    }
    let (url, endpoint_kind) = own(settings, here)?;
    let secret = settings.register_secret.value.clone();
    if secret.is_none() {
        tracing::info!(
            "what the gateway is told is not signed; CHANDLER_REGISTER_SECRET would sign it"
        );
    }
    let told = reqwest::Url::parse(&url).map(|url| reach::place(&url));
    tracing::info!(
        host = told.unwrap_or_default(),
        "the gateway is told that this worker is there"
    );
    let place = Place::read(here.variable);
    let own = place.id.as_deref().unwrap_or("worker");
    let random = Uuid::new_v4().simple().to_string();
    let offer = Offer {
        worker_id: format!("{own}-{}", random.get(..8).unwrap_or(&random)),
        url,
        endpoint_kind,
        worker: place,
        version: api.version.clone(),
        limits: limits(settings),
        routes: routes(api),
        model: api.model_id.clone(),
        aliases: api.aliases.clone(),
    };
    let target = Target {
        name: "gateway",
        url: gateway.0.clone(),
        secret,
    };
    let patience = Patience {
        time: ATTEMPT,
        ..Patience::default()
    };
    let courier = Courier::start(target, patience);
    Ok(Some(Registration::start(engine, courier, offer, every)))
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        concurrency: settings.max_rows.get(),
        queue: settings.queue.get(),
        body_bytes: settings.body_limit.0,
        upload_bytes: settings.max_upload.0,
        request_timeout_s: settings.request_timeout.as_secs(),
    }
}

fn routes(api: &ApiSettings) -> Routes {
    let path = |route: &Option<String>, usual: &str| route.as_deref().unwrap_or(usual).to_owned();
    Routes {
        health: path(&api.health_route, "/isalive"),
        live: "/livez".to_owned(),
        predict: path(&api.predict_route, "/predict"),
        openai: "/v1".to_owned(),
    }
}

/// The address at which others reach this worker, and how they speak to it there.
fn own(settings: &Settings, here: &Here<'_>) -> Result<(String, &'static str), Exit> {
    let kind = match here.platform {
        Platform::RunPodQueue => "runpod",
        _ => "http",
    };
    if let Some(url) = settings.register_as.as_ref() {
        return Ok((url.0.as_str().trim_end_matches('/').to_owned(), kind));
    }
    let get = |name: &str| (here.variable)(name).filter(|text| !text.trim().is_empty());
    let unknown = |why: String| {
        let message = format!(
            "register: {why}; give --register-as URL, the address at which the gateway reaches this worker"
        );
        Exit::new(USAGE, message)
    };
    let port = here.bound.port();
    let url = match here.platform {
        Platform::RunPodQueue => {
            get("RUNPOD_ENDPOINT_ID").map(|id| format!("https://api.runpod.ai/v2/{id}"))
        }
        Platform::RunPodLoadBalancer => {
            get("RUNPOD_ENDPOINT_ID").map(|id| format!("https://{id}.api.runpod.ai"))
        }
        Platform::RunPodPod => {
            let outside = get(&format!("RUNPOD_TCP_PORT_{port}"));
            let ip = get("RUNPOD_PUBLIC_IP");
            ip.zip(outside)
                .map(|(ip, port)| format!("http://{ip}:{port}"))
        }
        Platform::Vertex | Platform::CloudRun => None,
        Platform::Elsewhere => {
            let address = reachable(here.bound).map_err(unknown)?;
            Some(format!("http://{address}"))
        }
    };
    let url = url.ok_or_else(|| {
        let wanted = match here.platform {
            Platform::RunPodPod => format!(" (RUNPOD_PUBLIC_IP and RUNPOD_TCP_PORT_{port}, of a port that the Pod exposes over TCP)"),
            Platform::RunPodQueue | Platform::RunPodLoadBalancer => " (RUNPOD_ENDPOINT_ID)".to_owned(),
            _ => String::new(),
        };
        unknown(format!("the environment of {} does not hold this worker's address{wanted}", here.platform))
    })?;
    Ok((url, kind))
}

/// The bound address, as others see it.
fn reachable(bound: SocketAddr) -> Result<SocketAddr, String> {
    let ip = match bound.ip() {
        ip if ip.is_unspecified() => {
            outward().map_err(|error| format!("this machine has no route to others ({error})"))?
        }
        ip => ip,
    };
    match ip.is_loopback() {
        true => Err(format!("{bound} is reached from this machine only")),
        false => Ok(SocketAddr::new(ip, bound.port())),
    }
}

/// The address that this machine has on its way to the world.
fn outward() -> std::io::Result<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(WORLD)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Given, resolve};

    fn told(
        platform: Platform,
        bound: &str,
        set: &[(&str, &str)],
    ) -> Result<(String, &'static str), String> {
        let given = Given::in_environment(set);
        let settings = resolve(&given).unwrap().settings;
        let variable = |name: &str| {
            let found = set.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let here = Here {
            platform,
            bound: bound.parse().unwrap(),
            variable: &variable,
        };
        own(&settings, &here).map_err(|exit| exit.message)
    }

    #[test]
    fn the_address_is_the_one_that_others_reach() {
        use Platform::{CloudRun, Elsewhere, RunPodLoadBalancer, RunPodPod, RunPodQueue, Vertex};
        let endpoint = [("RUNPOD_ENDPOINT_ID", "abc")];
        let pod = [
            ("RUNPOD_PUBLIC_IP", "203.0.113.7"),
            ("RUNPOD_TCP_PORT_8080", "40123"),
        ];
        let any = "0.0.0.0:8080";
        for (platform, bound, set, url, kind) in [
            (
                RunPodQueue,
                any,
                &endpoint[..],
                "https://api.runpod.ai/v2/abc",
                "runpod",
            ),
            (
                RunPodLoadBalancer,
                any,
                &endpoint,
                "https://abc.api.runpod.ai",
                "http",
            ),
            (RunPodPod, any, &pod, "http://203.0.113.7:40123", "http"),
            (Elsewhere, "10.1.2.3:81", &[], "http://10.1.2.3:81", "http"),
            (
                Elsewhere,
                "[fd00::1]:81",
                &[],
                "http://[fd00::1]:81",
                "http",
            ),
            (
                Vertex,
                any,
                &[("CHANDLER_REGISTER_AS", "https://a.example/x/")],
                "https://a.example/x",
                "http",
            ),
        ] {
            assert_eq!(told(platform, bound, set), Ok((url.to_owned(), kind)));
        }
        for (platform, bound, set, why) in [
            (RunPodPod, "0.0.0.0:81", &pod[..], "RUNPOD_TCP_PORT_81"),
            (RunPodQueue, any, &[], "RUNPOD_ENDPOINT_ID"),
            (Vertex, any, &[], "Vertex AI does not hold"),
            (CloudRun, any, &[], "Cloud Run does not hold"),
            (
                Elsewhere,
                "127.0.0.1:81",
                &[],
                "127.0.0.1:81 is reached from this machine only",
            ),
        ] {
            let error = told(platform, bound, set).unwrap_err();
            assert!(
                error.contains(why) && error.contains("--register-as"),
                "{error}"
            );
        }
    }
}
