//! What symphonia reads of an MP4 and does not hand on: how many samples the encoder put before the sound (the edit
//! list; Apple's `iTunSMPB` note). Without it AAC speech is 20 to 50 ms late, and every timestamp with it.
//! ISO/IEC 14496-12, 8.6.5 (edts) and 8.6.6 (elst).

use std::io;

use super::source::Source;

/// Boxes looked at, so that a file of empty boxes takes no time.
const MOST_BOXES: usize = 100_000;
/// An `iTunSMPB` note is some 120 characters.
const LONGEST_NOTE: u64 = 1024;

/// What to leave out of one track's decoded samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edit {
    /// As the container numbers its tracks.
    pub(crate) track: u32,
    /// Where the sound begins, in units of `timescale`.
    pub(crate) start: u64,
    /// The length of the sound, in units of `duration_timescale`; 0 is unknown.
    pub(crate) duration: u64,
    /// Units a second of `start`.
    pub(crate) timescale: u32,
    /// Units a second of `duration`.
    pub(crate) duration_timescale: u32,
}

/// The edits of a file's tracks; none where the file is no MP4 or has none.
///
/// # Errors
/// The source cannot be read.
pub(crate) fn edits(source: &mut Source) -> io::Result<Vec<Edit>> {
    if source.peek(4, 4)? != b"ftyp" {
        return Ok(Vec::new());
    }
    let mut walk = Walk {
        left: MOST_BOXES,
        movie_timescale: 0,
        note: None,
        tracks: Vec::new(),
    };
    let end = source.length();
    walk.boxes(source, 0..end, 0)?;
    Ok(walk.finish())
}

/// The box walk's findings. A track's boxes may come in any order, so nothing is worked out before the end.
struct Walk {
    left: usize,
    movie_timescale: u32,
    note: Option<Note>,
    tracks: Vec<TrackBoxes>,
}

#[derive(Default)]
struct TrackBoxes {
    id: u32,
    timescale: u32,
    edit: Option<(u64, u64)>,
}

/// Apple's count of samples, in the sound's own rate.
#[derive(Clone, Copy)]
struct Note {
    delay: u64,
    samples: u64,
}

impl Walk {
    fn boxes(
        &mut self,
        source: &mut Source,
        range: std::ops::Range<u64>,
        depth: u32,
    ) -> io::Result<()> {
        let mut at = range.start;
        while at + 8 <= range.end && self.left > 0 {
            self.left -= 1;
            let head = source.peek(at, 16)?;
            let (Some(short), Some(kind)) = (u32_at(&head, 0), head.get(4..8)) else {
                return Ok(());
            };
            let (header, size) = match short {
                0 => (8, range.end - at),
                1 => (16, u64_at(&head, 8).unwrap_or(0)),
                n => (8, u64::from(n)),
            };
            if size < header {
                return Ok(());
            }
            let end = at.saturating_add(size).min(range.end);
            self.one(source, kind, (at + header).min(end)..end, depth)?;
            at = end;
        }
        Ok(())
    }

    fn one(
        &mut self,
        source: &mut Source,
        kind: &[u8],
        body: std::ops::Range<u64>,
        depth: u32,
    ) -> io::Result<()> {
        // moov/trak/mdia/mdhd is the deepest but for moov/udta/meta/ilst/----.
        if depth > 5 {
            return Ok(());
        }
        match kind {
            b"trak" => {
                self.tracks.push(TrackBoxes::default());
                self.boxes(source, body, depth + 1)?;
            }
            b"moov" | b"mdia" | b"edts" | b"udta" | b"ilst" => {
                self.boxes(source, body, depth + 1)?
            }
            // A full box in MP4, a plain one in QuickTime: its first child's name tells which.
            b"meta" => {
                let plain = source.peek(body.start + 4, 4)? == b"hdlr";
                let start = body.start + if plain { 0 } else { 4 };
                self.boxes(source, start..body.end, depth + 1)?;
            }
            b"----" => self.note = self.note.or(note(source, body)?),
            b"mvhd" => self.movie_timescale = timescale(source, &body)?,
            b"mdhd" => {
                let scale = timescale(source, &body)?;
                self.last(|t| t.timescale = scale);
            }
            b"tkhd" => {
                let bytes = source.peek(body.start, 24)?;
                let id = u32_at(&bytes, if bytes.first() == Some(&1) { 20 } else { 12 });
                self.last(|t| t.id = id.unwrap_or(0));
            }
            b"elst" => {
                let found = first_sounding(source, &body)?;
                self.last(|t| t.edit = found);
            }
            _ => {}
        }
        Ok(())
    }

    fn last(&mut self, set: impl FnOnce(&mut TrackBoxes)) {
        if let Some(track) = self.tracks.last_mut() {
            set(track);
        }
    }

    fn finish(self) -> Vec<Edit> {
        let (note, movie_timescale) = (self.note, self.movie_timescale);
        let edit = |track: TrackBoxes| {
            // The note counts samples exactly; an edit's length is in the movie's units, often milliseconds.
            let (start, duration, duration_timescale) = match (note, track.edit) {
                (Some(n), _) => (n.delay, n.samples, track.timescale),
                (None, Some((start, duration))) => (start, duration, movie_timescale),
                (None, None) => return None,
            };
            (track.timescale > 0 && duration_timescale > 0).then_some(Edit {
                track: track.id,
                start,
                duration,
                timescale: track.timescale,
                duration_timescale,
            })
        };
        self.tracks.into_iter().filter_map(edit).collect()
    }
}

