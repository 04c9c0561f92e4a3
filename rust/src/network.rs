//! A copy of the network in ONNX Runtime on the CPU: tensors to logits.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::f16;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{DynValue, Tensor, TensorElementType, TensorRef, ValueType};

use crate::bundle::{Copy, Dtype, Info, check_whole};
use crate::cache::{self, Graph};
use crate::errors::{Error, Result};
use crate::library;

/// How a network uses the machine. The answers are the same.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// For one call; one a CPU where nothing is said.
    pub threads: Option<usize>,
    /// ONNX Runtime's shared library; found where nothing is said.
    pub library: Option<PathBuf>,
    /// A folder in which optimised graphs are kept for the next time; none where nothing is said.
    pub cache: Option<PathBuf>,
}

impl Settings {
    /// Where the optimised graph of a copy is kept.
    pub(crate) fn place(&self, copy: &Copy) -> Option<PathBuf> {
        Some(cache::place(self.cache.as_deref()?, copy, &library::find(self.library.as_deref()).ok()?))
    }
}

/// A model as it lies in the bundle, or what ONNX Runtime made of it on this machine before.
#[derive(Clone)]
pub(crate) enum Model {
    Plain(Vec<u8>),
    Kept(Kept),
}

/// A graph, and its larger weights, which several sessions share.
#[derive(Clone)]
pub(crate) struct Kept {
    model: Vec<u8>,
    weights: Vec<(String, Arc<DynValue>)>,
}

impl Kept {
    /// Nothing where ONNX Runtime does not take the weights; it must be loaded.
    pub(crate) fn new(graph: Graph) -> Option<Self> {
        let weights = graph.weights.into_iter().map(|one| {
            let tensor = Tensor::from_array((one.shape, one.values)).ok()?;
            Some((one.name, Arc::new(tensor.into_dyn())))
        });
        Some(Self { model: graph.model, weights: weights.collect::<Option<_>>()? })
    }
}

/// One copy of a bundle's network, loaded.
pub struct Network {
    session: Session,
    copy: Copy,
    /// Values of one photo's tensor.
    values: usize,
    shape: [usize; 3],
    classes: usize,
    batch: Option<usize>,
}

impl Network {
    /// Load `model`, which is what bundle.json says of `copy`.
    ///
    /// # Errors
    /// `BundleInvalid` where it is not, `RuntimeMissing` where there is no ONNX Runtime.
    pub fn load(model: &[u8], copy: &Copy, info: &Info, settings: &Settings) -> Result<Self> {
        if let Some(graph) = settings.place(copy).as_deref().and_then(cache::read) {
            library::load(settings.library.as_deref())?;
            let kept = Kept::new(graph).map(Model::Kept);
            if let Some(Ok(network)) = kept.map(|kept| Self::load_form(&kept, copy, info, settings)) {
                return Ok(network);
            }
        }
        Self::load_form(&Model::Plain(model.to_vec()), copy, info, settings)
    }

    /// The same of one form, the cache aside.
    pub(crate) fn load_form(model: &Model, copy: &Copy, info: &Info, settings: &Settings) -> Result<Self> {
        let mut place = None;
        if let Model::Plain(model) = model {
            check_whole(model, &copy.name)?;
            place = settings.place(copy);
        }
        let made = place.as_deref().and_then(cache::aside);
        let session = open(model, made.as_deref(), settings).map_err(|error| match error {
            Trouble::Own(error) => error,
            Trouble::Runtime(error) => Error::invalid("ONNX Runtime cannot load a model")
                .at(format!("the {} copy", copy.name))
                .found(first_line(&error)),
        })?;
        let (width, height) = info.preprocess.size();
        let network = Self {
            session,
            copy: copy.clone(),
            values: 3 * width * height,
            shape: [3, height, width],
            classes: info.labels.len(),
            batch: info.batch,
        };
        network.check_sides()?;
        if let (Some(place), Some(made)) = (&place, &made) {
            cache::keep(place, made);
        }
        Ok(network)
    }

    /// The copy that runs.
    #[must_use]
    pub fn copy(&self) -> &Copy {
        &self.copy
    }

