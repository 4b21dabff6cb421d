//! The block formats, as `ggml-common.h` lays them out and `weights/dequantize.rs` reads them one number at a time.
//!
//! Every product is exact in f32 (see there), so that a multiply-add and a multiplication followed by an addition give the
//! same bits, and these numbers are the plain ones. Codes of four bits are looked up in a table of their sixteen values;
//! longer ones are put together to bytes when a unit is opened, in plain loops that the compiler turns into vectors.

use super::codes::Codes;
use super::{Format, OFFSETS, Open, UNIT};
use crate::kernels::lanes::Lanes;
use crate::weights::QuantType;

#[derive(Clone, Copy)]
pub(super) struct Q4_0;
#[derive(Clone, Copy)]
pub(super) struct Q4_1;
#[derive(Clone, Copy)]
pub(super) struct Q5_0;
#[derive(Clone, Copy)]
pub(super) struct Q5_1;
#[derive(Clone, Copy)]
pub(super) struct Q8_0;
#[derive(Clone, Copy)]
pub(super) struct Q4K;
#[derive(Clone, Copy)]
pub(super) struct Q5K;
#[derive(Clone, Copy)]
pub(super) struct Q6K;

#[inline(always)]
unsafe fn read<T: Copy>(from: *const u8) -> T {
    // SAFETY: the caller's promise: bytes of a plain number or of an array of such.
    unsafe { from.cast::<T>().read_unaligned() }
}

/// The f16 at the same place of every block of a unit, to `to`.
#[inline(always)]
unsafe fn widen_scales<L: Lanes>(first: *const u8, block_bytes: usize, len: usize, to: *mut f32) {
    let blocks = len / 32;
    // SAFETY: the caller's promise: so many blocks are there; `to` has room for eight.
    unsafe {
        let halves: [u16; 8] = if blocks == 8 {
            std::array::from_fn(|i| read(first.add(i * block_bytes)))
        } else {
            let last = blocks.saturating_sub(1);
            std::array::from_fn(|i| read(first.add(i.min(last) * block_bytes)))
        };
        L::Codes::widen_8(halves, to);
    }
}

/// What finds the values of codes of four bits.
type Table<L> = <<L as Lanes>::Codes as Codes<<L as Lanes>::Vector>>::Table;

/// A vector of the 32 codes of four bits in 16 bytes: the low halves first.
#[inline(always)]
unsafe fn of_16_bytes<L: Lanes>(from: *const u8, i: usize) -> L::Codes {
    let half = 16 / L::WIDTH;
    // SAFETY: the caller's promise.
    unsafe { L::Codes::load_u8(from.add(i % half * L::WIDTH)).half(i >= half) }
}

/// 32 codes of five bits, with their factor and what is added.
#[derive(Clone, Copy)]
pub(super) struct FiveBits {
    high: u32,
    low: *const u8,
    scale: f32,
    offset: f32,
}

impl FiveBits {
    #[inline(always)]
    unsafe fn vector<L: Lanes>(&self, i: usize) -> L::Vector {
        // SAFETY: the caller's promise.
        unsafe {
            let codes = of_16_bytes::<L>(self.low, i).with_fifth(self.high >> (i * L::WIDTH));
            L::mul_add(codes.to_f32(), L::splat(self.scale), L::splat(self.offset))
        }
    }
}

impl Format for Q8_0 {
    const KIND: QuantType = QuantType::Q8_0;
    const GROUP: usize = 32;
    const ROWS: usize = 4;
    type Group<L: Lanes> = (*const u8, L::Vector);
    /// Nothing: to collect the scales of eight blocks takes longer than to widen each where it is used.
    #[inline(always)]
    unsafe fn open<L: Lanes>(_unit: *const u8, _len: usize, _open: &mut Open) {}
    #[inline(always)]
    unsafe fn group<L: Lanes>(unit: *const u8, _open: &Open, group: usize) -> Self::Group<L> {
        // SAFETY: the caller's promise.
        unsafe {
            let block = unit.add(34 * group);
            (block.add(2), L::Codes::widen_to_all(read(block)))
        }
    }
    #[inline(always)]
    unsafe fn vector<L: Lanes>(group: &Self::Group<L>, i: usize) -> L::Vector {
        // SAFETY: the caller's promise.
        unsafe {
            L::mul(
                L::Codes::load_i8(group.0.add(i * L::WIDTH)).to_f32(),
                group.1,
            )
        }
    }
}

