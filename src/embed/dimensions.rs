//! How many of a vector's numbers are kept?
//!
//! Models trained for it keep most of their worth in the first ones: Kusupati et al., "Matryoshka Representation Learning"
//! (NeurIPS 2022). What is cut off stays cut off: a collection remembers its dimensions as part of its model.

use std::ops::Range;
use std::sync::Arc;

use super::{Embedder, Embeddings, ModelSpec, WordStatistics};
use crate::images::Image;
use crate::{Error, Metric, Result};

/// The first `dims` numbers of a model's vectors, scaled to unit length again where the model's metric is the cosine.
/// The weights are shared; as many dimensions as the model has give the model itself.
///
/// ```
/// # fn main() -> quiverdb::Result<()> {
/// let short = quiverdb::embed::truncate(quiverdb::embed::open("builtin")?, 64)?;
/// assert_eq!(short.embed_documents(&["the river"])?.values.len(), 64);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::InvalidInput`] for no dimensions, and for more than the model has.
pub fn truncate(embedder: Arc<dyn Embedder>, dims: usize) -> Result<Arc<dyn Embedder>> {
    let spec = embedder.spec();
    if dims == spec.dims {
        return Ok(embedder);
    }
    if dims == 0 || dims > spec.dims {
        return Err(Error::invalid(format!(
            "model {} makes vectors of {} dimensions; got {dims}. Ask for 1 to {}, or leave the dimensions out",
            spec.id, spec.dims, spec.dims
        )));
    }
    let spec = ModelSpec {
        dims,
        full_dims: Some(spec.full_dims.unwrap_or(spec.dims)),
        normalized: spec.metric == Metric::Cosine,
        ..spec.clone()
    };
    Ok(Arc::new(Truncated { embedder, spec }))
}

/// `given` with the dimensions of `stored`, where that is the same model cut short; else as it is.
pub(crate) fn as_stored(stored: Option<&ModelSpec>, given: Arc<dyn Embedder>) -> Result<Arc<dyn Embedder>> {
    let spec = given.spec();
    let full = spec.full_dims.unwrap_or(spec.dims);
    match stored {
        Some(stored) if stored.full_dims == Some(full) && stored.dims < spec.dims => truncate(given, stored.dims),
        Some(_) | None => Ok(given),
    }
}

struct Truncated {
    embedder: Arc<dyn Embedder>,
    spec: ModelSpec,
}

impl Truncated {
    fn cut(&self, texts: usize, embeddings: Embeddings) -> Result<Embeddings> {
        embeddings.expect(texts, self.embedder.spec())?;
        let Embeddings { dims: from, values, truncated } = embeddings;
        let dims = self.spec.dims;
        Ok(Embeddings { dims, values: cut(values, from, dims, self.spec.normalized), truncated })
    }
}

impl Embedder for Truncated {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Embeddings> {
        self.cut(texts.len(), self.embedder.embed_documents(texts)?)
    }

    fn embed_queries(&self, texts: &[&str], statistics: &dyn WordStatistics) -> Result<Embeddings> {
        self.cut(texts.len(), self.embedder.embed_queries(texts, statistics)?)
    }

    fn embed_images(&self, images: &[Image]) -> Result<Embeddings> {
        self.cut(images.len(), self.embedder.embed_images(images)?)
    }

    fn token_ranges(&self, text: &str) -> Vec<Range<usize>> {
        self.embedder.token_ranges(text)
    }

    fn memory_bytes(&self) -> u64 {
        self.embedder.memory_bytes()
    }

    fn tokens_read(&self) -> Option<u64> {
        self.embedder.tokens_read()
    }

    fn gains_by_batches(&self) -> bool {
        self.embedder.gains_by_batches()
    }
}

/// The first `to` of every `from` numbers, of unit length if `unit`.
pub(crate) fn cut(mut rows: Vec<f32>, from: usize, to: usize, unit: bool) -> Vec<f32> {
    let count = rows.len() / from.max(1);
    for row in 0..count {
        rows.copy_within(row * from..row * from + to, row * to);
    }
    rows.truncate(count * to);
    if unit {
        rows.chunks_exact_mut(to).for_each(normalise);
    }
    rows
}

/// Scales `vector` to unit length; a zero vector stays zero.
pub(crate) fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|value| *value /= length);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::embed::{NoStatistics, open};

    #[test]
    fn cut_rows_are_the_first_numbers_and_keep_their_order() {
        let rows = vec![3.0, 4.0, 9.0, 0.0, -2.0, 9.0];
        assert_eq!(cut(rows.clone(), 3, 2, false), [3.0, 4.0, 0.0, -2.0]);
        assert_eq!(cut(rows, 3, 2, true), [0.6, 0.8, 0.0, -1.0]);
        assert!(cut(Vec::new(), 3, 2, true).is_empty());
    }

    #[test]
    fn truncated_model_gives_the_first_numbers_at_unit_length() {
        let full = open("builtin").unwrap();
        let short = truncate(Arc::clone(&full), 48).unwrap();
        assert_eq!((short.spec().dims, short.spec().full_dims), (48, Some(256)));
        for (long, cut) in [
            (full.embed_documents(&["the river"]), short.embed_documents(&["the river"])),
            (full.embed_queries(&["boat"], &NoStatistics), short.embed_queries(&["boat"], &NoStatistics)),
        ] {
            let mut wanted = long.unwrap().values[..48].to_vec();
            normalise(&mut wanted);
            assert_eq!(cut.unwrap().values, wanted);
        }
        assert_eq!(short.token_ranges("the river"), full.token_ranges("the river"));
        let shorter = truncate(short, 8).unwrap();
        assert_eq!((shorter.spec().dims, shorter.spec().full_dims), (8, Some(256)));
    }

    #[test]
    fn dimensions_beyond_the_model_s_are_refused_with_both_numbers() {
        for dims in [0, 257] {
            let message = truncate(open("builtin").unwrap(), dims).err().unwrap().to_string();
            assert!(message.contains(&format!("vectors of 256 dimensions; got {dims}. Ask for 1 to 256")), "{message}");
        }
        let full = open("builtin").unwrap();
        assert_eq!(truncate(Arc::clone(&full), 256).unwrap().spec(), full.spec());
    }

    #[test]
    fn metric_without_lengths_is_not_renormalised() {
        struct Own(ModelSpec);
        impl Embedder for Own {
            fn spec(&self) -> &ModelSpec {
                &self.0
            }
            fn embed_documents(&self, texts: &[&str]) -> Result<Embeddings> {
                Ok(Embeddings { dims: 2, values: [3.0, 4.0].repeat(texts.len()), truncated: 0 })
            }
        }
        let own = |metric| Arc::new(Own(ModelSpec { metric, ..ModelSpec::new("own", 2) }));
        let first = |metric| truncate(own(metric), 1).unwrap().embed_documents(&["a"]).unwrap().values;
        assert_eq!((first(Metric::L2), first(Metric::Dot), first(Metric::Cosine)), (vec![3.0], vec![3.0], vec![1.0]));
    }
}
