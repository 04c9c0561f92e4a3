//! `samesight-rs verify`: the proof.

use std::ffi::OsString;
use std::io::Write;

use samesight::json;
use samesight::verify::{Options, verify};
use samesight::{Bundle, Result, Settings};

use super::{Words, print, stdout};

pub const HELP: &str =
    "usage: samesight-rs verify BUNDLE [--copy NAME]... [--samples N] [--json] [--engine NAME] [--threads N] [--cache]
                           [--trust KEY.pub] [--onnxruntime FILE]

Prove that every copy in a bundle still gives PyTorch's answer: on this machine, in this runtime, from the photo's
bytes on. Each stage is judged on its right input, so that the first one that differs is the one that is named.

  --copy NAME         only this copy (may be repeated; default: all)
  --samples N         only the first N golden samples
  --json              print one object, as `samesight verify --json` does
  --engine NAME       what computes: onnxruntime (default), or tract, where the program was built with it (fp32 copies)
  --threads N         CPU threads (default: those there are, to 8)
  --cache             by the optimised graphs that `predict --cache` uses
  --trust KEY.pub     refuse a bundle not signed by this key
  --onnxruntime FILE  ONNX Runtime's shared library (default: ORT_DYLIB_PATH, else that of an installed wheel)

Exit code: 0 the same everywhere, 1 something differs, 2 could not be checked.";

/// Verify the bundle; the exit code.
pub fn run(words: impl Iterator<Item = OsString>) -> Result<u8> {
    let valued = ["--copy", "--samples", "--engine", "--threads", "--trust", "--onnxruntime"];
    let words = Words::read(words, &["--json", "--cache"], &valued, HELP)?;
    let (folder, _) = words.bundle()?;
    let opening = words.opening()?;
    let bundle = match &opening.trust {
        Some(key) => Bundle::open_trusting(folder, key)?,
        None => Bundle::open(folder)?,
    };
    let settings =
        Settings { engine: opening.engine, threads: opening.threads, library: opening.library, cache: opening.cache };
    let options = Options { copies: words.all("--copy"), samples: words.number("--samples")?, settings };
    let found = verify(&bundle, &options)?;
    let mut out = stdout();
    if words.has("--json") {
        print(&mut out, &json::write_indented(&found.to_json()));
    } else {
        for line in found.lines() {
            print(&mut out, &line);
        }
    }
    let _ = out.flush();
    Ok(u8::from(!found.is_ok()))
}
