//! Whose turn it is. What waits longest goes first, and takes with it whatever can go in the same pass: requests of different sizes take
//! turns, none waits for another's end, and one that joins late is in the very next pass.

use super::drawing::{Drawing, Expert, ImagePrepared, Stage};

/// A picture: the place of its request among those that run, and its own within it.
pub(super) type Place = (usize, usize);

/// A piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    /// The prompts of a request are read, or a piece of them.
    Read(usize),
    /// A piece of the pictures that a request brought is encoded.
    Encode(usize),
    /// These pictures go a step on together.
    Denoise(Vec<Place>),
    /// A piece of a picture is decoded.
    Decode(Place),
    /// The safety checker looks at a picture.
    Check(Place),
    /// What is there of a picture is decoded.
    Preview(Place),
}

/// What pictures must have alike to share a pass: the latents' shape, the expert, and the length of the text that it attends to.
type Shape = ([usize; 3], Expert, usize);

fn shape(request: &ImagePrepared, drawing: &Drawing) -> Shape {
    let expert = drawing.expert();
    let reading = request.asked.readings.get(expert as usize);
    let length = reading.map_or(0, |reading| reading.length);
    (request.asked.latent, expert, length)
}

/// The next piece of work among requests that are not cancelled; `rows` is what one pass takes of pictures of a request's size.
pub(super) fn next(
    requests: &[(usize, &ImagePrepared)],
    rows: &dyn Fn(&ImagePrepared) -> usize,
) -> Option<Turn> {
    // A text is read in a hundredth of a step's time and lets its request join the others. What T5 has begun waits for its turns, and
    // others wait to be begun: what it keeps on its way is large.
    let unread = |request: &ImagePrepared| !request.is_read() && !request.is_done();
    let place_of = |is: &dyn Fn(&ImagePrepared) -> bool| {
        let found = requests.iter().find(|(_, request)| is(request));
        found.map(|(at, _)| *at)
    };
    let begun = place_of(&|request| request.encoding.is_some());
    if let (None, Some(at)) = (begun, place_of(&unread)) {
        return Some(Turn::Read(at));
    }
    let pictures = requests.iter().flat_map(|(at, request)| {
        let drawings = request.drawings.iter().enumerate();
        drawings.map(move |(index, drawing)| ((*at, index), *request, drawing))
    });
    let mut waiting: Vec<Waiting<'_>> = pictures
        .filter(|(.., drawing)| !drawing.is_done())
        .collect();
    waiting.sort_by_key(|(.., drawing)| drawing.turn);
    let (place, request, drawing) = *waiting.first()?;
    if unread(request) {
        return Some(Turn::Read(begun.unwrap_or(place.0)));
    }
    if drawing.preview.is_some() {
        return Some(Turn::Preview(place));
    }
    match drawing.stage {
        // Who was suspended has lost what lay on the device.
        Stage::New | Stage::Denoising if !request.is_encoded() => Some(Turn::Encode(place.0)),
        Stage::Decoding(_) => Some(Turn::Decode(place)),
        Stage::Checking(_) => Some(Turn::Check(place)),
        Stage::New | Stage::Denoising | Stage::Done => Some(Turn::Denoise(together(
            &waiting,
            shape(request, drawing),
            rows(request),
        ))),
    }
}

/// A picture that is not finished.
type Waiting<'a> = (Place, &'a ImagePrepared, &'a Drawing);

/// Pictures of a shape that go a step on in one pass of so many rows, the longest waiting first.
fn together(waiting: &[Waiting<'_>], wanted: Shape, rows: usize) -> Vec<Place> {
    let (mut together, mut held) = (Vec::new(), 0);
    for (place, request, drawing) in waiting {
        let ready = match drawing.stage {
            Stage::New => request.is_encoded(),
            Stage::Denoising => drawing.preview.is_none() && request.is_encoded(),
            Stage::Decoding(_) | Stage::Checking(_) | Stage::Done => false,
        };
        if !ready || !request.is_read() || shape(request, drawing) != wanted {
            continue;
        }
        held += request.rows_each();
        if held > rows && !together.is_empty() {
            break;
        }
        together.push(*place);
    }
    together
}
