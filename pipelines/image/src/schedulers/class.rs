//! The classes of schedulers that are here, and which fields each of them has. Apart from the names that people have for them.

use super::{betas, flow_match, prediction, sigmas, spacing};

/// A class of diffusers' schedulers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Class {
    Ddim,
    Ddpm,
    Pndm,
    Euler,
    EulerAncestral,
    Heun,
    DpmSolverMultistep,
    DpmSolverSinglestep,
    Lms,
    UniPcMultistep,
    Lcm,
    FlowMatchEuler,
    FlowMatchHeun,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Ddim,
        Self::Ddpm,
        Self::Pndm,
        Self::Euler,
        Self::EulerAncestral,
        Self::Heun,
        Self::DpmSolverMultistep,
        Self::DpmSolverSinglestep,
        Self::Lms,
        Self::UniPcMultistep,
        Self::Lcm,
        Self::FlowMatchEuler,
        Self::FlowMatchHeun,
    ];

    /// Its name in diffusers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ddim => "DDIMScheduler",
            Self::Ddpm => "DDPMScheduler",
            Self::Pndm => "PNDMScheduler",
            Self::Euler => "EulerDiscreteScheduler",
            Self::EulerAncestral => "EulerAncestralDiscreteScheduler",
            Self::Heun => "HeunDiscreteScheduler",
            Self::DpmSolverMultistep => "DPMSolverMultistepScheduler",
            Self::DpmSolverSinglestep => "DPMSolverSinglestepScheduler",
            Self::Lms => "LMSDiscreteScheduler",
            Self::UniPcMultistep => "UniPCMultistepScheduler",
            Self::Lcm => "LCMScheduler",
            Self::FlowMatchEuler => "FlowMatchEulerDiscreteScheduler",
            Self::FlowMatchHeun => "FlowMatchHeunDiscreteScheduler",
        }
    }

    /// Whether it runs flows only.
    pub fn is_flow(self) -> bool {
        matches!(self, Self::FlowMatchEuler | Self::FlowMatchHeun)
    }

    /// Whether it can run a flow.
    pub fn takes_flow(self) -> bool {
        self.is_flow()
            || matches!(
                self,
                Self::DpmSolverMultistep | Self::DpmSolverSinglestep | Self::UniPcMultistep
            )
    }

    /// The fields that it honours.
    pub(super) fn fields(self) -> Vec<&'static str> {
        let groups = match self {
            Self::Ddim => DDIM,
            Self::Ddpm => DDPM,
            Self::Pndm => PNDM,
            Self::Euler => EULER,
            Self::EulerAncestral => EULER_ANCESTRAL,
            Self::Heun => HEUN,
            Self::DpmSolverMultistep => DPM_MULTISTEP,
            Self::DpmSolverSinglestep => DPM_SINGLESTEP,
            Self::Lms => LMS,
            Self::UniPcMultistep => UNIPC,
            Self::Lcm => LCM,
            Self::FlowMatchEuler => FLOW_EULER,
            Self::FlowMatchHeun => FLOW_HEUN,
        };
        let mut fields: Vec<&str> = groups
            .iter()
            .flat_map(|group| group.iter().copied())
            .collect();
        if !self.is_flow() {
            fields.push("prediction_type");
        }
        fields
    }
}

/// The fields of all models of noise.
const NOISE: &[&str] = betas::FIELDS;

/// The fields that DPM-Solver and UniPC have.
const SOLVER: &[&str] = &[
    "solver_order",
    "solver_type",
    "lower_order_final",
    "final_sigmas_type",
    "use_flow_sigmas",
    "flow_shift",
];

/// The fields of a class, in groups.
type Groups = &'static [&'static [&'static str]];

const DDIM: Groups = &[
    NOISE,
    prediction::CLIP_FIELDS,
    prediction::THRESHOLD_FIELDS,
    spacing::FIELDS,
    &["set_alpha_to_one", "rescale_betas_zero_snr"],
];
const DDPM: Groups = &[
    NOISE,
    prediction::CLIP_FIELDS,
    prediction::THRESHOLD_FIELDS,
    spacing::FIELDS,
    &["variance_type", "rescale_betas_zero_snr"],
];
const PNDM: Groups = &[
    NOISE,
    spacing::FIELDS,
    &["skip_prk_steps", "set_alpha_to_one"],
];
const EULER: Groups = &[
    NOISE,
    sigmas::FIELDS,
    spacing::FIELDS,
    &[
        "interpolation_type",
        "timestep_type",
        "rescale_betas_zero_snr",
        "final_sigmas_type",
    ],
];
const EULER_ANCESTRAL: Groups = &[NOISE, spacing::FIELDS, &["rescale_betas_zero_snr"]];
const HEUN: Groups = &[
    NOISE,
    sigmas::FIELDS,
    spacing::FIELDS,
    prediction::CLIP_FIELDS,
];
const DPM_MULTISTEP: Groups = &[
    NOISE,
    SOLVER,
    &["rescale_betas_zero_snr"],
    sigmas::FIELDS,
    spacing::FIELDS,
    prediction::THRESHOLD_FIELDS,
    flow_match::DYNAMIC_FIELDS,
    &[
        "algorithm_type",
        "euler_at_final",
        "use_lu_lambdas",
        "lambda_min_clipped",
        "variance_type",
    ],
];
const DPM_SINGLESTEP: Groups = &[
    NOISE,
    SOLVER,
    sigmas::FIELDS,
    prediction::THRESHOLD_FIELDS,
    flow_match::DYNAMIC_FIELDS,
    &["algorithm_type", "lambda_min_clipped", "variance_type"],
];
const LMS: Groups = &[NOISE, sigmas::FIELDS, spacing::FIELDS];
const UNIPC: Groups = &[
    NOISE,
    SOLVER,
    &["rescale_betas_zero_snr"],
    sigmas::FIELDS,
    spacing::FIELDS,
    prediction::THRESHOLD_FIELDS,
    flow_match::DYNAMIC_FIELDS,
    &[
        "predict_x0",
        "disable_corrector",
        "solver_p",
        "shift_terminal",
    ],
];
const LCM: Groups = &[
    NOISE,
    prediction::CLIP_FIELDS,
    prediction::THRESHOLD_FIELDS,
    &[
        "original_inference_steps",
        "timestep_scaling",
        "rescale_betas_zero_snr",
    ],
    // Fields of the class that its steps never look at.
    spacing::FIELDS,
    &["set_alpha_to_one"],
];
const FLOW_EULER: Groups = &[
    sigmas::FIELDS,
    flow_match::DYNAMIC_FIELDS,
    &[
        "num_train_timesteps",
        "shift",
        "shift_terminal",
        "invert_sigmas",
        "stochastic_sampling",
    ],
];
const FLOW_HEUN: Groups = &[&["num_train_timesteps", "shift", "use_dynamic_shifting"]];