    /// The logits of `count` photos, whose `tensors` lie one after another; as many a photo as there are labels.
    ///
    /// # Errors
    /// `BundleInvalid` where the network cannot be run, or answers in another shape than it declares.
    pub fn logits(&mut self, tensors: &[f32], count: usize) -> Result<Vec<f32>> {
        let Some(batch) = self.batch else {
            return self.run(tensors, count);
        };
        let mut found = Vec::with_capacity(count * self.classes);
        for piece in tensors.chunks(batch * self.values) {
            let mut full = piece.to_vec();
            full.resize(batch * self.values, 0.0); // a model of a fixed batch is filled up with zeros
            let rows = self.run(&full, batch)?;
            found.extend_from_slice(&rows[..piece.len() / self.values * self.classes]);
        }
        Ok(found)
    }

    fn run(&mut self, tensors: &[f32], count: usize) -> Result<Vec<f32>> {
        let place = format!("the {} copy", self.copy.name);
        let failed =
            |error: ort::Error| Error::invalid("ONNX Runtime cannot run a model").at(&place).found(first_line(&error));
        let [channels, height, width] = self.shape;
        let shape = [count, channels, height, width];
        let outputs = if self.copy.input_dtype == Dtype::Float16 {
            let halves: Vec<f16> = tensors.iter().map(|value| f16::from_f32(*value)).collect();
            let tensor = Tensor::from_array((shape, halves)).map_err(failed)?;
            self.session.run(ort::inputs![tensor])
        } else {
            let tensor = TensorRef::from_array_view((shape, tensors)).map_err(failed)?;
            self.session.run(ort::inputs![tensor])
        };
        let outputs = outputs.map_err(failed)?;
        let (shape, logits) = if self.copy.output_dtype == Dtype::Float16 {
            let (shape, halves) = outputs[0].try_extract_tensor::<f16>().map_err(failed)?;
            (shape, halves.iter().map(|value| value.to_f32()).collect())
        } else {
            let (shape, logits) = outputs[0].try_extract_tensor::<f32>().map_err(failed)?;
            (shape, logits.to_vec())
        };
        if shape[..] != [count as i64, self.classes as i64] {
            return Err(Error::invalid("a model answers in another shape than it declares")
                .at(place)
                .expected(format!("{count} × {}", self.classes))
                .found(words(&shape[..])));
        }
        Ok(logits)
    }

    /// Whether the model's input and output are what bundle.json says of the copy.
    fn check_sides(&self) -> Result<()> {
        let batch = self.batch.map_or(-1, |batch| batch as i64);
        let [channels, height, width] = self.shape.map(|side| side as i64);
        let input = (self.session.inputs(), "input", self.copy.input_dtype, vec![batch, channels, height, width]);
        let output = (self.session.outputs(), "output", self.copy.output_dtype, vec![batch, self.classes as i64]);
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
                    .at(&self.copy.file)
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

fn open(model: &Model, made: Option<&Path>, settings: &Settings) -> std::result::Result<Session, Trouble> {
    let environment = library::load(settings.library.as_deref()).map_err(Trouble::Own)?;
    let mut builder = Session::builder(environment)?
        .with_intra_threads(crate::threads(settings.threads))?
        .with_inter_threads(1)?
        // Threads that wait by spinning take the CPU from those that decode.
        .with_intra_op_spinning(false)?;
    if let Some(made) = made {
        builder = builder.with_optimized_model_path(made)?;
    }
    let bytes = match model {
        Model::Plain(model) => {
            builder = builder.with_optimization_level(GraphOptimizationLevel::All)?;
            model
        }
        Model::Kept(kept) => {
            builder = builder.with_optimization_level(GraphOptimizationLevel::Disable)?;
            for (name, value) in &kept.weights {
                builder = builder.with_external_initializer(name, Arc::clone(value))?;
            }
            &kept.model
        }
    };
    Ok(builder.commit_from_memory(bytes)?)
}

fn words(shape: &[i64]) -> String {
    let sides: Vec<String> =
        shape.iter().map(|side| if *side < 0 { "batch".to_owned() } else { side.to_string() }).collect();
    sides.join(" × ")
}

fn first_line(error: &ort::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().chars().take(300).collect()
}

/// ONNX Runtime's version, by the library that is used.
#[must_use]
pub fn runtime_version(asked: Option<&Path>) -> Option<String> {
    library::version(&library::find(asked).ok()?)
}
