//! The launches of `chandler_layers.cu`. Pure arithmetic.

use candle_core::DType;

use super::work::{Argument, Launch, Work, suffix};
use crate::activation::Activation;

/// Threads of a block, `THREADS` there.
const THREADS: usize = 256;
/// Thread blocks for what can be cut anywhere: a thread goes on in steps of all threads.
const MOST_BLOCKS: usize = 4096;
/// Fewer numbers of a group than this are not worth a thread block of their own.
const PART: usize = 4096;
const MOST_PARTS: usize = 64;
/// Rows up to this long are a warp's, eight a thread block: those of queries and keys are of 64 or 128 numbers.
const SHORT_ROW: usize = 1024;
/// Bytes for a sum of each warp.
const SUMS: usize = THREADS / 32 * size_of::<f32>();

/// Rows whose heads are turned by pairs.
pub(crate) struct Pairs {
    pub rows: usize,
    pub heads: usize,
    pub head_dim: usize,
    /// Numbers of a head that are turned; the others stay.
    pub rotary: usize,
    /// Whether the numbers of a pair are neighbours, and not half of `rotary` apart.
    pub interleaved: bool,
}

/// Rows that are normed.
pub(crate) struct Rows {
    pub rows: usize,
    pub width: usize,
    pub eps: f32,
    /// LayerNorm, and not RMSNorm.
    pub centred: bool,
    /// Whether something is added first.
    pub residual: bool,
    pub bias: bool,
}

impl Rows {
    /// Where in the output the normed rows begin: after the sums, at a multiple of 16 bytes.
    pub(crate) fn normed_at(&self, dtype: DType) -> usize {
        match self.residual {
            true => (self.rows * self.width).next_multiple_of(16 / dtype.size_in_bytes()),
            false => 0,
        }
    }
}

/// Pictures whose channels are normed in groups.
pub(crate) struct Picture {
    pub batch: usize,
    pub channels: usize,
    /// Height times width.
    pub plane: usize,
    /// How many; they divide the channels.
    pub groups: usize,
    pub eps: f32,
    pub activation: Option<Activation>,
}

/// As the kernels number them.
fn curve(activation: Option<Activation>) -> u32 {
    match activation {
        None => 0,
        Some(Activation::Silu) => 1,
        Some(Activation::Gelu) => 2,
        Some(Activation::GeluTanh) => 3,
        Some(Activation::QuickGelu) => 4,
        Some(Activation::Relu) => 5,
    }
}

fn name(kernel: &str, dtype: DType) -> String {
    format!("{kernel}_{}", suffix(dtype).unwrap_or("of no dtype"))
}

/// Over `count` things, a thread each as long as there are thread blocks.
fn over(count: usize, kernel: String, arguments: Vec<Argument>) -> Launch {
    Launch {
        kernel,
        grid: [count.div_ceil(THREADS).clamp(1, MOST_BLOCKS) as u32, 1, 1],
        threads: THREADS as u32,
        shared: 0,
        arguments,
    }
}

fn buffers(count: usize) -> Vec<Argument> {
    (0..count)
        .map(|buffer| Argument::Buffer(buffer, 0))
        .collect()
}

/// Of x, the residual if there is one, the weight, and the bias if there is one, the last two of dtype `gain`; the output is the sums
/// if there are any, and then, as [`Rows::normed_at`] says, the normed rows. None for dtypes or a width that there is no kernel for.
pub(crate) fn norm(dtype: DType, gain: DType, rows: &Rows) -> Option<Work> {
    let width = u32::try_from(rows.width).ok()?;
    let (name, gain_name) = (suffix(dtype)?, suffix(gain)?);
    if gain != dtype && gain != DType::F32 {
        return None;
    }
    let count = rows.rows * rows.width;
    let weight = 1 + usize::from(rows.residual);
    let out = weight + 1 + usize::from(rows.bias);
    let given = |there: bool, buffer, bytes| match there {
        true => Argument::Buffer(buffer, bytes),
        false => Argument::U64(0),
    };
    let normed = rows.normed_at(dtype);
    let all = u32::try_from(rows.rows).ok()?;
    let (blocks, by_warp) = match rows.width <= SHORT_ROW {
        true => (all.div_ceil(THREADS as u32 / 32), all),
        false => (all, 0),
    };
    let launch = Launch {
        kernel: format!("norm_{name}_{gain_name}"),
        grid: [blocks, 1, 1],
        threads: THREADS as u32,
        shared: SUMS as u32,
        arguments: vec![
            Argument::Buffer(0, 0),
            given(rows.residual, 1, 0),
            Argument::Buffer(weight, 0),
            given(rows.bias, weight + 1, 0),
            given(rows.residual, out, 0),
            Argument::Buffer(out, normed * dtype.size_in_bytes()),
            Argument::U32(width),
            Argument::F32(rows.eps),
            Argument::U32(rows.centred.into()),
            Argument::U32(by_warp),
        ],
    };
    Some(Work {
        launches: vec![launch],
        output: Some(normed + count),
        ..Work::default()
    })
}

