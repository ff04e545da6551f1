//! The instructions for bfloat16 of x86-64.
//!
//! Source: Intel, Software Developer's Manual, volume 1, chapter 18 (AMX), and volume 2, `TDPBF16PS` and `VDPBF16PS`.

use std::arch::asm;
use std::arch::x86_64::{__m512, __m512bh, _mm512_dpbf16_ps};
use std::marker::PhantomData;

use super::tile::{Multiply, Place, Term, product_with};
use crate::cpu::matrix::BLOCK;
use crate::cpu::pool::DisjointParts;
use crate::cpu::simd::Avx512;

/// `vdpbf16ps`: two products in each lane.
#[derive(Clone, Copy, Debug)]
pub struct Dot(Avx512);

impl Dot {
    pub fn detect(simd: Avx512) -> Option<Self> {
        is_x86_feature_detected!("avx512bf16").then_some(Self(simd))
    }

    /// Sums the terms of a tile, and writes it to its place.
    pub fn tile_product(self, terms: &[Term<'_>], place: &Place, out: &DisjointParts<'_>) {
        #[target_feature(enable = "avx512f,avx512bf16")]
        fn run(dot: Dot, terms: &[Term<'_>], place: &Place, out: &DisjointParts<'_>) {
            product_with(dot.0, dot, terms, place, out);
        }
        // SAFETY: `self` exists only if the processor has both instruction sets.
        unsafe { run(self, terms, place, out) }
    }
}

impl Multiply<Avx512> for Dot {
    const NUMBERS: usize = 2;

    #[inline(always)]
    fn add(self, _: Avx512, left: __m512, right: __m512, sum: __m512) -> __m512 {
        // SAFETY: both types are vectors of 512 bits, whose bits may be any. `self` exists only if the processor has the
        // instruction, which accesses no memory.
        unsafe {
            let [left, right] = std::mem::transmute::<[__m512; 2], [__m512bh; 2]>([left, right]);
            _mm512_dpbf16_ps(sum, left, right)
        }
    }
}

/// AMX: eight registers, each a matrix of sixteen rows of 64 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Amx(());

impl Amx {
    /// The rows of a register.
    pub const ROWS: usize = 16;
    /// The rows of a product's tile: two registers of rows times two of columns.
    pub const TILE_ROWS: usize = 2 * Self::ROWS;

    /// `None` where the processor lacks it, or where the system does not let this process use it.
    pub fn detect() -> Option<Self> {
        #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
        {
            static HAS: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
            HAS.get_or_init(|| Self::has_instructions() && Self::is_permitted()).then_some(Self(()))
        }
        #[cfg(not(all(target_os = "linux", target_env = "gnu", not(miri))))]
        None
    }

    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    fn has_instructions() -> bool {
        const BF16: u32 = 1 << 22;
        const TILE: u32 = 1 << 24;
        let leaves = std::arch::x86_64::__cpuid(0).eax;
        leaves >= 7 && std::arch::x86_64::__cpuid_count(7, 0).edx & (BF16 | TILE) == BF16 | TILE
    }

    /// Asks Linux to keep the registers for this process, which it does not do unasked.
    ///
    /// Source: Linux, `Documentation/arch/x86/xstate.rst`.
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    fn is_permitted() -> bool {
        const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
        const XFEATURE_XTILEDATA: libc::c_ulong = 18;
        // SAFETY: this call of `arch_prctl` takes two integers and accesses no memory. What it does not know, it refuses.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
    }
}

/// The registers of this thread, divided into matrices, and a tile of results. Dropping it gives the registers back. A
/// thread has one at a time: with the first, a second one's registers would be gone, and the processor would stop the
/// program at its next product.
#[derive(Debug)]
pub struct Configured {
    tile: [[f32; BLOCK]; Amx::TILE_ROWS],
    /// The registers are of this thread alone.
    thread: PhantomData<*const ()>,
}

impl Configured {
    pub fn new(_: Amx) -> Self {
        /// The layout that `ldtilecfg` reads: all registers of sixteen rows of 64 bytes.
        #[repr(C, align(64))]
        struct Shape {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        let mut shape = Shape { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        shape.row_bytes[..8].fill(64);
        shape.rows[..8].fill(Amx::ROWS as u8);
        // SAFETY: an `Amx` exists only if the processor has the instruction and the system permits it. It reads the 64
        // bytes of `shape`.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shape, options(nostack, readonly, preserves_flags)) };
        Self { tile: [[0.0; BLOCK]; Amx::TILE_ROWS], thread: PhantomData }
    }

    /// The sum of the products of terms of pairs. A row of the tile depends on the same row of the left sides alone.
    ///
    /// # Panics
    /// When a term is shorter than its depth says.
    pub fn sum(&mut self, terms: &[Term<'_>]) -> &[[f32; BLOCK]; Amx::TILE_ROWS] {
        let mut terms = terms.iter().filter(|term| term.depth > 0);
        match terms.next() {
            Some(first) => self.term::<false>(first),
            None => self.tile.fill([0.0; BLOCK]),
        }
        terms.for_each(|term| self.term::<true>(term));
        &self.tile
    }

    /// One term, added to what the tile holds where `ADD` is set.
    fn term<const ADD: bool>(&mut self, term: &Term<'_>) {
        const WORDS: usize = BLOCK / 2;
        let blocks = term.depth.div_ceil(BLOCK);
        let left = &term.left[..(blocks - 1) * term.left_stride + Amx::TILE_ROWS * WORDS];
        let right = &term.right[..(blocks * WORDS - 1) * term.right_stride + BLOCK];
        macro_rules! run {
            ($($start:literal),*) => {
                // SAFETY: `self` exists only on the thread that configured the registers (it is not `Send`), and until
                // they are given back. The code reads `blocks` times (at least once): 32 rows of 64 bytes from `left`, each
                // directly after the one before it, which is `left_stride` words further each time; sixteen rows of 128
                // bytes from `right`, which are `right_stride` words apart. The two slices above are that long. It reads and
                // writes the 32 rows of 128 bytes of the tile, which is borrowed mutably.
                unsafe {
                    asm!(
                        $($start,)*
                        "2:",
                        "tileloadd tmm4, [{left} + {left_row}*1]",
                        "tileloadd tmm6, [{right} + {right_row}*1]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tileloadd tmm7, [{right} + {right_row}*1 + 64]",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                        "tileloadd tmm5, [{left} + {left_row}*1 + 1024]",
                        "tdpbf16ps tmm2, tmm5, tmm6",
                        "tdpbf16ps tmm3, tmm5, tmm7",
                        "add {left}, {left_step}",
                        "add {right}, {right_step}",
                        "dec {blocks}",
                        "jnz 2b",
                        "tilestored [{tile} + {tile_row}*1], tmm0",
                        "tilestored [{tile} + {tile_row}*1 + 64], tmm1",
                        "tilestored [{tile} + {tile_row}*1 + 2048], tmm2",
                        "tilestored [{tile} + {tile_row}*1 + 2112], tmm3",
                        left = inout(reg) left.as_ptr() => _,
                        right = inout(reg) right.as_ptr() => _,
                        blocks = inout(reg) blocks => _,
                        tile = in(reg) self.tile.as_mut_ptr(),
                        left_row = in(reg) 4 * WORDS,
                        right_row = in(reg) 4 * term.right_stride,
                        tile_row = in(reg) 4 * BLOCK,
                        left_step = in(reg) 4 * term.left_stride,
                        right_step = in(reg) 4 * WORDS * term.right_stride,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    )
                }
            };
        }
        if ADD {
            run!(
                "tileloadd tmm0, [{tile} + {tile_row}*1]",
                "tileloadd tmm1, [{tile} + {tile_row}*1 + 64]",
                "tileloadd tmm2, [{tile} + {tile_row}*1 + 2048]",
                "tileloadd tmm3, [{tile} + {tile_row}*1 + 2112]"
            );
        } else {
            run!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3");
        }
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: the instruction exists, or `self` would not. It clears registers that no one else uses.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}
