//! A copy of the network, loaded into an engine: tensors to logits.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bundle::{Copy, Info, check_whole};
use crate::cache;
use crate::errors::{Error, Result};
use crate::library;
use crate::onnxruntime::{Form, Runtime};
#[cfg(feature = "tract")]
use crate::tract::Plan;

/// What a network is computed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// ONNX Runtime, by its shared library.
    #[default]
    OnnxRuntime,
    /// tract, which is in this program where it was built with the feature of that name; for fp32 copies.
    Tract,
}

impl Engine {
    const NAMES: [(&'static str, Self); 2] = [("onnxruntime", Self::OnnxRuntime), ("tract", Self::Tract)];

    /// The engine of that name.
    ///
    /// # Errors
    /// `InputError`, which names those that there are.
    pub fn named(name: &str) -> Result<Self> {
        Self::NAMES.iter().find(|(one, _)| *one == name).map(|(_, engine)| *engine).ok_or_else(|| {
            let names = Self::NAMES.map(|(one, _)| one).join(", ");
            Error::input("there is no such engine").expected(names).found(name)
        })
    }

    /// The name of this runtime with that engine, as a proof has it.
    #[must_use]
    pub fn runner(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "rust",
            Self::Tract => "rust-tract",
        }
    }
}

/// How a network uses the machine. The answers of one engine are the same.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What it is computed by.
    pub engine: Engine,
    /// For one call; one a CPU where nothing is said. tract takes one.
    pub threads: Option<usize>,
    /// ONNX Runtime's shared library; found where nothing is said.
    pub library: Option<PathBuf>,
    /// A folder in which optimised graphs are kept for the next time; none where nothing is said.
    pub cache: Option<PathBuf>,
}

impl Settings {
    /// Where the optimised graph of a copy is kept.
    pub(crate) fn place(&self, copy: &Copy) -> Option<PathBuf> {
        let folder = self.cache.as_deref().filter(|_| self.engine == Engine::OnnxRuntime)?;
        Some(cache::place(folder, copy, &library::find(self.library.as_deref()).ok()?))
    }
}

/// What goes into a network and comes out.
pub(crate) struct Shape {
    /// Channels, height and width of one photo.
    pub photo: [usize; 3],
    pub classes: usize,
    /// How many photos at once; nothing where it is any number.
    pub batch: Option<usize>,
}

impl Shape {
    /// As ONNX has it, -1 for any number.
    pub fn input(&self) -> Vec<i64> {
        let photo = self.photo.map(|side| side as i64);
        vec![self.batch.map_or(-1, |batch| batch as i64), photo[0], photo[1], photo[2]]
    }

    /// The same of the logits.
    pub fn output(&self) -> Vec<i64> {
        vec![self.batch.map_or(-1, |batch| batch as i64), self.classes as i64]
    }
}

/// One copy of a bundle's network, loaded.
pub struct Network {
    loaded: Loaded,
    copy: Copy,
    shape: Shape,
}

enum Loaded {
    OnnxRuntime(Runtime),
    #[cfg(feature = "tract")]
    Tract(Plan),
}

impl Network {
    /// Load `model`, which is what bundle.json says of `copy`.
    ///
    /// # Errors
    /// `BundleInvalid` where it is not, `RuntimeMissing` where there is no ONNX Runtime, `InputError` where the engine
    /// does not run it.
    pub fn load(model: &[u8], copy: &Copy, info: &Info, settings: &Settings) -> Result<Self> {
        if let Some(graph) = settings.place(copy).as_deref().and_then(cache::read) {
            library::load(settings.library.as_deref())?;
            if let Ok(network) = Self::load_form(Form::Kept(&Arc::new(graph)), copy, info, settings) {
                return Ok(network);
            }
        }
        Self::load_form(Form::Plain(model), copy, info, settings)
    }

    /// The same of one form, the cache aside.
    pub(crate) fn load_form(form: Form<'_>, copy: &Copy, info: &Info, settings: &Settings) -> Result<Self> {
        if let Form::Plain(model) = form {
            check_whole(model, &copy.name)?;
        }
        let (width, height) = info.preprocess.size();
        let shape = Shape { photo: [3, height, width], classes: info.labels.len(), batch: info.batch };
        let loaded = match (settings.engine, form) {
            #[cfg(feature = "tract")]
            (Engine::Tract, Form::Plain(model)) => Loaded::Tract(Plan::load(model, copy, &shape)?),
            #[cfg(not(feature = "tract"))]
            (Engine::Tract, Form::Plain(_)) => {
                return Err(Error::input("this program was built without tract")
                    .expected("--engine onnxruntime")
                    .fix("cargo build --release --features tract"));
            }
            _ => Loaded::OnnxRuntime(Runtime::load(form, copy, &shape, settings)?),
        };
        Ok(Self { loaded, copy: copy.clone(), shape })
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
        let values: usize = self.shape.photo.iter().product();
        let Some(batch) = self.batch() else {
            return self.run(tensors, count);
        };
        let mut found = Vec::with_capacity(count * self.shape.classes);
        for piece in tensors.chunks(batch * values) {
            let mut full = piece.to_vec();
            full.resize(batch * values, 0.0); // a model of a fixed batch is filled up with zeros
            let rows = self.run(&full, batch)?;
            found.extend_from_slice(&rows[..piece.len() / values * self.shape.classes]);
        }
        Ok(found)
    }

    /// How many photos a call takes; nothing where it is any number.
    fn batch(&self) -> Option<usize> {
        match &self.loaded {
            Loaded::OnnxRuntime(_) => self.shape.batch,
            #[cfg(feature = "tract")]
            Loaded::Tract(_) => Some(self.shape.batch.unwrap_or(1)), // a plan is of fixed shapes
        }
    }

    fn run(&mut self, tensors: &[f32], count: usize) -> Result<Vec<f32>> {
        let (shape, logits) = match &mut self.loaded {
            Loaded::OnnxRuntime(runtime) => runtime.run(tensors, count, &self.copy, &self.shape)?,
            #[cfg(feature = "tract")]
            Loaded::Tract(plan) => plan.run(tensors, count, &self.copy, &self.shape)?,
        };
        if shape[..] != [count as i64, self.shape.classes as i64] {
            return Err(Error::invalid("a model answers in another shape than it declares")
                .at(format!("the {} copy", self.copy.name))
                .expected(format!("{count} × {}", self.shape.classes))
                .found(words(&shape)));
        }
        Ok(logits)
    }
}

/// A shape as people read it.
pub(crate) fn words(shape: &[i64]) -> String {
    let sides: Vec<String> =
        shape.iter().map(|side| if *side < 0 { "batch".to_owned() } else { side.to_string() }).collect();
    sides.join(" × ")
}

/// ONNX Runtime's version, by the library that is used.
#[must_use]
pub fn runtime_version(asked: Option<&Path>) -> Option<String> {
    library::version(&library::find(asked).ok()?)
}
