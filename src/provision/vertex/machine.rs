//! Which machine: the hardware card's for a GPU, the smallest general one that is large enough without.

use crate::provision::{Deployment, ProvisionError};

/// `machineSpec`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    pub machine: String,
    pub accelerator: Option<String>,
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.accelerator {
            Some(accelerator) => write!(f, "{} with {accelerator}", self.machine),
            None => f.write_str(&self.machine),
        }
    }
}

/// Processors of the machines of one family, n2-standard; each has four times as many GiB
/// (<https://cloud.google.com/compute/docs/general-purpose-machines>).
const N2: [u32; 10] = [2, 4, 8, 16, 32, 48, 64, 80, 96, 128];
const GIB_EACH: u64 = 4;
/// What is taken when nobody knows what the model needs: the seed of this project ran its speech model on four processors.
const UNKNOWN: u32 = 4;
/// Of a machine's memory, what Vertex AI keeps for itself. Its documents do not say how much; an eighth is kept free.
const KEPT: u64 = 8;

pub(super) fn choose(wanted: &Deployment, named: Option<&str>) -> Result<Machine, ProvisionError> {
    let Some(card) = wanted.hardware.first() else {
        let machine = match named {
            Some(named) => named.to_owned(),
            None => smallest(wanted)?,
        };
        return Ok(Machine {
            machine,
            accelerator: None,
        });
    };
    let lent = card.vertex.as_ref().ok_or_else(|| {
        ProvisionError::invalid(
            "--gpu",
            &card.id,
            "Vertex AI does not lend it; `chandler hardware vertex` lists what it lends",
        )
    })?;
    Ok(Machine {
        machine: named.unwrap_or(&lent.machine).to_owned(),
        accelerator: Some(lent.accelerator.clone()),
    })
}

fn smallest(wanted: &Deployment) -> Result<String, ProvisionError> {
    let needs = &wanted.needs;
    if needs.host_bytes == 0 && needs.cpu_millis == 0 {
        return Ok(format!("n2-standard-{UNKNOWN}"));
    }
    let large_enough = |processors: &&u32| {
        let bytes = (u64::from(**processors) * GIB_EACH) << 30;
        bytes - bytes / KEPT >= needs.host_bytes
            && processors.saturating_mul(1000) >= needs.cpu_millis
    };
    let found = N2.iter().find(large_enough).ok_or_else(|| {
        ProvisionError::invalid(
            "needs",
            &format!("{} bytes", needs.host_bytes),
            "no n2-standard machine has as much memory; name one with --machine",
        )
    })?;
    Ok(format!("n2-standard-{found}"))
}
