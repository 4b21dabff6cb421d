//! Whose turn it is. What waits longest goes first, and takes with it whatever can go in the same pass: requests of different sizes take
//! turns, none waits for another's end, and one that joins late is in the very next pass.

use super::drawing::{ImagePrepared, Stage};

/// A picture: the place of its request among those that run, and its own within it.
pub(super) type Place = (usize, usize);

/// A piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    /// The prompts of a request are read.
    Read(usize),
    /// A piece of the picture that a request begins with is encoded.
    Encode(usize),
    /// These pictures go a step on together.
    Denoise(Vec<Place>),
    /// A piece of a picture is decoded.
    Decode(Place),
    /// What is there of a picture is decoded.
    Preview(Place),
}

/// What pictures must have alike to share a pass: the latents' shape and the length of the text.
fn shape(request: &ImagePrepared) -> ([usize; 3], usize) {
    (request.asked.latent, request.asked.reading.length())
}

/// The next piece of work among requests that are not cancelled; `rows` is what one pass takes of pictures of a request's size.
pub(super) fn next(
    requests: &[(usize, &ImagePrepared)],
    rows: &dyn Fn(&ImagePrepared) -> usize,
) -> Option<Turn> {
    // Text is read in a hundredth of a step's time and lets its request join the others.
    if let Some((at, _)) = requests
        .iter()
        .find(|(_, r)| r.conditions.is_none() && !r.is_done())
    {
        return Some(Turn::Read(*at));
    }
    let pictures = requests.iter().flat_map(|(at, request)| {
        let drawings = request.drawings.iter().enumerate();
        drawings.map(move |(index, drawing)| ((*at, index), *request, drawing))
    });
    let mut waiting: Vec<_> = pictures
        .filter(|(.., drawing)| !drawing.is_done())
        .collect();
    waiting.sort_by_key(|(.., drawing)| drawing.turn);
    let (place, request, drawing) = waiting.first()?;
    if drawing.preview.is_some() {
        return Some(Turn::Preview(*place));
    }
    match drawing.stage {
        Stage::New
            if request
                .start
                .as_ref()
                .is_some_and(|start| !start.is_encoded()) =>
        {
            return Some(Turn::Encode(place.0));
        }
        Stage::Decoding(_) => return Some(Turn::Decode(*place)),
        Stage::New | Stage::Denoising | Stage::Done => {}
    }
    let (wanted, rows) = (shape(request), rows(request));
    let (mut together, mut held) = (Vec::new(), 0);
    for (place, request, drawing) in &waiting {
        let ready = match drawing.stage {
            Stage::New => request
                .start
                .as_ref()
                .is_none_or(|start| start.is_encoded()),
            Stage::Denoising => drawing.preview.is_none(),
            Stage::Decoding(_) | Stage::Done => false,
        };
        if !ready || shape(request) != wanted {
            continue;
        }
        held += request.rows_each();
        if held > rows && !together.is_empty() {
            break;
        }
        together.push(*place);
    }
    Some(Turn::Denoise(together))
}
