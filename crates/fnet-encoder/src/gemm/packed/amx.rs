//! Tiles by AMX: eight registers of 16 rows of 64 bytes, and `tdpbf16ps`, which multiplies two.
//!
//! Rust has no stable intrinsics for tiles, so each instruction is one line of assembly behind [`Tiles`]. Few
//! machines have tiles, so the tests run the same kernel on emulated ones too.

use std::marker::PhantomData;
use std::sync::OnceLock;

use super::pack::{BLOCK, Layout, Values};
use super::{COLUMNS, TileKernel};

/// Whether the CPU has tiles for bfloat16 and the kernel lets this process use them.
pub fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        const TILE_AND_BF16: u32 = 1 << 24 | 1 << 22;
        let features = std::arch::x86_64::__cpuid_count(7, 0);
        features.edx & TILE_AND_BF16 == TILE_AND_BF16 && permitted()
    })
}

/// Asks the kernel for permission to use tiles: `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    let mut answer: i64 = 158;
    // SAFETY: this system call changes no memory; it gives the process a permission or an error.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") answer,
            in("rdi") 0x1023,
            in("rsi") 18,
            out("rcx") _,
            out("r11") _,
            options(nostack)
        );
    }
    answer == 0
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// The instructions on tile registers. Every tile has 16 rows of 64 bytes.
pub trait Tiles: Copy + Send + Sync {
    /// `ldtilecfg`
    fn configure();
    /// `tilerelease`
    fn release();
    /// `tilezero`
    unsafe fn zero<const T: u8>();
    /// `tileloadd`, with `stride` bytes from row to row.
    unsafe fn load<const T: u8>(from: *const u8, stride: usize);
    /// `tilestored`
    unsafe fn store<const T: u8>(to: *mut u8, stride: usize);
    /// `tdpbf16ps`: `C[i][j] += sum over p of A[i][p] B[p][j]`, each p a pair.
    unsafe fn dot<const C: u8, const A: u8, const B: u8>();
}

/// The CPU's own tiles. No compiled code uses tile registers, so they keep their values between
/// these blocks of assembly, and the operating system keeps them for each thread.
#[derive(Clone, Copy)]
pub struct Cpu;

#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Tiles for Cpu {
    fn configure() {
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        row_bytes[..8].fill(64);
        rows[..8].fill(16);
        let config = Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows };
        // SAFETY: reads the 64 bytes of `config`; the level is only chosen where tiles are permitted.
        unsafe { std::arch::asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, preserves_flags)) };
    }

    fn release() {
        // SAFETY: touches nothing but the tiles' state.
        unsafe { std::arch::asm!("tilerelease", options(nostack, preserves_flags)) };
    }

    unsafe fn zero<const T: u8>() {
        // SAFETY: `configure` has run on this thread.
        unsafe { std::arch::asm!("tilezero tmm{t}", t = const T, options(nostack, preserves_flags)) };
    }

    unsafe fn load<const T: u8>(from: *const u8, stride: usize) {
        // SAFETY: the caller has 16 rows of 64 bytes there.
        unsafe {
            std::arch::asm!(
                "tileloadd tmm{t}, [{from} + {stride}*1]",
                t = const T, from = in(reg) from, stride = in(reg) stride,
                options(nostack, preserves_flags)
            );
        }
    }

    unsafe fn store<const T: u8>(to: *mut u8, stride: usize) {
        // SAFETY: the caller has 16 rows of 64 bytes there.
        unsafe {
            std::arch::asm!(
                "tilestored [{to} + {stride}*1], tmm{t}",
                t = const T, to = in(reg) to, stride = in(reg) stride,
                options(nostack, preserves_flags)
            );
        }
    }

    unsafe fn dot<const C: u8, const A: u8, const B: u8>() {
        // SAFETY: `configure` has run on this thread.
        unsafe {
            std::arch::asm!(
                "tdpbf16ps tmm{c}, tmm{a}, tmm{b}",
                c = const C, a = const A, b = const B,
                options(nostack, preserves_flags)
            );
        }
    }
}

/// Tiles of 32 rows: two registers of x and two of w make four of y, so each is used twice.
#[derive(Clone, Copy)]
pub struct Amx<T = Cpu>(PhantomData<T>);

