//! The GPU: what this build can open, what the driver says there is, and whether the two agree with `--device`.

use super::finding::{Finding, size};
use super::smi::Cards;
use crate::engine::devices::{Devices, Gpu};

const GROUP: &str = "gpu";

/// What the settings say.
pub struct Wanted<'a> {
    /// `--device`.
    pub device: &'a str,
    /// `--allow-cpu`.
    pub allow_cpu: bool,
}

pub fn check(wanted: &Wanted<'_>, devices: &Devices, cards: &Cards) -> Vec<Finding> {
    let mut findings = vec![build(wanted, devices, cards)];
    if let Devices::Gpus(gpus) = devices {
        findings.extend(
            gpus.iter()
                .enumerate()
                .map(|(index, gpu)| opened(index, gpu)),
        );
    }
    if let Some(version) = &cards.driver {
        let cuda = cards.cuda.as_deref();
        let serves = cuda.map_or_else(String::new, |cuda| format!(", serves CUDA up to {cuda}"));
        let finding = Finding::ok(GROUP, "driver", format!("{version}{serves}"));
        findings.push(finding.with("version", version).with("cuda", cuda));
    }
    findings.extend(cards.cards.iter().enumerate().map(|(index, card)| {
        let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), size);
        let capability = card.compute_capability.as_deref().unwrap_or("unknown");
        let mig = if card.mig {
            ", cut into MIG instances"
        } else {
            ""
        };
        let found = format!(
            "{}, {} of {} free, compute capability {capability}{mig}",
            card.name,
            bytes(card.free_bytes),
            bytes(card.memory_bytes)
        );
        Finding::ok(GROUP, format!("card {index}"), found).with("card", card)
    }));
    if let Some(reason) = &cards.failure {
        let finding = Finding::warning(GROUP, "nvidia-smi", reason.clone());
        findings.push(finding.mended_by(
            "it does not reach the driver: start the container with --gpus all (NVIDIA's container toolkit), and look at the \
             host's own `nvidia-smi`",
        ));
    }
    findings
}

/// What this build can do with what there is.
fn build(settings: &Wanted<'_>, devices: &Devices, cards: &Cards) -> Finding {
    let wanted = settings.device;
    let asked = wanted.starts_with("cuda");
    match devices {
        Devices::CpuOnly if asked => Finding::problem(
            GROUP,
            "build",
            format!("--device {wanted} is asked for, and this build has no CUDA"),
        )
        .mended_by("use the image or build with CUDA (--features cuda), or --device cpu"),
        Devices::CpuOnly if !cards.cards.is_empty() && wanted != "cpu" => Finding::warning(
            GROUP,
            "build",
            "this build has no CUDA and computes on the CPU, beside a GPU",
        )
        .mended_by("use the image or build with CUDA (--features cuda); --device cpu says that the CPU is meant"),
        Devices::CpuOnly => Finding::ok(GROUP, "build", "without CUDA: computes on the CPU"),
        Devices::Unusable(reason) if wanted == "cpu" => {
            Finding::ok(GROUP, "build", format!("with CUDA, not used (--device cpu): {reason}"))
        }
        Devices::Unusable(reason) if wanted == "auto" && settings.allow_cpu => {
            let found = format!("with CUDA, and the CPU is used as --allow-cpu has it: {reason}");
            Finding::warning(GROUP, "build", found)
                .mended_by("start the container with --gpus all, or say --device cpu if the CPU is meant")
        }
        Devices::Unusable(reason) => Finding::problem(GROUP, "build", format!("with CUDA: {reason}"))
            .mended_by("start the container with --gpus all, or compute on the CPU with --device cpu"),
        Devices::Gpus(gpus) => Finding::ok(GROUP, "build", format!("with CUDA: {} to use", counted(gpus.len()))),
    }
    .with("cuda", !matches!(devices, Devices::CpuOnly))
}

fn counted(gpus: usize) -> String {
    match gpus {
        1 => "1 GPU".to_owned(),
        many => format!("{many} GPUs"),
    }
}

fn opened(index: usize, gpu: &Gpu) -> Finding {
    let mut found = gpu.name.clone();
    if let Some(bytes) = gpu.memory {
        found = format!("{found}, {}", size(bytes));
    }
    if let Some((major, minor)) = gpu.capability {
        found = format!("{found}, compute capability {major}.{minor}");
    }
    Finding::ok(GROUP, format!("cuda:{index}"), found)
        .with("name", &gpu.name)
        .with("memory_bytes", gpu.memory)
        .with(
            "compute_capability",
            gpu.capability
                .map(|(major, minor)| format!("{major}.{minor}")),
        )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::smi::Card;
    use super::*;

    fn one_card() -> Cards {
        Cards {
            cards: vec![Card {
                name: "NVIDIA L4".to_owned(),
                memory_bytes: Some(24 << 30),
                free_bytes: Some(20 << 30),
                compute_capability: Some("8.9".to_owned()),
                mig: false,
            }],
            driver: Some("535.129.03".to_owned()),
            cuda: Some("12.2".to_owned()),
            failure: None,
        }
    }

    #[test]
    fn a_gpu_that_the_build_cannot_use_is_told() {
        let allowing = |device, allow_cpu, devices: &Devices, cards: &Cards| {
            check(&Wanted { device, allow_cpu }, devices, cards)[0].level
        };
        let level =
            |device, devices: &Devices, cards: &Cards| allowing(device, false, devices, cards);
        let none = Cards::default();
        let unusable = Devices::Unusable("no CUDA driver on this machine".to_owned());
        assert_eq!(level("auto", &Devices::CpuOnly, &none), Level::Ok);
        assert_eq!(
            level("auto", &Devices::CpuOnly, &one_card()),
            Level::Warning
        );
        assert_eq!(level("cpu", &Devices::CpuOnly, &one_card()), Level::Ok);
        assert_eq!(
            level("cuda:0", &Devices::CpuOnly, &one_card()),
            Level::Problem
        );
        assert_eq!(level("auto", &unusable, &none), Level::Problem);
        assert_eq!(level("cpu", &unusable, &none), Level::Ok);
        assert_eq!(allowing("auto", true, &unusable, &none), Level::Warning);
        assert_eq!(allowing("cuda:0", true, &unusable, &none), Level::Problem);
    }

    #[test]
    fn cards_and_driver_are_described() {
        let gpus = Devices::Gpus(vec![Gpu {
            name: "NVIDIA L4".to_owned(),
            memory: Some(24 << 30),
            capability: Some((8, 9)),
        }]);
        let wanted = Wanted {
            device: "auto",
            allow_cpu: false,
        };
        let findings = check(&wanted, &gpus, &one_card());
        let found: Vec<&str> = findings
            .iter()
            .map(|finding| finding.found.as_str())
            .collect();
        assert_eq!(
            found,
            [
                "with CUDA: 1 GPU to use",
                "NVIDIA L4, 24.00 GiB, compute capability 8.9",
                "535.129.03, serves CUDA up to 12.2",
                "NVIDIA L4, 20.00 GiB of 24.00 GiB free, compute capability 8.9",
            ]
        );
        assert_eq!(findings[1].data["compute_capability"], "8.9");
    }
}
