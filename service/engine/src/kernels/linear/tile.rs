//! The innermost loops: `ROWS` rows of `x` against some panels, the sums in registers.

use super::pack::{PANEL, ROWS};
use std::ops::Range;

/// Panels against all rows of `x`.
pub(super) struct Block<'a, A, B> {
    /// Packed, `rows` in all.
    pub(super) x: &'a [A],
    pub(super) rows: usize,
    /// Whole panels.
    pub(super) weight: &'a [B],
    /// The weight's row that the first panel begins with.
    pub(super) first: usize,
    /// The weight's rows whose products are wanted.
    pub(super) chosen: &'a Range<usize>,
    /// Steps that cover `K`.
    pub(super) steps: usize,
}

/// One way to multiply, at the best level of the processor.
pub(super) trait Kernel {
    /// `ROWS` rows of `x` in one step.
    type A: Copy + Default + Send + Sync;
    /// `PANEL` rows of the weight in one step.
    type B: Copy + Send + Sync;
    /// Values of `K` in a step.
    const STEP: usize;

    /// Packs up to `ROWS` rows of `k` values; `to` has a place for every step and is zero.
    ///
    /// # Safety
    /// The processor must run the kernel.
    unsafe fn pack(x: &[f32], k: usize, to: &mut [Self::A]);

    /// Writes the products of a block to `out`, rows of `chosen` values.
    ///
    /// # Safety
    /// The processor must run the kernel; `out` must be writable for every row of `x` at the block's
    /// columns.
    unsafe fn block(block: &Block<'_, Self::A, Self::B>, out: *mut f32);
}

/// What one kind of processor does in a tile.
pub(super) trait Level {
    type A;
    type B;
    /// Values in a vector: a panel or half of it.
    const LANES: usize;
    /// Steps that go through all rows before the next ones: what a tile reads of its panels then stays
    /// in the second-level cache.
    const PASS: usize;

    /// Adds `steps` steps to the sums at `out`, or begins them.
    ///
    /// # Safety
    /// The processor must have the level. `x` and each panel of `weight`, which come with the first of
    /// their rows that a vector holds, must have `steps` steps; `out` must have `ROWS` rows of `V`
    /// vectors, `stride` values apart.
    unsafe fn tile<const V: usize>(
        x: *const Self::A,
        weight: [(*const Self::B, usize); V],
        steps: usize,
        out: *mut f32,
        stride: usize,
        is_begun: bool,
    );
}

/// Goes through a block in tiles: as wide as the registers hold, and at its edges one panel at a time.
#[inline(always)]
pub(super) unsafe fn block_body<L: Level>(block: &Block<'_, L::A, L::B>, out: *mut f32) {
    let steps = block.steps;
    let panels = block.weight.len() / steps;
    let mut begin = 0;
    while begin < steps {
        let count = L::PASS.min(steps - begin);
        for x_block in 0..block.rows.div_ceil(ROWS) {
            let x = block.x[x_block * steps + begin..].as_ptr();
            let mut panel = 0;
            while panel < panels {
                let weight = &block.weight[panel * steps + begin..];
                let place = Place {
                    row: x_block * ROWS,
                    column: block.first + panel * PANEL,
                    is_begun: begin > 0,
                };
                // SAFETY: the operands have `count` steps from here on; the rest is the caller's promise.
                unsafe {
                    if L::LANES < PANEL {
                        let halves = [0, PANEL / 2].map(|lane| (weight.as_ptr(), lane));
                        sums::<L, 2>(block, x, halves, count, &place, out);
                        panel += 1;
                    } else if panel + 4 <= panels {
                        let weight = std::array::from_fn(|at| (weight[at * steps..].as_ptr(), 0));
                        sums::<L, 4>(block, x, weight, count, &place, out);
                        panel += 4;
                    } else {
                        sums::<L, 1>(block, x, [(weight.as_ptr(), 0)], count, &place, out);
                        panel += 1;
                    }
                }
            }
        }
        begin += count;
    }
}

/// Where a tile's sums belong.
struct Place {
    /// Of `x`.
    row: usize,
    /// The weight's row.
    column: usize,
    /// Whether the sums of earlier steps are there.
    is_begun: bool,
}

/// One tile of `ROWS` rows and `V` vectors: into place if all of it is wanted, else by a copy.
#[inline(always)]
unsafe fn sums<L: Level, const V: usize>(
    block: &Block<'_, L::A, L::B>,
    x: *const L::A,
    weight: [(*const L::B, usize); V],
    steps: usize,
    place: &Place,
    out: *mut f32,
) {
    let Place { row, column, is_begun } = *place;
    let chosen = block.chosen;
    let stride = chosen.len();
    let width = V * L::LANES;
    // SAFETY: what is read and written are the rows and columns of the caller's promise.
    unsafe {
        if row + ROWS <= block.rows && column >= chosen.start && column + width <= chosen.end {
            let to = out.add(row * stride + column - chosen.start);
            L::tile::<V>(x, weight, steps, to, stride, is_begun);
            return;
        }
        // The widest tile has four panels.
        let mut copy = [0.0f32; ROWS * 4 * PANEL];
        let rows = row..block.rows.min(row + ROWS);
        let columns = column.max(chosen.start)..chosen.end.min(column + width);
        let line = |row: usize| out.add(row * stride + columns.start - chosen.start);
        let shift = columns.start - column;
        if is_begun {
            for (at, row) in rows.clone().enumerate() {
                let to = copy.as_mut_ptr().add(at * width + shift);
                to.copy_from_nonoverlapping(line(row), columns.len());
            }
        }
        L::tile::<V>(x, weight, steps, copy.as_mut_ptr(), width, is_begun);
        for (at, row) in rows.enumerate() {
            let from = copy.as_ptr().add(at * width + shift);
            line(row).copy_from_nonoverlapping(from, columns.len());
        }
    }
}
