//! `samesight-rs logits`: a copy as a filter, for programs that bring tensors of their own.

use std::ffi::OsString;
use std::io::{self, Read, Write};

use samesight::{Bundle, Error, Kind, Network, Result, Settings};

use super::Words;

pub const HELP: &str = "usage: samesight-rs logits BUNDLE [--copy NAME] [--engine NAME] [--threads N] [--trust KEY.pub] [--onnxruntime FILE]

Tensors on stdin to logits on stdout, one photo at a time: float32, little-endian, without any header. A tensor is
channel by channel, row by row, as the bundle's preprocessing gives it; a row of logits has one a label. Ends with stdin.

  --copy NAME         which copy answers (default: fp32)
  --engine NAME       what computes: onnxruntime (default), or tract, where the program was built with it (fp32 copies)
  --threads N         CPU threads (default: those there are, to 8)
  --trust KEY.pub     refuse a bundle not signed by this key
  --onnxruntime FILE  ONNX Runtime's shared library (default: ORT_DYLIB_PATH, else that of an installed wheel)";

/// Answer until stdin ends; the exit code.
pub fn run(words: impl Iterator<Item = OsString>) -> Result<u8> {
    let words = Words::read(words, &[], &["--copy", "--engine", "--threads", "--trust", "--onnxruntime"], HELP)?;
    let (folder, _) = words.bundle()?;
    let opening = words.opening()?;
    let bundle = match &opening.trust {
        Some(key) => Bundle::open_trusting(folder, key)?,
        None => Bundle::open(folder)?,
    };
    let copy = bundle.copy(opening.copy.as_deref().unwrap_or("fp32"))?;
    let settings = Settings { engine: opening.engine, threads: opening.threads, library: opening.library, cache: None };
    let mut network = Network::load(&bundle.read(&copy.file)?, copy, &bundle.info, &settings)?;
    let (width, height) = bundle.info.preprocess.size();
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut data = vec![0; 3 * width * height * 4];
    while next(&mut input, &mut data)? {
        let tensor: Vec<f32> = data.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
        let logits = network.logits(&tensor, 1)?;
        let bytes: Vec<u8> = logits.iter().flat_map(|value| value.to_le_bytes()).collect();
        if output.write_all(&bytes).and_then(|()| output.flush()).is_err() {
            break; // nobody reads any more
        }
    }
    Ok(0)
}

/// Fill `data`; false where the input ends instead.
fn next(input: &mut impl Read, data: &mut [u8]) -> Result<bool> {
    let mut filled = 0;
    while filled < data.len() {
        match input.read(&mut data[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => {
                let error = Error::new(Kind::Input, "stdin ends within a tensor");
                return Err(error.expected(format!("{} bytes", data.len())).found(format!("{filled} bytes")));
            }
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::new(Kind::Input, "stdin cannot be read").found(error)),
        }
    }
    Ok(true)
}
