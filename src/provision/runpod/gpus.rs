//! RunPod's catalog: which of its types the wanted hardware is, in which pools they are, and what they cost.

use serde::Deserialize;

use super::ID;
use super::options::Cpu;
use crate::catalog::Hardware;
use crate::provision::{Needs, Price, ProvisionError};

/// Says where a price comes from.
const SOURCE: &str = "RunPod's catalog now, GET /v2/catalog/gpus";
const GB: u64 = 1_000_000_000;

/// `GET /v2/catalog/gpus`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct GpuTypes {
    pub gpus: Vec<GpuType>,
}

/// A type of GPU.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct GpuType {
    pub id: String,
    pub pool: Option<String>,
    /// GB.
    pub memory: u64,
    pub price: Prices,
}

/// US dollars for an hour of one GPU.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Prices {
    pub serverless: Option<f64>,
}

/// What an endpoint asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selection {
    pub pools: Vec<String>,
    /// Types of these pools that were not asked for.
    pub excluded: Vec<String>,
    pub minimum_cuda: Option<String>,
}

impl Selection {
    /// As far as it is known without the catalog.
    pub fn planned(hardware: &[Hardware], needs: &Needs) -> Self {
        let mut pools: Vec<String> = Vec::new();
        for pool in hardware.iter().filter_map(|card| card.runpod_pool.clone()) {
            if !pools.contains(&pool) {
                pools.push(pool);
            }
        }
        Self {
            pools,
            excluded: vec!["{these pools' types that were not asked for}".to_owned()],
            minimum_cuda: needs.minimum_cuda.clone(),
        }
    }
}

impl GpuTypes {
    /// The wanted hardware, in its order, as pools and what of them is not wanted.
    pub fn select(
        &self,
        hardware: &[Hardware],
        needs: &Needs,
    ) -> Result<Selection, ProvisionError> {
        let fits = |gpu: &&GpuType| gpu.memory * GB >= needs.device_bytes;
        let wanted: Vec<&GpuType> = hardware
            .iter()
            .filter_map(|card| card.runpod.as_deref())
            .filter_map(|id| self.gpus.iter().find(|gpu| gpu.id == id))
            .filter(fits)
            .collect();
        let mut pools: Vec<String> = Vec::new();
        for pool in wanted.iter().filter_map(|gpu| gpu.pool.clone()) {
            if !pools.contains(&pool) {
                pools.push(pool);
            }
        }
        if pools.is_empty() {
            let names: Vec<&str> = hardware.iter().map(|card| card.id.as_str()).collect();
            return Err(ProvisionError::Capacity {
                platform: ID,
                hardware: names.join(", "),
                message: format!(
                    "its catalog has none of them in a serverless pool with {} GB or more",
                    needs.device_bytes.div_ceil(GB)
                ),
            });
        }
        let unwanted = |gpu: &&GpuType| {
            let inside = gpu.pool.as_ref().is_some_and(|pool| pools.contains(pool));
            inside && !wanted.iter().any(|wanted| wanted.id == gpu.id)
        };
        Ok(Selection {
            excluded: self
                .gpus
                .iter()
                .filter(unwanted)
                .map(|gpu| gpu.id.clone())
                .collect(),
            pools,
            minimum_cuda: needs.minimum_cuda.clone(),
        })
    }

    /// What an hour of a worker costs that has so many of a type.
    pub fn price_of(&self, id: &str, count: u32) -> Option<Price> {
        let gpu = self.gpus.iter().find(|gpu| gpu.id == id)?;
        Some(Price {
            usd_per_hour: gpu.price.serverless? * f64::from(count.max(1)),
            source: format!("{SOURCE}, {id}"),
        })
    }

    /// What an hour costs at most with the types that an endpoint may get.
    pub fn dearest(&self, selection: &Selection, count: u32) -> Option<Price> {
        let eligible = |gpu: &&GpuType| {
            let inside = gpu
                .pool
                .as_ref()
                .is_some_and(|pool| selection.pools.contains(pool));
            inside && !selection.excluded.contains(&gpu.id)
        };
        let priced = self
            .gpus
            .iter()
            .filter(eligible)
            .filter_map(|gpu| Some((gpu, gpu.price.serverless?)));
        let (gpu, _) = priced.max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let mut price = self.price_of(&gpu.id, count)?;
        price.source += ", the dearest that it may get";
        Some(price)
    }
}

/// `GET /v2/catalog/cpus`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct CpuTypes {
    pub cpus: Vec<CpuType>,
}

/// A flavor of CPU.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CpuType {
    pub id: String,
    pub ram_gb_per_vcpu: f64,
    pub vcpu: Range,
}

/// How many processors a worker of a flavor may have.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Range {
    pub min: u32,
    pub max: u32,
}

/// The flavor when nobody says which: RunPod's own example of one.
const FLAVOR: &str = "cpu5c";
/// The fewest processors when nobody says how many.
const FEWEST: u32 = 4;

/// The processors that are asked for: as said, or what the model needs of the usual flavor.
pub(super) fn processors(said: &[Cpu], needs: &Needs) -> Vec<Cpu> {
    match said {
        [] => vec![Cpu {
            id: FLAVOR.to_owned(),
            vcpus: needs
                .cpu_millis
                .div_ceil(1000)
                .max(FEWEST)
                .next_power_of_two(),
        }],
        said => said.to_vec(),
    }
}

impl CpuTypes {
    /// Checks that they exist and have memory for the model.
    pub fn check(&self, wanted: &[Cpu], needs: &Needs) -> Result<(), ProvisionError> {
        for cpu in wanted {
            let flavor = self.cpus.iter().find(|flavor| flavor.id == cpu.id);
            let fits = |flavor: &CpuType, vcpus: u32| {
                let bytes = flavor.ram_gb_per_vcpu * f64::from(vcpus) * GB as f64;
                (flavor.vcpu.min..=flavor.vcpu.max).contains(&vcpus)
                    && bytes >= needs.host_bytes as f64
            };
            if flavor.is_some_and(|flavor| fits(flavor, cpu.vcpus)) {
                continue;
            }
            let enough = |flavor: &CpuType| {
                let mut counts = (1..=10).map(|power| 1u32 << power);
                let vcpus = counts.find(|vcpus| fits(flavor, *vcpus))?;
                Some(format!("{}:{vcpus}", flavor.id))
            };
            let others: Vec<String> = self.cpus.iter().filter_map(enough).collect();
            return Err(ProvisionError::invalid(
                "--cpu",
                &cpu.to_string(),
                format!(
                    "the model takes {} GB of memory: RunPod's catalog has it with {}",
                    needs.host_bytes.div_ceil(GB),
                    match others.is_empty() {
                        true => "no flavor".to_owned(),
                        false => others.join(", "),
                    }
                ),
            ));
        }
        Ok(())
    }
}
