//! A bundle that answers: from photo to label.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use crate::bundle::{Bundle, Copy, Info};
use crate::cache::{self, Graph};
use crate::errors::{Error, Refusal, Result};
use crate::images::{self, MAX_BYTES, Pixels, decode};
use crate::library;
use crate::memory::Bytes;
use crate::network::{Engine, Network, Settings};
use crate::onnxruntime::Form;
use crate::resample::resize;

const BATCH: usize = 8;
const MANY: usize = 16; // photos from which each core runs the network for photos of its own

/// How a bundle is opened.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which copy answers; fp32 where nothing is said.
    pub copy: Option<String>,
    /// What the network is computed by; ONNX Runtime where nothing is said.
    pub engine: Engine,
    /// CPU threads; one a CPU, at most 8, where nothing is said.
    pub threads: Option<usize>,
    /// Refuse a bundle that is not signed by the public key in this file.
    pub trust: Option<PathBuf>,
    /// ONNX Runtime's shared library; found where nothing is said.
    pub library: Option<PathBuf>,
    /// A folder in which optimised graphs are kept, so that the next program starts sooner; none where nothing is
    /// said. `Options::usual_cache` names one.
    pub cache: Option<PathBuf>,
    /// Only `classify_many` will be asked: it loads the network itself, once for each core.
    pub many: bool,
}

impl Options {
    /// The folder in which graphs are usually kept.
    pub fn usual_cache() -> Option<PathBuf> {
        cache::default_folder()
    }
}

/// One of the likeliest labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Top {
    /// The label.
    pub label: String,
    /// Its place among the labels.
    pub index: usize,
    /// 0 to 1.
    pub probability: f64,
}

/// What a photo shows.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// The likeliest labels, likeliest first, equal ones in the order of the labels; there is at least one.
    pub top: Vec<Top>,
    /// A number a label, before softmax.
    pub logits: Vec<f32>,
}

impl Prediction {
    /// The likeliest label.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.top[0].label
    }

    /// Its probability, 0 to 1: the softmax of the logits, in float64.
    #[must_use]
    pub fn confidence(&self) -> f64 {
        self.top[0].probability
    }
}

/// Of what a network is made: the bundle's model, or what was kept of it on this machine.
enum Model {
    Plain(Bytes),
    Kept(Arc<Graph>),
}

/// A bundle, loaded. Several threads may use it; they wait for one another at the network only.
pub struct Classifier {
    bundle: Bundle,
    copy: String,
    model: Model,
    settings: Settings,
    network: Mutex<Option<Network>>,
}

