//! How is a vector told in one byte a number?
//!
//! The mean of the segment is taken off, lengths are divided by the longest that is left, and each vector gets a scale of
//! its own, so that its largest number becomes 127. An own scale costs 4 bytes and keeps vectors of any length, and those
//! with outliers beside them, as exact as the others; a scale for the whole segment does not.
//!
//! ```text
//! record   dims codes (u8, 128 is zero), zeros to a multiple of 4, scale f32, norm f32, zeros to a multiple of 16
//! ```
//!
//! `norm` is the squared length of what the codes say. With it the rank of a record for a cosine (whose vectors have length
//! 1, so that the nearest is the most alike) and for a distance is `query . record - norm / 2`: the rounding of the record
//! then counts in proportion to how far it is from the query. For a dot product it is `query . record`, and the mean shifts
//! all scores alike.
//!
//! Invariants: a record depends on its vector, the mean and the unit alone, and on no processor; ranks order nodes of one
//! segment for one query and are no scores.

use rayon::prelude::*;

use crate::Result;
use crate::bytes::Rows;
use crate::distance::{CodeKernel, Metric};

/// What is added to a code in a record, because the kernels want records unsigned.
const ZERO: u8 = 128;
const CODE_MAX: f64 = 127.0;
/// No rank overflows, however far the query is.
const SCALE_MAX: f64 = 1e30;
/// Rows whose mean one task takes; fixed, so that sums do not depend on the number of threads.
const TASK_ROWS: usize = 4096;

/// Bytes of a record.
pub(super) fn stride(dims: usize) -> usize {
    (dims.next_multiple_of(4) + 8).next_multiple_of(16)
}

/// What the codes of a segment are relative to.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) metric: Metric,
    pub(super) centre: Vec<f32>,
    /// The length that becomes 1.
    pub(super) unit: f64,
}

/// A vector that records are compared with.
#[derive(Clone, Debug, Default)]
pub(super) struct Probe {
    codes: Vec<i8>,
    /// 128 times the sum of the codes, which the kernels' unsigned records bring in.
    surplus: i32,
    scale: f32,
    norm: f32,
}

/// What a record says beside its codes.
#[derive(Clone, Copy, Debug)]
struct Tail {
    scale: f32,
    norm: f32,
}

impl Frame {
    /// Measures rows in the form that the metric compares.
    ///
    /// # Errors
    /// Those of the rows.
    pub(super) fn fit(metric: Metric, dims: usize, count: usize, rows: &dyn Rows) -> Result<Self> {
        let sums: Vec<Vec<f64>> = each_task(count, rows, |rows| column_sums(dims, rows))?;
        let mean = |dim| sums.iter().map(|sums: &Vec<f64>| sums[dim]).sum::<f64>() / count.max(1) as f64;
        let centre: Vec<f32> = (0..dims).map(|dim| mean(dim) as f32).collect();
        let longest = |rows: &[f32]| rows.chunks(dims).map(|row| squared_distance(row, &centre)).fold(0.0, f64::max);
        let longest = each_task(count, rows, longest)?.into_iter().fold(0.0, f64::max);
        let unit = if longest > 0.0 { longest.sqrt() } else { 1.0 };
        Ok(Self { metric, centre, unit })
    }

    /// Writes the record of a row.
    pub(super) fn encode(&self, kernel: CodeKernel, row: &[f32], record: &mut [u8]) {
        let dims = self.centre.len();
        let mut probe = Probe::default();
        self.round(row.iter().zip(&self.centre).map(|(&value, &mean)| centred(value, mean) / self.unit), &mut probe);
        for (byte, &code) in record.iter_mut().zip(&probe.codes) {
            *byte = code.wrapping_add_unsigned(ZERO).cast_unsigned();
        }
        let product = kernel.dot(&probe.codes, &record[..dims]) - probe.surplus;
        let norm = probe.scale * probe.scale * product as f32;
        let tail = &mut record[dims.next_multiple_of(4)..];
        tail[..4].copy_from_slice(&probe.scale.to_le_bytes());
        tail[4..8].copy_from_slice(&norm.to_le_bytes());
    }

    /// Makes the probe of a query in the form that the metric compares.
    pub(super) fn query(&self, query: &[f32], probe: &mut Probe) {
        match self.metric {
            Metric::Cosine | Metric::L2 => {
                let numbers = query.iter().zip(&self.centre);
                self.round(numbers.map(|(&value, &mean)| centred(value, mean) / self.unit), probe);
            }
            // Its length changes no order.
            Metric::Dot => {
                self.round(query.iter().map(|&value| f64::from(value)), probe);
                probe.scale = 1.0;
            }
        }
    }

