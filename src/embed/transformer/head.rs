//! From the pooled vector to the finished one: the modules after pooling, and what is kept of the last one's numbers.

use std::path::Path;

use crate::embed::dimensions::{cut, normalise};
use crate::embed::files::Files;
use crate::embed::math::matrix::{Aligned, Linear};
use crate::embed::math::ops::{Activation, Norm};
use crate::embed::safetensors::Safetensors;
use crate::embed::spec::{Dense, DenseActivation, ModelDirectory, Module};
use crate::{Metric, Result};

/// PyTorch's default for a layer norm, which the module's settings cannot change.
const LAYER_NORM_EPSILON: f32 = 1e-5;
/// What a file may hold besides its numbers.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// The modules, loaded. A row's result depends on that row alone.
pub(super) struct Head {
    layers: Vec<Layer>,
    /// Numbers that leave the last layer.
    full_dims: usize,
    /// How many of them are kept.
    dims: usize,
    /// Whether cut vectors are scaled to unit length again.
    unit_after_cut: bool,
}

enum Layer {
    Dense(DenseLayer),
    Norm(Norm),
    Normalize,
}

struct DenseLayer {
    linear: Linear,
    activation: DenseActivation,
    residual: Residual,
    outputs: usize,
}

/// What is added to the result of a dense layer.
enum Residual {
    None,
    Input,
    Projected(Linear),
}

impl Head {
    /// Loads the weights of the modules.
    ///
    /// # Errors
    /// [`crate::Error::Model`] where a tensor is missing, damaged or of another shape than its settings say.
    pub(super) fn load(directory: &ModelDirectory) -> Result<Self> {
        let files = Files::of(&directory.path)?;
        let load = |module: &Module| match module {
            Module::Normalize => Ok(Layer::Normalize),
            Module::LayerNorm { dims, weights } => layer_norm(&files, *dims, weights).map(Layer::Norm),
            Module::Dense(settings) => dense(&files, settings).map(Layer::Dense),
        };
        let layers = directory.modules.iter().map(|module| load(&module.value)).collect::<Result<Vec<_>>>()?;
        let unit_after_cut = directory.metric.value == Metric::Cosine;
        Ok(Self { layers, full_dims: directory.full_dims, dims: directory.dims.value, unit_after_cut })
    }

    /// Vectors of pooled rows of `width` numbers. Without `unit` the last scaling to unit length is left out, so that
    /// lengths still tell.
    pub(super) fn apply(&self, mut rows: Vec<f32>, mut width: usize, unit: bool) -> Vec<f32> {
        let last = self.layers.len().saturating_sub(1);
        for (place, layer) in self.layers.iter().enumerate() {
            match layer {
                Layer::Normalize if place == last && !unit => {}
                Layer::Normalize => rows.chunks_exact_mut(width).for_each(normalise),
                Layer::Norm(norm) => norm.apply(&mut rows),
                Layer::Dense(dense) => {
                    rows = dense.apply(&rows, rows.len() / width);
                    width = dense.outputs;
                }
            }
        }
        self.cut(rows, unit)
    }

    /// Vectors that have gone through all modules inside of the model's own graph: scaling once more does no harm.
    pub(super) fn finish(&self, mut rows: Vec<f32>) -> Vec<f32> {
        if matches!(self.layers.last(), Some(Layer::Normalize)) {
            rows.chunks_exact_mut(self.full_dims).for_each(normalise);
        }
        self.cut(rows, true)
    }

    fn cut(&self, rows: Vec<f32>, unit: bool) -> Vec<f32> {
        if self.dims == self.full_dims {
            return rows;
        }
        cut(rows, self.full_dims, self.dims, unit && self.unit_after_cut)
    }
}

impl DenseLayer {
    fn apply(&self, input: &[f32], rows: usize) -> Vec<f32> {
        let mut packed = Aligned::default();
        let mut output = vec![0.0; rows * self.outputs];
        self.linear.apply(input, rows, &mut output, &mut packed);
        activate(self.activation, &mut output);
        match &self.residual {
            Residual::None => {}
            Residual::Input => add(&mut output, input),
            Residual::Projected(linear) => {
                let mut projected = vec![0.0; output.len()];
                linear.apply(input, rows, &mut projected, &mut packed);
                add(&mut output, &projected);
            }
        }
        output
    }
}

fn add(values: &mut [f32], others: &[f32]) {
    values.iter_mut().zip(others).for_each(|(value, other)| *value += other);
}

