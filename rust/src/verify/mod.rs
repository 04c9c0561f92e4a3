//! The proof: every copy of a network, here, against what PyTorch answered at export (docs/verify.md).
//!
//! Real photos go through the stages decode, resize, normalise and network. Each is judged on the right input, so
//! that the first stage that differs is the one that is named.

mod golden;
mod report;
mod stages;
mod tolerances;
mod words;

use std::collections::BTreeMap;
use std::time::Instant;

use crate::bundle::{Bundle, Copy};
use crate::errors::{Error, Result};
use crate::json;
use crate::network::{Engine, Network, Settings};
use golden::{Golden, REFERENCE, likeliest, margin, scale};
use stages::{Comparison, Fault, LABELS, NETWORK, RECORD, STAGES, judge};
pub use tolerances::{TOLERANCES, Tolerance};
use words::general;

const MARGIN_FACTOR: f64 = 2.0; // both logits of a pair may move by the tolerance, towards each other
const SAME_MARGIN: f64 = 1e-5; // relative: the margin in golden.json was computed from the very same logits

/// What is proved, and how.
#[derive(Default)]
pub struct Options {
    /// Only these copies; all where there is none.
    pub copies: Vec<String>,
    /// Only so many golden samples.
    pub samples: Option<usize>,
    /// How networks are run.
    pub settings: Settings,
}

/// Of one stage, by sample: the fault, or none where it is as recorded.
type Faults = BTreeMap<String, Option<Fault>>;

/// One copy's logits over the golden samples that the network could be judged on.
struct RunnerResult {
    runner: &'static str,
    copy: String,
    precision: String,
    tolerance: &'static Tolerance,
    /// Whose recorded logits it must give: PyTorch's, or an int8 copy's own.
    reference: String,
    recorded: (Option<f64>, Option<f64>),
    samples: usize,
    different: usize,
    figures: Option<Figures>,
    first: Option<Fault>,
    notes: Vec<String>,
}

struct Figures {
    most: f64,
    mean: f64,
    allowed: f64,
    from_record: Option<f64>,
    from_pytorch: f64,
    label_agreement: f64,
}

impl RunnerResult {
    fn is_ok(&self) -> Option<bool> {
        if self.different > 0 { Some(false) } else { (self.samples > 0).then_some(true) }
    }
}

/// All that was found of one bundle.
pub struct Verification {
    id: String,
    name: String,
    version: String,
    labels_without_sample: Vec<String>,
    samples: usize,
    faults: [Faults; 6],
    runners: Vec<RunnerResult>,
    seconds: f64,
    /// The engine's name and version.
    engine: (&'static str, Option<String>),
}

/// Every stage of every golden sample, by every copy.
///
/// # Errors
/// `InputError` where the bundle carries no golden samples or no such copy, a bundle's error where a file of it is
/// not as it must be, `RuntimeMissing`.
pub fn verify(bundle: &Bundle, options: &Options) -> Result<Verification> {
    let start = Instant::now();
    if bundle.info.golden.samples == 0 {
        return Err(Error::input("the bundle has no golden samples, so there is nothing to prove it by")
            .at(bundle.folder().display())
            .fix("export it again, with --samples PHOTOS"));
    }
    let mut golden = Golden::read(bundle)?;
    golden.keep_first(options.samples.unwrap_or(usize::MAX));
    let all = || bundle.info.copies.iter().map(|copy| copy.name.clone()).collect();
    let names: Vec<String> = if options.copies.is_empty() { all() } else { options.copies.clone() };
    let copies = names.iter().map(|name| bundle.copy(name)).collect::<Result<Vec<_>>>()?;
    let engine = options.settings.engine;
    let mut results = copies.iter().map(|copy| blank(copy, engine)).collect::<Result<Vec<_>>>()?;
    let open = |copy: &&Copy| Network::load(&bundle.read(&copy.file)?, copy, &bundle.info, &options.settings);
    let mut networks = copies.iter().map(open).collect::<Result<Vec<_>>>()?;
    let mut faults: [Faults; 6] = Default::default();
    judge_record(bundle, &golden, &mut faults)?;
    judge_labels_file(bundle, &mut faults)?;
    let mut answers: Vec<Vec<Option<Vec<f32>>>> = vec![vec![None; golden.samples.len()]; networks.len()];
    for (index, sample) in golden.samples.iter().enumerate() {
        let judged = judge(bundle, &golden, sample)?;
        for (stage, fault) in judged.faults {
            faults[stage].insert(sample.id.clone(), fault);
        }
        let has_record = matches!(faults[RECORD].get(&sample.id), Some(None));
        let Some(tensor) = judged.tensor.filter(|_| has_record) else {
            continue; // there is nothing to judge the network by
        };
        for (number, network) in networks.iter_mut().enumerate() {
            let logits = network.logits(&tensor, 1)?;
            let mut fault = judge_logits(&golden, index, &results[number], &logits);
            if let Some(fault) = &mut fault {
                fault.runner = Some(number);
            }
            let result = &mut results[number];
            result.samples += 1;
            result.different += usize::from(fault.is_some());
            result.first = result.first.take().or_else(|| fault.clone());
            let entry = faults[NETWORK].entry(sample.id.clone()).or_insert(None);
            *entry = entry.take().or(fault);
            answers[number][index] = Some(logits);
        }
    }
    for (result, logits) in results.iter_mut().zip(&answers) {
        summarise(&golden, result, logits, &mut faults[RECORD]);
    }
    note_common_difference(&mut results, &answers);
    Ok(Verification {
        id: bundle.id.clone(),
        name: bundle.info.name.clone(),
        version: bundle.info.version.clone(),
        labels_without_sample: bundle.info.golden.labels_without_sample.clone(),
        samples: golden.samples.len(),
        faults,
        runners: results,
        seconds: start.elapsed().as_secs_f64(),
        engine: match engine {
            Engine::OnnxRuntime => {
                ("onnxruntime", crate::network::runtime_version(options.settings.library.as_deref()))
            }
            #[cfg(feature = "tract")]
            Engine::Tract => ("tract", Some(crate::tract::VERSION.to_owned())),
            #[cfg(not(feature = "tract"))]
            Engine::Tract => ("tract", None),
        },
    })
}

fn blank(copy: &Copy, engine: Engine) -> Result<RunnerResult> {
    let figure = |key| copy.recorded.get(key).copied().flatten();
    Ok(RunnerResult {
        runner: engine.runner(),
        copy: copy.name.clone(),
        precision: copy.precision.clone(),
        tolerance: tolerance_for(copy, engine)?,
        reference: if by_own_record(copy) { copy.name.clone() } else { REFERENCE.to_owned() },
        recorded: (figure("test_accuracy"), figure("test_photos")),
        samples: 0,
        different: 0,
        figures: None,
        first: None,
        notes: Vec::new(),
    })
}

fn tolerance_for(copy: &Copy, engine: Engine) -> Result<&'static Tolerance> {
    Tolerance::of(engine.runner(), &copy.precision)
        .ok_or_else(|| Error::input(format!("there is no tolerance for {} copies", copy.precision)))
}

