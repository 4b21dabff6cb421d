//! What a deployment's documents say to the cluster: GPUs, selectors, probes, claims and what scales them.

use chandler::provision::Deployment;
use chandler::provision::kubernetes::{
    Autoscale, Cache, CacheAccess, Kubernetes as Cloud, Options,
};
use serde_json::{Value, json};

use super::kubernetes::options;
use super::wanted::{card, deployment};

/// The documents of a deployment, by kind.
fn documents(
    wanted: &Deployment,
    options: Options,
) -> Result<serde_json::Map<String, Value>, String> {
    let cloud = Cloud::new(options, None, None);
    let all = cloud.documents(wanted).map_err(|error| error.to_string())?;
    Ok(all
        .into_iter()
        .map(|object| (object.kind.name().to_owned(), object.manifest))
        .collect())
}

#[test]
fn a_gpu_is_asked_for_on_the_nodes_that_have_it() {
    let l4 = card("l4", "NVIDIA-L4", "L4");
    let one = documents(&deployment("one", vec![l4.clone()]), options()).unwrap();
    let pod = &one["Deployment"]["spec"]["template"]["spec"];
    assert_eq!(
        pod["nodeSelector"],
        json!({"nvidia.com/gpu.product": "NVIDIA-L4"})
    );
    let wanted = json!({"cpu": "3500m", "memory": "6Gi", "nvidia.com/gpu": "1"});
    assert_eq!(
        pod["containers"][0]["resources"],
        json!({"requests": wanted, "limits": wanted})
    );
    assert_eq!(
        one["PersistentVolumeClaim"]["spec"]["resources"]["requests"]["storage"],
        "20Gi"
    );

    let a10 = card("a10", "NVIDIA-A10", "A10");
    let two = documents(&deployment("one", vec![l4, a10]), options()).unwrap();
    let affinity = &two["Deployment"]["spec"]["template"]["spec"]["affinity"]["nodeAffinity"];
    let values = "/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchExpressions/0/values";
    assert_eq!(
        affinity.pointer(values),
        Some(&json!(["NVIDIA-L4", "NVIDIA-A10"]))
    );

    let mut nameless = card("x", "x", "x");
    nameless.kubernetes = None;
    let error = documents(&deployment("one", vec![nameless.clone()]), options()).unwrap_err();
    assert!(error.contains("--node-selector"), "{error}");
    let given = Options {
        node_selector: [("pool".to_owned(), "gpu".to_owned())]
            .into_iter()
            .collect(),
        ..options()
    };
    let given = documents(&deployment("one", vec![nameless]), given).unwrap();
    assert_eq!(
        given["Deployment"]["spec"]["template"]["spec"]["nodeSelector"],
        json!({"pool": "gpu"})
    );
}

#[test]
fn two_deployments_have_no_pod_in_common() {
    let one = documents(&deployment("one", Vec::new()), options()).unwrap();
    let two = documents(&deployment("two", Vec::new()), options()).unwrap();
    let selectors = |all: &serde_json::Map<String, Value>| {
        [
            all["Service"]["spec"]["selector"].clone(),
            all["Deployment"]["spec"]["selector"]["matchLabels"].clone(),
            all["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].clone(),
        ]
    };
    let labels = &two["Deployment"]["spec"]["template"]["metadata"]["labels"];
    for (mine, theirs) in selectors(&one).iter().zip(selectors(&two)) {
        let fits = mine
            .as_object()
            .unwrap()
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value));
        assert!(!fits, "{mine} picks the pods of {theirs}");
    }
}

#[test]
fn a_worker_is_probed_keeps_its_weights_and_may_do_little() {
    let all = documents(&deployment("one", Vec::new()), options()).unwrap();
    let spec = &all["Deployment"]["spec"];
    let container = &spec["template"]["spec"]["containers"][0];
    assert_eq!(container["startupProbe"]["httpGet"]["path"], "/isalive");
    assert_eq!(container["startupProbe"]["failureThreshold"], 60); // 300 s
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/isalive");
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/livez");
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(
        spec["template"]["spec"]["securityContext"]["runAsNonRoot"],
        true
    );
    assert_eq!(
        spec["template"]["spec"]["terminationGracePeriodSeconds"],
        135
    );
    assert_eq!(
        spec["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"],
        "one-cache"
    );
    // A claim that one node holds is let go before the next pod wants it.
    assert_eq!(spec["strategy"], json!({"type": "Recreate"}));
    assert!(
        all["Deployment"]
            .to_string()
            .contains("CHANDLER_DRAIN_GRACE")
    );
}

#[test]
fn a_claim_of_one_node_is_not_for_several_workers() {
    let mut several = deployment("one", Vec::new());
    several.scaling.max = 2;
    let rwo = Options {
        cache: Some(Cache::Pvc),
        access: Some(CacheAccess::Rwo),
        ..options()
    };
    let error = documents(&several, rwo).unwrap_err();
    assert!(
        error.contains("--cache-access is `rwo`") && error.contains("rwx"),
        "{error}"
    );
    let shared = Options {
        cache: Some(Cache::Pvc),
        ..options()
    };
    let shared = documents(&several, shared).unwrap();
    assert_eq!(
        shared["PersistentVolumeClaim"]["spec"]["accessModes"],
        json!(["ReadWriteMany"])
    );
    assert_eq!(
        shared["Deployment"]["spec"]["strategy"]["type"],
        "RollingUpdate"
    );
    let own = documents(&several, options()).unwrap();
    assert!(!own.contains_key("PersistentVolumeClaim"));
}

#[test]
fn a_queue_scales_by_what_waits_and_sleeps_only_where_something_wakes_it() {
    let mut wanted = deployment("one", Vec::new());
    wanted.scaling.min = 0;
    wanted.scaling.max = 3;
    let queue = Options {
        autoscale: Some(Autoscale::Queue),
        prometheus: Some("http://prom:9090".to_owned()),
        ..options()
    };
    let all = documents(&wanted, queue.clone()).unwrap();
    let spec = &all["ScaledObject"]["spec"];
    assert_eq!(
        (&spec["minReplicaCount"], &spec["maxReplicaCount"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(spec["triggers"][0]["metadata"]["threshold"], "8");
    let query = spec["triggers"][0]["metadata"]["query"].as_str().unwrap();
    assert!(
        query.contains("sum(chandler_queue_depth{namespace=\"models\",pod=~\"one-.+\"})"),
        "{query}"
    );
    assert!(all["Deployment"]["spec"].get("replicas").is_none());
    let wakes = Options {
        wake_query: Some("sum(rate(requests[1m]))".to_owned()),
        ..queue
    };
    let all = documents(&wanted, wakes).unwrap();
    assert_eq!(all["ScaledObject"]["spec"]["minReplicaCount"], 0);
    // Without KEDA one always runs.
    let plain = documents(&wanted, options()).unwrap();
    assert_eq!(plain["HorizontalPodAutoscaler"]["spec"]["minReplicas"], 1);
}
