//! ONNX Runtime's shared library: found on this machine, loaded when it is needed, never downloaded.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::errors::{Error, Kind, Result};

const NAMES: [&str; 3] = ["libonnxruntime.so", "libonnxruntime.dylib", "onnxruntime.dll"];
const ADVICE: &str = if cfg!(feature = "tract") {
    "pip install onnxruntime, whose wheel has it; or --onnxruntime FILE, or ORT_DYLIB_PATH=FILE; or --engine tract"
} else {
    "pip install onnxruntime, whose wheel has it; or --onnxruntime FILE, or ORT_DYLIB_PATH=FILE"
};

/// The library that is used: the one `asked` for, that of the environment variable `ORT_DYLIB_PATH`, one beside
/// this program, the one in the wheel of the active Python, or the system's; in this order.
///
/// # Errors
/// `RuntimeMissing` where there is none, which says how to get one.
pub fn find(asked: Option<&Path>) -> Result<PathBuf> {
    let missing = |what: &str| Error::new(Kind::RuntimeMissing, what).fix(ADVICE);
    let named = asked.map(Path::to_path_buf).or_else(|| env::var_os("ORT_DYLIB_PATH").map(PathBuf::from));
    if let Some(path) = named {
        return if path.is_file() {
            path.canonicalize().map_err(|error| missing("ONNX Runtime cannot be read").found(error))
        } else {
            Err(missing("there is no such library").at(path.display()))
        };
    }
    let found = folders().into_iter().find_map(|folder| library_in(&folder));
    found.ok_or_else(|| missing("there is no ONNX Runtime on this machine"))
}

/// Where a library may lie, likeliest first.
fn folders() -> Vec<PathBuf> {
    let mut found = Vec::new();
    found.extend(env::current_exe().ok().and_then(|path| Some(path.parent()?.to_path_buf())));
    let prefixes = env::var_os("VIRTUAL_ENV").map(PathBuf::from).into_iter().chain(prefix_of_python());
    for prefix in prefixes {
        found.extend(packages_of(&prefix));
    }
    found.extend(env::var_os("HOME").into_iter().flat_map(|home| packages_of(&Path::new(&home).join(".local"))));
    for system in ["/usr/local/lib", "/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"] {
        found.push(PathBuf::from(system));
    }
    found
}

/// Where the Python that is first on the PATH is installed, and where it is linked from.
fn prefix_of_python() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let names = ["python3", "python", "python.exe"];
    let programs = env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    let Some(python) = programs.into_iter().find(|program| program.is_file()) else {
        return Vec::new();
    };
    let real = python.canonicalize().ok();
    let prefix = |program: PathBuf| Some(program.parent()?.parent()?.to_path_buf());
    [Some(python), real].into_iter().flatten().filter_map(prefix).collect()
}

/// The folders of onnxruntime's library in the Pythons below `prefix`.
fn packages_of(prefix: &Path) -> Vec<PathBuf> {
    let mut found = vec![prefix.join("Lib").join("site-packages")]; // Windows
    for entry in fs::read_dir(prefix.join("lib")).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("python3") {
            found.push(entry.path().join("site-packages"));
            found.push(entry.path().join("dist-packages"));
        }
    }
    found.into_iter().map(|packages| packages.join("onnxruntime").join("capi")).collect()
}

/// The library in a folder, under its plain name or with its version behind it.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let is_library = |name: &str| {
        NAMES.iter().any(|one| name == *one || name.strip_prefix(one).is_some_and(|rest| rest.starts_with('.')))
    };
    let entries = fs::read_dir(folder).ok()?.flatten();
    let mut found: Vec<PathBuf> =
        entries.filter(|entry| is_library(&entry.file_name().to_string_lossy())).map(|entry| entry.path()).collect();
    found.sort();
    found.pop()
}

/// ONNX Runtime, loaded once a process.
///
/// # Errors
/// `RuntimeMissing` where there is none, or it cannot be loaded, or another was loaded before.
pub fn load(asked: Option<&Path>) -> Result<&'static Environment> {
    static LOADED: OnceLock<(PathBuf, Environment)> = OnceLock::new();
    static LOADING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = LOADING.lock();
    if let Some((path, environment)) = LOADED.get() {
        return match asked {
            Some(asked) if find(Some(asked))? != *path => {
                Err(Error::new(Kind::RuntimeMissing, "another ONNX Runtime is loaded already").found(path.display()))
            }
            _ => Ok(environment),
        };
    }
    let path = find(asked)?;
    let failed = |error: &dyn std::fmt::Display| {
        Error::new(Kind::RuntimeMissing, "ONNX Runtime cannot be loaded").at(path.display()).found(error).fix(ADVICE)
    };
    let builder = ort::init_from(&path).map_err(|error| failed(&error))?;
    let environment = builder.with_name("samesight").with_telemetry(false).build().map_err(|error| failed(&error))?;
    environment.set_log_level(LogLevel::Fatal); // what matters is an error
    Ok(&LOADED.get_or_init(|| (path, environment)).1)
}

/// The version of ONNX Runtime at `path`, by its file's name or the wheel's beside it.
#[must_use]
pub fn version(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    NAMES.iter().find_map(|one| name.strip_prefix(one)?.strip_prefix('.').map(str::to_owned))
}
