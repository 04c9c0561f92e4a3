//! A model in tract, all of it Rust and within this program: for where no shared library may be had.

use std::sync::Arc;

use tract_onnx::prelude::*;

use crate::bundle::{Copy, Dtype};
use crate::errors::{Error, Result};
use crate::network::{Shape, words};

/// tract's version, which its logits depend on.
pub const VERSION: &str = "0.23.9";

/// A model that tract has optimised for one batch.
pub struct Plan(Arc<TypedRunnableModel>);

impl Plan {
    /// Load a model of `copy`.
    ///
    /// # Errors
    /// `InputError` where it is no fp32 copy or has operators that tract does not run, `BundleInvalid` where it is not
    /// what bundle.json says.
    pub fn load(model: &[u8], copy: &Copy, shape: &Shape) -> Result<Self> {
        let place = || format!("the {} copy", copy.name);
        let dtypes = (copy.input_dtype, copy.output_dtype);
        if copy.precision != "fp32" || dtypes != (Dtype::Float32, Dtype::Float32) {
            return Err(Error::input("tract runs fp32 copies only")
                .at(place())
                .found(&copy.precision)
                .fix("--copy fp32, or --engine onnxruntime"));
        }
        let refused = |error: TractError| {
            let words: Vec<String> = error.chain().map(ToString::to_string).collect();
            Error::input("tract does not run this network")
                .at(place())
                .found(words.join(": ").split_whitespace().collect::<Vec<_>>().join(" "))
                .fix("--engine onnxruntime")
        };
        let mut model = tract_onnx::onnx().model_for_read(&mut &model[..]).map_err(refused)?;
        check_name(&model, copy)?;
        let batch = shape.batch.unwrap_or(1);
        let sides: TVec<usize> = std::iter::once(batch).chain(shape.photo).collect();
        model.set_input_fact(0, f32::fact(&sides).into()).map_err(refused)?;
        let model = model.into_optimized().map_err(refused)?;
        let output = model.output_fact(0).map_err(refused)?;
        let found = output.shape.as_concrete().map(|sides| sides.iter().map(|side| *side as i64).collect::<Vec<_>>());
        let wanted = [batch as i64, shape.classes as i64];
        if output.datum_type != f32::datum_type() || found.as_deref() != Some(&wanted[..]) {
            return Err(Error::invalid("the output of a model is not what bundle.json says")
                .at(&copy.file)
                .expected(format!("'output', float32, {}", words(&wanted)))
                .found(format!("{output:?}")));
        }
        Ok(Self(model.into_runnable().map_err(refused)?))
    }

    /// The shape and the values of the logits of `count` photos, as many as a batch has.
    ///
    /// # Errors
    /// `BundleInvalid` where the model cannot be run.
    pub fn run(&self, tensors: &[f32], count: usize, copy: &Copy, shape: &Shape) -> Result<(Vec<i64>, Vec<f32>)> {
        let failed = |error: TractError| {
            Error::invalid("tract cannot run a model").at(format!("the {} copy", copy.name)).found(error)
        };
        let sides: TVec<usize> = std::iter::once(count).chain(shape.photo).collect();
        let tensor = Tensor::from_shape(&sides, tensors).map_err(failed)?;
        let outputs = self.0.run(tvec!(tensor.into())).map_err(failed)?;
        let logits = outputs[0].try_as_plain_ram().map_err(failed)?;
        let logits = logits.as_slice::<f32>().map_err(failed)?;
        Ok((outputs[0].shape().iter().map(|side| *side as i64).collect(), logits.to_vec()))
    }
}

/// Whether the model has one input and one output, of the names that a bundle's have.
fn check_name(model: &InferenceModel, copy: &Copy) -> Result<()> {
    let inputs: Vec<&str> = model.inputs.iter().map(|place| &*model.nodes[place.node].name).collect();
    if inputs == ["input"] && model.outputs.len() == 1 {
        return Ok(());
    }
    Err(Error::invalid("the input of a model is not what bundle.json says")
        .at(&copy.file)
        .expected("one input, 'input', and one output")
        .found(format!("{} and {} outputs", inputs.join(", "), model.outputs.len())))
}
