//! The same worker as an `InferenceService` of KServe, which makes the Deployment, the Service and the autoscaler itself. The
//! worker fetches its own weights, so that KServe's storage initializer has nothing to do.

use serde_json::{Value, json};

use super::manifests::{Wanted, merge};
use super::options::{Autoscale, Options, ServiceType};
use super::pod;
use crate::provision::ProvisionError;

/// Which of KServe's ways is meant: plain Kubernetes objects, without Knative. Every version with v1beta1 knows this word.
const MODE: (&str, &str) = ("serving.kserve.io/deploymentMode", "RawDeployment");
/// What KServe decides itself cannot be asked for.
pub(super) fn check(options: &Options) -> Result<(), ProvisionError> {
    let (flag, value) = match options {
        Options {
            ingress: Some(host),
            ..
        } => ("--ingress", host.clone()),
        Options { service, .. } if *service != ServiceType::ClusterIp => {
            ("--service", service.as_str().to_owned())
        }
        Options {
            autoscale: Some(Autoscale::Queue),
            ..
        } => ("--autoscale", "queue".to_owned()),
        _ => return Ok(()),
    };
    Err(ProvisionError::invalid(
        flag,
        &value,
        "KServe's own configuration decides this; leave it out with --kserve",
    ))
}

/// The service's specification.
pub(super) fn service(wanted: &Wanted<'_>) -> Result<Value, ProvisionError> {
    let template = wanted.template()?;
    let (min, max) = wanted.scale;
    let mut predictor = template.get("spec").cloned().unwrap_or_default();
    merge(
        &mut predictor,
        json!({
            "minReplicas": min,
            "maxReplicas": max,
            "timeout": wanted.deployment.request_timeout.as_secs(),
            "labels": template.pointer("/metadata/labels"),
            "annotations": template.pointer("/metadata/annotations"),
            "deploymentStrategy": pod::strategy(wanted),
        }),
    );
    if wanted.autoscale == Autoscale::Cpu {
        merge(
            &mut predictor,
            json!({"scaleMetric": "cpu", "scaleTarget": 80}),
        );
    }
    Ok(json!({
        "metadata": {"annotations": {MODE.0: MODE.1}},
        "spec": {"predictor": predictor},
    }))
}
