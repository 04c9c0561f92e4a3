//! `samesight-rs predict`: photos to labels.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use samesight::json::{self, Value, object};
use samesight::{Classifier, Error, Kind, Options, Prediction, Result};

use super::{Words, print, stdout, usage};

pub const HELP: &str =
    "usage: samesight-rs predict BUNDLE IMAGE... [--json | --csv] [--top K] [--copy NAME] [--engine NAME]
                            [--threads N] [--cache] [--trust KEY.pub] [--onnxruntime FILE]

Classify photos. IMAGE is a photo or a folder, which stands for all its photos, sorted, those in its folders too.
A photo that cannot be read is reported and does not stop the others.

  --json              one object a line and photo, as `samesight predict --json` prints it
  --csv               a row a photo: path,label,index,confidence,error
  --top K             labels a photo (default: 5)
  --copy NAME         which copy answers (default: fp32)
  --engine NAME       what computes: onnxruntime (default), or tract, where the program was built with it (fp32 copies)
  --threads N         CPU threads (default: those there are, to 8)
  --cache             keep the optimised graph in the user's cache, so that the next run starts sooner
  --trust KEY.pub     refuse a bundle not signed by this key
  --onnxruntime FILE  ONNX Runtime's shared library (default: ORT_DYLIB_PATH, else that of an installed wheel)

Exit code: 0 every photo was classified, 2 one or more were not, or the bundle must not be used.";

const SUFFIXES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"];
const BAR_CELLS: usize = 20;

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Json,
    Csv,
    People,
}

/// Classify the photos; the exit code.
pub fn run(words: impl Iterator<Item = OsString>) -> Result<u8> {
    let valued = ["--top", "--copy", "--engine", "--threads", "--trust", "--onnxruntime"];
    let words = Words::read(words, &["--json", "--csv", "--cache"], &valued, HELP)?;
    let (folder, images) = words.bundle()?;
    let form = match (words.has("--json"), words.has("--csv")) {
        (true, true) => {
            return Err(Error::new(Kind::Input, "answers are written in one form").expected("--csv or --json"));
        }
        (true, false) => Form::Json,
        (false, true) => Form::Csv,
        (false, false) => Form::People,
    };
    if images.is_empty() {
        return Err(usage("the photos are missing", HELP));
    }
    let top = words.number("--top")?.unwrap_or(5);
    let photos = listed(images)?;
    let opening = words.opening()?;
    let failed = if let [photo] = &photos[..] {
        one(&folder, &opening, photo, top, form)?
    } else {
        many(&folder, &Options { many: true, ..opening }, &photos, top, form)?
    };
    if failed > 0 && form == Form::People {
        eprintln!("{failed} of {} photos could not be classified", photos.len());
    }
    Ok(if failed > 0 { 2 } else { 0 })
}

/// One photo, which is read and decoded while the network is loaded.
fn one(folder: &Path, opening: &Options, photo: &Path, top: usize, form: Form) -> Result<usize> {
    let (classifier, pixels) = std::thread::scope(|scope| {
        let pixels = scope.spawn(|| samesight::read_photo(photo).and_then(|data| samesight::images::decode(&data)));
        (Classifier::open_with(folder, opening), pixels.join())
    });
    let classifier = classifier?;
    let pixels = pixels.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let answer = pixels.and_then(|pixels| classifier.classify_pixels(&pixels, top));
    let mut out = stdout();
    if form == Form::Csv {
        print(&mut out, "path,label,index,confidence,error");
    }
    match form {
        Form::People => match &answer {
            Ok(answer) => drop(print(&mut out, &table(photo, answer))),
            Err(error) => eprintln!("error: {}: {}", photo.display(), error.one_line()),
        },
        _ => drop(print(&mut out, &line(photo, &answer, &classifier.bundle().id, form))),
    }
    let _ = out.flush();
    std::mem::forget(classifier); // the program ends, which gives its memory back at once
    Ok(usize::from(answer.is_err()))
}

/// Many photos, in order, each as soon as it is known.
fn many(folder: &Path, opening: &Options, photos: &[PathBuf], top: usize, form: Form) -> Result<usize> {
    let classifier = Classifier::open_with(folder, opening)?;
    let id = classifier.bundle().id.clone();
    let mut out = stdout();
    let mut failed = 0;
    if form == Form::Csv {
        print(&mut out, "path,label,index,confidence,error");
    }
    classifier.classify_many(photos, top, |place, answer| {
        failed += usize::from(answer.is_err());
        let photo = &photos[place];
        let is_read = match (form, &answer) {
            (Form::People, Ok(answer)) => print(&mut out, &row(photo, answer)),
            (Form::People, Err(error)) => {
                let _ = out.flush();
                eprintln!("error: {}: {}", photo.display(), error.one_line());
                true
            }
            _ => print(&mut out, &line(photo, &answer, &id, form)),
        };
        // Whoever reads line by line is not kept waiting for a buffer to fill.
        is_read && (place % 8 != 7 || out.flush().is_ok())
    })?;
    let _ = out.flush();
    Ok(failed)
}

