//! What a kernel may ask of an instruction set: a vector of f32 lanes, and loads that widen the stored dtypes into it.
//! Apart from the implementations so that kernels read as one text and the intrinsics stay in three small files.

use super::blocks::Codes;
use crate::error::{NnError, Result};
use crate::weights::{HostTensor, QuantType, StoredType};
use candle_core::DType;

/// A vector of f32 lanes.
///
/// Every method is unsafe for the same reason: the machine must have the instruction set (that is checked once, where a
/// kernel is dispatched), and a pointer must be good for `WIDTH` elements. No pointer needs to be aligned.
pub(crate) trait Lanes: Copy + 'static {
    /// The register.
    type Vector: Copy;
    /// Whole numbers on their way to f32.
    type Codes: Codes<Self::Vector>;
    /// Lanes in a register.
    const WIDTH: usize;
    /// Rows of the weight matrix in a tile, 8 or 4: as many accumulators as the register file has room for.
    const TILE_ROWS: usize;
    /// Rows of x in a tile of outer products, a multiple of three, not more than lanes: two registers of accumulators each.
    const X_ROWS: usize;

    unsafe fn splat(value: f32) -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    unsafe fn load_f16(from: *const u8) -> Self::Vector;
    unsafe fn load_bf16(from: *const u8) -> Self::Vector;
    unsafe fn store(to: *mut f32, v: Self::Vector);

    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn div(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// a·b + c, rounded once where the instruction set can.
    unsafe fn mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    unsafe fn max(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn min(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// To the nearest whole number, halves to even.
    unsafe fn round(v: Self::Vector) -> Self::Vector;
    /// 2^v for whole v in -126..=127.
    unsafe fn power_of_two(v: Self::Vector) -> Self::Vector;
    /// v where `test >= floor`, zero elsewhere.
    unsafe fn zero_below(v: Self::Vector, test: Self::Vector, floor: f32) -> Self::Vector;

    /// Asks for the cache line at `address` ahead of time, into L1; harmless where there is none.
    #[inline(always)]
    fn prefetch(_address: *const u8) {}

    /// The same into L2, for what is needed later and would push out of L1 what is needed now.
    #[inline(always)]
    fn prefetch_far(_address: *const u8) {}

    /// The sum of the lanes, halving: lane i with lane i + WIDTH/2, and so on down.
    unsafe fn sum(v: Self::Vector) -> f32;
    /// The largest lane.
    unsafe fn max_lane(v: Self::Vector) -> f32;

    /// The sums of the lanes of each of R vectors: lanes 0 to 3, one after the other, then 4 to 7 among themselves and to
    /// what there is, and so on. It is the order of the matrix product, which adds up whole registers of outputs so.
    #[inline(always)]
    unsafe fn sum_each<const R: usize>(v: [Self::Vector; R]) -> [f32; R] {
        std::array::from_fn(|r| {
            let mut lanes = [0.0f32; 16];
            // SAFETY: the caller's promise; the widest vector has 16 lanes.
            unsafe { Self::store(lanes.as_mut_ptr(), v[r]) };
            let four = |i: usize| ((lanes[i] + lanes[i + 1]) + lanes[i + 2]) + lanes[i + 3];
            (4..Self::WIDTH)
                .step_by(4)
                .fold(four(0), |sum, i| sum + four(i))
        })
    }

    /// Makes of the first `WIDTH` vectors as many others: the i-th of them their lanes i, in their order. An array and no
    /// closures, since those are not inlined this deep, and what is not inlined has no instruction set.
    #[inline(always)]
    unsafe fn transpose(v: &mut [Self::Vector; 16]) {
        let (mut rows, mut lane) = ([0.0f32; 16 * 16], [0.0f32; 16]);
        // SAFETY: the caller's promise; the widest vector has 16 lanes.
        unsafe {
            for r in 0..Self::WIDTH {
                Self::store(rows.as_mut_ptr().add(r * Self::WIDTH), v[r]);
            }
            for i in 0..Self::WIDTH {
                for r in 0..Self::WIDTH {
                    lane[r] = rows[r * Self::WIDTH + i];
                }
                v[i] = Self::load(lane.as_ptr());
            }
        }
    }

    /// Lanes 0, 2, 4 … of `a`, then lanes 1, 3, 5 … of `b`: every second number of a row, of which `b` starts `WIDTH - 1` after `a`.
    #[inline(always)]
    unsafe fn every_second(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        let mut lanes = [0.0f32; 16 * 2];
        // SAFETY: the caller's promise; the widest vector has 16 lanes.
        unsafe {
            Self::store(lanes.as_mut_ptr(), a);
            Self::store(lanes.as_mut_ptr().add(Self::WIDTH), b);
            for lane in 0..Self::WIDTH {
                let past = usize::from(lane >= Self::WIDTH / 2);
                lanes[lane] = lanes[2 * lane + past];
            }
            Self::load(lanes.as_ptr())
        }
    }

    /// Lanes 0 of `a` and `b`, lanes 1, and so on, in two vectors.
    #[inline(always)]
    unsafe fn interleave(a: Self::Vector, b: Self::Vector) -> (Self::Vector, Self::Vector) {
        let (mut from, mut to) = ([0.0f32; 16 * 2], [0.0f32; 16 * 2]);
        // SAFETY: the caller's promise; the widest vector has 16 lanes.
        unsafe {
            Self::store(from.as_mut_ptr(), a);
            Self::store(from.as_mut_ptr().add(Self::WIDTH), b);
            for lane in 0..Self::WIDTH {
                to[2 * lane] = from[lane];
                to[2 * lane + 1] = from[Self::WIDTH + lane];
            }
            (
                Self::load(to.as_ptr()),
                Self::load(to.as_ptr().add(Self::WIDTH)),
            )
        }
    }
}

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredAs {
    F32,
    F16,
    Bf16,
    Quant(QuantType),
}

impl StoredAs {
    /// How a tensor's elements are stored.
    ///
    /// # Errors
    /// [`NnError::DType`] for what the kernels do not read.
    pub(crate) fn of_tensor(tensor: &HostTensor) -> Result<Self> {
        match tensor.stored() {
            StoredType::Plain(DType::F32) => Ok(Self::F32),
            StoredType::Plain(DType::F16) => Ok(Self::F16),
            StoredType::Plain(DType::BF16) => Ok(Self::Bf16),
            StoredType::Quant(kind) => Ok(Self::Quant(kind)),
            other => Err(NnError::DType {
                name: tensor.name().to_owned(),
                found: other.name().to_owned(),
            }),
        }
    }

    /// Bytes of a row of `columns` numbers; of a quantised one, which is whole blocks, `usize::MAX` when it is none.
    pub(crate) fn row_bytes(self, columns: usize) -> usize {
        match self {
            Self::F32 => 4 * columns,
            Self::F16 | Self::Bf16 => 2 * columns,
            Self::Quant(kind) => kind.byte_len(columns).unwrap_or(usize::MAX),
        }
    }
}

/// [`StoredAs`] as a type, for kernels that are compiled once per dtype.
pub(crate) trait Stored: Copy + 'static {
    /// Bytes of an element.
    const BYTES: usize;

    /// Loads and widens `L::WIDTH` elements.
    ///
    /// # Safety
    /// As for [`Lanes`].
    unsafe fn load<L: Lanes>(from: *const u8) -> L::Vector;

    /// Loads and widens `count < L::WIDTH` elements; the other lanes are zero.
    ///
    /// # Safety
    /// As for [`Lanes`], with `from` good for `count` elements.
    #[inline(always)]
    unsafe fn load_partial<L: Lanes>(from: *const u8, count: usize) -> L::Vector {
        let mut padded = [0u8; 64];
        // SAFETY: `count` elements of at most 4 bytes, fewer than the 16 lanes of the widest vector, fit 64 bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(from, padded.as_mut_ptr(), count * Self::BYTES);
            Self::load::<L>(padded.as_ptr())
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct F32;
#[derive(Clone, Copy)]
pub(crate) struct F16;
#[derive(Clone, Copy)]
pub(crate) struct Bf16;

impl Stored for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u8) -> L::Vector {
        // SAFETY: the caller's promise.
        unsafe { L::load(from.cast()) }
    }
}

impl Stored for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u8) -> L::Vector {
        // SAFETY: the caller's promise.
        unsafe { L::load_f16(from) }
    }
}

impl Stored for Bf16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u8) -> L::Vector {
        // SAFETY: the caller's promise.
        unsafe { L::load_bf16(from) }
    }
}
