//! The block formats, as `ggml-common.h` lays them out and `weights/dequantize.rs` reads them one number at a time.
//!
//! Every product is exact in f32 (see there), so that a multiply-add and a multiplication followed by an addition give the
//! same bits, and these numbers are the plain ones. Codes of four bits are looked up in a table of their sixteen values;
//! longer ones are put together to bytes when a unit is opened, in plain loops that the compiler turns into vectors.

use super::codes::Codes;
use super::{Format, Numbers, Open, UNIT};
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

/// 32 codes of four bits in 16 bytes: the low halves first.
#[inline(always)]
unsafe fn unpack_16_bytes<L: Lanes>(from: *const u8, scale: f32, offset: f32) -> Numbers<L> {
    // SAFETY: the caller's promise.
    unsafe {
        let mut numbers = [L::splat(0.0); 8];
        let table = L::Codes::table(scale, offset);
        let half = 16 / L::WIDTH;
        for i in 0..half {
            let codes = L::Codes::load_u8(from.add(i * L::WIDTH));
            numbers[i] = codes.look_up(table);
            numbers[half + i] = codes.shift_right_4().look_up(table);
        }
        numbers
    }
}

/// 32 bytes with a sign, a factor for each half of them.
#[inline(always)]
unsafe fn unpack_signed<L: Lanes>(from: *const u8, scales: [f32; 2]) -> Numbers<L> {
    // SAFETY: the caller's promise.
    unsafe {
        let mut numbers = [L::splat(0.0); 8];
        for i in 0..32 / L::WIDTH {
            let codes = L::Codes::load_i8(from.add(i * L::WIDTH)).to_f32();
            numbers[i] = L::mul(codes, L::splat(scales[i * L::WIDTH / 16]));
        }
        numbers
    }
}

/// 32 bytes without a sign, a factor and an addition for all.
#[inline(always)]
unsafe fn unpack_unsigned<L: Lanes>(from: *const u8, scale: f32, offset: f32) -> Numbers<L> {
    // SAFETY: the caller's promise.
    unsafe {
        let mut numbers = [L::splat(0.0); 8];
        let (scale, offset) = (L::splat(scale), L::splat(offset));
        for i in 0..32 / L::WIDTH {
            let codes = L::Codes::load_u8(from.add(i * L::WIDTH)).to_f32();
            numbers[i] = L::mul_add(codes, scale, offset);
        }
        numbers
    }
}

impl Format for Q8_0 {
    const KIND: QuantType = QuantType::Q8_0;
    const GROUP: usize = 32;
    /// Nothing: to collect the scales of eight blocks takes longer than to widen each where it is used.
    #[inline(always)]
    unsafe fn open<L: Lanes>(_unit: *const u8, _len: usize, _open: &mut Open) {}
    #[inline(always)]
    unsafe fn unpack<L: Lanes>(unit: *const u8, _open: &Open, group: usize) -> Numbers<L> {
        // SAFETY: the caller's promise.
        unsafe {
            let block = unit.add(34 * group);
            let scale = L::Codes::widen_to_all(read(block));
            let mut numbers = [L::splat(0.0); 8];
            for i in 0..32 / L::WIDTH {
                let codes = L::Codes::load_i8(block.add(2 + i * L::WIDTH)).to_f32();
                numbers[i] = L::mul(codes, scale);
            }
            numbers
        }
    }
}

impl Format for Q4_0 {
    const KIND: QuantType = QuantType::Q4_0;
    const GROUP: usize = 32;
    #[inline(always)]
    unsafe fn open<L: Lanes>(unit: *const u8, len: usize, open: &mut Open) {
        // SAFETY: the caller's promise.
        unsafe { widen_scales::<L>(unit, 18, len, open.scales.as_mut_ptr()) }
    }
    #[inline(always)]
    unsafe fn unpack<L: Lanes>(unit: *const u8, open: &Open, group: usize) -> Numbers<L> {
        // SAFETY: the caller's promise.
        unsafe {
            let scale = *open.scales.get_unchecked(group);
            unpack_16_bytes::<L>(unit.add(18 * group + 2), scale, -8.0 * scale)
        }
    }
}

