//! `multipart/form-data` (RFC 7578) read as it comes: part after part, each in pieces, nothing of it held but the piece at hand.
//! Written here and not taken from multer, which axum has: that one takes in all that is ready before it gives anything out,
//! and searches all of it anew while a part's head has no end, so that neither its memory nor its work has a bound.

use bytes::{Bytes, BytesMut};
use chandler_core::{ErrorKind, RequestError};
use futures_util::{Stream, StreamExt};
use memchr::memmem::Finder;

/// RFC 2046 allows 70.
const LONGEST_BOUNDARY: usize = 200;
/// Bytes of a part's head.
const LONGEST_HEAD: usize = 8 << 10;
/// Bytes before the first part, where RFC 2046 allows a text for readers without MIME; no client of ours writes one.
const LONGEST_PREAMBLE: usize = 8 << 10;

/// What a part says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The field.
    pub(super) name: String,
    /// Whether it was sent as a file: it has a file name, whatever that is.
    pub(super) is_file: bool,
}

/// The boundary that a content type names; `None` where it is no `multipart/form-data` at all.
///
/// # Errors
/// That it names none, or one that cannot be.
pub(super) fn boundary(content_type: &str) -> Option<Result<String, RequestError>> {
    let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let found = parameter(parameters, "boundary");
    let found = found.filter(|text| (1..=LONGEST_BOUNDARY).contains(&text.len()));
    Some(found.ok_or_else(|| {
        broken(
            "its content type names no boundary; let the HTTP client write that header by itself",
        )
    }))
}

/// A body of parts.
pub(super) struct Multipart<S> {
    chunks: S,
    /// What has come and was not given out.
    held: BytesMut,
    /// Finds `\r\n--boundary`.
    mark: Finder<'static>,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Preamble,
    /// After a mark.
    Between,
    Within,
    Ended,
}

impl<S, E> Multipart<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    pub(super) fn new(chunks: S, boundary: &str) -> Self {
        Self {
            chunks,
            // Why: the first mark may stand at the very beginning, without the line end that belongs to every other one.
            held: BytesMut::from("\r\n"),
            mark: Finder::new(&format!("\r\n--{boundary}")).into_owned(),
            place: Place::Preamble,
        }
    }

    /// The next part; `None` after the last one. What was not read of the one before is thrown away.
    ///
    /// # Errors
    /// That the body is not what its content type says, or that the caller broke off.
    pub(super) async fn next(&mut self) -> Result<Option<Part>, RequestError> {
        let mut before = 0;
        while matches!(self.place, Place::Preamble | Place::Within) {
            let in_preamble = self.place == Place::Preamble;
            before += self.piece().await?.map_or(0, |piece| piece.len());
            if in_preamble && before > LONGEST_PREAMBLE {
                return Err(broken("it does not begin with its boundary"));
            }
        }
        if self.place == Place::Ended {
            return Ok(None);
        }
        let head = self.head().await?;
        let Some(head) = head else {
            self.place = Place::Ended;
            return Ok(None);
        };
        self.place = Place::Within;
        part(&head).map(Some)
    }

    /// More of the part; `None` at its end.
    ///
    /// # Errors
    /// As [`Multipart::next`].
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, RequestError> {
        if matches!(self.place, Place::Between | Place::Ended) {
            return Ok(None);
        }
        loop {
            if let Some(at) = self.mark.find(&self.held) {
                let piece = self.held.split_to(at).freeze();
                if !piece.is_empty() {
                    return Ok(Some(piece));
                }
                let _mark = self.held.split_to(self.mark.needle().len());
                self.place = Place::Between;
                return Ok(None);
            }
            // A mark may have begun in the last bytes.
            let sure = (self.held.len() + 1).saturating_sub(self.mark.needle().len());
            if sure > 0 {
                return Ok(Some(self.held.split_to(sure).freeze()));
            }
            self.more().await?;
        }
    }

    /// What stands between a mark and its part's content; `None` after the last mark.
    async fn head(&mut self) -> Result<Option<Bytes>, RequestError> {
        loop {
            if self.held.starts_with(b"--") {
                return Ok(None);
            }
            let looked_at = self.held.get(..LONGEST_HEAD).unwrap_or(self.held.as_ref());
            if let Some(at) = memchr::memmem::find(looked_at, b"\r\n\r\n") {
                return Ok(Some(self.held.split_to(at + 4).freeze()));
            }
            if self.held.len() >= LONGEST_HEAD {
                let message = format!("a part's head is longer than {LONGEST_HEAD} bytes");
                return Err(broken(message));
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<(), RequestError> {
        match self.chunks.next().await {
            Some(Ok(chunk)) => {
                self.held.extend_from_slice(&chunk);
                Ok(())
            }
            Some(Err(error)) => Err(broken(format!("it broke off: {error}"))),
            None => Err(broken("it ends before its last boundary")),
        }
    }
}

fn broken(what: impl std::fmt::Display) -> RequestError {
    let message = format!("the multipart body cannot be read: {what}");
    RequestError::new(ErrorKind::BadInput, message).with_code("invalid_multipart")
}

/// A part's head as what it says of the part. The content's own type is not asked: clients make it up from a file's name.
fn part(head: &[u8]) -> Result<Part, RequestError> {
    let head = std::str::from_utf8(head).map_err(|_| broken("a part's head is not UTF-8"))?;
    let disposition = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_it = name.trim().eq_ignore_ascii_case("content-disposition");
        is_it.then_some(value)
    });
    let nameless = || broken("a part has no `Content-Disposition: form-data; name=\"…\"`");
    let (_, parameters) = disposition
        .and_then(|value| value.split_once(';'))
        .ok_or_else(nameless)?;
    Ok(Part {
        name: parameter(parameters, "name").ok_or_else(nameless)?,
        is_file: parameter(parameters, "filename").is_some()
            || parameter(parameters, "filename*").is_some(),
    })
}

