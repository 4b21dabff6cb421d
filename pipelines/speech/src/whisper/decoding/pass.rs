//! One decoder pass put together from the rows of many windows, and taken apart again.
//! Apart from the batch so that what lies where in a pass is known in one place.

use std::ops::Range;

use candle_core::{DType, Tensor};
use chandler_nn::attention::Span;

use super::device_scores;
use super::rows::Rows;
use super::search::Likeliest;
use crate::error::Result;
use crate::whisper::caches::Caches;
use crate::whisper::decoder::{Decoder, Pass, Probe};

/// A window whose rows are in a pass.
pub(super) struct Member<'a> {
    /// Its block of the cross-attention cache.
    pub(super) block: u32,
    /// How many rows it takes.
    pub(super) count: usize,
    pub(super) rows: &'a mut Rows,
}

/// What passes run on.
pub(super) struct Machine<'a> {
    pub(super) decoder: &'a Decoder,
    /// Layers and heads whose attention is taken down for those who ask.
    pub(super) heads: &'a [(usize, usize)],
    /// Whether likeliest tokens are found where the logits are, so that they need not come to the host.
    pub(super) on_device: bool,
}

/// What a pass gave one of its members.
pub(super) struct Share {
    /// Logits of its wanted rows; none where their likeliest tokens are all that is wanted.
    pub(super) logits: Vec<f32>,
    /// Those.
    pub(super) likeliest: Option<Vec<Likeliest>>,
    /// For each head that was probed for it, scores of its rows.
    pub(super) scores: Vec<Vec<f32>>,
}

/// Where things are in a pass.
#[derive(Default)]
struct Layout {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    slots: Vec<u32>,
    wanted: Vec<u32>,
    /// Each member's rows, and how many of them are wanted.
    members: Vec<(Range<usize>, usize)>,
}

/// Runs the rows of all members through the decoder.
pub(super) fn run(
    machine: &Machine<'_>,
    caches: &mut Caches,
    members: &mut [Member<'_>],
) -> Result<Vec<Share>> {
    let layout = lay_out(caches, members)?;
    let blocks: Vec<u32> = members.iter().map(|member| member.block).collect();
    let sequences = sequences(members, &layout);
    let seen = caches.cross.shape().block_size;
    let windows: Vec<Span<'_>> = blocks
        .chunks(1)
        .zip(&layout.members)
        .map(|(blocks, (rows, _))| Span {
            rows: rows.clone(),
            context: seen,
            blocks,
        })
        .collect();
    let mut probes: Vec<Probe<'_>> = Vec::new();
    let mut probe_of = Vec::new();
    for (member, window) in members.iter().zip(&windows) {
        probe_of.push(member.rows.probed().map(|positions| {
            let span = Span {
                context: positions.clamp(1, seen),
                ..window.clone()
            };
            probes.push(Probe::new(machine.heads, span));
            probes.len() - 1
        }));
    }
    let pass = Pass {
        tokens: &layout.tokens,
        positions: &layout.positions,
        slots: &layout.slots,
        sequences: &sequences,
        windows: &windows,
        wanted: &layout.wanted,
    };
    let logits = machine.decoder.forward(&pass, caches, &mut probes)?;
    let scores = probe_of
        .into_iter()
        .map(|index| match index.and_then(|index| probes.get(index)) {
            Some(probe) => numbers_of(&probe.scores),
            None => Ok(Vec::new()),
        })
        .collect::<Result<Vec<_>>>()?;
    let likeliest = match machine.on_device {
        true => likeliest(&logits, &layout, members)?,
        false => members.iter().map(|_| None).collect(),
    };
    share(&logits, &layout, likeliest.into_iter().zip(scores))
}

/// Gives every row its slot, and lists the rows.
fn lay_out(caches: &mut Caches, members: &mut [Member<'_>]) -> Result<Layout> {
    let mut layout = Layout::default();
    for member in members {
        let first = layout.tokens.len();
        let wanted = member.rows.wanted(member.count);
        for (tokens, table) in member.rows.tokens_and_tables(member.count) {
            let start = table.len();
            layout.slots.extend(caches.append(table, tokens.len())?);
            let positions = (start..start + tokens.len()).map(|position| position as u32);
            layout.positions.extend(positions);
            layout.tokens.extend(tokens);
        }
        layout
            .wanted
            .extend(wanted.iter().map(|row| (first + row) as u32));
        layout
            .members
            .push((first..layout.tokens.len(), wanted.len()));
    }
    Ok(layout)
}

/// The sequences of all members, in the order of their rows: a table with several rows is a prompt, else each row has its own.
fn sequences<'a>(members: &'a [Member<'_>], layout: &Layout) -> Vec<Span<'a>> {
    let mut spans = Vec::new();
    for (member, (rows, _)) in members.iter().zip(&layout.members) {
        let tables = member.rows.tables();
        let each = rows.len() / tables.len().max(1);
        for (index, table) in tables.iter().enumerate() {
            let start = rows.start + index * each;
            spans.push(Span {
                rows: start..start + each,
                context: table.len(),
                blocks: table.blocks(),
            });
        }
    }
    spans
}

fn numbers_of(scores: &[Option<Tensor>]) -> Result<Vec<Vec<f32>>> {
    scores
        .iter()
        .map(|scores| match scores {
            Some(scores) => Ok(scores.flatten_all()?.to_vec1()?),
            None => Ok(Vec::new()),
        })
        .collect()
}

/// The likeliest tokens of those members that want nothing else, found in one go where the logits are.
fn likeliest(
    logits: &Tensor,
    layout: &Layout,
    members: &mut [Member<'_>],
) -> Result<Vec<Option<Vec<Likeliest>>>> {
    let (_, vocab) = logits.dims2()?;
    let (mut rows, mut allowed, mut masks, mut counts) = (vec![], vec![], vec![], vec![]);
    let mut first = 0u32;
    for (member, (_, wanted)) in members.iter_mut().zip(&layout.members) {
        let asked = member.rows.only_likeliest(vocab, logits.device())?;
        counts.push(asked.as_ref().map(|asked| asked.allowed.len()));
        if let Some(asked) = asked {
            rows.extend(first..first + asked.allowed.len() as u32);
            masks.extend(asked.allowed.iter().map(|_| asked.forbidden.clone()));
            allowed.extend(asked.allowed);
        }
        first += *wanted as u32;
    }
    if rows.is_empty() {
        return Ok(counts.iter().map(|_| None).collect());
    }
    let chosen = logits.index_select(&Tensor::new(rows.as_slice(), logits.device())?, 0)?;
    let mut found = device_scores::likeliest(&chosen, &allowed, &masks)?.into_iter();
    let of = |count: Option<usize>| count.map(|count| found.by_ref().take(count).collect());
    Ok(counts.into_iter().map(of).collect())
}

fn share(
    logits: &Tensor,
    layout: &Layout,
    found: impl Iterator<Item = (Option<Vec<Likeliest>>, Vec<Vec<f32>>)>,
) -> Result<Vec<Share>> {
    let mut first = 0;
    let mut shares = Vec::with_capacity(layout.members.len());
    for ((_, wanted), (likeliest, scores)) in layout.members.iter().zip(found) {
        let rows = match likeliest {
            Some(_) => 0,
            None => *wanted,
        };
        let part = logits.narrow(0, first, rows)?;
        shares.push(Share {
            logits: part.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?,
            likeliest,
            scores,
        });
        first += wanted;
    }
    Ok(shares)
}