/// (media time, length) of the first edit that plays something; an empty edit before it is a pause, which recordings
/// do not have.
fn first_sounding(
    source: &mut Source,
    body: &std::ops::Range<u64>,
) -> io::Result<Option<(u64, u64)>> {
    let bytes = source.peek(body.start, 8 + 20 * 4)?;
    let wide = bytes.first() == Some(&1);
    let count = u32_at(&bytes, 4).unwrap_or(0).min(4) as usize;
    for index in 0..count {
        let entry = if wide {
            let at = 8 + index * 20;
            u64_at(&bytes, at).zip(u64_at(&bytes, at + 8).map(u64::cast_signed))
        } else {
            let at = 8 + index * 12;
            let time = u32_at(&bytes, at + 4).map(|t| i64::from(t.cast_signed()));
            u32_at(&bytes, at).map(u64::from).zip(time)
        };
        if let Some((duration, time)) = entry
            && let Ok(start) = u64::try_from(time)
        {
            return Ok(Some((start, duration)));
        }
    }
    Ok(None)
}

fn timescale(source: &mut Source, body: &std::ops::Range<u64>) -> io::Result<u32> {
    let bytes = source.peek(body.start, 24)?;
    let at = if bytes.first() == Some(&1) { 20 } else { 12 };
    Ok(u32_at(&bytes, at).unwrap_or(0))
}

/// ` 00000000 00000840 000001CA 00000000003F31F6 …`: encoder delay, padding, samples, in hexadecimal.
fn note(source: &mut Source, body: std::ops::Range<u64>) -> io::Result<Option<Note>> {
    let length = (body.end - body.start).min(LONGEST_NOTE);
    let bytes = source.peek(body.start, usize::try_from(length).unwrap_or(0))?;
    let name = b"iTunSMPB";
    let Some(at) = bytes.windows(name.len()).position(|w| w == name) else {
        return Ok(None);
    };
    let text: String = bytes
        .iter()
        .skip(at + name.len())
        .map(|b| char::from(*b))
        .collect();
    let Some(start) = text.find(" 00000000 ") else {
        return Ok(None);
    };
    let numbers: Vec<u64> = text
        .get(start..)
        .unwrap_or_default()
        .split_ascii_whitespace()
        .take(4)
        .map_while(|word| u64::from_str_radix(word, 16).ok())
        .collect();
    Ok(match numbers[..] {
        [0, delay, _, samples] if samples > 0 => Some(Note { delay, samples }),
        _ => None,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..at + 4)?
        .try_into()
        .ok()
        .map(u32::from_be_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..at + 8)?
        .try_into()
        .ok()
        .map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut out = u32::try_from(body.len() + 8)
            .unwrap()
            .to_be_bytes()
            .to_vec();
        out.extend(kind);
        out.extend(body);
        out
    }

    fn movie(extra: &[u8], edit: &[u32]) -> Vec<u8> {
        let words = |w: &[u32]| w.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<u8>>();
        let track = [
            boxed(b"tkhd", &words(&[0, 0, 0, 7, 0, 0])),
            boxed(b"edts", &boxed(b"elst", &words(edit))),
            boxed(b"mdia", &boxed(b"mdhd", &words(&[0, 0, 0, 44_100, 0, 0]))),
        ]
        .concat();
        let inside = [
            boxed(b"mvhd", &words(&[0, 0, 0, 1000, 0, 0])),
            boxed(b"trak", &track),
            extra.to_vec(),
        ]
        .concat();
        [boxed(b"ftyp", b"M4A \0\0\0\0"), boxed(b"moov", &inside)].concat()
    }

    #[test]
    fn the_edit_list_says_where_the_sound_begins() {
        // An empty edit (media time -1), then the real one.
        let file = movie(&[], &[0, 2, 0, u32::MAX, 0x10000, 2500, 1024, 0x10000]);
        assert_eq!(
            edits(&mut Source::from_memory(file)).unwrap(),
            [Edit {
                track: 7,
                start: 1024,
                duration: 2500,
                timescale: 44_100,
                duration_timescale: 1000
            }]
        );
    }

    #[test]
    fn apples_note_counts_samples_and_wins() {
        let text = b" 00000000 00000840 000001CA 00000000003F31F6 00000000";
        let inside = [
            boxed(b"mean", b"\0\0\0\0com.apple.iTunes"),
            boxed(b"name", b"\0\0\0\0iTunSMPB"),
            boxed(b"data", &[b"\0\0\0\x01\0\0\0\0", text.as_slice()].concat()),
        ]
        .concat();
        let list = boxed(b"ilst", &boxed(b"----", &inside));
        let meta = boxed(b"meta", &[b"\0\0\0\0".as_slice(), &list].concat());
        let file = movie(&boxed(b"udta", &meta), &[0, 1, 2500, 1024, 0x10000]);
        let found = edits(&mut Source::from_memory(file)).unwrap();
        assert_eq!((found[0].start, found[0].duration), (0x840, 0x3f_31f6));
        assert_eq!(found[0].duration_timescale, 44_100);
    }

    #[test]
    fn boxes_that_lie_end_the_walk() {
        let mut file = movie(&[], &[0, 1, 2500, 1024, 0x10000]);
        for at in 0..file.len() - 4 {
            let kept: [u8; 4] = file[at..at + 4].try_into().unwrap();
            for lie in [0u32, 1, 7, u32::MAX] {
                file[at..at + 4].copy_from_slice(&lie.to_be_bytes());
                edits(&mut Source::from_memory(file.clone())).unwrap();
            }
            file[at..at + 4].copy_from_slice(&kept);
        }
    }
}