impl Format for Q4_0 {
    const KIND: QuantType = QuantType::Q4_0;
    const GROUP: usize = 32;
    type Group<L: Lanes> = (*const u8, Table<L>);
    #[inline(always)]
    unsafe fn open<L: Lanes>(unit: *const u8, len: usize, open: &mut Open) {
        // SAFETY: the caller's promise.
        unsafe { widen_scales::<L>(unit, 18, len, open.scales.as_mut_ptr()) }
    }
    #[inline(always)]
    unsafe fn group<L: Lanes>(unit: *const u8, open: &Open, group: usize) -> Self::Group<L> {
        // SAFETY: the caller's promise.
        unsafe {
            let scale = open.scale(group);
            (
                unit.add(18 * group + 2),
                L::Codes::table(scale, -8.0 * scale),
            )
        }
    }
    #[inline(always)]
    unsafe fn vector<L: Lanes>(group: &Self::Group<L>, i: usize) -> L::Vector {
        // SAFETY: the caller's promise.
        unsafe { of_16_bytes::<L>(group.0, i).look_up(group.1) }
    }
}

impl Format for Q4_1 {
    const KIND: QuantType = QuantType::Q4_1;
    const GROUP: usize = 32;
    type Group<L: Lanes> = (*const u8, Table<L>);
    #[inline(always)]
    unsafe fn open<L: Lanes>(unit: *const u8, len: usize, open: &mut Open) {
        // SAFETY: the caller's promise.
        unsafe {
            widen_scales::<L>(unit, 20, len, open.scales.as_mut_ptr());
            widen_scales::<L>(unit.add(2), 20, len, open.scales.as_mut_ptr().add(OFFSETS));
        }
    }
    #[inline(always)]
    unsafe fn group<L: Lanes>(unit: *const u8, open: &Open, group: usize) -> Self::Group<L> {
        // SAFETY: the caller's promise.
        unsafe {
            let scale = open.scale(group);
            (
                unit.add(20 * group + 4),
                L::Codes::table(scale, open.offset(group)),
            )
        }
    }
    #[inline(always)]
    unsafe fn vector<L: Lanes>(group: &Self::Group<L>, i: usize) -> L::Vector {
        // SAFETY: the caller's promise.
        unsafe { of_16_bytes::<L>(group.0, i).look_up(group.1) }
    }
}

impl Format for Q5_0 {
    const KIND: QuantType = QuantType::Q5_0;
    const GROUP: usize = 32;
    type Group<L: Lanes> = FiveBits;
    #[inline(always)]
    unsafe fn open<L: Lanes>(unit: *const u8, len: usize, open: &mut Open) {
        // SAFETY: the caller's promise.
        unsafe { widen_scales::<L>(unit, 22, len, open.scales.as_mut_ptr()) }
    }
    #[inline(always)]
    unsafe fn group<L: Lanes>(unit: *const u8, open: &Open, group: usize) -> Self::Group<L> {
        // SAFETY: the caller's promise.
        unsafe {
            let (block, scale) = (unit.add(22 * group), open.scale(group));
            FiveBits {
                high: read(block.add(2)),
                low: block.add(6),
                scale,
                offset: -16.0 * scale,
            }
        }
    }
    #[inline(always)]
    unsafe fn vector<L: Lanes>(group: &Self::Group<L>, i: usize) -> L::Vector {
        // SAFETY: the caller's promise.
        unsafe { group.vector::<L>(i) }
    }
}

impl Format for Q5_1 {
    const KIND: QuantType = QuantType::Q5_1;
    const GROUP: usize = 32;
    type Group<L: Lanes> = FiveBits;
    #[inline(always)]
    unsafe fn open<L: Lanes>(unit: *const u8, len: usize, open: &mut Open) {
        // SAFETY: the caller's promise.
        unsafe {
            widen_scales::<L>(unit, 24, len, open.scales.as_mut_ptr());
            widen_scales::<L>(unit.add(2), 24, len, open.scales.as_mut_ptr().add(OFFSETS));
        }
    }
    #[inline(always)]
    unsafe fn group<L: Lanes>(unit: *const u8, open: &Open, group: usize) -> Self::Group<L> {
        // SAFETY: the caller's promise.
        unsafe {
            let (block, scale) = (unit.add(24 * group), open.scale(group));
            FiveBits {
                high: read(block.add(4)),
                low: block.add(8),
                scale,
                offset: open.offset(group),
            }
        }
    }
    #[inline(always)]
    unsafe fn vector<L: Lanes>(group: &Self::Group<L>, i: usize) -> L::Vector {
        // SAFETY: the caller's promise.
        unsafe { group.vector::<L>(i) }
    }
}