fn activate(function: DenseActivation, values: &mut [f32]) {
    let each = |values: &mut [f32], function: fn(f32) -> f32| values.iter_mut().for_each(|x| *x = function(*x));
    match function {
        DenseActivation::Identity => {}
        DenseActivation::Tanh => each(values, f32::tanh),
        DenseActivation::Relu => Activation::Relu.apply(values),
        DenseActivation::Gelu => Activation::Gelu.apply(values),
        DenseActivation::Sigmoid => each(values, |x| 1.0 / (1.0 + (-x).exp())),
        DenseActivation::Silu => each(values, |x| x / (1.0 + (-x).exp())),
        DenseActivation::LeakyRelu => each(values, |x| if x < 0.0 { 0.01 * x } else { x }),
        DenseActivation::Elu => each(values, |x| if x < 0.0 { x.exp_m1() } else { x }),
    }
}

fn dense(files: &Files, settings: &Dense) -> Result<DenseLayer> {
    let Dense { inputs, outputs, bias, activation, residual, weights } = settings;
    let (inputs, outputs) = (*inputs, *outputs);
    let tensors = Tensors::read(files, weights, inputs.saturating_mul(outputs).saturating_mul(2) + outputs)?;
    let matrix = tensors.get("linear.weight", &[outputs, inputs])?;
    let bias = if *bias { tensors.get("linear.bias", &[outputs])? } else { vec![0.0; outputs] };
    let residual = match residual {
        false => Residual::None,
        true if inputs == outputs => Residual::Input,
        true => {
            let matrix = tensors.get("residual.weight", &[outputs, inputs])?;
            Residual::Projected(Linear::new(&matrix, vec![0.0; outputs], inputs))
        }
    };
    Ok(DenseLayer { linear: Linear::new(&matrix, bias, inputs), activation: *activation, residual, outputs })
}

fn layer_norm(files: &Files, dims: usize, weights: &Path) -> Result<Norm> {
    let tensors = Tensors::read(files, weights, dims.saturating_mul(2))?;
    let (weight, bias) = (tensors.get("norm.weight", &[dims])?, tensors.get("norm.bias", &[dims])?);
    Ok(Norm { weight, bias, epsilon: LAYER_NORM_EPSILON, centred: true })
}

/// The tensors of one module.
struct Tensors<'a> {
    files: &'a Files,
    path: &'a Path,
    bytes: Vec<u8>,
}

impl<'a> Tensors<'a> {
    /// Reads a file of `numbers` at most.
    fn read(files: &'a Files, path: &'a Path, numbers: usize) -> Result<Self> {
        files.check_weights(path)?;
        let most = (numbers as u64).saturating_mul(size_of::<f64>() as u64).saturating_add(HEADER_BYTES_MAX);
        Ok(Self { files, path, bytes: files.read(path, most)? })
    }

    /// The tensor `name` in f32, row-major.
    fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let wrong = |reason: String| self.files.wrong(format!("{}: {reason}", self.files.relative(self.path)));
        let found = Safetensors::read(&self.bytes).and_then(|file| file.tensor(&[name])).map_err(wrong)?;
        match found {
            None => Err(wrong(format!("tensor `{name}` is missing, which its config.json asks for"))),
            Some(tensor) if tensor.shape != shape => {
                let found = tensor.shape;
                Err(wrong(format!("tensor `{name}` has shape {found:?}; its config.json asks for {shape:?}")))
            }
            Some(tensor) => Ok(tensor.values),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_follows_its_definition() {
        let at = |function| {
            let mut values = [-2.0, 0.0, 1.5];
            activate(function, &mut values);
            values
        };
        let expected: [(DenseActivation, [f32; 3]); 8] = [
            (DenseActivation::Identity, [-2.0, 0.0, 1.5]),
            (DenseActivation::Tanh, [-0.964_027_6, 0.0, 0.905_148_3]),
            (DenseActivation::Relu, [0.0, 0.0, 1.5]),
            (DenseActivation::Gelu, [-0.045_500_26, 0.0, 1.399_789_2]),
            (DenseActivation::Sigmoid, [0.119_202_92, 0.5, 0.817_574_5]),
            (DenseActivation::Silu, [-0.238_405_84, 0.0, 1.226_361_7]),
            (DenseActivation::LeakyRelu, [-0.02, 0.0, 1.5]),
            (DenseActivation::Elu, [-0.864_664_7, 0.0, 1.5]),
        ];
        for (function, wanted) in expected {
            for (got, wanted) in at(function).into_iter().zip(wanted) {
                assert!((got - wanted).abs() < 2e-6, "{}: {got} instead of {wanted}", function.name());
            }
        }
    }
}