/// Whether a copy is judged by its own recorded logits: int8 is too coarse for PyTorch's.
fn by_own_record(copy: &Copy) -> bool {
    copy.precision == "int8"
}

/// Keep a fault of the record where the sample has none yet.
fn add(faults: &mut Faults, sample: &str, what: String) {
    let entry = faults.entry(sample.to_owned()).or_insert(None);
    if entry.is_none() {
        *entry = Some(Fault::new(RECORD, sample, what));
    }
}

/// Whether the golden samples agree with themselves and with bundle.json, before anything is run.
fn judge_record(bundle: &Bundle, golden: &Golden, faults: &mut [Faults; 6]) -> Result<()> {
    let by_pytorch = bundle.info.copies.iter().filter(|copy| !by_own_record(copy));
    let usual = |copy| tolerance_for(copy, Engine::OnnxRuntime);
    let tolerances = by_pytorch.map(usual).collect::<Result<Vec<_>>>()?;
    let mut clear = 0;
    for (sample, logits) in golden.samples.iter().zip(&golden.logits[REFERENCE]) {
        let found = margin(logits);
        if (found - sample.margin).abs() > SAME_MARGIN * sample.margin.abs().max(1.0) {
            let (found, recorded) = (general(found, 6), general(sample.margin, 6));
            let words = format!(
                "golden/logits/{REFERENCE}.f32 and golden.json contradict each other: a margin of {found} where {recorded} is recorded"
            );
            add(&mut faults[RECORD], &sample.id, words);
            continue;
        }
        faults[RECORD].insert(sample.id.clone(), None);
        let name = &bundle.info.labels[likeliest(logits)];
        let words = format!("bundle.json names PyTorch's answer '{name}', where '{}' is recorded", sample.predicted);
        let fault = (*name != sample.predicted).then(|| Fault::new(LABELS, &sample.id, words));
        faults[LABELS].insert(sample.id.clone(), fault);
        let scale = scale(logits);
        clear += usize::from(tolerances.iter().all(|one| found > MARGIN_FACTOR * one.absolute(scale)));
    }
    let Some(first) = golden.samples.first() else { return Ok(()) };
    if clear == 0 && faults[RECORD].values().all(Option::is_none) {
        let words = "no golden sample's margin is more than twice the copies' tolerances: they prove nothing";
        add(&mut faults[RECORD], &first.id, words.to_owned());
    }
    for copy in bundle.info.copies.iter().filter(|copy| by_own_record(copy)) {
        judge_own_record(copy, golden, &mut faults[RECORD])?;
    }
    Ok(())
}

