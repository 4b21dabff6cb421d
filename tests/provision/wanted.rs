//! Deployments made by hand, for what the command line cannot ask for without a plan.

use std::collections::BTreeMap;
use std::time::Duration;

use chandler::catalog::Hardware;
use chandler::provision::{Deployment, Name, Needs, Scaling, Served};
use chandler_core::Task;

/// A GPU by the names that platforms have for it.
pub fn card(id: &str, product: &str, vast: &str) -> Hardware {
    let text = format!(
        "id = \"{id}\"\nname = \"{id}\"\nmemory_gb = 24\narchitecture = \"ada\"\ncapability = \"8.9\"\ncost_order = 3\nkubernetes = \"{product}\"\nvast = \"{vast}\"",
    );
    let file = serde_json::to_value(toml::from_str::<toml::Value>(&text).unwrap()).unwrap();
    serde_json::from_value(file).unwrap()
}

/// The mock model on some hardware.
pub fn deployment(name: &str, hardware: Vec<Hardware>) -> Deployment {
    Deployment {
        name: Name::parse(name).unwrap(),
        owner: "tester".to_owned(),
        served: Served {
            model: "mock".to_owned(),
            name: "mock".to_owned(),
            task: Task::TextGeneration,
            hub: None,
        },
        image: "registry.example/chandler:test".to_owned(),
        env: BTreeMap::new(),
        secrets: [(
            "CHANDLER_API_KEYS".to_owned(),
            super::worker::WORKER_KEY.into(),
        )]
        .into_iter()
        .collect(),
        hardware,
        needs: Needs {
            device_bytes: 10 << 30,
            host_bytes: 6 << 30,
            disk_bytes: 20 << 30,
            cpu_millis: 3_500,
            minimum_cuda: Some("12.4".to_owned()),
        },
        scaling: Scaling {
            min: 1,
            max: 1,
            idle: Duration::from_secs(60),
            concurrency: 8,
        },
        start_timeout: Duration::from_secs(300),
        request_timeout: Duration::from_secs(120),
    }
}
