//! What happens between the products: activations, gates, softmax, residuals and norms, in place on plain rows.
//!
//! Loops are written so that the compiler turns them into vector instructions; `vectorised` compiles them for the
//! widest that the machine has. Plain `for` loops and `#[inline(always)]` throughout: what ends up in a function of its own
//! (`for_each(softmax)` did) is compiled for the oldest machine, where a fused multiply-add is a call: attention took
//! five times as long. Sums run in 16 lanes in a fixed order, so a row's result depends on that row alone.

use pulp::Arch;

/// Compiles `work` for the widest vectors of this machine. Everything it calls must be `#[inline(always)]`.
#[inline(always)]
fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(work)
}

/// The function between the two linear layers of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x * Phi(x)` (Hendrycks and Gimpel, 2016), by the error function, not the tanh approximation.
    Gelu,
    /// The tanh approximation of GELU, which some models were trained with.
    GeluTanh,
    /// `x / (1 + e^(-1.702 x))`, the sigmoid approximation of GELU, which CLIP was trained with.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
    /// `x / (1 + e^-x)`, also called swish.
    Silu,
    /// The hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// The names that model files have for those that are known.
    pub(crate) const NAMES: [(&'static str, Self); 8] = [
        ("gelu", Self::Gelu),
        ("gelu_new", Self::GeluTanh),
        ("gelu_pytorch_tanh", Self::GeluTanh),
        ("quick_gelu", Self::QuickGelu),
        ("relu", Self::Relu),
        ("silu", Self::Silu),
        ("swish", Self::Silu),
        ("tanh", Self::Tanh),
    ];

    /// Applies it to every number.
    pub(crate) fn apply(self, values: &mut [f32]) {
        match self {
            Self::Gelu => each(values, gelu),
            Self::GeluTanh => each(values, gelu_tanh),
            Self::QuickGelu => each(values, quick_gelu),
            Self::Relu => each(values, relu),
            Self::Silu => each(values, silu),
            Self::Tanh => each(values, tanh),
        }
    }

    /// Gated linear units (Shazeer, 2020): of each row of `[tokens, 2 * width]`, the first half activated times the second,
    /// into `[tokens, width]`.
    pub(crate) fn gate(self, rows: &[f32], width: usize, out: &mut [f32]) {
        match self {
            Self::Gelu => gated(rows, width, out, gelu),
            Self::GeluTanh => gated(rows, width, out, gelu_tanh),
            Self::QuickGelu => gated(rows, width, out, quick_gelu),
            Self::Relu => gated(rows, width, out, relu),
            Self::Silu => gated(rows, width, out, silu),
            Self::Tanh => gated(rows, width, out, tanh),
        }
    }
}

fn gated(rows: &[f32], width: usize, out: &mut [f32], function: impl Fn(f32) -> f32) {
    vectorised(
        #[inline(always)]
        || {
            for (row, out) in rows.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
                let (gate, values) = row.split_at(width);
                for ((out, &gate), &value) in out.iter_mut().zip(gate).zip(values) {
                    *out = function(gate) * value;
                }
            }
        },
    );
}

#[inline(always)]
fn relu(x: f32) -> f32 {
    x.max(0.0)
}

#[inline(always)]
fn quick_gelu(x: f32) -> f32 {
    x / (1.0 + exp(-1.702 * x))
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x) + 1.0)
}

/// `values += added`, number by number.
pub(crate) fn add(values: &mut [f32], added: &[f32]) {
    for (value, added) in values.iter_mut().zip(added) {
        *value += added;
    }
}

fn each(values: &mut [f32], function: impl Fn(f32) -> f32) {
    vectorised(
        #[inline(always)]
        || {
            for value in values {
                *value = function(*value);
            }
        },
    );
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    // tanh(y) = 1 - 2 / (exp(2y) + 1)
    let y = 0.797_884_6 * (0.044_715 * x * x).mul_add(x, x);
    0.5 * x * (2.0 - 2.0 / (exp(2.0 * y) + 1.0))
}

