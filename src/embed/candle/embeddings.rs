//! What stands at the bottom of a transformer: a row for each token's id, place and type.

use crate::embed::math::matrix::{Aligned, Linear};
use crate::embed::math::ops::{Norm, add};
use crate::embed::transformer::engine::Sequence;
use crate::{Error, Result};

/// Which row of the positions a token gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// The first token of a text the first, and so on.
    Plain,
    /// RoBERTa's: counted from behind the padding's id; a padding token inside of a text has that id's row and is not
    /// counted.
    AfterPadding(u32),
}

/// The tables.
pub(crate) struct Embeddings {
    /// `[vocabulary, width]`.
    words: Vec<f32>,
    width: usize,
    /// What words are multiplied with.
    scale: f32,
    /// `[positions, width]`, where places have rows.
    positions: Option<(Vec<f32>, Numbering)>,
    /// `[types, width]`; empty where the model has none, or always takes the first.
    types: Vec<f32>,
    /// From `width` to the model's width.
    project: Option<Linear>,
    norm: Option<Norm>,
}

impl Embeddings {
    /// Words alone, `[vocabulary, width]`.
    pub(crate) fn new(words: Vec<f32>, width: usize) -> Self {
        Self { words, width, scale: 1.0, positions: None, types: Vec::new(), project: None, norm: None }
    }

    /// Words times `scale`.
    pub(crate) fn scaled(self, scale: f32) -> Self {
        Self { scale, ..self }
    }

    /// Plus a row for the place.
    pub(crate) fn with_positions(self, positions: Vec<f32>, numbering: Numbering) -> Self {
        Self { positions: Some((positions, numbering)), ..self }
    }

    /// Plus a row for the type.
    pub(crate) fn with_types(self, types: Vec<f32>) -> Self {
        Self { types, ..self }
    }

    /// Plus the first row of `types`, whatever a token's type: what models do that are never given types.
    pub(crate) fn with_first_type(mut self, types: &[f32]) -> Self {
        let width = self.width;
        let rows = self.positions.as_mut().map_or(&mut self.words, |(positions, _)| positions);
        rows.chunks_exact_mut(width).for_each(|row| add(row, &types[..width]));
        self
    }

    /// Then a linear layer.
    pub(crate) fn projected(self, project: Linear) -> Self {
        Self { project: Some(project), ..self }
    }

    /// Then a norm.
    pub(crate) fn normed(self, norm: Norm) -> Self {
        Self { norm: Some(norm), ..self }
    }

    /// How many ids there are.
    pub(crate) fn vocabulary(&self) -> usize {
        self.words.len() / self.width
    }

    /// Numbers in a row that comes out.
    pub(crate) fn hidden(&self) -> usize {
        self.project.as_ref().map_or(self.width, Linear::outputs)
    }

    /// The rows of `ids`, as they are in the table: `[ids, width]`.
    pub(crate) fn word(&self, id: u32) -> Result<&[f32]> {
        row(&self.words, self.width, id as usize, "token id")
    }

    /// The rows of all tokens: `[tokens, hidden]`.
    pub(crate) fn apply(&self, pack: &[&Sequence]) -> Result<Vec<f32>> {
        let tokens: usize = pack.iter().map(|sequence| sequence.len()).sum();
        let mut rows = Vec::with_capacity(tokens * self.width);
        for sequence in pack {
            self.append(sequence, &mut rows)?;
        }
        if let Some(project) = &self.project {
            let mut projected = vec![0.0; tokens * project.outputs()];
            project.apply(&rows, tokens, &mut projected, &mut Aligned::default());
            rows = projected;
        }
        if let Some(norm) = &self.norm {
            norm.apply(&mut rows);
        }
        Ok(rows)
    }

    fn append(&self, sequence: &Sequence, rows: &mut Vec<f32>) -> Result<()> {
        let mut counted = 0;
        for (place, &id) in sequence.ids.iter().enumerate() {
            let start = rows.len();
            rows.extend_from_slice(self.word(id)?);
            let token = &mut rows[start..];
            if self.scale != 1.0 {
                token.iter_mut().for_each(|value| *value *= self.scale);
            }
            if let Some((positions, numbering)) = &self.positions {
                let place = match *numbering {
                    Numbering::Plain => place,
                    Numbering::AfterPadding(padding) => {
                        counted += usize::from(id != padding);
                        padding as usize + if id == padding { 0 } else { counted }
                    }
                };
                add(token, row(positions, self.width, place, "position")?);
            }
            if !self.types.is_empty() {
                let kind = sequence.types.get(place).copied().unwrap_or(0);
                add(token, row(&self.types, self.width, kind as usize, "token type")?);
            }
        }
        Ok(())
    }
}

fn row<'a>(table: &'a [f32], width: usize, index: usize, what: &str) -> Result<&'a [f32]> {
    let rows = table.len() / width;
    let beyond = || Error::Embedding(format!("{what} {index} is not among the {rows} that the model has"));
    table.get(index * width..(index + 1) * width).ok_or_else(beyond)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tables() -> Embeddings {
        let words = (0..6).flat_map(|id| [id as f32, 0.0]).collect();
        Embeddings::new(words, 2)
    }

    fn places(ids: &[u32]) -> Vec<f32> {
        let positions: Vec<f32> = (0..9).flat_map(|place| [0.0, place as f32]).collect();
        let embeddings = tables().with_positions(positions, Numbering::AfterPadding(1));
        let rows = embeddings.apply(&[&Sequence::single(ids.to_vec())]).unwrap();
        rows.chunks_exact(2).map(|row| row[1]).collect()
    }

    #[test]
    fn roberta_counts_from_behind_the_padding_and_skips_it() {
        assert_eq!(places(&[0, 2, 3]), [2.0, 3.0, 4.0]);
        assert_eq!(places(&[0, 1, 2, 3]), [2.0, 1.0, 3.0, 4.0]);
    }

    #[test]
    fn ids_places_and_types_beyond_the_tables_are_errors() {
        let embeddings = tables().with_positions(vec![0.0; 4], Numbering::Plain).with_types(vec![0.0; 2]);
        let message = |ids: &[u32], types: &[u32]| {
            let sequence = Sequence { ids: ids.to_vec(), types: types.to_vec() };
            embeddings.apply(&[&sequence]).unwrap_err().to_string()
        };
        assert!(message(&[6], &[]).contains("token id 6 is not among the 6"));
        assert!(message(&[0, 0, 0], &[]).contains("position 2 is not among the 2"));
        assert!(message(&[0, 0], &[0, 1]).contains("token type 1 is not among the 1"));
    }
}