/// The value of a parameter in `a=b; c="d"`.
fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = value(after.trim_start())?;
        // What has no value stands in front of the name.
        let name = name.rsplit(';').next().unwrap_or(name);
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after.split_once(';')?.1;
    }
}

/// A parameter's value, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end)?;
        return Some((value.trim().to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            // Why only these: curl puts a backslash before them, and browsers put none before anything.
            '\\' if quoted.get(at + 1..)?.starts_with(['"', '\\']) => {
                value.extend(characters.next().map(|(_, escaped)| escaped));
            }
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use proptest::prelude::*;

    use super::*;

    type Read = Vec<(Part, Vec<u8>)>;

    /// All parts of a body that comes in pieces of a size.
    fn read(body: &[u8], size: usize) -> Result<Read, RequestError> {
        let chunks: Vec<_> = body
            .chunks(size.max(1))
            .map(|chunk| Ok::<_, Infallible>(Bytes::copy_from_slice(chunk)))
            .collect();
        let mut multipart = Multipart::new(stream::iter(chunks), "xx");
        futures_util::FutureExt::now_or_never(async {
            let mut all = Vec::new();
            while let Some(part) = multipart.next().await? {
                let mut content = Vec::new();
                while let Some(piece) = multipart.piece().await? {
                    content.extend_from_slice(&piece);
                }
                all.push((part, content));
            }
            Ok(all)
        })
        .unwrap()
    }

    fn part_of(name: &str, is_file: bool) -> Part {
        Part {
            name: name.into(),
            is_file,
        }
    }

    const BODY: &[u8] = b"--xx\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\none\r\n--xx  \r\n\
        content-type: audio/wav\r\ncontent-disposition: form-data; filename=\"x;y\\\".wav\"; name=file\r\n\r\n\r\n--x\0\r\r\n-\r\n--xx\r\n\
        Content-Disposition: form-data; name=\"e\"\r\n\r\n\r\n--xx--\r\nepilogue";

    #[test]
    fn wherever_a_body_is_cut_its_parts_are_the_same() {
        for size in 1..BODY.len() {
            let parts = read(BODY, size).unwrap();
            assert_eq!(
                parts,
                [
                    (part_of("a", false), b"one".to_vec()),
                    (part_of("file", true), b"\r\n--x\0\r\r\n-".to_vec()),
                    (part_of("e", false), Vec::new()),
                ],
                "{size}"
            );
        }
    }

    #[test]
    fn what_is_not_read_of_a_part_is_skipped() {
        let chunks = [Ok::<_, Infallible>(Bytes::from_static(BODY))];
        let mut multipart = Multipart::new(stream::iter(chunks), "xx");
        let names = futures_util::FutureExt::now_or_never(async {
            let mut names = Vec::new();
            while let Some(part) = multipart.next().await.unwrap() {
                names.push(part.name);
            }
            names
        });
        assert_eq!(names.unwrap(), ["a", "file", "e"]);
    }

    #[test]
    fn a_body_that_is_broken_says_how() {
        let said = |body: &[u8]| read(body, 7).unwrap_err().message;
        assert!(said(b"").ends_with("it ends before its last boundary"));
        assert!(said(&BODY[..BODY.len() - 12]).ends_with("it ends before its last boundary"));
        assert!(said(&[b'x'; 20_000]).ends_with("it does not begin with its boundary"));
        let long = [b"--xx\r\nX: ".as_slice(), &[b'x'; 20_000]].concat();
        assert!(said(&long).ends_with("a part's head is longer than 8192 bytes"));
        assert!(said(b"--xx\r\n\r\n\r\n--xx--").contains("Content-Disposition"));
        assert!(said(b"--xx\r\nContent-Disposition: form-data; name=\"a\r\n\r\n").contains("name"));
    }

    #[test]
    fn the_boundary_is_read_as_clients_write_it() {
        let of = |text: &str| boundary(text).map(|found| found.ok());
        let is = |text: &str| Some(Some(text.to_owned()));
        assert_eq!(of("multipart/form-data; boundary=abc"), is("abc"));
        assert_eq!(
            of("Multipart/Form-Data; charset=utf-8; Boundary=\"a;b c\""),
            is("a;b c")
        );
        assert_eq!(of("multipart/form-data"), Some(None));
        assert_eq!(of("multipart/form-data; boundary="), Some(None));
        assert_eq!(of("application/json"), None);
        assert_eq!(of("multipart/mixed; boundary=a"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_content_comes_back_however_it_is_cut(
            contents in prop::collection::vec("[-x\r\n]{0,12}", 1..4), size in 1usize..40
        ) {
            // Whatever looks like the boundary would end a part; no client writes one that is in its content.
            prop_assume!(contents.iter().all(|text| !format!("\r\n{text}\r\n").contains("\r\n--xx")));
            let mut body = Vec::new();
            for text in &contents {
                body.extend_from_slice(b"--xx\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n");
                body.extend_from_slice(text.as_bytes());
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"--xx--\r\n");
            let read = read(&body, size).unwrap();
            let read: Vec<_> = read.into_iter().map(|(_, content)| content).collect();
            prop_assert_eq!(read, contents.into_iter().map(String::into_bytes).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), size in 1usize..40) {
            let mut body = BODY.to_vec();
            let at = at.index(body.len());
            body.splice(at..at, bytes);
            if let Err(error) = read(&body, size) {
                prop_assert!(!error.message.is_empty());
            }
        }
    }
}