    fn round(&self, numbers: impl Iterator<Item = f64> + Clone, probe: &mut Probe) {
        let largest = numbers.clone().fold(0.0, |largest: f64, number| largest.max(number.abs()));
        let step = largest / CODE_MAX;
        let inverse = if step > 0.0 { CODE_MAX / largest } else { 0.0 };
        probe.codes.clear();
        probe.codes.extend(numbers.map(|number| (number * inverse).round().clamp(-CODE_MAX, CODE_MAX) as i8));
        probe.surplus = surplus(&probe.codes);
        probe.scale = step.min(SCALE_MAX) as f32;
        probe.norm = 0.0;
    }

    /// What the norm of a record counts in its rank.
    pub(super) fn norm_weight(&self) -> f32 {
        match self.metric {
            Metric::Cosine | Metric::L2 => 0.5,
            Metric::Dot => 0.0,
        }
    }
}

impl Probe {
    /// Becomes the vector that a record tells.
    pub(super) fn load(&mut self, dims: usize, record: &[u8]) {
        self.codes.clear();
        self.codes.extend(record[..dims].iter().map(|&byte| byte.wrapping_sub(ZERO).cast_signed()));
        self.surplus = surplus(&self.codes);
        let tail = tail(dims, record);
        (self.scale, self.norm) = (tail.scale, tail.norm);
    }

    /// The rank of a record: the larger, the more alike.
    #[inline]
    pub(super) fn rank(&self, kernel: CodeKernel, norm_weight: f32, record: &[u8]) -> f32 {
        let dims = self.codes.len();
        let tail = tail(dims, record);
        let product = kernel.dot(&self.codes, &record[..dims]) - self.surplus;
        self.scale * tail.scale * product as f32 - norm_weight * tail.norm
    }

    /// The squared distance to a record, exactly 0 to an equal one. With `lift` all vectors get one more number that makes
    /// them equally long, which turns the largest dot product into the least distance (Bachrach et al., 2014).
    #[inline]
    pub(super) fn distance(&self, kernel: CodeKernel, lift: bool, record: &[u8]) -> f32 {
        let dims = self.codes.len();
        let tail = tail(dims, record);
        let product = kernel.dot(&self.codes, &record[..dims]) - self.surplus;
        let flat = self.norm + tail.norm - 2.0 * (self.scale * tail.scale * product as f32);
        let height = |norm: f32| (1.0 - norm).max(0.0).sqrt();
        let rise = if lift { height(self.norm) - height(tail.norm) } else { 0.0 };
        flat + rise * rise
    }
}

#[inline]
fn tail(dims: usize, record: &[u8]) -> Tail {
    let tail = &record[dims.next_multiple_of(4)..];
    let number = |at: usize| f32::from_le_bytes([tail[at], tail[at + 1], tail[at + 2], tail[at + 3]]);
    Tail { scale: number(0), norm: number(4) }
}

fn surplus(codes: &[i8]) -> i32 {
    i32::from(ZERO) * codes.iter().map(|&code| i32::from(code)).sum::<i32>()
}

fn centred(value: f32, mean: f32) -> f64 {
    f64::from(value) - f64::from(mean)
}

fn squared_distance(row: &[f32], centre: &[f32]) -> f64 {
    row.iter().zip(centre).map(|(&value, &mean)| centred(value, mean).powi(2)).sum()
}

/// What `work` says to each run of rows, in their order, on all cores.
fn each_task<T: Send>(count: usize, rows: &dyn Rows, work: impl Fn(&[f32]) -> T + Sync) -> Result<Vec<T>> {
    let step = |buffer: &mut Vec<f32>, task: usize| {
        let first = task * TASK_ROWS;
        rows.read(first..count.min(first + TASK_ROWS), buffer).map(|()| work(buffer))
    };
    (0..count.div_ceil(TASK_ROWS)).into_par_iter().map_init(Vec::new, step).collect()
}

fn column_sums(dims: usize, rows: &[f32]) -> Vec<f64> {
    let mut sums = vec![0.0; dims];
    for row in rows.chunks_exact(dims) {
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += f64::from(value);
        }
    }
    sums
}
