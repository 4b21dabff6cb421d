//! The names that people have for schedulers: those of diffusers' classes, of RunPod's workers, of A1111 and of ComfyUI. Apart from
//! the classes because a name may also say how a class is set.

use serde_json::{Map, Value, json};

use super::asked::wrong;
use super::class::Class;
use crate::error::Result;

/// How a name sets its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    AsItIs,
    Karras,
    Exponential,
    Sde,
    SdeKarras,
    SdeExponential,
    Sde3,
    Sde3Karras,
    SkipPrk,
}

/// Names as they are written, the class, and how it is set. Case, spaces and punctuation do not matter.
const NAMES: &[(&str, Class, Set)] = &[
    ("DDIM", Class::Ddim, Set::AsItIs),
    ("DDPM", Class::Ddpm, Set::AsItIs),
    ("PNDM", Class::Pndm, Set::AsItIs),
    ("PLMS", Class::Pndm, Set::SkipPrk),
    ("Euler", Class::Euler, Set::AsItIs),
    ("K_EULER", Class::Euler, Set::AsItIs),
    ("Euler Karras", Class::Euler, Set::Karras),
    ("Euler a", Class::EulerAncestral, Set::AsItIs),
    ("Euler ancestral", Class::EulerAncestral, Set::AsItIs),
    ("K_EULER_ANCESTRAL", Class::EulerAncestral, Set::AsItIs),
    ("Heun", Class::Heun, Set::AsItIs),
    ("K_HEUN", Class::Heun, Set::AsItIs),
    ("Heun Karras", Class::Heun, Set::Karras),
    ("DPMSolver", Class::DpmSolverMultistep, Set::AsItIs),
    ("DPMSolver++", Class::DpmSolverMultistep, Set::AsItIs),
    ("DPM++ 2M", Class::DpmSolverMultistep, Set::AsItIs),
    ("dpmpp_2m", Class::DpmSolverMultistep, Set::AsItIs),
    ("K_DPMPP_2M", Class::DpmSolverMultistep, Set::AsItIs),
    ("DPM++ 2M Karras", Class::DpmSolverMultistep, Set::Karras),
    ("dpmpp_2m_karras", Class::DpmSolverMultistep, Set::Karras),
    (
        "DPMSolverMultistep Karras",
        Class::DpmSolverMultistep,
        Set::Karras,
    ),
    (
        "DPM++ 2M Exponential",
        Class::DpmSolverMultistep,
        Set::Exponential,
    ),
    ("DPM++ 2M SDE", Class::DpmSolverMultistep, Set::Sde),
    ("dpmpp_2m_sde", Class::DpmSolverMultistep, Set::Sde),
    (
        "DPM++ 2M SDE Karras",
        Class::DpmSolverMultistep,
        Set::SdeKarras,
    ),
    (
        "dpmpp_2m_sde_karras",
        Class::DpmSolverMultistep,
        Set::SdeKarras,
    ),
    (
        "DPM++ 2M SDE Exponential",
        Class::DpmSolverMultistep,
        Set::SdeExponential,
    ),
    ("DPM++ 3M SDE", Class::DpmSolverMultistep, Set::Sde3),
    (
        "DPM++ 3M SDE Karras",
        Class::DpmSolverMultistep,
        Set::Sde3Karras,
    ),
    (
        "DPMSolverSinglestep",
        Class::DpmSolverSinglestep,
        Set::AsItIs,
    ),
    ("LMS", Class::Lms, Set::AsItIs),
    ("KLMS", Class::Lms, Set::AsItIs),
    ("LMS Karras", Class::Lms, Set::Karras),
    ("UniPC", Class::UniPcMultistep, Set::AsItIs),
    ("UniPC Karras", Class::UniPcMultistep, Set::Karras),
    ("LCM", Class::Lcm, Set::AsItIs),
    ("FlowMatchEuler", Class::FlowMatchEuler, Set::AsItIs),
    ("FlowMatchHeun", Class::FlowMatchHeun, Set::AsItIs),
];

/// Names of what is not here, and what comes closest.
const ELSEWHERE: &[(&str, &str)] = &[
    ("DPMSolverSDE", "DPM++ 2M SDE"),
    ("DPM++ SDE", "DPM++ 2M SDE or DPMSolverSinglestep"),
    ("DPM++ SDE Karras", "DPM++ 2M SDE Karras"),
    ("DPM++ 2S a", "Euler a"),
    ("DPM++ 2S a Karras", "Euler a"),
    ("DPM2", "Heun"),
    ("DPM2 Karras", "Heun Karras"),
    ("DPM2 a", "Euler a"),
    ("DPM2 a Karras", "Euler a"),
    ("KDPM2Discrete", "HeunDiscrete"),
    ("KDPM2AncestralDiscrete", "EulerAncestralDiscrete"),
    ("DPM fast", "DPM++ 2M"),
    ("DPM adaptive", "DPM++ 2M"),
    ("DEISMultistep", "DPMSolverMultistep or UniPCMultistep"),
    ("DEIS", "DPM++ 2M or UniPC"),
    ("TCD", "LCM, or Euler with trailing timesteps"),
    ("EDMEuler", "EulerDiscrete with use_karras_sigmas"),
    (
        "EDMDPMSolverMultistep",
        "DPMSolverMultistep with use_karras_sigmas",
    ),
    ("SASolver", "DPMSolverMultistep or UniPCMultistep"),
    ("DDIMInverse", "DDIM"),
    ("DDIMParallel", "DDIM"),
    ("DDPMParallel", "DDPM"),
    (
        "FlowMatchLCM",
        "FlowMatchEulerDiscrete with stochastic_sampling",
    ),
    ("Restart", "Heun"),
];