/// Whether an int8 copy's record is as near to PyTorch as bundle.json says, and proves anything.
fn judge_own_record(copy: &Copy, golden: &Golden, faults: &mut Faults) -> Result<()> {
    let (first, file) = (&golden.samples[0].id, format!("golden/logits/{}.f32", copy.name));
    let bound = copy.recorded.get("max_abs_difference").copied().flatten();
    let (Some(own), Some(bound)) = (golden.logits.get(&copy.name), bound) else {
        let name = &copy.name;
        let words = format!("the {name} copy is judged by its own logits, and bundle.json or {file} lacks them");
        add(faults, first, words);
        return Ok(());
    };
    for ((sample, own), pytorch) in golden.samples.iter().zip(own).zip(&golden.logits[REFERENCE]) {
        let far = furthest(own, pytorch);
        if far > bound * (1.0 + SAME_MARGIN) {
            let (far, bound) = (general(far, 4), general(bound, 4));
            let words = format!("{file} is {far} from PyTorch's logits, where bundle.json says {bound} at most");
            add(faults, &sample.id, words);
        }
    }
    let tolerance = tolerance_for(copy, Engine::OnnxRuntime)?;
    if !own.iter().any(|row| margin(row) > MARGIN_FACTOR * tolerance.absolute(scale(row))) {
        add(faults, first, format!("no golden sample has a margin in {file} that proves anything"));
    }
    Ok(())
}

/// Whether labels_mapping.json, which other programs read, names the labels as bundle.json does.
fn judge_labels_file(bundle: &Bundle, faults: &mut [Faults; 6]) -> Result<()> {
    let name = "labels_mapping.json";
    if !bundle.has(name) {
        return Ok(());
    }
    let found = json::parse(&bundle.read(name)?, name)?;
    let labels = &bundle.info.labels;
    let number = |index: usize| index.to_string();
    let named = |key: &str, of: &dyn Fn(usize) -> (String, json::Value)| match found.get(key) {
        Some(json::Value::Object(pairs)) => {
            let there: BTreeMap<&str, &json::Value> = pairs.iter().map(|(key, value)| (key.as_str(), value)).collect();
            pairs.len() == labels.len()
                && (0..labels.len()).map(of).all(|(key, value)| there.get(key.as_str()) == Some(&&value))
        }
        _ => false,
    };
    let has_two = matches!(&found, json::Value::Object(pairs) if pairs.len() == 2);
    let is_right = has_two
        && named("class_to_int", &|index| (labels[index].clone(), index.into()))
        && named("int_to_class", &|index| (number(index), labels[index].as_str().into()));
    if !is_right {
        let words = format!("{name} does not name the labels as bundle.json does");
        faults[LABELS].insert(name.to_owned(), Some(Fault::new(LABELS, name, words)));
    }
    Ok(())
}

/// The logits that a copy must give: PyTorch's, or an int8 copy's own.
fn reference<'a>(golden: &'a Golden, result: &RunnerResult) -> &'a [Vec<f32>] {
    golden.logits.get(&result.reference).unwrap_or(&golden.logits[REFERENCE])
}

/// What is wrong with one copy's logits for one sample.
fn judge_logits(golden: &Golden, index: usize, result: &RunnerResult, logits: &[f32]) -> Option<Fault> {
    let reference = &reference(golden, result)[index];
    let who = format!("{} with the {} copy", result.runner, result.copy);
    let is_pytorch = result.reference == REFERENCE;
    let allowed = result.tolerance.absolute(scale(reference));
    let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>();
    let comparison = Comparison::of(&wide(logits), &wide(reference), &[("class", reference.len())], allowed);
    let wrong = logits.iter().filter(|value| !value.is_finite()).count();
    let what = if wrong > 0 {
        format!("{who} gives {wrong} logits that are not finite")
    } else if let Some(comparison) = &comparison {
        let whose = if is_pytorch { "PyTorch" } else { "were recorded of it" };
        let (allowed, words) = (general(allowed, 4), comparison.words());
        format!("{who} gives other logits than {whose} by more than {allowed}: {words}")
    } else if likeliest(logits) != likeliest(reference) && margin(reference) > MARGIN_FACTOR * allowed {
        let whose = if is_pytorch { "PyTorch" } else { "was recorded of it" };
        format!("{who} gives another label than {whose}")
    } else {
        return None;
    };
    let mut fault = Fault::new(NETWORK, &golden.samples[index].id, what);
    fault.comparison = comparison;
    Some(fault)
}