/// The path of each photo as it was given, a folder's photos in its place.
fn listed(images: &[OsString]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for image in images {
        let path = PathBuf::from(image);
        if path.is_dir() {
            let mut inside = Vec::new();
            photos_in(&path, &mut inside);
            inside.sort_by(|one: &PathBuf, other| one.components().cmp(other.components()));
            if inside.is_empty() {
                eprintln!("error: {}: there are no photos in this folder", path.display());
            }
            found.append(&mut inside);
        } else {
            found.push(path);
        }
    }
    if found.is_empty() {
        let expected = format!("files named {}", SUFFIXES.map(|one| format!(".{one}")).join(", "));
        return Err(Error::new(Kind::Input, "no photos found").expected(expected));
    }
    Ok(found)
}

fn photos_in(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        if name.starts_with('.') || name == "__MACOSX" {
            continue;
        }
        let suffix = path.extension().map(|suffix| suffix.to_string_lossy().to_ascii_lowercase());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            photos_in(&path, found);
        } else if suffix.is_some_and(|suffix| SUFFIXES.contains(&&*suffix)) {
            found.push(path);
        }
    }
}

/// The line of an answer that programs read.
fn line(photo: &Path, answer: &Result<Prediction>, id: &str, form: Form) -> String {
    let path = Value::Written(json::quoted_path(photo));
    match (form, answer) {
        (Form::Csv, Ok(answer)) => {
            let cells = [json::quoted_path(photo), json::quoted(answer.label())].map(|text| cell(&text));
            let confidence = json::decimal(answer.confidence());
            format!("{},{},{},{confidence},", cells[0], cells[1], answer.top[0].index)
        }
        (Form::Csv, Err(error)) => {
            format!("{},,,,{}", cell(&json::quoted_path(photo)), cell(&json::quoted(&error.one_line())))
        }
        (_, Err(error)) => json::write(&object([("path", path), ("error", error.one_line().into())])),
        (_, Ok(answer)) => {
            let top = answer.top.iter().map(|one| {
                object([
                    ("label", one.label.as_str().into()),
                    ("index", one.index.into()),
                    ("probability", one.probability.into()),
                ])
            });
            json::write(&object([
                ("path", path),
                ("label", answer.label().into()),
                ("index", answer.top[0].index.into()),
                ("confidence", answer.confidence().into()),
                ("top", top.collect::<Vec<_>>().into()),
                ("bundle", id.into()),
            ]))
        }
    }
}

/// A cell of CSV from a string as JSON has it: quotes are doubled, all else stays escaped.
fn cell(quoted: &str) -> String {
    let text = quoted[1..quoted.len() - 1].replace("\\\"", "\"");
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// The photo, and under it a line a label.
fn table(photo: &Path, answer: &Prediction) -> String {
    let width = answer.top.iter().map(|one| one.label.chars().count()).max().unwrap_or(0);
    let mut lines = vec![photo.display().to_string()];
    for one in &answer.top {
        lines.push(format!("  {:<width$}  {} {:>7}", one.label, bar(one.probability), percent(one.probability)));
    }
    lines.join("\n")
}

/// The photo and its label with a bar.
fn row(photo: &Path, answer: &Prediction) -> String {
    let confidence = answer.confidence();
    format!("{:<48}  {} {:>7}  {}", photo.display(), bar(confidence), percent(confidence), answer.label())
}

fn bar(share: f64) -> String {
    let full = (share * BAR_CELLS as f64).round() as usize;
    "█".repeat(full) + &"░".repeat(BAR_CELLS - full)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use samesight::Refusal;

    use super::*;

    #[test]
    fn csv_is_ascii_and_quotes_are_doubled() {
        assert_eq!(cell(&json::quoted("a \"b\", ä\n")), "\"a \"\"b\"\", \\u00e4\\n\"");
        assert_eq!(cell(&json::quoted("plain")), "plain");
    }

    #[test]
    fn an_error_takes_the_place_of_an_answer() {
        let error = samesight::read_photo(Path::new("/nowhere")).unwrap_err();
        assert_eq!(error.refusal(), Some(Refusal::Unreadable));
        let text = line(Path::new("/nowhere"), &Err(error), "id", Form::Json);
        let words = "a photo cannot be read from the disk; found No such file or directory";
        assert_eq!(text, format!("{{\"path\": \"/nowhere\", \"error\": \"{words}\"}}"));
    }
}
