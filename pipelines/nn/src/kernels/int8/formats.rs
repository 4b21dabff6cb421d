//! The block formats with sixteen rows side by side: codes as bytes, four numbers of a row in each lane, and scales in f32.
//! The layouts are those of `ggml-common.h`; `weights/dequantize.rs` reads them one number at a time.

use super::row_lanes::{ROWS, RowLanes, Rows};
use crate::weights::QuantType;

/// Numbers of a row that are multiplied as bytes before they are scaled.
pub(super) const GROUP: usize = 32;

/// What goes with 32 numbers of sixteen rows.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Scales {
    /// The scale of each row, of its first 16 numbers where these have one of their own.
    pub(super) scale: [f32; ROWS],
    /// The scale of the second 16 numbers, or what is added to each number.
    pub(super) second: [f32; ROWS],
}

impl Scales {
    pub(super) const EMPTY: Self = Self {
        scale: [0.0; ROWS],
        second: [0.0; ROWS],
    };

    #[inline(always)]
    unsafe fn put<L: RowLanes>(to: *mut Self, scale: L::Float) {
        // SAFETY: the caller's promise.
        unsafe { L::store_f32((&raw mut (*to).scale).cast(), scale) }
    }

    #[inline(always)]
    unsafe fn put_second<L: RowLanes>(to: *mut Self, second: L::Float) {
        // SAFETY: the caller's promise.
        unsafe { L::store_f32((&raw mut (*to).second).cast(), second) }
    }
}

/// Codes of 32 numbers of sixteen rows: in the i-th are numbers 4i to 4i + 3 of each row, a byte each.
pub(super) type GroupCodes<L> = [<L as RowLanes>::Int; GROUP / 4];

/// What takes codes as they are unpacked.
pub(super) trait Sink<L: RowLanes> {
    /// The codes of a group of the block.
    ///
    /// # Safety
    /// As for [`RowLanes`]; `group` is inside the block.
    unsafe fn take<F: RowFormat>(&mut self, group: usize, codes: GroupCodes<L>);
}

/// What bytes stand for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Codes {
    /// Numbers without a sign.
    Plain,
    /// The same after 2^n is subtracted.
    Above(u32),
    /// Bytes with a sign, in the form that [`RowLanes::wide`] gives.
    Wide,
}

/// A format.
pub(super) trait RowFormat {
    const KIND: QuantType;
    const CODES: Codes;
    /// Whether 16 numbers share a scale, and not 32.
    const HALVES: bool = false;
    /// Whether something is added to each number.
    const OFFSET: bool = false;
    /// Groups in a block.
    const GROUPS: usize = Self::KIND.block_len() / GROUP;

    /// The scales of a block of each row.
    ///
    /// # Safety
    /// As for [`RowLanes`]; a block can be read at every row, and `to` has room for its groups.
    unsafe fn scales<L: RowLanes>(rows: &Rows, to: *mut Scales);

    /// The codes of a block of each row, group after group: it is the order of additions.
    ///
    /// # Safety
    /// As for [`RowLanes`]; a block can be read at every row.
    unsafe fn codes<L: RowLanes, S: Sink<L>>(rows: &Rows, sink: &mut S);
}

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
pub(super) struct Q8_0;
pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;

/// The low half of every byte.
#[inline(always)]
unsafe fn low<L: RowLanes>(bytes: L::Int) -> L::Int {
    // SAFETY: the caller's promise.
    unsafe { L::and(bytes, L::splat(0x0F0F_0F0F)) }
}

/// The high half of every byte.
#[inline(always)]
unsafe fn high<L: RowLanes>(bytes: L::Int) -> L::Int {
    // SAFETY: the caller's promise.
    unsafe { low::<L>(L::shift_right::<4>(bytes)) }
}

/// 32 codes of four bits in 16 bytes, the low halves first.
#[inline(always)]
unsafe fn nibbles<L: RowLanes>(rows: &Rows, offset: usize) -> GroupCodes<L> {
    // SAFETY: the caller's promise.
    unsafe {
        let bytes = L::words_4(rows, offset);
        let mut codes = [bytes[0]; 8];
        for i in 0..4 {
            codes[i] = low::<L>(bytes[i]);
            codes[i + 4] = high::<L>(bytes[i]);
        }
        codes
    }
}

