//! What the products of whole numbers ask of an instruction set: sixteen rows of W side by side, a row in each lane.
//! Apart from `Lanes`, which is about f32 along a row; the plain implementation is here too, the others in `avx2` and `vnni`.

use half::f16;

/// Rows of W that are taken together, whatever the instruction set.
pub(super) const ROWS: usize = 16;

/// The same block of each row.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    /// Where it starts.
    pub(super) at: [*const u8; ROWS],
    /// How many bytes further on is what will be wanted next.
    pub(super) ahead: usize,
}

/// An instruction set.
///
/// Every method is unsafe for the same reasons: the machine must have the instruction set (checked once, where a kernel is
/// dispatched), and pointers must be good for what is read or written there; none needs to be aligned.
pub(super) trait RowLanes {
    /// Sixteen whole numbers of 32 bits, or four bytes in each of as many lanes.
    type Int: Copy;
    /// Sixteen f32.
    type Float: Copy;
    /// Rows of x that W is used for together, at most: as many sums as the register file has room for.
    const MOST: usize;
    /// What [`wide`](Self::wide) adds to a byte with a sign, as a power of two; `None` where it adds nothing.
    const WIDE_SHIFT: Option<u32>;

    /// The 32-bit word at `offset` of each row.
    unsafe fn word(rows: &Rows, offset: usize) -> Self::Int;
    /// The four words from `offset` on.
    unsafe fn words_4(rows: &Rows, offset: usize) -> [Self::Int; 4];
    /// The eight words from `offset` on.
    unsafe fn words_8(rows: &Rows, offset: usize) -> [Self::Int; 8];

    unsafe fn splat(word: u32) -> Self::Int;
    unsafe fn and(a: Self::Int, b: Self::Int) -> Self::Int;
    unsafe fn or(a: Self::Int, b: Self::Int) -> Self::Int;
    unsafe fn sub(a: Self::Int, b: Self::Int) -> Self::Int;
    unsafe fn shift_left<const BITS: u32>(a: Self::Int) -> Self::Int;
    unsafe fn shift_right<const BITS: u32>(a: Self::Int) -> Self::Int;
    /// The same with the sign's bit coming in.
    unsafe fn shift_right_signed<const BITS: u32>(a: Self::Int) -> Self::Int;
    /// Bytes with a sign as [`dot_wide`](Self::dot_wide) takes them.
    unsafe fn wide(a: Self::Int) -> Self::Int;
    unsafe fn load_int(from: *const u8) -> Self::Int;
    unsafe fn store_int(to: *mut u8, a: Self::Int);
    /// The number at `from` in every lane.
    unsafe fn splat_int(from: *const i32) -> Self::Int;

    /// `sum` and, lane by lane, the products of four codes, bytes below 128, with the four bytes with a sign at `x`.
    unsafe fn dot(sum: Self::Int, codes: Self::Int, x: *const u8) -> Self::Int;
    /// The same of bytes that [`wide`](Self::wide) made.
    unsafe fn dot_wide(sum: Self::Int, codes: Self::Int, x: *const u8) -> Self::Int;

    /// The f16 in each lane's lower half.
    unsafe fn widen(halves: Self::Int) -> Self::Float;
    unsafe fn to_f32(a: Self::Int) -> Self::Float;
    unsafe fn zero() -> Self::Float;
    /// The number at `from` in every lane.
    unsafe fn splat_f32(from: *const f32) -> Self::Float;
    unsafe fn load_f32(from: *const f32) -> Self::Float;
    unsafe fn store_f32(to: *mut f32, a: Self::Float);
    unsafe fn negate(a: Self::Float) -> Self::Float;
    unsafe fn mul(a: Self::Float, b: Self::Float) -> Self::Float;
    /// a·b + c, rounded once where the instruction set can.
    unsafe fn mul_add(a: Self::Float, b: Self::Float, c: Self::Float) -> Self::Float;

    /// Asks for what is [`ahead`](Rows::ahead) of `offset` in each row, into L2; harmless where there is nothing.
    #[inline(always)]
    fn prefetch(_rows: &Rows, _offset: usize) {}
}

/// Plain Rust.
pub(super) struct Portable;

impl Portable {
    #[inline(always)]
    unsafe fn words<const N: usize>(rows: &Rows, offset: usize) -> [[u32; ROWS]; N] {
        let mut words = [[0; ROWS]; N];
        for (lane, row) in rows.at.iter().enumerate() {
            for (i, words) in words.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                words[lane] = unsafe { row.add(offset + 4 * i).cast::<u32>().read_unaligned() };
            }
        }
        words
    }
}