/// The error function, to 3e-7: formula 7.1.26 of Abramowitz and Stegun, "Handbook of Mathematical Functions" (1964).
#[inline(always)]
fn erf(x: f32) -> f32 {
    let magnitude = x.abs();
    let t = 1.0 / 0.327_591_1_f32.mul_add(magnitude, 1.0);
    let sum = 1.061_405_4_f32.mul_add(t, -1.453_152_1).mul_add(t, 1.421_413_8).mul_add(t, -0.284_496_74);
    let sum = sum.mul_add(t, 0.254_829_6) * t;
    (1.0 - sum * exp(-magnitude * magnitude)).copysign(x)
}

/// `e^x` to 2e-7 of its value: `2^n` through the exponent's bits, times the Taylor polynomial of what is left, which lies
/// within half of ln 2. Below -87 the result is about 1e-38 instead of a denormal.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts, so that the product with n is exact in the first.
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = (1.0_f32 / 5040.0).mul_add(r, 1.0 / 720.0).mul_add(r, 1.0 / 120.0).mul_add(r, 1.0 / 24.0);
    let p = p.mul_add(r, 1.0 / 6.0).mul_add(r, 0.5).mul_add(r, 1.0).mul_add(r, 1.0);
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// Sixteen lanes: one AVX-512 register, two of AVX2, four of NEON.
const LANES: usize = 16;

#[inline(always)]
fn sum(values: &[f32], each: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += each(value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane += each(value);
    }
    lanes.iter().sum()
}

#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Softmax of one row; the largest value is taken off first, so nothing overflows. To be called from vectorised code.
#[inline(always)]
pub(crate) fn softmax(row: &mut [f32]) {
    let top = largest(row);
    for value in &mut *row {
        *value = exp(*value - top);
    }
    let scale = 1.0 / sum(row, |value| value);
    for value in row {
        *value *= scale;
    }
}

/// Layer normalisation (Ba, Kiros and Hinton, 2016), or by the root mean square alone (Zhang and Sennrich, 2019).
pub(crate) struct Norm {
    /// One factor for each number of a row.
    pub(crate) weight: Vec<f32>,
    /// One summand for each number of a row.
    pub(crate) bias: Vec<f32>,
    /// Keeps the division away from zero.
    pub(crate) epsilon: f32,
    /// Whether the mean is taken off first.
    pub(crate) centred: bool,
}

impl Norm {
    /// Normalises the heads that lie in the columns `columns` of each row, in place.
    pub(crate) fn apply_to_heads(&self, rows: &mut [f32], stride: usize, columns: std::ops::Range<usize>) {
        vectorised(
            #[inline(always)]
            || {
                for row in rows.chunks_exact_mut(stride) {
                    for head in row[columns.clone()].chunks_exact_mut(self.weight.len()) {
                        self.row(head);
                    }
                }
            },
        );
    }

    /// Normalises each row in place.
    pub(crate) fn apply(&self, rows: &mut [f32]) {
        vectorised(
            #[inline(always)]
            || {
                for row in rows.chunks_exact_mut(self.weight.len()) {
                    self.row(row);
                }
            },
        );
    }

    /// `rows = norm(rows + residual)`.
    pub(crate) fn add_and_apply(&self, rows: &mut [f32], residual: &[f32]) {
        let width = self.weight.len();
        vectorised(
            #[inline(always)]
            || {
                for (row, residual) in rows.chunks_exact_mut(width).zip(residual.chunks_exact(width)) {
                    for (value, added) in row.iter_mut().zip(residual) {
                        *value += added;
                    }
                    self.row(row);
                }
            },
        );
    }