/// The fifth bit of each of the codes, from a word of 32 bits to each row.
#[inline(always)]
unsafe fn with_fifth<L: RowLanes>(codes: GroupCodes<L>, bits: L::Int) -> GroupCodes<L> {
    let (mut codes, mut bits) = (codes, bits);
    for codes in &mut codes {
        // SAFETY: the caller's promise.
        unsafe {
            // Bits 0 to 3 to the fifth of a byte each.
            let mut fifth = L::and(L::shift_left::<4>(bits), L::splat(0x10));
            let second = L::and(L::shift_left::<11>(bits), L::splat(0x1000));
            let third = L::and(L::shift_left::<18>(bits), L::splat(0x10_0000));
            let fourth = L::and(L::shift_left::<25>(bits), L::splat(0x1000_0000));
            fifth = L::or(L::or(fifth, second), L::or(third, fourth));
            *codes = L::or(*codes, fifth);
            bits = L::shift_right::<4>(bits);
        }
    }
    codes
}

/// The low halves of bytes, then the high ones.
#[inline(always)]
unsafe fn halves<L: RowLanes>(bytes: GroupCodes<L>) -> [GroupCodes<L>; 2] {
    let mut halves = [bytes; 2];
    for i in 0..GROUP / 4 {
        // SAFETY: the caller's promise.
        unsafe {
            halves[0][i] = low::<L>(bytes[i]);
            halves[1][i] = high::<L>(bytes[i]);
        }
    }
    halves
}

/// The bits of `mask` in `from`, moved by `left` or by `right`, beside codes.
#[inline(always)]
unsafe fn join<L: RowLanes, const LEFT: u32, const RIGHT: u32>(
    codes: GroupCodes<L>,
    from: &GroupCodes<L>,
    mask: u32,
) -> GroupCodes<L> {
    let mut codes = codes;
    for i in 0..GROUP / 4 {
        // SAFETY: the caller's promise.
        unsafe {
            let moved = L::shift_right::<RIGHT>(L::shift_left::<LEFT>(from[i]));
            codes[i] = L::or(codes[i], L::and(moved, L::splat(mask)));
        }
    }
    codes
}

impl RowFormat for Q8_0 {
    const KIND: QuantType = QuantType::Q8_0;
    const CODES: Codes = Codes::Wide;
    #[inline(always)]
    unsafe fn scales<L: RowLanes>(rows: &Rows, to: *mut Scales) {
        // SAFETY: the caller's promise.
        unsafe {
            Scales::put::<L>(to, L::widen(L::word(rows, 0)));
        }
    }
    #[inline(always)]
    unsafe fn codes<L: RowLanes, S: Sink<L>>(rows: &Rows, sink: &mut S) {
        // SAFETY: the caller's promise.
        unsafe {
            L::prefetch(rows, 0);
            let mut codes = L::words_8(rows, 2);
            for codes in &mut codes {
                *codes = L::wide(*codes);
            }
            sink.take::<Self>(0, codes);
        }
    }
}

impl RowFormat for Q4_0 {
    const KIND: QuantType = QuantType::Q4_0;
    const CODES: Codes = Codes::Above(3);
    #[inline(always)]
    unsafe fn scales<L: RowLanes>(rows: &Rows, to: *mut Scales) {
        // SAFETY: the caller's promise.
        unsafe {
            Scales::put::<L>(to, L::widen(L::word(rows, 0)));
        }
    }
    #[inline(always)]
    unsafe fn codes<L: RowLanes, S: Sink<L>>(rows: &Rows, sink: &mut S) {
        // SAFETY: the caller's promise.
        unsafe {
            L::prefetch(rows, 0);
            sink.take::<Self>(0, nibbles::<L>(rows, 2));
        }
    }
}

/// Two f16, one after the other.
#[inline(always)]
unsafe fn scale_and_offset<L: RowLanes>(rows: &Rows, to: *mut Scales) {
    // SAFETY: the caller's promise.
    unsafe {
        let halves = L::word(rows, 0);
        Scales::put::<L>(to, L::widen(halves));
        Scales::put_second::<L>(to, L::widen(L::shift_right::<16>(halves)));
    }
}

