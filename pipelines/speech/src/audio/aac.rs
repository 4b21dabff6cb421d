//! HE-AAC without its upper band. symphonia decodes AAC-LC only, and refuses a track that announces spectral band
//! replication; but the core of such a track is plain AAC-LC at half the rate, up to 11 kHz, which is more than speech
//! models at 16 kHz can hear. So the announcement is taken out. (Parametric stereo likewise: its core is mono.)
//! ISO/IEC 14496-3, 1.6.2.1, AudioSpecificConfig.

/// The object types of this standard that matter here.
const LOW_COMPLEXITY: u32 = 2;
const SPECTRAL_BAND_REPLICATION: u32 = 5;
const PARAMETRIC_STEREO: u32 = 29;
/// A frequency index that says the rate itself follows, in 24 bits.
const EXPLICIT_RATE: u32 = 15;

/// The configuration of the AAC-LC core in this one, if it has such a core.
pub(super) fn core_config(config: &[u8]) -> Option<Vec<u8>> {
    let mut bits = Bits {
        bytes: config,
        at: 0,
    };
    let object = bits.take(5)?;
    let rate = rate_bits(&mut bits)?;
    let channels = bits.take(4)?;
    if object == SPECTRAL_BAND_REPLICATION || object == PARAMETRIC_STEREO {
        rate_bits(&mut bits)?;
        if bits.take(5)? != LOW_COMPLEXITY {
            return None;
        }
    } else if object != LOW_COMPLEXITY {
        return None;
    }
    // Frame length, dependence on a core coder, extension.
    let rest = bits.take(3).unwrap_or(0);
    let mut out = Vec::new();
    let mut held = (u64::from(LOW_COMPLEXITY) << rate.1) | u64::from(rate.0);
    held = (held << 7) | u64::from(channels << 3 | rest);
    let length = 5 + rate.1 + 7;
    held <<= 64 - length;
    out.extend(held.to_be_bytes().iter().take(length.div_ceil(8) as usize));
    Some(out)
}

/// The rate's index, or the index and the rate, and how many bits that takes.
fn rate_bits(bits: &mut Bits<'_>) -> Option<(u32, u32)> {
    match bits.take(4)? {
        EXPLICIT_RATE => Some((EXPLICIT_RATE << 24 | bits.take(24)?, 28)),
        index => Some((index, 4)),
    }
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_of_he_aac_is_plain_aac() {
        // LC, 44.1 kHz (index 4), stereo.
        assert_eq!(core_config(&[0x12, 0x10]).unwrap(), [0x12, 0x10]);
        // The same with the backward-compatible announcement of band replication.
        assert_eq!(
            core_config(&[0x12, 0x10, 0x56, 0xe5, 0x00]).unwrap(),
            [0x12, 0x10]
        );
        // Object 5, core 22.05 kHz (7), stereo, output 44.1 kHz (4), core object 2.
        // 00101 0111 0010 0100 00010 000
        assert_eq!(
            core_config(&[0x2b, 0x92, 0x08, 0x00]).unwrap(),
            [0x13, 0x90]
        );
        // Object 29, mono core: 11101 0111 0001 0100 00010 000
        assert_eq!(
            core_config(&[0xeb, 0x8a, 0x08, 0x00]).unwrap(),
            [0x13, 0x88]
        );
    }

    #[test]
    fn a_rate_written_out_is_kept() {
        // 00010 1111 (24 bits: 44100) 0001 000
        let rate = 44_100u64;
        let packed: u64 = ((0x2f << 24 | rate) << 4 | 1) << 3;
        let bytes = (packed << (64 - 40)).to_be_bytes();
        assert_eq!(core_config(&bytes[..5]).unwrap(), bytes[..5]);
    }

    #[test]
    fn what_has_no_such_core_is_left_to_the_decoder() {
        assert_eq!(core_config(&[]), None);
        assert_eq!(core_config(&[0x2b]), None);
        // AAC Main.
        assert_eq!(core_config(&[0x0a, 0x10]), None);
    }
}