impl Format for Q4_1 {
    const KIND: QuantType = QuantType::Q4_1;
    const GROUP: usize = 32;
    #[inline(always)]
    unsafe fn open<L: Lanes>(unit: *const u8, len: usize, open: &mut Open) {
        // SAFETY: the caller's promise.
        unsafe {
            widen_scales::<L>(unit, 20, len, open.scales.as_mut_ptr());
            widen_scales::<L>(unit.add(2), 20, len, open.offsets.as_mut_ptr());
        }
    }
    #[inline(always)]
    unsafe fn unpack<L: Lanes>(unit: *const u8, open: &Open, group: usize) -> Numbers<L> {
        // SAFETY: the caller's promise.
        unsafe {
            let scale = *open.scales.get_unchecked(group);
            let offset = *open.offsets.get_unchecked(group);
            unpack_16_bytes::<L>(unit.add(20 * group + 4), scale, offset)
        }
    }
}

/// 32 codes of four bits in 16 bytes, the low halves first, with their fifth bits at `high`.
#[inline(always)]
unsafe fn unpack_five_bits<L: Lanes>(
    high: *const u8,
    from: *const u8,
    scale: f32,
    offset: f32,
) -> Numbers<L> {
    // SAFETY: the caller's promise.
    unsafe {
        let high: u32 = read(high);
        let mut numbers = [L::splat(0.0); 8];
        let (scale, offset) = (L::splat(scale), L::splat(offset));
        let half = 16 / L::WIDTH;
        for i in 0..half {
            let codes = L::Codes::load_u8(from.add(i * L::WIDTH));
            let low = codes.with_fifth(high >> (i * L::WIDTH)).to_f32();
            let shifted = codes.shift_right_4();
            let next = shifted.with_fifth(high >> (16 + i * L::WIDTH)).to_f32();
            numbers[i] = L::mul_add(low, scale, offset);
            numbers[half + i] = L::mul_add(next, scale, offset);
        }
        numbers
    }
}

impl Format for Q5_0 {
    const KIND: QuantType = QuantType::Q5_0;
    const GROUP: usize = 32;
    #[inline(always)]
    unsafe fn open<L: Lanes>(unit: *const u8, len: usize, open: &mut Open) {
        // SAFETY: the caller's promise.
        unsafe { widen_scales::<L>(unit, 22, len, open.scales.as_mut_ptr()) }
    }
    #[inline(always)]
    unsafe fn unpack<L: Lanes>(unit: *const u8, open: &Open, group: usize) -> Numbers<L> {
        // SAFETY: the caller's promise.
        unsafe {
            let block = unit.add(22 * group);
            let scale = *open.scales.get_unchecked(group);
            unpack_five_bits::<L>(block.add(2), block.add(6), scale, -16.0 * scale)
        }
    }
}

impl Format for Q5_1 {
    const KIND: QuantType = QuantType::Q5_1;
    const GROUP: usize = 32;
    #[inline(always)]
    unsafe fn open<L: Lanes>(unit: *const u8, len: usize, open: &mut Open) {
        // SAFETY: the caller's promise.
        unsafe {
            widen_scales::<L>(unit, 24, len, open.scales.as_mut_ptr());
            widen_scales::<L>(unit.add(2), 24, len, open.offsets.as_mut_ptr());
        }
    }
    #[inline(always)]
    unsafe fn unpack<L: Lanes>(unit: *const u8, open: &Open, group: usize) -> Numbers<L> {
        // SAFETY: the caller's promise.
        unsafe {
            let block = unit.add(24 * group);
            let scale = *open.scales.get_unchecked(group);
            let offset = *open.offsets.get_unchecked(group);
            unpack_five_bits::<L>(block.add(4), block.add(8), scale, offset)
        }
    }
}

