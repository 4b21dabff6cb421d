//! A deployment for the tests of both platforms.

use std::time::Duration;

use chandler_core::Task;

use crate::catalog::{Architecture, Hardware, VertexMachine};
use crate::provision::{Deployment, Name, Needs, Scaling, Served};

pub(in crate::provision) const IMAGE: &str = "europe-west4-docker.pkg.dev/p/r/chandler:cuda";

pub(in crate::provision) fn deployment() -> Deployment {
    Deployment {
        name: Name::parse("one").unwrap(),
        owner: "me".to_owned(),
        served: Served {
            model: "sd-turbo".to_owned(),
            name: "sd-turbo".to_owned(),
            task: Task::TextToImage,
            hub: None,
        },
        image: IMAGE.to_owned(),
        env: [("CHANDLER_QUEUE".to_owned(), "5".to_owned())].into(),
        secrets: [("HF_TOKEN".to_owned(), "hf_hush".into())]
            .into_iter()
            .collect(),
        hardware: Vec::new(),
        needs: Needs::default(),
        scaling: Scaling {
            min: 1,
            max: 2,
            idle: Duration::from_secs(60),
            concurrency: 8,
        },
        start_timeout: Duration::from_secs(600),
        request_timeout: Duration::from_secs(300),
    }
}

/// An L4 as the catalog has one.
pub(in crate::provision) fn l4() -> Hardware {
    Hardware {
        id: "l4".to_owned(),
        aliases: Vec::new(),
        name: "NVIDIA L4".to_owned(),
        memory_gb: 24,
        architecture: Architecture::Ada,
        capability: "8.9".to_owned(),
        cost_order: 2,
        runpod: None,
        runpod_pool: None,
        vertex: Some(VertexMachine {
            accelerator: "NVIDIA_L4".to_owned(),
            machine: "g2-standard-4".to_owned(),
        }),
        cloudrun: Some("nvidia-l4".to_owned()),
        vast: None,
        kubernetes: None,
        note: None,
    }
}
