//! A verification as the JSON object and the tables of `samesight verify` (docs/verify.md).

use super::stages::{NETWORK, STAGES};
use super::words::general;
use super::{RunnerResult, Verification};
use crate::json::{Value, object};

const SHOWN: usize = 5;

impl Verification {
    /// The object that `verify --json` prints.
    #[must_use]
    pub fn to_json(&self) -> Value {
        object([
            ("ok", self.is_ok().into()),
            ("bundle", self.id.as_str().into()),
            ("name", self.name.as_str().into()),
            ("version", self.version.as_str().into()),
            ("samples", self.samples.into()),
            ("labels_without_sample", self.labels_without_sample.clone().into()),
            ("stages", (0..STAGES.len()).map(|stage| self.stage(stage)).collect::<Vec<_>>().into()),
            ("runners", self.runners.iter().map(row).collect::<Vec<_>>().into()),
            ("first_difference", self.first_difference()),
            ("seconds", ((self.seconds * 1000.0).round() / 1000.0).into()),
            (
                "versions",
                object([
                    ("samesight-rs", env!("CARGO_PKG_VERSION").into()),
                    (self.engine.0, self.engine.1.clone().into()),
                ]),
            ),
            (
                "machine",
                object([
                    ("system", system().into()),
                    ("machine", std::env::consts::ARCH.into()),
                    ("cpus", std::thread::available_parallelism().map_or(1, usize::from).into()),
                ]),
            ),
        ])
    }

    fn stage(&self, stage: usize) -> Value {
        let first = self.faults[stage].values().flatten().next();
        object([
            ("stage", STAGES[stage].into()),
            ("samples", self.faults[stage].len().into()),
            ("different", self.faults[stage].values().flatten().count().into()),
            ("max_abs_difference", self.largest(stage).into()),
            ("first", first.map(|fault| Value::Object(fault.to_json())).into()),
        ])
    }

    /// Nothing where a sample differs and by how much is not known.
    fn largest(&self, stage: usize) -> Option<f64> {
        let sizes: Vec<Option<f64>> = if stage == NETWORK {
            self.runners.iter().map(|one| one.figures.as_ref().map(|figures| figures.most)).collect()
        } else {
            let faults = self.faults[stage].values().flatten();
            faults.map(|fault| fault.comparison.as_ref().map(|one| one.most)).collect()
        };
        sizes.into_iter().try_fold(0.0, |most: f64, size| size.filter(|one| one.is_finite()).map(|one| most.max(one)))
    }

    fn first_difference(&self) -> Value {
        let Some(fault) = self.first_fault() else { return Value::Null };
        let mut pairs = fault.to_json();
        let runner = fault.runner.map(|number| &self.runners[number]);
        pairs.push(("runner".to_owned(), runner.map(|one| one.runner).into()));
        pairs.push(("copy".to_owned(), runner.map(|one| one.copy.as_str()).into()));
        pairs.push(("layer".to_owned(), Value::Null));
        Value::Object(pairs)
    }

    /// The tables and the verdict, a line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{} {}  (bundle {})", self.name, self.version, &self.id[..12])];
        if !self.labels_without_sample.is_empty() {
            let names = self.labels_without_sample[..self.labels_without_sample.len().min(SHOWN)].join(", ");
            let more = self.labels_without_sample.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            lines.push(format!("labels without a golden sample: {names}{more}"));
        }
        lines.push(String::new());
        let mut rows = vec![["stage", "samples", "different", "largest difference"].map(str::to_owned).to_vec()];
        for (stage, name) in STAGES.iter().enumerate() {
            let samples = self.faults[stage].len();
            let different = self.faults[stage].values().flatten().count();
            let largest = match *name {
                "record" | "labels" => "-".to_owned(),
                _ if samples == 0 => "not judged".to_owned(),
                _ => number(self.largest(stage)),
            };
            rows.push(vec![(*name).to_owned(), samples.to_string(), different.to_string(), largest]);
        }
        lines.extend(columns(&rows));
        lines.push(String::new());
        let head = ["runner", "copy", "samples", "max |diff|", "allowed", "mean |diff|", "labels", "accuracy"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.runners.iter().map(runner_row));
        lines.extend(columns(&rows));
        lines.push(String::new());
        lines.extend(self.verdict());
        lines
    }

    /// What it comes to, in plain words.
    fn verdict(&self) -> Vec<String> {
        if self.is_ok() {
            let copies =
                if self.runners.len() == 1 { "1 copy".to_owned() } else { format!("{} copies", self.runners.len()) };
            let samples = self.samples;
            return vec![format!(
                "the same answer everywhere: {copies}, {samples} golden samples, every stage from the photo's bytes to the label"
            )];
        }
        let Some(first) = self.first_fault() else {
            return vec!["not everything could be judged".to_owned()];
        };
        let runner = first.runner.map(|number| {
            let one = &self.runners[number];
            format!(" ({}, {} copy)", one.runner, one.copy)
        });
        let mut lines = vec![format!(
            "differs from the {} stage on: {}{}",
            STAGES[first.stage],
            first.sample,
            runner.unwrap_or_default()
        )];
        for (stage, name) in STAGES.iter().enumerate() {
            let wrong: Vec<_> = self.faults[stage].values().flatten().collect();
            if let Some(fault) = wrong.first() {
                let (count, samples) = (wrong.len(), self.faults[stage].len());
                lines.push(format!("  {name}, {count} of {samples} samples, first {}:", fault.sample));
                lines.push(format!("    {}", fault.what));
            }
        }
        for runner in self.runners.iter().filter(|one| one.different > 0) {
            lines.extend(runner.notes.iter().map(|note| format!("  {}, {} copy: {note}", runner.runner, runner.copy)));
        }
        lines
    }
}