impl<T> Amx<T> {
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Tiles> TileKernel for Amx<T> {
    const ROWS: usize = 32;
    const DEPTH: usize = 384;
    const HEIGHT: usize = 192;
    const STRIP: Layout = Layout::LanesFirst;
    const VALUES: Values = Values::Two;

    fn begin(self) {
        T::configure();
    }

    fn end(self) {
        T::release();
    }

    unsafe fn tile(
        self,
        _: [usize; 2],
        depth: usize,
        x: *const u32,
        w: *const u32,
        y: *mut f32,
        stride: usize,
        add: bool,
    ) {
        let (row, line, y_row) = (4 * depth, 4 * COLUMNS, 4 * stride);
        // SAFETY: `x`, `w` and `y` hold what `TileKernel::tile` says, of which each register takes 16 rows
        // of 16 pairs, 16 pairs of 16 columns, or 16 x 16 values. Covered by `tiles_match_float64`.
        unsafe {
            let [y0, y1, y2, y3] = [0, 16, 16 * stride, 16 * stride + 16].map(|at| y.add(at).cast::<u8>());
            if add {
                T::load::<0>(y0, y_row);
                T::load::<1>(y1, y_row);
                T::load::<2>(y2, y_row);
                T::load::<3>(y3, y_row);
            } else {
                T::zero::<0>();
                T::zero::<1>();
                T::zero::<2>();
                T::zero::<3>();
            }
            for p in (0..depth).step_by(BLOCK) {
                T::load::<4>(x.add(p).cast(), row);
                T::load::<6>(w.add(p * COLUMNS).cast(), line);
                T::dot::<0, 4, 6>();
                T::load::<7>(w.add(p * COLUMNS + 16).cast(), line);
                T::dot::<1, 4, 7>();
                T::load::<5>(x.add(16 * depth + p).cast(), row);
                T::dot::<2, 5, 6>();
                T::dot::<3, 5, 7>();
            }
            T::store::<0>(y0, y_row);
            T::store::<1>(y1, y_row);
            T::store::<2>(y2, y_row);
            T::store::<3>(y3, y_row);
        }
    }
}

/// Tile registers in memory, as Intel's manual describes the instructions.
#[cfg(test)]
pub mod emulated {
    use std::cell::RefCell;

    use super::Tiles;

    type Tile = [[u32; 16]; 16];

    thread_local! {
        static TILES: RefCell<Option<[Tile; 8]>> = const { RefCell::new(None) };
    }

    #[derive(Clone, Copy)]
    pub struct Emulated;

    fn with<R>(run: impl FnOnce(&mut [Tile; 8]) -> R) -> R {
        TILES.with_borrow_mut(|tiles| run(tiles.as_mut().expect("configured")))
    }

    fn halves(pair: u32) -> [f32; 2] {
        [f32::from_bits(pair << 16), f32::from_bits(pair & 0xFFFF_0000)]
    }

    impl Tiles for Emulated {
        fn configure() {
            TILES.set(Some([[[0; 16]; 16]; 8]));
        }

        fn release() {
            TILES.set(None);
        }

        unsafe fn zero<const T: u8>() {
            with(|tiles| tiles[T as usize] = [[0; 16]; 16]);
        }

        unsafe fn load<const T: u8>(from: *const u8, stride: usize) {
            with(|tiles| {
                for (i, row) in tiles[T as usize].iter_mut().enumerate() {
                    // SAFETY: the caller has 16 rows of 64 bytes there.
                    *row = unsafe { from.add(i * stride).cast::<[u32; 16]>().read_unaligned() };
                }
            });
        }

        unsafe fn store<const T: u8>(to: *mut u8, stride: usize) {
            with(|tiles| {
                for (i, row) in tiles[T as usize].iter().enumerate() {
                    // SAFETY: the caller has 16 rows of 64 bytes there.
                    unsafe { to.add(i * stride).cast::<[u32; 16]>().write_unaligned(*row) };
                }
            });
        }

        unsafe fn dot<const C: u8, const A: u8, const B: u8>() {
            with(|tiles| {
                let (a, b) = (tiles[A as usize], tiles[B as usize]);
                for (c, a) in tiles[C as usize].iter_mut().zip(a) {
                    for (p, pair) in a.into_iter().enumerate() {
                        let [a0, a1] = halves(pair);
                        for (c, b) in c.iter_mut().zip(b[p]) {
                            let [b0, b1] = halves(b);
                            *c = (f32::from_bits(*c) + a0 * b0 + a1 * b1).to_bits();
                        }
                    }
                }
            });
        }
    }
}