/// Of gate and up, of `count` numbers each.
pub(crate) fn gated(dtype: DType, activation: Activation, count: usize) -> Work {
    let mut arguments = buffers(3);
    arguments.extend([
        Argument::U64(count as u64),
        Argument::U32(curve(Some(activation))),
    ]);
    let each = 16 / dtype.size_in_bytes();
    Work {
        launches: vec![over(count.div_ceil(each), name("gated", dtype), arguments)],
        output: Some(count),
        ..Work::default()
    }
}

/// Of x, cosines and sines; none for more rows than a grid has.
pub(crate) fn rotate(dtype: DType, pairs: &Pairs) -> Option<Work> {
    let mut arguments = buffers(4);
    let sizes = [pairs.heads, pairs.head_dim, pairs.rotary];
    arguments.extend(sizes.map(|size| Argument::U32(size as u32)));
    arguments.push(Argument::U32(pairs.interleaved.into()));
    let of_row = pairs.heads * pairs.head_dim;
    let launch = Launch {
        kernel: name("rotate", dtype),
        grid: [
            i32::try_from(pairs.rows).ok()?.unsigned_abs(),
            (of_row / 2).div_ceil(THREADS).clamp(1, MOST_PARTS) as u32,
            1,
        ],
        threads: THREADS as u32,
        shared: 0,
        arguments,
    };
    Some(Work {
        launches: vec![launch],
        output: Some(pairs.rows * of_row),
        ..Work::default()
    })
}

/// What is added to planes [batch, channels, ...]: a number a channel, numbers of the same shape, or both.
pub(crate) struct Planes {
    pub count: usize,
    pub channels: usize,
    /// Numbers of a plane.
    pub plane: usize,
    pub bias: bool,
    pub residual: bool,
}

/// Of the bias or else the residual, the planes that they are added to, and the residual where there are both. None where there is
/// neither, and for more numbers than 32 bits count.
pub(crate) fn add_to_planes(dtype: DType, planes: &Planes) -> Option<Work> {
    let buffer = |there, buffer| match there {
        true => Argument::Buffer(buffer, 0),
        false => Argument::U64(0),
    };
    if !planes.bias && !planes.residual {
        return None;
    }
    let count = u32::try_from(planes.count).ok()?;
    let arguments = vec![
        buffer(true, 1),
        buffer(planes.bias, 0),
        buffer(planes.residual, if planes.bias { 2 } else { 0 }),
        Argument::U64(count.into()),
        Argument::U32(planes.channels as u32),
        Argument::U32(planes.plane as u32),
    ];
    let each = 16 / dtype.size_in_bytes();
    let launch = over(
        planes.count.div_ceil(each),
        name("add_to_planes", dtype),
        arguments,
    );
    Some(Work {
        launches: vec![launch],
        ..Work::default()
    })
}

/// Of the new rows and the cache, rows of so many bytes: an even number.
pub(crate) fn into_slots(slots: &[u32], bytes: usize) -> Work {
    let unit = if bytes.is_multiple_of(16) { 16 } else { 2 };
    let units = bytes / unit;
    let mut arguments = buffers(3);
    arguments.extend([
        Argument::U32(slots.len() as u32),
        Argument::U32(units as u32),
    ]);
    Work {
        launches: vec![over(
            slots.len() * units,
            format!("into_slots_{unit}"),
            arguments,
        )],
        numbers: slots.to_vec(),
        ..Work::default()
    }
}

/// Of x, weight and bias, all of one dtype; none for groups that 32 bits do not count.
pub(crate) fn group_norm(dtype: DType, picture: &Picture, multiprocessors: usize) -> Option<Work> {
    let count = picture.channels / picture.groups * picture.plane;
    let plane = u32::try_from(picture.plane).ok()?;
    u32::try_from(count).ok().filter(|count| *count > 0)?;
    let groups = picture.batch * picture.groups;
    let wanted = (4 * multiprocessors).div_ceil(groups.max(1));
    let parts = wanted.clamp(1, count.div_ceil(PART).min(MOST_PARTS));
    // Parts begin where 16 bytes do, as far as groups do.
    let part = count
        .div_ceil(parts)
        .next_multiple_of(16 / dtype.size_in_bytes());
    let parts = count.div_ceil(part);
    let launch = |kernel: &str, shared: usize, arguments: Vec<Argument>| Launch {
        kernel: name(kernel, dtype),
        grid: [groups as u32, parts as u32, 1],
        threads: THREADS as u32,
        shared: shared as u32,
        arguments,
    };
    let (x, weight, bias, out, sums) = (0, 1, 2, 3, 4);
    let buffer = |buffer| Argument::Buffer(buffer, 0);
    let sizes = [Argument::U64(count as u64), Argument::U64(part as u64)];
    let mut first = vec![buffer(x), buffer(sums)];
    first.extend(sizes);
    let mut second = [x, sums, weight, bias, out].map(buffer).to_vec();
    second.extend(sizes);
    second.extend([
        Argument::U32(plane),
        Argument::U32(picture.groups as u32),
        Argument::F32(picture.eps),
        Argument::U32(curve(picture.activation)),
    ]);
    Some(Work {
        launches: vec![
            launch("group_sums", SUMS, first),
            launch("group_norm", 0, second),
        ],
        output: Some(groups * count),
        scratch: vec![2 * groups * parts],
        ..Work::default()
    })
}
