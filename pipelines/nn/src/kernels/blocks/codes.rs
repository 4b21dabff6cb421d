//! What unpacking asks of an instruction set: vectors of small whole numbers, and their way to f32.
//! Apart from `Lanes`, which is about f32 alone; the plain implementation is here too, the others in `codes_x86`.

use half::f16;

/// A vector of as many whole numbers as `V` has lanes.
///
/// Every method is unsafe as those of [`Lanes`](crate::kernels::lanes::Lanes) are; pointers must be good for as many elements
/// as there are lanes, and need not be aligned.
pub(crate) trait Codes<V: Copy>: Copy {
    /// The values of the 16 codes of four bits, in whatever form finds them fastest.
    type Table: Copy;
    /// 64 bytes on their way to vectors.
    type Bytes: Copy;

    /// Bytes without a sign.
    unsafe fn load_u8(from: *const u8) -> Self;
    /// Bytes with a sign.
    unsafe fn load_i8(from: *const u8) -> Self;
    unsafe fn shift_right_4(self) -> Self;
    /// The low four bits or the high ones of a byte; the bits above these are any.
    #[inline(always)]
    unsafe fn half(self, high: bool) -> Self {
        // SAFETY: the caller's promise.
        unsafe { if high { self.shift_right_4() } else { self } }
    }

    /// 64 bytes without a sign.
    unsafe fn load_64(from: *const u8) -> Self::Bytes;
    /// [`half`](Self::half) of the `vector`-th of their vectors.
    unsafe fn four_bits(bytes: Self::Bytes, vector: usize, high: bool) -> Self;
    /// The lowest four bits, and a fifth where the lane's bit of `bits` is set.
    unsafe fn with_fifth(self, bits: u32) -> Self;
    unsafe fn to_f32(self) -> V;

    /// Code · scale + offset of every code of four bits; the products are exact.
    unsafe fn table(scale: f32, offset: f32) -> Self::Table;
    /// The values of the codes in the lowest four bits, whatever the higher ones are.
    unsafe fn look_up(self, table: Self::Table) -> V;

    /// Scales and minima of the Q4_K or Q5_K block at `block`, multiplied out: eight factors at `to`, and after them what is
    /// added.
    unsafe fn k_scales(block: *const u8, to: *mut f32);
    /// Sixteen bytes with a sign at `from`, times `factor`, to sixteen numbers at `to`.
    unsafe fn scale_16_signed(from: *const u8, factor: f32, to: *mut f32);
    /// Eight f16 to eight numbers at `to`.
    unsafe fn widen_8(halves: [u16; 8], to: *mut f32);
    /// An f16.
    unsafe fn widen_1(half: u16) -> f32;
    /// An f16 in every lane.
    unsafe fn widen_to_all(half: u16) -> V;
}

/// Plain Rust.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct PortableCodes([i32; 8]);

/// The eight scales and eight minima, of six bits, in the twelve bytes at `packed`: four bytes at a time, as ggml's vector code
/// does it.
#[inline(always)]
pub(super) unsafe fn k_bytes(packed: *const u8) -> [u64; 2] {
    // SAFETY: the caller's promise.
    let [a, b, c] = unsafe { packed.cast::<[u32; 3]>().read_unaligned() }.map(u64::from);
    // Six low bits, and for the second four the four low bits with the first's two high ones on top.
    let (low_6, low_4, high_2) = (0x3f3f_3f3f, 0x0f0f_0f0f, 0x3030_3030);
    [
        a & low_6 | (c & low_4 | a >> 2 & high_2) << 32,
        b & low_6 | (c >> 4 & low_4 | b >> 2 & high_2) << 32,
    ]
}

impl Codes<[f32; 8]> for PortableCodes {
    type Table = [f32; 16];
    type Bytes = *const u8;

    #[inline(always)]
    unsafe fn load_64(from: *const u8) -> *const u8 {
        from
    }
    #[inline(always)]
    unsafe fn four_bits(bytes: *const u8, vector: usize, high: bool) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::load_u8(bytes.add(8 * vector)).half(high) }
    }
    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { from.cast::<[u8; 8]>().read() }.map(i32::from))
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { from.cast::<[i8; 8]>().read() }.map(i32::from))
    }
    #[inline(always)]
    unsafe fn shift_right_4(self) -> Self {
        Self(self.0.map(|code| code >> 4))
    }
    #[inline(always)]
    unsafe fn with_fifth(self, bits: u32) -> Self {
        let fifth = |lane| (bits >> lane & 1) as i32 * 16;
        Self(std::array::from_fn(|lane| self.0[lane] & 15 | fifth(lane)))
    }
    #[inline(always)]
    unsafe fn to_f32(self) -> [f32; 8] {
        self.0.map(|code| code as f32)
    }
    #[inline(always)]
    unsafe fn table(scale: f32, offset: f32) -> [f32; 16] {
        std::array::from_fn(|code| code as f32 * scale + offset)
    }
    #[inline(always)]
    unsafe fn look_up(self, table: [f32; 16]) -> [f32; 8] {
        self.0.map(|code| table[(code & 15) as usize])
    }
    #[inline(always)]
    unsafe fn k_scales(block: *const u8, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let [scales, minima] = k_bytes(block.add(4)).map(u64::to_le_bytes);
            let [d, minimum] = block.cast::<[u16; 2]>().read_unaligned();
            let (d, minimum) = (Self::widen_1(d), -Self::widen_1(minimum));
            let to = to.cast::<[f32; 8]>();
            to.write_unaligned(scales.map(|scale| f32::from(scale) * d));
            to.add(1)
                .write_unaligned(minima.map(|scale| f32::from(scale) * minimum));
        }
    }
    #[inline(always)]
    unsafe fn scale_16_signed(from: *const u8, factor: f32, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let bytes = from.cast::<[i8; 16]>().read();
            let numbers = bytes.map(|byte| f32::from(byte) * factor);
            to.cast::<[f32; 16]>().write_unaligned(numbers);
        }
    }
    #[inline(always)]
    unsafe fn widen_8(halves: [u16; 8], to: *mut f32) {
        let numbers = halves.map(|half| f16::from_bits(half).to_f32());
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(numbers) }
    }
    #[inline(always)]
    unsafe fn widen_1(half: u16) -> f32 {
        f16::from_bits(half).to_f32()
    }
    #[inline(always)]
    unsafe fn widen_to_all(half: u16) -> [f32; 8] {
        [f16::from_bits(half).to_f32(); 8]
    }
}
