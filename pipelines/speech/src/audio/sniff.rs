//! What bytes look like by their beginning, so that an error page or a picture is named for what it is instead of being
//! searched for an MP3 frame (symphonia scans a megabyte for one, and random bytes hold some).

use super::error::AudioError;

/// Enough for every signature, and for text to be told from sound.
pub(crate) const SNIFFED: usize = 4096;

/// Signatures of what is not audio, at the very beginning.
const NOT_AUDIO: &[(&[u8], &str)] = &[
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"BM", "a BMP image"),
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"BZh", "bzip2-compressed data"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\xfd7zXZ\0", "xz-compressed data"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed data"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"MThd", "a MIDI file, which holds notes and no sound"),
];

/// Signatures of audio that no decoder here reads: (offset, signature, name).
const UNSUPPORTED: &[(usize, &[u8], &str)] = &[
    (
        0,
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
        "WMA (in an ASF file)",
    ),
    (0, b"#!AMR", "AMR"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"FLV\x01", "Flash Video"),
    (0, b"TTA1", "True Audio"),
    (0, b"MPCK", "Musepack"),
    (0, b"MP+", "Musepack"),
    (0, b"DSD ", "DSD"),
    (0, b"FRM8", "DSD"),
    (0, b".snd", "the AU format"),
    (0, b".RMF", "RealMedia"),
    (0, b"\x0b\x77", "AC-3"),
    (0, b"\0\0\x01\xba", "an MPEG program stream"),
    (8, b"AVI ", "AVI"),
    (8, b"WEBP", "a WebP image"),
];

/// Refuses what is plainly not audio that can be read; says nothing about the rest.
///
/// # Errors
/// [`AudioError::Empty`], [`AudioError::NotAudio`] or [`AudioError::UnsupportedCodec`].
pub(crate) fn refuse_what_is_not_audio(start: &[u8]) -> Result<(), AudioError> {
    if start.is_empty() {
        return Err(AudioError::Empty("it has no bytes"));
    }
    for (signature, looks_like) in NOT_AUDIO {
        if start.starts_with(signature) {
            return Err(AudioError::NotAudio { looks_like });
        }
    }
    for (offset, signature, name) in UNSUPPORTED {
        if start
            .get(*offset..)
            .is_some_and(|s| s.starts_with(signature))
        {
            return Err(match *name {
                "a WebP image" => AudioError::NotAudio { looks_like: name },
                _ => AudioError::UnsupportedCodec {
                    codec: (*name).to_string(),
                },
            });
        }
    }
    if is_transport_stream(start) {
        return Err(AudioError::UnsupportedCodec {
            codec: "an MPEG transport stream".to_string(),
        });
    }
    match text(start) {
        Some(looks_like) => Err(AudioError::NotAudio { looks_like }),
        None => Ok(()),
    }
}

/// What to call bytes in which no format was found.
pub(crate) fn describe_unknown(start: &[u8]) -> &'static str {
    match start {
        [first, rest @ ..] if !rest.is_empty() && rest.iter().all(|b| b == first) => {
            "one byte repeated (raw samples without a header must be sent as wav)"
        }
        _ => "unknown binary data (raw samples without a header must be sent as wav)",
    }
}

fn known_audio(start: &[u8]) -> bool {
    [
        b"RIFF".as_slice(),
        b"fLaC",
        b"OggS",
        b"ID3",
        b"FORM",
        b"caff",
    ]
    .iter()
    .any(|s| start.starts_with(s))
}

/// 0x47 at the head of each 188-byte packet.
fn is_transport_stream(start: &[u8]) -> bool {
    start.len() > 188 * 4 && start.iter().step_by(188).take(5).all(|b| *b == 0x47)
}

/// The kind of text that the bytes are, if they are text at all.
fn text(start: &[u8]) -> Option<&'static str> {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let valid = match std::str::from_utf8(start) {
        Ok(all) => all,
        // The cut at SNIFFED may be inside a character.
        Err(e) if e.error_len().is_none() && e.valid_up_to() + 4 > start.len() => {
            std::str::from_utf8(start.get(..e.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    if valid
        .chars()
        .any(|c| c.is_control() && !"\n\r\t\u{c}\u{1b}".contains(c))
    {
        return None;
    }
    let trimmed = valid.trim_start();
    let head: String = trimmed.chars().take(256).collect::<String>().to_lowercase();
    // A container's own letters are printable too; none is recognisable by them alone below this length.
    if known_audio(start) && start.len() < 12 {
        return None;
    }
    Some(match head.as_bytes() {
        h if h.starts_with(b"<!doctype html") || head.contains("<html") => "an HTML page",
        h if h.starts_with(b"<svg") || head.contains("<svg") => "an SVG image",
        h if h.starts_with(b"<?xml") || h.starts_with(b"<") => "an XML document",
        h if h.starts_with(b"{") || h.starts_with(b"[") => "JSON",
        h if h.starts_with(b"data:") => "a data URL (which must be decoded first)",
        h if h.starts_with(b"#extm3u") || h.starts_with(b"[playlist]") => "a playlist",
        h if h.starts_with(b"version https://git-lfs") => "a Git LFS pointer",
        _ if base64_only(trimmed) => "base64 text (which must be decoded first)",
        _ => "plain text",
    })
}

fn base64_only(text: &str) -> bool {
    text.len() >= 64
        && text
            .trim_end()
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+/=-_\r\n".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(bytes: &[u8]) -> String {
        match refuse_what_is_not_audio(bytes) {
            Ok(()) => "audio?".into(),
            Err(AudioError::NotAudio { looks_like }) => looks_like.into(),
            Err(AudioError::UnsupportedCodec { codec }) => codec,
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn what_is_not_audio_is_named() {
        assert_eq!(named(b""), "the audio is empty: it has no bytes");
        assert_eq!(named(b"<!DOCTYPE html><title>404</title>"), "an HTML page");
        assert_eq!(named(b"\n  <html><body>"), "an HTML page");
        assert_eq!(named(b"{\"error\": \"no such file\"}"), "JSON");
        assert_eq!(named(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), "a PNG image");
        assert_eq!(named("Überraschung\n".as_bytes()), "plain text");
        assert_eq!(named(b"\xff\xd8\xff\xe0\0\x10JFIF"), "a JPEG image");
        assert_eq!(
            named("UklGRiQA".repeat(20).as_bytes()),
            "base64 text (which must be decoded first)"
        );
        assert_eq!(named(b"#!AMR\n\x3c"), "AMR");
        assert_eq!(named(b"RIFF\x10\0\0\0AVI LIST"), "AVI");
        assert_eq!(named(b"PK\x03\x04\x14\0"), "a ZIP archive");
    }

    #[test]
    fn what_may_be_audio_passes() {
        for start in [
            b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0".as_slice(),
            b"fLaC\0\0\0\x22",
            b"OggS\0\x02",
            b"ID3\x04\0\0",
            b"\xff\xfb\x90\x64",
            b"\0\0\0\x20ftypM4A \0\0\0\0",
            b"\x1a\x45\xdf\xa3\x9fB\x86",
            b"FORM\0\0\0\x2eAIFFCOMM\0\0",
            b"caff\0\x01\0\0desc\0",
            b"\xff\xf1\x50\x80",
        ] {
            assert_eq!(named(start), "audio?", "{start:?}");
        }
    }

    #[test]
    fn text_that_the_sniffed_part_cuts_inside_a_character_is_text() {
        let text = "ü".repeat(SNIFFED);
        assert_eq!(named(&text.as_bytes()[..SNIFFED - 1]), "plain text");
    }
}
