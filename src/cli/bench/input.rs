//! Which vectors are stored, and which are asked?

use anyhow::Result;
use quiverdb::Metric;

use super::arrays::{self, Rows};
use crate::cli::args::VectorFiles;
use crate::cli::session::Mistake;

/// The vectors of a measurement.
pub(super) struct Input {
    /// Those that are searched.
    pub(super) base: Rows<f32>,
    /// Those that ask; as long as those of the base.
    pub(super) queries: Rows<f32>,
    pub(super) metric: Metric,
}

/// Reads both files and sees that they go together.
pub(super) fn read(files: &VectorFiles) -> Result<Input> {
    let (base, queries) = (arrays::vectors(&files.base)?, arrays::vectors(&files.queries)?);
    check(&base, "base", files.metric)?;
    check(&queries, "queries", files.metric)?;
    if base.dims() != queries.dims() {
        let (base, queries) = (base.dims(), queries.dims());
        let message = format!("the base has vectors of {base} dimensions, the queries have {queries}");
        return Err(Mistake::new(message).hint("both must come from the same model").into());
    }
    Ok(Input { base, queries, metric: files.metric })
}

/// Refuses, before anything is built, what there is none of and what cannot be ranked.
pub(super) fn check(rows: &Rows<f32>, whose: &str, metric: Metric) -> Result<()> {
    if rows.count() == 0 {
        return Err(Mistake::new(format!("there are no vectors in the file of the {whose}")).into());
    }
    for (number, row) in rows.iter().enumerate() {
        metric.validate(row).map_err(|why| Mistake::new(format!("row {number} of the {whose}: the vector {why}")))?;
    }
    Ok(())
}