impl Format for Q4K {
    const KIND: QuantType = QuantType::Q4K;
    const GROUP: usize = 128;
    type Group<L: Lanes> = (<L::Codes as Codes<L::Vector>>::Bytes, *const f32);
    #[inline(always)]
    unsafe fn open<L: Lanes>(unit: *const u8, _len: usize, open: &mut Open) {
        // SAFETY: the caller's promise.
        unsafe { L::Codes::k_scales(unit, open.scales.as_mut_ptr()) }
    }
    #[inline(always)]
    unsafe fn group<L: Lanes>(unit: *const u8, open: &Open, group: usize) -> Self::Group<L> {
        // SAFETY: the caller's promise.
        unsafe {
            (
                L::Codes::load_64(unit.add(16 + 64 * group)),
                open.scales.as_ptr().add(4 * group),
            )
        }
    }
    /// 64 codes in 32 bytes: the low halves are 32 numbers with one scale, the high ones 32 with the next.
    #[inline(always)]
    unsafe fn vector<L: Lanes>(group: &Self::Group<L>, i: usize) -> L::Vector {
        // SAFETY: the caller's promise.
        unsafe {
            let (scale, within) = (i * L::WIDTH / 32, i * L::WIDTH % 32);
            let byte = scale / 2 * 32 + within;
            let codes = L::Codes::four_bits(group.0, byte / L::WIDTH, scale % 2 == 1);
            let scale = group.1.add(scale);
            codes.look_up(L::Codes::table(*scale, *scale.add(OFFSETS)))
        }
    }
}

impl Format for Q5K {
    const KIND: QuantType = QuantType::Q5K;
    const GROUP: usize = 32;
    type Group<L: Lanes> = (*const u8, f32, f32);
    #[inline(always)]
    unsafe fn open<L: Lanes>(unit: *const u8, _len: usize, open: &mut Open) {
        // SAFETY: the caller's promise.
        unsafe {
            L::Codes::k_scales(unit, open.scales.as_mut_ptr());
            let high: [u8; 32] = read(unit.add(16));
            for (pair, codes) in open.codes.chunks_exact_mut(64).enumerate() {
                let low: [u8; 32] = read(unit.add(48 + 32 * pair));
                let (first, second) = codes.split_at_mut(32);
                for i in 0..32 {
                    let bits = high[i] >> (2 * pair);
                    first[i] = low[i] & 15 | (bits & 1) << 4;
                    second[i] = low[i] >> 4 | (bits & 2) << 3;
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn group<L: Lanes>(_unit: *const u8, open: &Open, group: usize) -> Self::Group<L> {
        // SAFETY: the caller's promise.
        unsafe {
            (
                open.codes.as_ptr().add(32 * group),
                open.scale(group),
                open.offset(group),
            )
        }
    }
    #[inline(always)]
    unsafe fn vector<L: Lanes>(group: &Self::Group<L>, i: usize) -> L::Vector {
        // SAFETY: the caller's promise.
        unsafe {
            let codes = L::Codes::load_u8(group.0.add(i * L::WIDTH)).to_f32();
            L::mul_add(codes, L::splat(group.1), L::splat(group.2))
        }
    }
}

impl Format for Q6K {
    const KIND: QuantType = QuantType::Q6K;
    const GROUP: usize = 32;
    type Group<L: Lanes> = (*const u8, *const f32);
    #[inline(always)]
    unsafe fn open<L: Lanes>(unit: *const u8, _len: usize, open: &mut Open) {
        // SAFETY: the caller's promise.
        unsafe {
            let d = L::Codes::widen_1(read(unit.add(208)));
            L::Codes::scale_16_signed(unit.add(192), d, open.scales.as_mut_ptr());
            for (half, codes) in open.codes.chunks_exact_mut(UNIT / 2).enumerate() {
                let low: [u8; 64] = read(unit.add(64 * half));
                let high: [u8; 32] = read(unit.add(128 + 32 * half));
                let join = |low: u8, high: u8| (low | high << 4).wrapping_sub(32);
                for i in 0..32 {
                    let bits = high[i];
                    codes[i] = join(low[i] & 15, bits & 3);
                    codes[32 + i] = join(low[32 + i] & 15, bits >> 2 & 3);
                    codes[64 + i] = join(low[i] >> 4, bits >> 4 & 3);
                    codes[96 + i] = join(low[32 + i] >> 4, bits >> 6);
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn group<L: Lanes>(_unit: *const u8, open: &Open, group: usize) -> Self::Group<L> {
        // SAFETY: the caller's promise.
        unsafe {
            (
                open.codes.as_ptr().add(32 * group),
                open.scales.as_ptr().add(2 * group),
            )
        }
    }
    #[inline(always)]
    unsafe fn vector<L: Lanes>(group: &Self::Group<L>, i: usize) -> L::Vector {
        // SAFETY: the caller's promise.
        unsafe {
            let codes = L::Codes::load_i8(group.0.add(i * L::WIDTH)).to_f32();
            L::mul(codes, L::splat(*group.1.add(i * L::WIDTH / 16)))
        }
    }
}