impl RowFormat for Q4_1 {
    const KIND: QuantType = QuantType::Q4_1;
    const CODES: Codes = Codes::Plain;
    const OFFSET: bool = true;
    #[inline(always)]
    unsafe fn scales<L: RowLanes>(rows: &Rows, to: *mut Scales) {
        // SAFETY: the caller's promise.
        unsafe { scale_and_offset::<L>(rows, to) }
    }
    #[inline(always)]
    unsafe fn codes<L: RowLanes, S: Sink<L>>(rows: &Rows, sink: &mut S) {
        // SAFETY: the caller's promise.
        unsafe {
            L::prefetch(rows, 0);
            sink.take::<Self>(0, nibbles::<L>(rows, 4));
        }
    }
}

impl RowFormat for Q5_0 {
    const KIND: QuantType = QuantType::Q5_0;
    const CODES: Codes = Codes::Above(4);
    #[inline(always)]
    unsafe fn scales<L: RowLanes>(rows: &Rows, to: *mut Scales) {
        // SAFETY: the caller's promise.
        unsafe {
            Scales::put::<L>(to, L::widen(L::word(rows, 0)));
        }
    }
    #[inline(always)]
    unsafe fn codes<L: RowLanes, S: Sink<L>>(rows: &Rows, sink: &mut S) {
        // SAFETY: the caller's promise.
        unsafe {
            L::prefetch(rows, 0);
            let codes = with_fifth::<L>(nibbles::<L>(rows, 6), L::word(rows, 2));
            sink.take::<Self>(0, codes);
        }
    }
}

impl RowFormat for Q5_1 {
    const KIND: QuantType = QuantType::Q5_1;
    const CODES: Codes = Codes::Plain;
    const OFFSET: bool = true;
    #[inline(always)]
    unsafe fn scales<L: RowLanes>(rows: &Rows, to: *mut Scales) {
        // SAFETY: the caller's promise.
        unsafe { scale_and_offset::<L>(rows, to) }
    }
    #[inline(always)]
    unsafe fn codes<L: RowLanes, S: Sink<L>>(rows: &Rows, sink: &mut S) {
        // SAFETY: the caller's promise.
        unsafe {
            L::prefetch(rows, 0);
            let codes = with_fifth::<L>(nibbles::<L>(rows, 8), L::word(rows, 4));
            sink.take::<Self>(0, codes);
        }
    }
}

/// Scales and minima of the Q4_K or Q5_K block, of six bits in twelve bytes, multiplied out (see `codes::k_bytes`).
#[inline(always)]
unsafe fn k_scales<L: RowLanes>(rows: &Rows, to: *mut Scales) {
    // SAFETY: the caller's promise.
    unsafe {
        let [halves, a, b, c] = L::words_4(rows, 0);
        let d = L::widen(halves);
        let minimum = L::negate(L::widen(L::shift_right::<16>(halves)));
        let (low_6, high_2) = (L::splat(0x3F3F_3F3F), L::splat(0x3030_3030));
        let scales = [
            L::and(a, low_6),
            L::or(low::<L>(c), L::and(L::shift_right::<2>(a), high_2)),
        ];
        let minima = [
            L::and(b, low_6),
            L::or(high::<L>(c), L::and(L::shift_right::<2>(b), high_2)),
        ];
        for half in 0..2 {
            let (mut scale, mut offset) = (scales[half], minima[half]);
            for i in 0..4 {
                let to = to.add(4 * half + i);
                let byte = L::splat(0xFF);
                Scales::put::<L>(to, L::mul(L::to_f32(L::and(scale, byte)), d));
                Scales::put_second::<L>(to, L::mul(L::to_f32(L::and(offset, byte)), minimum));
                scale = L::shift_right::<8>(scale);
                offset = L::shift_right::<8>(offset);
            }
        }
    }
}

