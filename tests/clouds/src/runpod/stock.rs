//! A catalog of a few types, with prices that are nobody's.

use serde_json::{Value, json};

/// Type, pool, GB, dollars for an hour.
const TYPES: &[(&str, Option<&str>, u64, f64)] = &[
    ("NVIDIA RTX A4000", Some("AMPERE_16"), 16, 0.5),
    ("NVIDIA RTX A4500", Some("AMPERE_16"), 20, 0.5),
    ("NVIDIA L4", Some("AMPERE_24"), 24, 0.7),
    ("NVIDIA RTX A5000", Some("AMPERE_24"), 24, 0.7),
    ("NVIDIA GeForce RTX 3090", Some("AMPERE_24"), 24, 0.7),
    ("NVIDIA GeForce RTX 4090", Some("ADA_24"), 24, 1.1),
    ("NVIDIA A40", Some("AMPERE_48"), 48, 1.2),
    ("NVIDIA A100 80GB PCIe", Some("AMPERE_80"), 80, 2.7),
    ("NVIDIA A30", None, 24, 0.6),
];

/// `GET /v2/catalog/gpus`.
pub fn gpus() -> Value {
    let one = |(id, pool, memory, price): &(&str, Option<&str>, u64, f64)| {
        let mut prices = json!({"secure": 0.4, "community": 0.3});
        if pool.is_some() {
            prices["serverless"] = json!(price);
        }
        json!({
            "id": id, "name": id, "pool": pool, "manufacturer": "NVIDIA", "memory": memory, "secure": true, "community": true,
            "price": prices, "maxCount": {"secure": 8, "community": 4},
        })
    };
    let all: Vec<Value> = TYPES.iter().map(one).collect();
    json!({"gpus": all})
}

/// `GET /v2/catalog/cpus`.
pub fn cpus() -> Value {
    let one = |id: &str, ram: f64| {
        json!({
            "id": id, "name": id, "group": "Gen 5", "vcpu": {"min": 2, "max": 32}, "ramGbPerVcpu": ram,
            "price": {"securePerVcpu": 0.04, "serverlessPerVcpu": 0.03},
        })
    };
    json!({"cpus": [one("cpu5c", 2.0), one("cpu5g", 4.0)]})
}

/// The types of a pool.
pub fn types_of(pool: &str) -> Vec<String> {
    let inside = TYPES.iter().filter(|(_, of, ..)| *of == Some(pool));
    inside.map(|(id, ..)| (*id).to_owned()).collect()
}