/// A class, and the fields that its name sets.
pub(super) type Named = (Class, Map<String, Value>);

/// What a name stands for; over the configuration of a flow, Euler and Heun are those of flow matching.
pub(super) fn find(name: &str, flow: bool) -> Result<Named> {
    let key = key(name);
    let mut classes = Class::ALL.into_iter();
    let of_class = classes.find(|class| self::key(class.name()) == key);
    let named = NAMES.iter().find(|(name, ..)| self::key(name) == key);
    let (class, set) = match (of_class, named) {
        (Some(class), _) => (class, Set::AsItIs),
        (None, Some((_, class, set))) => (*class, *set),
        (None, None) => return Err(unknown(name, &key)),
    };
    let class = match class {
        Class::Euler if flow => Class::FlowMatchEuler,
        Class::Heun if flow => Class::FlowMatchHeun,
        class => class,
    };
    Ok((class, set.fields()))
}

/// The class of a `_class_name`, which is nothing but one of diffusers'.
pub(super) fn find_class(name: &str) -> Result<Class> {
    let found = Class::ALL.into_iter().find(|class| class.name() == name);
    found.ok_or_else(|| unknown(name, &key(name)))
}

fn unknown(name: &str, key: &str) -> crate::error::ImageError {
    let short: String = name.chars().take(60).collect();
    if let Some((_, instead)) = ELSEWHERE.iter().find(|(name, _)| self::key(name) == key) {
        return wrong(
            "scheduler",
            format!("{short:?} is not supported; the closest here: {instead}"),
        );
    }
    wrong(
        "scheduler",
        format!("{short:?} is not known: {}", known().join(", ")),
    )
}

/// All names that are known, classes first.
pub fn known() -> Vec<&'static str> {
    let classes = Class::ALL.into_iter().map(Class::name);
    classes
        .chain(NAMES.iter().map(|(name, ..)| *name))
        .collect()
}

/// A name without what does not matter: case, spaces, punctuation, and diffusers' endings.
fn key(name: &str) -> String {
    let letters = name.chars().filter(|c| c.is_ascii_alphanumeric());
    let key: String = letters.map(|c| c.to_ascii_lowercase()).collect();
    let key = key.strip_suffix("scheduler").unwrap_or(&key);
    let key = key.strip_suffix("discrete").unwrap_or(key);
    key.strip_suffix("multistep").unwrap_or(key).to_owned()
}

impl Set {
    fn fields(self) -> Map<String, Value> {
        let course = |karras: bool, exponential: bool| json!({"use_karras_sigmas": karras, "use_exponential_sigmas": exponential, "use_beta_sigmas": false});
        let sde = json!({"algorithm_type": "sde-dpmsolver++"});
        let sde3 = json!({"algorithm_type": "sde-dpmsolver++", "solver_order": 3});
        let parts = match self {
            Self::AsItIs => vec![],
            Self::Karras => vec![course(true, false)],
            Self::Exponential => vec![course(false, true)],
            Self::Sde => vec![sde],
            Self::SdeKarras => vec![sde, course(true, false)],
            Self::SdeExponential => vec![sde, course(false, true)],
            Self::Sde3 => vec![sde3],
            Self::Sde3Karras => vec![sde3, course(true, false)],
            Self::SkipPrk => vec![json!({"skip_prk_steps": true})],
        };
        let objects = parts.into_iter().filter_map(|part| match part {
            Value::Object(fields) => Some(fields),
            _ => None,
        });
        objects.flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_by_more_than_case_and_punctuation() {
        let names: Vec<&str> = NAMES.iter().map(|(name, ..)| *name).collect();
        for (i, name) in names.iter().enumerate() {
            let same = |other: &&str| key(other) == key(name);
            let twice = names.iter().skip(i + 1).find(|other| same(other));
            let first = NAMES
                .iter()
                .find(|(other, ..)| key(other) == key(name))
                .unwrap();
            let here = &NAMES[i];
            assert!(
                twice.is_none() || (first.1, first.2) == (here.1, here.2),
                "{name} {twice:?}"
            );
            assert!(!ELSEWHERE.iter().any(|(other, _)| same(other)), "{name}");
        }
    }

    #[test]
    fn workers_and_web_interfaces_say_it_their_way() {
        let class = |name: &str| find(name, false).unwrap().0;
        assert_eq!(class("k_euler"), Class::Euler);
        assert_eq!(class("Euler A"), Class::EulerAncestral);
        assert_eq!(
            class("eulerancestraldiscretescheduler"),
            Class::EulerAncestral
        );
        assert_eq!(class("DPMSolverMultistep"), Class::DpmSolverMultistep);
        let (class, fields) = find("dpm++ 2m sde karras", false).unwrap();
        assert_eq!(class, Class::DpmSolverMultistep);
        assert_eq!(fields.get("use_karras_sigmas"), Some(&json!(true)));
        assert_eq!(
            fields.get("algorithm_type"),
            Some(&json!("sde-dpmsolver++"))
        );
        assert_eq!(find("Euler", true).unwrap().0, Class::FlowMatchEuler);
    }

    #[test]
    fn what_is_not_here_is_said_with_what_is() {
        let said = |name: &str| find(name, false).unwrap_err().to_string();
        assert_eq!(
            said("DPM2 a"),
            "scheduler: \"DPM2 a\" is not supported; the closest here: Euler a"
        );
        let unknown = said("Rieman");
        assert!(
            unknown.contains("\"Rieman\" is not known: DDIMScheduler, "),
            "{unknown}"
        );
        assert!(unknown.contains("DPM++ 2M Karras"), "{unknown}");
    }
}