/// The row of verify's JSON.
fn row(result: &RunnerResult) -> Value {
    let figures = result.figures.as_ref();
    let figure = |of: fn(&super::Figures) -> f64| Value::from(figures.map(of));
    let (accuracy, photos) = result.recorded;
    object([
        ("ok", result.is_ok().into()),
        ("runner", result.runner.into()),
        ("copy", result.copy.as_str().into()),
        ("precision", result.precision.as_str().into()),
        (
            "tolerance",
            object([
                ("name", result.tolerance.name.into()),
                ("abs", result.tolerance.abs.into()),
                ("rel", result.tolerance.rel.into()),
                ("reason", result.tolerance.reason.into()),
            ]),
        ),
        ("reference", result.reference.as_str().into()),
        ("samples", result.samples.into()),
        ("different", result.different.into()),
        ("max_abs_difference", figure(|one| one.most)),
        ("mean_abs_difference", figure(|one| one.mean)),
        ("allowed", figure(|one| one.allowed)),
        ("recorded_max_abs_difference", figures.and_then(|one| one.from_record).into()),
        ("pytorch_max_abs_difference", figure(|one| one.from_pytorch)),
        ("label_agreement", figure(|one| one.label_agreement)),
        ("layer", Value::Null),
        ("notes", result.notes.clone().into()),
        (
            "accuracy",
            object([
                ("ok", true.into()),
                ("measured", Value::Null),
                ("photos", 0_usize.into()),
                ("unread", 0_usize.into()),
                ("recorded", accuracy.into()),
                ("recorded_photos", photos.map(|count| count as usize).into()),
                ("same_photos", false.into()),
                ("label_agreement", Value::Null),
                ("raw_label_agreement", Value::Null),
                ("problems", Value::List(Vec::new())),
            ]),
        ),
        ("first", result.first.as_ref().map(|fault| Value::Object(fault.to_json())).into()),
    ])
}

fn runner_row(result: &RunnerResult) -> Vec<String> {
    let figures = result.figures.as_ref();
    let (accuracy, photos) = result.recorded;
    let beside = photos.map_or(String::new(), |count| format!(" of {count}"));
    vec![
        result.runner.to_owned(),
        result.copy.clone(),
        result.samples.to_string(),
        number(figures.map(|one| one.most)),
        number(figures.map(|one| one.allowed)),
        number(figures.map(|one| one.mean)),
        figures.map_or("-".to_owned(), |one| percent(one.label_agreement)),
        accuracy.map_or("-".to_owned(), |share| format!("recorded: {}{beside}", percent(share))),
    ]
}

fn percent(share: f64) -> String {
    format!("{:.2}%", 100.0 * share)
}

fn number(value: Option<f64>) -> String {
    value.map_or("not known".to_owned(), |value| general(value, 3))
}

fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("  {}", cells.join("  ")).trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// The system's name as Python's `platform.system()` has it.
fn system() -> &'static str {
    match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "Darwin",
        "windows" => "Windows",
        other => other,
    }
}