impl Classifier {
    /// The classifier of the bundle in `folder`, after every check of it.
    ///
    /// # Errors
    /// A bundle's error for the first check that fails, `RuntimeMissing` where there is no ONNX Runtime.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(folder, &Options::default())
    }

    /// The same, with options.
    ///
    /// # Errors
    /// The same, and `InputError` where there is no such copy.
    pub fn open_with(folder: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let copy = options.copy.clone().unwrap_or_else(|| "fp32".to_owned());
        let settings = Settings {
            engine: options.engine,
            threads: options.threads,
            library: options.library.clone(),
            cache: options.cache.clone(),
        };
        let (opened, runtime, ready) = load_beside(folder.as_ref(), options, &copy, &settings);
        let (bundle, model) = opened?;
        let file = &bundle.copy(&copy)?.file;
        runtime?;
        let (graph, network) = ready.unzip();
        let network = network.flatten();
        let model = match (graph, model) {
            (Some(graph), _) if options.many || network.is_some() => Model::Kept(graph),
            (_, Some(model)) => Model::Plain(model),
            _ => Model::Plain(bundle.read_model(file)?),
        };
        let classifier = Self { bundle, copy, model, settings, network: Mutex::new(network) };
        let is_wanted = !options.many && locked(&classifier.network).is_none();
        if is_wanted {
            *locked(&classifier.network) = Some(classifier.load(&classifier.settings)?);
        }
        Ok(classifier)
    }

    /// The bundle that answers.
    #[must_use]
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// What the photo shows whose file has these bytes: the 5 likeliest labels.
    ///
    /// # Errors
    /// `PhotoError` where it cannot be read, `BundleInvalid` where the network's answer is not a number.
    pub fn classify(&self, photo: &[u8]) -> Result<Prediction> {
        self.classify_top(photo, 5)
    }

    /// The same, with the `top` likeliest labels.
    ///
    /// # Errors
    /// The same.
    pub fn classify_top(&self, photo: &[u8], top: usize) -> Result<Prediction> {
        self.classify_pixels(&decode(photo)?, top)
    }

    /// What pixels show that are upright already.
    ///
    /// # Errors
    /// The same.
    pub fn classify_pixels(&self, pixels: &Pixels, top: usize) -> Result<Prediction> {
        let spec = &self.bundle.info.preprocess;
        let tensor = spec.normalise(&resize(pixels, spec)?);
        let mut network = locked(&self.network);
        let logits = match &mut *network {
            Some(network) => network.logits(&tensor, 1)?,
            empty => empty.insert(self.load(&self.settings)?).logits(&tensor, 1)?,
        };
        drop(network);
        self.prediction(logits, top)
    }

    fn load(&self, settings: &Settings) -> Result<Network> {
        let copy = self.bundle.copy(&self.copy)?;
        let load = |form: Form<'_>| Network::load_form(form, copy, &self.bundle.info, settings);
        match &self.model {
            Model::Plain(model) => load(Form::Plain(model)),
            Model::Kept(graph) => {
                load(Form::Kept(graph)).or_else(|_| load(Form::Plain(&self.bundle.read_model(&copy.file)?)))
            }
        }
    }

    /// For each photo in order what it shows, or why not, as soon as it is known.
    ///
    /// Where there are many, each core takes photos of its own through all steps, a few at a time, so that none
    /// waits for another. `each` says whether to go on.
    ///
    /// # Errors
    /// `BundleInvalid` where the network cannot be loaded.
    pub fn classify_many(
        &self,
        photos: &[PathBuf],
        top: usize,
        mut each: impl FnMut(usize, Result<Prediction>) -> bool,
    ) -> Result<()> {
        let threads = crate::threads(self.settings.threads);
        let lanes = if photos.len() < MANY { 1 } else { threads.min(photos.len().div_ceil(BATCH)) };
        let next = AtomicUsize::new(0);
        let is_over = AtomicBool::new(false);
        let settings = Settings { threads: Some(threads / lanes), ..self.settings.clone() };
        thread::scope(|scope| {
            let (sender, receiver) = mpsc::sync_channel::<Result<(usize, Vec<Result<Prediction>>)>>(4 * lanes);
            for _ in 0..lanes {
                let (sender, next, is_over, settings) = (sender.clone(), &next, &is_over, &settings);
                scope.spawn(move || {
                    let mut network = match self.load(settings) {
                        Ok(network) => network,
                        Err(error) => return drop(sender.send(Err(error))),
                    };
                    while !is_over.load(Ordering::Relaxed) {
                        let start = next.fetch_add(BATCH, Ordering::Relaxed);
                        let Some(some) = photos.get(start..photos.len().min(start + BATCH)) else { return };
                        if some.is_empty() || sender.send(Ok((start, self.answers(some, &mut network, top)))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            let mut waiting: BTreeMap<usize, Vec<Result<Prediction>>> = BTreeMap::new();
            let mut due = 0;
            for answers in receiver {
                let (start, answers) = answers.inspect_err(|_| is_over.store(true, Ordering::Relaxed))?;
                waiting.insert(start, answers);
                while let Some(answers) = waiting.remove(&due) {
                    for answer in answers {
                        if !each(due, answer) {
                            is_over.store(true, Ordering::Relaxed);
                            return Ok(());
                        }
                        due += 1;
                    }
                }
            }
            Ok(())
        })
    }

    /// The answers to a few photos, which go through the network together.
    fn answers(&self, photos: &[PathBuf], network: &mut Network, top: usize) -> Vec<Result<Prediction>> {
        let (width, height) = self.bundle.info.preprocess.size();
        let values = 3 * width * height;
        let mut tensors = vec![0.0; photos.len() * values];
        let mut count = 0;
        let mut outcomes = Vec::with_capacity(photos.len());
        for path in photos {
            let target = &mut tensors[count * values..(count + 1) * values];
            outcomes.push(read_photo(path).and_then(|data| self.prepare_into(&data, target)));
            count += usize::from(outcomes[outcomes.len() - 1].is_ok());
        }
        let classes = self.bundle.info.labels.len();
        let found = if count > 0 { network.logits(&tensors[..count * values], count) } else { Ok(Vec::new()) };
        let rows = match found {
            Ok(rows) => rows,
            Err(error) => {
                let words = error.one_line();
                return outcomes.into_iter().map(|one| one.and(Err(Error::invalid(words.clone())))).collect();
            }
        };
        let mut rows = rows.chunks_exact(classes);
        let answer = |one: Result<()>| one.and_then(|()| self.prediction(rows.next().unwrap_or(&[]).to_vec(), top));
        outcomes.into_iter().map(answer).collect()
    }

    /// The tensor of a photo's bytes, into `tensor`: channel by channel, row by row.
    fn prepare_into(&self, photo: &[u8], tensor: &mut [f32]) -> Result<()> {
        let spec = &self.bundle.info.preprocess;
        spec.normalise_into(&resize(&decode(photo)?, spec)?, tensor);
        Ok(())
    }

    /// What `logits` say, likeliest first.
    fn prediction(&self, logits: Vec<f32>, top: usize) -> Result<Prediction> {
        let labels = &self.bundle.info.labels;
        let wrong = logits.iter().filter(|value| !value.is_finite()).count();
        if wrong > 0 || logits.len() != labels.len() {
            return Err(Error::invalid("the network's answer is not a number")
                .at(format!("the {} copy of {}", self.copy, self.bundle.info.name))
                .expected(format!("{} finite logits", labels.len()))
                .found(format!("{wrong} that are not")));
        }
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f64> = logits.iter().map(|value| (f64::from(*value) - f64::from(most)).exp()).collect();
        let sum: f64 = powers.iter().sum();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|one, other| logits[*other].total_cmp(&logits[*one])); // stable: equal ones stay in order
        order.truncate(top.max(1));
        let top = order.into_iter().map(|index| Top {
            label: labels[index].clone(),
            index,
            probability: powers[index] / sum,
        });
        Ok(Prediction { top: top.collect(), logits })
    }
}

/// What `load_beside` has: the bundle with the bytes of its model, whether the engine is there, and what was kept.
type Opened = (Result<(Bundle, Option<Bytes>)>, Result<()>, Option<(Arc<Graph>, Option<Network>)>);

/// The bundle, opened while ONNX Runtime is loaded and a graph of this machine's own is made ready.
///
/// Nothing of the bundle but bundle.json is parsed before all of it has passed. It is the calling thread that loads:
/// a program's first one has the heap that grows at least cost.
fn load_beside(folder: &Path, options: &Options, copy: &str, settings: &Settings) -> Opened {
    let named = |info: &Info| info.copies.iter().find(|one| one.name == copy).cloned();
    let kept = |info: &Info| named(info).and_then(|copy| settings.place(&copy)).filter(|place| place.is_file());
    let wanted = |info: &Info| if kept(info).is_some() { None } else { named(info).map(|one| one.file) };
    let (sender, receiver) = mpsc::channel();
    let beside = move |info: &Info| {
        if let Some(graph) = kept(info).as_deref().and_then(cache::read) {
            let _ = sender.send((Arc::new(graph), info.clone()));
        }
    };
    thread::scope(|scope| {
        let trust = options.trust.as_deref();
        let opening = scope.spawn(move || Bundle::open_keeping(folder, trust, &wanted, &beside));
        let runtime = match settings.engine {
            Engine::OnnxRuntime => library::load(settings.library.as_deref()).map(drop),
            Engine::Tract => Ok(()),
        };
        let ready = receiver.recv().ok().filter(|_| runtime.is_ok()).map(|(graph, info)| {
            let load = |copy: Copy| Network::load_form(Form::Kept(&graph), &copy, &info, settings).ok();
            let network = if options.many { None } else { named(&info).and_then(load) };
            (graph, network)
        });
        (opening.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), runtime, ready)
    })
}

/// What a mutex guards; a thread that panicked leaves nothing half done here.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bytes of a photo's file.
///
/// # Errors
/// `PhotoError` where it cannot be read, or has more bytes than a photo may have.
pub fn read_photo(path: &Path) -> Result<Vec<u8>> {
    let unreadable = |error: std::io::Error| {
        // Without Rust's " (os error 2)": the words are those that every program has for it.
        let words = error.to_string();
        let words = words.split(" (os error").next().unwrap_or_default().to_owned();
        Error::photo(Refusal::Unreadable, words).at(path.display())
    };
    let file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len() as usize;
    let mut data = Vec::with_capacity(length.min(MAX_BYTES) + 1);
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut data).map_err(unreadable)?;
    if data.len() > MAX_BYTES {
        let found = format!("{} bytes or more", data.len());
        return Err(images::too_large(format!("at most {MAX_BYTES} bytes"), found).at(path.display()));
    }
    Ok(data)
}