/// Scales and minima of a Q4_K or Q5_K block, multiplied out: four bytes at a time, as ggml's vector code does it.
#[inline(always)]
unsafe fn open_k_scales<L: Lanes>(unit: *const u8, open: &mut Open) {
    // SAFETY: the caller's promise; there is room for eight numbers each.
    unsafe {
        let [d, minimum] = read::<[u16; 2]>(unit).map(|half| L::Codes::widen_1(half));
        let [a, b, c] = read::<[u32; 3]>(unit.add(4)).map(u64::from);
        // Six low bits, and for the second four scales the four low bits with the first's two high ones on top.
        let (low_6, low_4, high_2) = (0x3f3f_3f3f, 0x0f0f_0f0f, 0x3030_3030);
        let scales = a & low_6 | (c & low_4 | a >> 2 & high_2) << 32;
        let minima = b & low_6 | (c >> 4 & low_4 | b >> 2 & high_2) << 32;
        L::Codes::scale_8(scales, d, open.scales.as_mut_ptr());
        L::Codes::scale_8(minima, -minimum, open.offsets.as_mut_ptr());
    }
}

impl Format for Q4K {
    const KIND: QuantType = QuantType::Q4K;
    const GROUP: usize = 64;
    #[inline(always)]
    unsafe fn open<L: Lanes>(unit: *const u8, _len: usize, open: &mut Open) {
        // SAFETY: the caller's promise.
        unsafe { open_k_scales::<L>(unit, open) }
    }
    /// 64 codes in 32 bytes: the low halves are 32 numbers with one scale, the high ones 32 with the next.
    #[inline(always)]
    unsafe fn unpack<L: Lanes>(unit: *const u8, open: &Open, group: usize) -> Numbers<L> {
        // SAFETY: the caller's promise.
        unsafe {
            let [low, high] = [2 * group, 2 * group + 1].map(|i| {
                let (scale, offset) = (open.scales.get_unchecked(i), open.offsets.get_unchecked(i));
                L::Codes::table(*scale, *offset)
            });
            let from = unit.add(16 + 32 * group);
            let mut numbers = [L::splat(0.0); 8];
            let half = 32 / L::WIDTH;
            for i in 0..half {
                let codes = L::Codes::load_u8(from.add(i * L::WIDTH));
                numbers[i] = codes.look_up(low);
                numbers[half + i] = codes.shift_right_4().look_up(high);
            }
            numbers
        }
    }
}

impl Format for Q5K {
    const KIND: QuantType = QuantType::Q5K;
    const GROUP: usize = 32;
    #[inline(always)]
    unsafe fn open<L: Lanes>(unit: *const u8, _len: usize, open: &mut Open) {
        // SAFETY: the caller's promise.
        unsafe {
            open_k_scales::<L>(unit, open);
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
    unsafe fn unpack<L: Lanes>(_unit: *const u8, open: &Open, group: usize) -> Numbers<L> {
        // SAFETY: the caller's promise.
        unsafe {
            let scale = *open.scales.get_unchecked(group);
            let offset = *open.offsets.get_unchecked(group);
            unpack_unsigned::<L>(open.codes.as_ptr().add(32 * group), scale, offset)
        }
    }
}

impl Format for Q6K {
    const KIND: QuantType = QuantType::Q6K;
    const GROUP: usize = 32;
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
    unsafe fn unpack<L: Lanes>(_unit: *const u8, open: &Open, group: usize) -> Numbers<L> {
        // SAFETY: the caller's promise.
        unsafe {
            let scales: [f32; 2] = read(open.scales.as_ptr().add(2 * group).cast());
            unpack_signed::<L>(open.codes.as_ptr().add(32 * group), scales)
        }
    }
}
