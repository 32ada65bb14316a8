//! Dot products of rows with rows, the sums in registers: what attention weighs its keys by.

use super::simd::Simd;

/// `count` rows, `stride` values from each other.
pub(super) struct Rows {
    pub(super) first: *const f32,
    pub(super) count: usize,
    pub(super) stride: usize,
}

impl Rows {
    pub(super) fn row(&self, index: usize) -> *const f32 {
        self.first.wrapping_add(index * self.stride)
    }
}

/// Writes `x[r] · w[c]` to `out[r * out_stride + c]` for all rows of both.
///
/// Each product is summed over ascending `k` in `LANES` partial sums, then over the lanes, then
/// over what is left of `k`: the same bits whatever other rows there are.
///
/// # Safety
/// The rows must be readable for `k` values each, the places in `out` writable, and the processor
/// must run `S`.
#[inline(always)]
pub(super) unsafe fn dot_products<S: Simd>(
    x: &Rows,
    w: &Rows,
    k: usize,
    out: *mut f32,
    out_stride: usize,
) {
    // As many sums as fit the registers beside a vector of `x` and the vectors of `w`.
    if S::LANES == 16 {
        // SAFETY: the caller's promise is the same.
        unsafe { tiles::<S, 6, 4>(x, w, k, out, out_stride) }
    } else {
        // SAFETY: the caller's promise is the same.
        unsafe { tiles::<S, 3, 3>(x, w, k, out, out_stride) }
    }
}

#[inline(always)]
unsafe fn tiles<S: Simd, const R: usize, const C: usize>(
    x: &Rows,
    w: &Rows,
    k: usize,
    out: *mut f32,
    out_stride: usize,
) {
    let mut column = 0;
    while column < w.count {
        let wide = column + C <= w.count;
        let mut row = 0;
        while row < x.count {
            let tall = row + R <= x.count;
            // SAFETY: the tile's rows are among those of `x` and `w`, its results among `out`'s.
            unsafe {
                let to = out.add(row * out_stride + column);
                match (tall, wide) {
                    (true, true) => tile::<S, R, C>(x, row, w, column, k, to, out_stride),
                    (true, false) => tile::<S, R, 1>(x, row, w, column, k, to, out_stride),
                    (false, true) => tile::<S, 1, C>(x, row, w, column, k, to, out_stride),
                    (false, false) => tile::<S, 1, 1>(x, row, w, column, k, to, out_stride),
                }
            }
            row += if tall { R } else { 1 };
        }
        column += if wide { C } else { 1 };
    }
}

/// `R` rows of `x` from `row` on against `C` rows of `w` from `column` on.
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const C: usize>(
    x: &Rows,
    row: usize,
    w: &Rows,
    column: usize,
    k: usize,
    out: *mut f32,
    out_stride: usize,
) {
    let x: [*const f32; R] = std::array::from_fn(|r| x.row(row + r));
    let w: [*const f32; C] = std::array::from_fn(|c| w.row(column + c));
    // SAFETY: every row holds `k` values and `i` stays below `k`.
    unsafe {
        let mut sums = [[S::splat(0.0); C]; R];
        let whole = k - k % S::LANES;
        let mut i = 0;
        while i < whole {
            let columns: [S::Vector; C] = std::array::from_fn(|c| S::load(w[c].add(i)));
            for r in 0..R {
                let value = S::load(x[r].add(i));
                for c in 0..C {
                    sums[r][c] = S::mul_add(value, columns[c], sums[r][c]);
                }
            }
            i += S::LANES;
        }
        for r in 0..R {
            for c in 0..C {
                let mut sum = S::sum(sums[r][c]);
                for i in whole..k {
                    sum += *x[r].add(i) * *w[c].add(i);
                }
                *out.add(r * out_stride + c) = sum;
            }
        }
    }
}