#[inline(always)]
fn each<A: Copy, B: Copy, C>(a: [A; ROWS], b: [B; ROWS], f: impl Fn(A, B) -> C) -> [C; ROWS] {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

impl RowLanes for Portable {
    type Int = [u32; ROWS];
    type Float = [f32; ROWS];
    const MOST: usize = 1;
    const WIDE_SHIFT: Option<u32> = None;

    #[inline(always)]
    unsafe fn word(rows: &Rows, offset: usize) -> Self::Int {
        // SAFETY: the caller's promise.
        unsafe { Self::words::<1>(rows, offset)[0] }
    }
    #[inline(always)]
    unsafe fn words_4(rows: &Rows, offset: usize) -> [Self::Int; 4] {
        // SAFETY: the caller's promise.
        unsafe { Self::words(rows, offset) }
    }
    #[inline(always)]
    unsafe fn words_8(rows: &Rows, offset: usize) -> [Self::Int; 8] {
        // SAFETY: the caller's promise.
        unsafe { Self::words(rows, offset) }
    }
    #[inline(always)]
    unsafe fn splat(word: u32) -> Self::Int {
        [word; ROWS]
    }
    #[inline(always)]
    unsafe fn and(a: Self::Int, b: Self::Int) -> Self::Int {
        each(a, b, |a, b| a & b)
    }
    #[inline(always)]
    unsafe fn or(a: Self::Int, b: Self::Int) -> Self::Int {
        each(a, b, |a, b| a | b)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::Int, b: Self::Int) -> Self::Int {
        each(a, b, u32::wrapping_sub)
    }
    #[inline(always)]
    unsafe fn shift_left<const BITS: u32>(a: Self::Int) -> Self::Int {
        a.map(|a| a << BITS)
    }
    #[inline(always)]
    unsafe fn shift_right<const BITS: u32>(a: Self::Int) -> Self::Int {
        a.map(|a| a >> BITS)
    }
    #[inline(always)]
    unsafe fn shift_right_signed<const BITS: u32>(a: Self::Int) -> Self::Int {
        a.map(|a| (a.cast_signed() >> BITS).cast_unsigned())
    }
    #[inline(always)]
    unsafe fn wide(a: Self::Int) -> Self::Int {
        a
    }
    #[inline(always)]
    unsafe fn load_int(from: *const u8) -> Self::Int {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<Self::Int>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_int(to: *mut u8, a: Self::Int) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<Self::Int>().write_unaligned(a) }
    }
    #[inline(always)]
    unsafe fn splat_int(from: *const i32) -> Self::Int {
        // SAFETY: the caller's promise.
        [unsafe { from.read_unaligned() }.cast_unsigned(); ROWS]
    }
    /// A code below 128 is the same with a sign and without.
    #[inline(always)]
    unsafe fn dot(sum: Self::Int, codes: Self::Int, x: *const u8) -> Self::Int {
        // SAFETY: the caller's promise.
        unsafe { Self::dot_wide(sum, codes, x) }
    }
    #[inline(always)]
    unsafe fn dot_wide(sum: Self::Int, codes: Self::Int, x: *const u8) -> Self::Int {
        // SAFETY: the caller's promise.
        let x = unsafe { x.cast::<[i8; 4]>().read_unaligned() };
        each(sum, codes, |sum, codes| {
            let codes = codes.to_le_bytes().map(u8::cast_signed);
            let product = |i: usize| i32::from(codes[i]) * i32::from(x[i]);
            let products = (product(0) + product(1)) + (product(2) + product(3));
            (sum.cast_signed() + products).cast_unsigned()
        })
    }
    #[inline(always)]
    unsafe fn widen(halves: Self::Int) -> Self::Float {
        halves.map(|half| f16::from_bits(half as u16).to_f32())
    }
    #[inline(always)]
    unsafe fn to_f32(a: Self::Int) -> Self::Float {
        a.map(|a| a.cast_signed() as f32)
    }
    #[inline(always)]
    unsafe fn zero() -> Self::Float {
        [0.0; ROWS]
    }
    #[inline(always)]
    unsafe fn splat_f32(from: *const f32) -> Self::Float {
        // SAFETY: the caller's promise.
        [unsafe { from.read_unaligned() }; ROWS]
    }
    #[inline(always)]
    unsafe fn load_f32(from: *const f32) -> Self::Float {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<Self::Float>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_f32(to: *mut f32, a: Self::Float) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<Self::Float>().write_unaligned(a) }
    }
    #[inline(always)]
    unsafe fn negate(a: Self::Float) -> Self::Float {
        a.map(|a| -a)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::Float, b: Self::Float) -> Self::Float {
        each(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn mul_add(a: Self::Float, b: Self::Float, c: Self::Float) -> Self::Float {
        each(each(a, b, |a, b| a * b), c, |product, c| product + c)
    }
}
