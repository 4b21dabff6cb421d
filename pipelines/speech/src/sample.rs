//! A recording to warm up with.

/// Half a second of silence as a WAV file: 16-bit, one channel.
pub(crate) fn silence(sample_rate: u32) -> Vec<u8> {
    let bytes = sample_rate; // half a second, two bytes a sample
    let mut wav = Vec::with_capacity(44 + bytes as usize);
    wav.extend(b"RIFF");
    wav.extend((36 + bytes).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16u32.to_le_bytes());
    // PCM, one channel.
    wav.extend([1u16, 1].map(u16::to_le_bytes).concat());
    wav.extend(sample_rate.to_le_bytes());
    wav.extend((2 * sample_rate).to_le_bytes());
    wav.extend([2u16, 16].map(u16::to_le_bytes).concat());
    wav.extend(b"data");
    wav.extend(bytes.to_le_bytes());
    wav.resize(44 + bytes as usize, 0);
    wav
}