impl RowFormat for Q4K {
    const KIND: QuantType = QuantType::Q4K;
    const CODES: Codes = Codes::Plain;
    const OFFSET: bool = true;
    #[inline(always)]
    unsafe fn scales<L: RowLanes>(rows: &Rows, to: *mut Scales) {
        // SAFETY: the caller's promise.
        unsafe { k_scales::<L>(rows, to) }
    }
    #[inline(always)]
    unsafe fn codes<L: RowLanes, S: Sink<L>>(rows: &Rows, sink: &mut S) {
        // SAFETY: the caller's promise.
        unsafe {
            for pair in 0..4 {
                L::prefetch(rows, 32 * pair);
                let [first, second] = halves::<L>(L::words_8(rows, 16 + 32 * pair));
                sink.take::<Self>(2 * pair, first);
                sink.take::<Self>(2 * pair + 1, second);
            }
        }
    }
}

impl RowFormat for Q5K {
    const KIND: QuantType = QuantType::Q5K;
    const CODES: Codes = Codes::Plain;
    const OFFSET: bool = true;
    #[inline(always)]
    unsafe fn scales<L: RowLanes>(rows: &Rows, to: *mut Scales) {
        // SAFETY: the caller's promise.
        unsafe { k_scales::<L>(rows, to) }
    }
    #[inline(always)]
    unsafe fn codes<L: RowLanes, S: Sink<L>>(rows: &Rows, sink: &mut S) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut fifths = L::words_8(rows, 16);
            for pair in 0..4 {
                L::prefetch(rows, 44 * pair);
                let [first, second] = halves::<L>(L::words_8(rows, 48 + 32 * pair));
                let first = join::<L, 4, 0>(first, &fifths, 0x1010_1010);
                sink.take::<Self>(2 * pair, first);
                let second = join::<L, 3, 0>(second, &fifths, 0x1010_1010);
                sink.take::<Self>(2 * pair + 1, second);
                for fifths in &mut fifths {
                    *fifths = L::shift_right::<2>(*fifths);
                }
            }
        }
    }
}

impl RowFormat for Q6K {
    const KIND: QuantType = QuantType::Q6K;
    const CODES: Codes = Codes::Above(5);
    const HALVES: bool = true;
    #[inline(always)]
    unsafe fn scales<L: RowLanes>(rows: &Rows, to: *mut Scales) {
        // SAFETY: the caller's promise.
        unsafe {
            // The block's last two bytes.
            let d = L::widen(L::shift_right::<16>(L::word(rows, 206)));
            for (four, scales) in L::words_4(rows, 192).into_iter().enumerate() {
                let to = to.add(2 * four);
                let byte = L::shift_right_signed::<24>(L::shift_left::<24>(scales));
                Scales::put::<L>(to, L::mul(L::to_f32(byte), d));
                let byte = L::shift_right_signed::<24>(L::shift_left::<16>(scales));
                Scales::put_second::<L>(to, L::mul(L::to_f32(byte), d));
                let byte = L::shift_right_signed::<24>(L::shift_left::<8>(scales));
                Scales::put::<L>(to.add(1), L::mul(L::to_f32(byte), d));
                let byte = L::shift_right_signed::<24>(scales);
                Scales::put_second::<L>(to.add(1), L::mul(L::to_f32(byte), d));
            }
        }
    }
    #[inline(always)]
    unsafe fn codes<L: RowLanes, S: Sink<L>>(rows: &Rows, sink: &mut S) {
        // SAFETY: the caller's promise.
        unsafe {
            let two = 0x3030_3030;
            for half in 0..2 {
                L::prefetch(rows, 104 * half);
                L::prefetch(rows, 104 * half + 52);
                let top = L::words_8(rows, 128 + 32 * half);
                let [first, third] = halves::<L>(L::words_8(rows, 64 * half));
                let [second, fourth] = halves::<L>(L::words_8(rows, 64 * half + 32));
                let to = 4 * half;
                sink.take::<Self>(to, join::<L, 4, 0>(first, &top, two));
                sink.take::<Self>(to + 1, join::<L, 2, 0>(second, &top, two));
                sink.take::<Self>(to + 2, join::<L, 0, 0>(third, &top, two));
                sink.take::<Self>(to + 3, join::<L, 0, 2>(fourth, &top, two));
            }
        }
    }
}