/// The largest difference of two rows of logits; infinite where one is no number.
fn furthest(found: &[f32], expected: &[f32]) -> f64 {
    let distance = |(one, other): (&f32, &f32)| {
        let distance = (f64::from(*one) - f64::from(*other)).abs();
        if distance.is_nan() { f64::INFINITY } else { distance }
    };
    found.iter().zip(expected).map(distance).fold(0.0, f64::max)
}

/// Fill in a result's figures from its logits, and judge what was recorded of them.
fn summarise(golden: &Golden, result: &mut RunnerResult, answers: &[Option<Vec<f32>>], record: &mut Faults) {
    let judged: Vec<(usize, &Vec<f32>)> =
        answers.iter().enumerate().filter_map(|(index, logits)| Some((index, logits.as_ref()?))).collect();
    if judged.is_empty() {
        return;
    }
    let (wanted, pytorch) = (reference(golden, result), &golden.logits[REFERENCE]);
    let mut figures =
        Figures { most: 0.0, mean: 0.0, allowed: 0.0, from_record: None, from_pytorch: 0.0, label_agreement: 0.0 };
    let mut nearest = -1.0;
    let mut values = 0;
    for (index, logits) in &judged {
        let (here, allowed) = (furthest(logits, &wanted[*index]), result.tolerance.absolute(scale(&wanted[*index])));
        figures.most = figures.most.max(here);
        if here / allowed > nearest {
            (nearest, figures.allowed) = (here / allowed, allowed);
        }
        let distances = logits.iter().zip(&wanted[*index]);
        figures.mean += distances.map(|(one, other)| (f64::from(*one) - f64::from(*other)).abs()).sum::<f64>();
        values += logits.len();
        figures.from_pytorch = figures.from_pytorch.max(furthest(logits, &pytorch[*index]));
        let is_finite = logits.iter().all(|value| value.is_finite());
        figures.label_agreement += f64::from(u8::from(is_finite && likeliest(logits) == likeliest(&pytorch[*index])));
    }
    figures.mean /= values as f64;
    figures.label_agreement /= judged.len() as f64;
    let Some(recorded) = golden.logits.get(&result.copy) else {
        result.notes.push("no logits of this copy were recorded at export".to_owned());
        result.figures = Some(figures);
        return;
    };
    let furthest_of = |(index, logits): &(usize, &Vec<f32>)| furthest(logits, &recorded[*index]);
    figures.from_record = Some(judged.iter().map(furthest_of).fold(0.0, f64::max));
    result.figures = Some(figures);
    if result.reference != REFERENCE {
        return;
    }
    let mut differed_then = false;
    for (index, logits) in &judged {
        let allowed = result.tolerance.absolute(scale(&wanted[*index]));
        let (here, there) = (furthest(logits, &wanted[*index]), furthest(&recorded[*index], &wanted[*index]));
        differed_then |= there > allowed;
        if here <= allowed && allowed < there {
            let (copy, there, allowed) = (&result.copy, general(there, 4), general(allowed, 4));
            let words = format!(
                "golden/logits/{copy}.f32 is {there} from PyTorch's logits, more than {allowed}, while the {copy} copy itself is not"
            );
            add(record, &golden.samples[*index].id, words);
        }
    }
    if result.different > 0 {
        let words = if differed_then {
            "its logits differed from PyTorch's when it was exported, too"
        } else {
            "its logits agreed with PyTorch's when it was exported: file, runtime or machine is another"
        };
        result.notes.push(words.to_owned());
    }
}

/// Say so where every copy differs from PyTorch, but none from the others.
fn note_common_difference(results: &mut [RunnerResult], answers: &[Vec<Option<Vec<f32>>>]) {
    let all_differ = results.iter().all(|result| result.different > 0 && result.reference == REFERENCE);
    if results.len() < 2 || !all_differ {
        return;
    }
    let allowed = results.iter().filter_map(|one| Some(one.figures.as_ref()?.allowed)).fold(0.0, f64::max);
    let mut pairs = answers[1..].iter().flat_map(|copy| copy.iter().zip(&answers[0]));
    let agree = pairs.all(|pair| matches!(pair, (Some(one), Some(other)) if furthest(one, other) <= allowed));
    if agree {
        let words = "all copies agree with one another: either the whole export is wrong, or PyTorch's record is";
        for result in results {
            result.notes.push(words.to_owned());
        }
    }
}

impl Verification {
    /// Whether everything could be judged, and is as recorded.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        let judged = self.samples > 0 && !self.runners.is_empty();
        judged && self.first_fault().is_none() && self.runners.iter().all(|one| one.is_ok() == Some(true))
    }

    /// The first fault of the first stage that differs.
    fn first_fault(&self) -> Option<&Fault> {
        (0..STAGES.len()).find_map(|stage| self.faults[stage].values().flatten().next())
    }
}