    #[inline(always)]
    fn row(&self, row: &mut [f32]) {
        let count = row.len() as f32;
        let mean = if self.centred { sum(row, |value| value) / count } else { 0.0 };
        let variance = sum(row, |value| (value - mean) * (value - mean)) / count;
        let scale = 1.0 / (variance + self.epsilon).sqrt();
        for ((value, weight), bias) in row.iter_mut().zip(&self.weight).zip(&self.bias) {
            *value = ((*value - mean) * scale).mul_add(*weight, *bias);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: f64, to: f64, steps: u32) -> impl Iterator<Item = f64> {
        (0..=steps).map(move |step| from + (to - from) * f64::from(step) / f64::from(steps))
    }

    /// The error function by its Taylor series (good below 3.5), in f64.
    fn erf_exactly(x: f64) -> f64 {
        let (mut term, mut total) = (x, x);
        for n in 1..120 {
            term *= -x * x / f64::from(n);
            total += term / f64::from(2 * n + 1);
        }
        total * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn exp_is_right_to_the_last_bits() {
        for x in range(-86.9, 87.9, 100_000) {
            let (got, wanted) = (f64::from(exp(x as f32)), f64::from(x as f32).exp());
            assert!((got / wanted - 1.0).abs() < 3e-7, "exp({x}) = {got} instead of {wanted}");
        }
        assert!(exp(-1e30) < 1e-37 && exp(f32::NEG_INFINITY) >= 0.0);
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn gelu_is_exact_to_a_millionth() {
        for x in range(-4.9, 4.9, 20_000) {
            let exact = 0.5 * x * (1.0 + erf_exactly(x / std::f64::consts::SQRT_2));
            assert!((f64::from(gelu(x as f32)) - exact).abs() < 1e-6, "gelu({x})");
        }
        assert!((gelu(30.0) - 30.0).abs() < 1e-5 && gelu(-30.0).abs() < 1e-6);
        assert_eq!(gelu(0.0), 0.0);
    }

    #[test]
    fn tanh_gelu_follows_its_formula() {
        for x in range(-6.0, 6.0, 1000) {
            let exact = 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh());
            assert!((f64::from(gelu_tanh(x as f32)) - exact).abs() < 1e-6, "gelu_tanh({x})");
        }
    }

    #[test]
    fn softmax_sums_to_one_even_for_huge_scores() {
        for length in [1, 7, 16, 33] {
            let mut row: Vec<f32> = (0..length).map(|index| 1e4 + index as f32).collect();
            softmax(&mut row);
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            assert!(row.is_sorted(), "a larger score has a larger share");
        }
    }

    #[test]
    fn norm_leaves_mean_zero_and_variance_one() {
        let norm = Norm { weight: vec![1.0; 37], bias: vec![0.0; 37], epsilon: 1e-12, centred: true };
        let mut rows: Vec<f32> = (0..74).map(|index| (index * index % 31) as f32 + 5.0).collect();
        norm.add_and_apply(&mut rows, &[3.0; 74]);
        for row in rows.chunks_exact(37) {
            let mean = row.iter().sum::<f32>() / 37.0;
            let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / 37.0;
            assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-5, "mean {mean}, variance {variance}");
        }
    }

    #[test]
    fn norm_by_root_mean_square_leaves_the_mean_and_reaches_each_head() {
        let norm = Norm { weight: vec![2.0; 4], bias: vec![0.0; 4], epsilon: 0.0, centred: false };
        let mut rows: Vec<f32> = (1..=24).map(|index| index as f32).collect();
        norm.apply_to_heads(&mut rows, 12, 4..12);
        for (index, head) in rows.chunks_exact(4).enumerate() {
            let square = head.iter().map(|value| value * value).sum::<f32>() / 4.0;
            if index % 3 == 0 {
                assert_eq!(head[0], (index * 4 + 1) as f32, "outside of the columns");
            } else {
                assert!((square - 4.0).abs() < 1e-5 && head.is_sorted() && head[0] > 1.0, "{head:?}");
            }
        }
    }

    #[test]
    fn activations_and_gates_follow_their_formulas() {
        for x in range(-9.0, 9.0, 1000) {
            let found = |activation: Activation| {
                let mut value = [x as f32];
                activation.apply(&mut value);
                let mut gated = [0.0];
                activation.gate(&[x as f32, 3.0], 1, &mut gated);
                assert_eq!(gated[0], value[0] * 3.0);
                f64::from(value[0])
            };
            let silu = x / (1.0 + (-x).exp());
            assert!((found(Activation::Silu) - silu).abs() < 1e-6 * x.abs().max(1.0), "silu({x})");
            assert!((found(Activation::Tanh) - x.tanh()).abs() < 1e-6, "tanh({x})");
            let quick = x / (1.0 + (-1.702 * x).exp());
            assert!((found(Activation::QuickGelu) - quick).abs() < 1e-6 * x.abs().max(1.0), "quick_gelu({x})");
            assert_eq!(found(Activation::Relu), f64::from(x.max(0.0) as f32));
        }
    }
}
