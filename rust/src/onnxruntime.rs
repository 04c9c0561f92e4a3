//! A model in ONNX Runtime on the CPU: tensors to logits.

use std::path::Path;
use std::sync::Arc;

use half::f16;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::{Tensor, TensorElementType, TensorRef, ValueType};

use crate::bundle::{Copy, Dtype};
use crate::cache::{self, Graph};
use crate::errors::{Error, Result};
use crate::library;
use crate::network::{Settings, Shape, words};

/// A model as it lies in the bundle, or what ONNX Runtime made of it on this machine before.
#[derive(Clone, Copy)]
pub(crate) enum Form<'a> {
    Plain(&'a [u8]),
    Kept(&'a Arc<Graph>),
}

/// A model in a session of its own.
pub struct Runtime {
    session: Session,
    /// Where the weights are inputs of the session.
    kept: Option<Arc<Graph>>,
}

impl Runtime {
    /// Load a model of `copy`, and keep what is made of it where `settings` say so.
    ///
    /// # Errors
    /// `BundleInvalid` where it cannot be, or is not what bundle.json says, `RuntimeMissing`.
    pub fn load(form: Form<'_>, copy: &Copy, shape: &Shape, settings: &Settings) -> Result<Self> {
        let place = if matches!(form, Form::Plain(_)) { settings.place(copy) } else { None };
        let made = place.as_deref().and_then(cache::aside);
        let session = open(form, made.as_deref(), settings).map_err(|error| match error {
            Trouble::Own(error) => error,
            Trouble::Runtime(error) => Error::invalid("ONNX Runtime cannot load a model")
                .at(format!("the {} copy", copy.name))
                .found(first_line(&error)),
        })?;
        let kept = if let Form::Kept(graph) = form { Some(Arc::clone(graph)) } else { None };
        let runtime = Self { session, kept };
        runtime.check_sides(copy, shape)?;
        if let (Some(place), Some(made)) = (&place, &made) {
            cache::keep(place, made);
        }
        Ok(runtime)
    }

    /// The shape and the values of the logits of `count` photos.
    ///
    /// # Errors
    /// `BundleInvalid` where the model cannot be run.
    pub fn run(&mut self, tensors: &[f32], count: usize, copy: &Copy, shape: &Shape) -> Result<(Vec<i64>, Vec<f32>)> {
        let failed = |error: ort::Error| {
            let place = format!("the {} copy", copy.name);
            Error::invalid("ONNX Runtime cannot run a model").at(place).found(first_line(&error))
        };
        let [channels, height, width] = shape.photo;
        let sides = [count, channels, height, width];
        let mut inputs: Vec<SessionInputValue<'_>> = Vec::new();
        if copy.input_dtype == Dtype::Float16 {
            let halves: Vec<f16> = tensors.iter().map(|value| f16::from_f32(*value)).collect();
            inputs.push(Tensor::from_array((sides, halves)).map_err(failed)?.into());
        } else {
            inputs.push(TensorRef::from_array_view((sides, tensors)).map_err(failed)?.into());
        }
        for weight in self.kept.iter().flat_map(|graph| graph.weights()) {
            inputs.push(TensorRef::from_array_view(weight).map_err(failed)?.into());
        }
        let outputs = self.session.run(&inputs[..]).map_err(failed)?;
        if copy.output_dtype == Dtype::Float16 {
            let (found, halves) = outputs[0].try_extract_tensor::<f16>().map_err(failed)?;
            return Ok((found.to_vec(), halves.iter().map(|value| value.to_f32()).collect()));
        }
        let (found, logits) = outputs[0].try_extract_tensor::<f32>().map_err(failed)?;
        Ok((found.to_vec(), logits.to_vec()))
    }

    /// Whether the model's input and output are what bundle.json says of the copy.
    fn check_sides(&self, copy: &Copy, shape: &Shape) -> Result<()> {
        let own = self.kept.as_ref().map_or(0, |graph| graph.weights().count());
        let given = self.session.inputs();
        let input = (&given[..given.len().saturating_sub(own)], "input", copy.input_dtype, shape.input());
        let output = (self.session.outputs(), "output", copy.output_dtype, shape.output());
        for (sides, name, dtype, wanted) in [input, output] {
            let element = match dtype {
                Dtype::Float32 => TensorElementType::Float32,
                Dtype::Float16 => TensorElementType::Float16,
            };
            let fits = match sides {
                [side] => {
                    let is_right = |ty: &TensorElementType, shape: &[i64]| *ty == element && shape == wanted;
                    side.name() == name
                        && matches!(side.dtype(), ValueType::Tensor { ty, shape, .. } if is_right(ty, &shape[..]))
                }
                _ => false,
            };
            if !fits {
                let found: Vec<String> =
                    sides.iter().map(|side| format!("'{}' {}", side.name(), side.dtype())).collect();
                return Err(Error::invalid(format!("the {name} of a model is not what bundle.json says"))
                    .at(&copy.file)
                    .expected(format!("'{name}', {}, {}", dtype.name(), words(&wanted)))
                    .found(found.join(", ")));
            }
        }
        Ok(())
    }
}

enum Trouble {
    Own(Error),
    Runtime(ort::Error),
}

impl From<ort::Error<SessionBuilder>> for Trouble {
    fn from(error: ort::Error<SessionBuilder>) -> Self {
        Self::Runtime(error.into())
    }
}

impl From<ort::Error> for Trouble {
    fn from(error: ort::Error) -> Self {
        Self::Runtime(error)
    }
}

fn open(form: Form<'_>, made: Option<&Path>, settings: &Settings) -> std::result::Result<Session, Trouble> {
    let environment = library::load(settings.library.as_deref()).map_err(Trouble::Own)?;
    let mut builder = Session::builder(environment)?
        .with_intra_threads(crate::threads(settings.threads))?
        .with_inter_threads(1)?
        // Threads that wait by spinning take the CPU from those that decode.
        .with_intra_op_spinning(false)?;
    if let Some(made) = made {
        builder = builder.with_optimized_model_path(made)?;
    }
    let (level, model) = match form {
        Form::Plain(model) => (GraphOptimizationLevel::All, model),
        Form::Kept(graph) => (GraphOptimizationLevel::Disable, graph.model()),
    };
    Ok(builder.with_optimization_level(level)?.commit_from_memory(model)?)
}

fn first_line(error: &ort::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().chars().take(300).collect()
}
