//! The rule: a tensor's numbers from a seed and its name.

/// What numbers are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// Single precision.
    F32,
    /// IEEE's half.
    F16,
    /// The upper half of single precision.
    Bf16,
}

impl DType {
    /// The name in a safetensors file.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    /// Numbers rounded to it, as little-endian bytes.
    pub fn bytes(self, numbers: &[f32]) -> Vec<u8> {
        let numbers = numbers.iter();
        match self {
            Self::F32 => numbers.flat_map(|x| x.to_le_bytes()).collect(),
            Self::F16 => numbers
                .flat_map(|x| half::f16::from_f32(*x).to_le_bytes())
                .collect(),
            Self::Bf16 => numbers
                .flat_map(|x| half::bf16::from_f32(*x).to_le_bytes())
                .collect(),
        }
    }
}

/// `count` numbers of a tensor: evenly between offset − amplitude and offset + amplitude.
pub fn numbers(seed: u64, name: &str, count: usize, (offset, amplitude): (f64, f64)) -> Vec<f32> {
    let number = |z: u64| {
        let u = (z >> 11) as f64 / 2f64.powi(53);
        (offset + amplitude * (2.0 * u - 1.0)) as f32
    };
    stream(seed, name).take(count).map(number).collect()
}

/// The bits behind them: splitmix64, begun at FNV-1a of "SEED/NAME".
pub(crate) fn stream(seed: u64, name: &str) -> impl Iterator<Item = u64> {
    let begin = fnv(0xCBF2_9CE4_8422_2325, format!("{seed}/{name}").as_bytes());
    (1u64..).map(move |n| {
        let z = begin.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

/// FNV-1a, from a state on.
pub(crate) fn fnv(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |state, byte| {
        (state ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3)
    })
}
