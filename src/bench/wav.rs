//! How long a WAV file plays, from its header: for endpoints that do not say how much sound they heard. Other formats are left
//! to the endpoint's word.

/// Seconds; `None` for what is no WAV file of a known length.
pub(super) fn seconds(file: &[u8]) -> Option<f64> {
    if file.get(..4)? != b"RIFF" || file.get(8..12)? != b"WAVE" {
        return None;
    }
    let (mut at, mut bytes_per_second) = (12, None);
    loop {
        let (name, size) = (file.get(at..at + 4)?, number(file, at + 4)?);
        let body = at + 8;
        match name {
            b"fmt " => bytes_per_second = Some(number(file, body + 8)?),
            b"data" => {
                // A writer that could not go back left a length that the file does not have.
                let there = file.len().saturating_sub(body) as u64;
                let rate = bytes_per_second.filter(|rate| *rate > 0)?;
                return Some(u64::from(size).min(there) as f64 / f64::from(rate));
            }
            _ => {}
        }
        // Chunks begin at even places.
        at = body
            .checked_add(size as usize)?
            .checked_add(size as usize % 2)?;
    }
}

fn number(file: &[u8], at: usize) -> Option<u32> {
    let bytes = file.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wav(rate: u32, data: usize, said: u32) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVE".to_vec();
        file.extend(b"LIST\x03\0\0\0abc\0"); // of an odd length
        file.extend(b"fmt \x10\0\0\0\x01\0\x01\0");
        file.extend(16_000u32.to_le_bytes());
        file.extend(rate.to_le_bytes());
        file.extend(b"\x02\0\x10\0data");
        file.extend(said.to_le_bytes());
        file.extend(vec![0; data]);
        file
    }

    #[test]
    fn a_files_length_is_that_of_its_samples() {
        assert_eq!(seconds(&wav(32_000, 48_000, 48_000)), Some(1.5));
        assert_eq!(seconds(&wav(32_000, 16_000, u32::MAX)), Some(0.5));
    }

    #[test]
    fn what_is_no_wav_file_has_no_length() {
        assert_eq!(seconds(b"hello there"), None);
        assert_eq!(seconds(&wav(0, 10, 10)), None);
        let whole = wav(32_000, 0, 0);
        for length in 0..whole.len() {
            assert_eq!(seconds(&whole[..length]), None, "{length}");
        }
    }
}
