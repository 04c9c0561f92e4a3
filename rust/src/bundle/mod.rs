//! A bundle: one folder with a network's copies, its labels, its preprocessing, and the proof that they agree.
//!
//! `Bundle::open` checks in the order of spec/bundle.md and stops at the first check that fails. No file but
//! bundle.json and what speaks of it is parsed before all of it has passed.

mod format;
mod onnxparts;
#[cfg(feature = "signatures")]
mod signature;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};

use crate::errors::{Error, Kind, Result};
use crate::json;
use crate::memory::Bytes;
pub use format::{Copy, Dtype, GoldenInfo, Info};
pub(crate) use onnxparts::{check_whole, next_field as field_of};

const MAX_JSON_BYTES: usize = 16 << 20;
const MAX_SIGNATURE_BYTES: usize = 4096;
const MAX_ENTRIES: usize = 40_000;
const PIECE_BYTES: usize = 1 << 18;
const FETCH: &str = "fetch the bundle again from where it came";

/// A bundle that has passed every check: what bundle.json says, and where it lies.
#[derive(Debug)]
pub struct Bundle {
    /// What bundle.json says.
    pub info: Info,
    /// SHA-256 of bundle.json.
    pub id: String,
    folder: PathBuf,
    files: Vec<format::File>,
}

impl Bundle {
    /// The bundle in `folder`, after every check.
    ///
    /// # Errors
    /// A bundle's error for the first check that fails.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        Ok(Self::open_keeping(folder.as_ref(), None, &|_| None, &|_| ())?.0)
    }

    /// The same, and signed by the public key in the file `trust`.
    ///
    /// # Errors
    /// The same, and `SignatureError`.
    pub fn open_trusting(folder: impl AsRef<Path>, trust: &Path) -> Result<Self> {
        Ok(Self::open_keeping(folder.as_ref(), Some(trust), &|_| None, &|_| ())?.0)
    }

    /// The same, and the bytes of the file that is `wanted`: it is read once, checked, and used. `beside` runs while
    /// files are hashed, and must not take anything of the bundle for true.
    pub(crate) fn open_keeping(
        folder: &Path,
        trust: Option<&Path>,
        wanted: &dyn Fn(&Info) -> Option<String>,
        beside: &(dyn Fn(&Info) + Sync),
    ) -> Result<(Self, Option<Bytes>)> {
        let root = root(folder)?;
        let data = document(&root)?;
        if let Some(trust) = trust {
            check_trust(&root, &data, trust)?;
        }
        let document = root.join("bundle.json");
        let (info, files) = json::parse(&data, "bundle.json")
            .and_then(|value| format::read(&value))
            .map_err(|error| error.within(document.display()))?;
        let bundle = Self { info, id: sha256(&data), folder: root, files };
        bundle.check_present()?;
        for file in &bundle.files {
            let status = status(&bundle.folder, &file.path)?;
            if status.len() != file.size_bytes as u64 {
                let found = format!("{} bytes", status.len());
                return Err(changed(
                    "size",
                    &bundle.folder.join(&file.path),
                    &format!("{} bytes", file.size_bytes),
                    &found,
                ));
            }
        }
        let wanted = wanted(&bundle.info);
        let kept = std::thread::scope(|scope| {
            scope.spawn(|| beside(&bundle.info));
            bundle.check_hashes(wanted.as_deref())
        })?;
        Ok((bundle, kept))
    }

    /// The folder that the bundle lies in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The copy of that name.
    ///
    /// # Errors
    /// `InputError`, which names those that there are.
    pub fn copy(&self, name: &str) -> Result<&Copy> {
        self.info.copies.iter().find(|copy| copy.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.info.copies.iter().map(|copy| copy.name.as_str()).collect();
            Error::input("the bundle has no such copy").expected(names.join(", ")).found(name)
        })
    }

    /// Whether a file of that path is listed.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.files.iter().any(|file| file.path == path)
    }

    /// The paths of the listed files.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.path.as_str())
    }

    /// The bytes of a listed file, checked once more as they are read: what is used is what was verified.
    ///
    /// # Errors
    /// `InputError` where none such is listed, `BundleFiles` or `BundleChanged` where it is not as listed.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let listed = self.listed(path)?;
        let path = self.folder.join(&listed.path);
        status(&self.folder, &listed.path)?;
        let mut data = Vec::with_capacity(listed.size_bytes + 1);
        let stream = File::open(&path).and_then(|file| file.take(listed.size_bytes as u64 + 1).read_to_end(&mut data));
        stream.map_err(|error| unreadable(&path, &error))?;
        listed.check(&path, data.len(), &sha256(&data))?;
        Ok(data)
    }

    /// The same of a model, in memory of its own.
    pub(crate) fn read_model(&self, path: &str) -> Result<Bytes> {
        let listed = self.listed(path)?;
        let path = self.folder.join(&listed.path);
        status(&self.folder, &listed.path)?;
        let mut file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
        let mut digest = Sha256::new();
        let data = Bytes::of(&mut file, listed.size_bytes, |piece| digest.update(piece)).map_err(|error| {
            let is_shorter = error.kind() == io::ErrorKind::UnexpectedEof;
            let shorter = || changed("size", &path, &format!("{} bytes", listed.size_bytes), "fewer");
            if is_shorter { shorter() } else { unreadable(&path, &error) }
        })?;
        let more = file.read(&mut [0]).map_err(|error| unreadable(&path, &error))?;
        listed.check(&path, data.len() + more, &hexadecimal(&digest.finalize()))?;
        Ok(data)
    }

    fn listed(&self, path: &str) -> Result<&format::File> {
        self.files.iter().find(|file| file.path == path).ok_or_else(|| {
            Error::input("the bundle lists no such file").at(self.folder.display()).found(json::quoted(path))
        })
    }

    /// Check the SHA-256 of every file, over the cores; the bytes of the file at `wanted`.
    fn check_hashes(&self, wanted: Option<&str>) -> Result<Option<Bytes>> {
        let mut order: Vec<usize> = (0..self.files.len()).collect();
        order.sort_by_key(|place| std::cmp::Reverse(self.files[*place].size_bytes)); // the longest first
        let next = AtomicUsize::new(0);
        let kept = Mutex::new(None);
        let first_fault: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        let work = || {
            while let Some(place) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                let file = &self.files[*place];
                let result = if wanted == Some(file.path.as_str()) {
                    self.read_model(&file.path).map(|data| *lock(&kept) = Some(data))
                } else {
                    self.hash(file)
                };
                if let Err(error) = result {
                    // That of the file which is listed first, whichever thread is quicker.
                    let mut first = lock(&first_fault);
                    if first.as_ref().is_none_or(|(before, _)| place < before) {
                        *first = Some((*place, error));
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..crate::threads(None).min(self.files.len()) {
                scope.spawn(work);
            }
            work();
        });
        match lock(&first_fault).take() {
            Some((_, error)) => Err(error),
            None => Ok(lock(&kept).take()),
        }
    }

    /// Hold a listed file to its size and SHA-256, piece by piece.
    fn hash(&self, file: &format::File) -> Result<()> {
        let path = self.folder.join(&file.path);
        let unread = |error| unreadable(&path, &error);
        status(&self.folder, &file.path)?;
        // A file that grows while it is read is not read for ever.
        let mut stream = File::open(&path).map_err(unread)?.take(file.size_bytes as u64 + 1);
        let mut digest = Sha256::new();
        let mut piece = vec![0; PIECE_BYTES.min(file.size_bytes + 1)];
        let mut size = 0;
        loop {
            match stream.read(&mut piece) {
                Ok(0) => return file.check(&path, size, &hexadecimal(&digest.finalize())),
                Ok(count) => {
                    size += count;
                    digest.update(&piece[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unread(error)),
            }
        }
    }

    /// The files in the folder are the listed ones and those that speak of the list, and no others.
    fn check_present(&self) -> Result<()> {
        let own = ["bundle.json", "bundle.sha256"];
        let listed: BTreeSet<&str> = self.files.iter().map(|file| file.path.as_str()).chain(own).collect();
        let parents =
            |path: &&'_ str| path.match_indices('/').map(|(end, _)| path[..end].to_owned()).collect::<Vec<_>>();
        let folders: BTreeSet<String> = listed.iter().flat_map(parents).collect();
        let (there, folders_there) = scan(&self.folder)?;
        self.none_left("a listed file is missing", listed.iter().filter(|path| !there.contains(**path)))?;
        let is_extra = |path: &&String| !listed.contains(path.as_str()) && *path != "bundle.sig";
        self.none_left("a file lies in the bundle that is not listed", there.iter().filter(is_extra))?;
        let what = "a folder lies in the bundle that holds no listed file";
        self.none_left(what, folders_there.difference(&folders))
    }

    fn none_left(&self, what: &str, names: impl Iterator<Item = impl AsRef<str>>) -> Result<()> {
        let names: Vec<String> = names.map(|name| json::quoted(name.as_ref())).collect();
        if names.is_empty() {
            return Ok(());
        }
        let more = if names.len() > 5 { format!(" and {} more", names.len() - 5) } else { String::new() };
        let some = names[..names.len().min(5)].join(", ");
        Err(Error::new(Kind::BundleFiles, what).at(self.folder.display()).found(some + &more))
    }
}

impl format::File {
    /// Nothing, where a file's size and SHA-256 are the listed ones.
    fn check(&self, path: &Path, size: usize, sum: &str) -> Result<()> {
        if size != self.size_bytes {
            let found = format!("{size} bytes or more");
            return Err(changed("size", path, &format!("{} bytes", self.size_bytes), &found));
        }
        if sum != self.sha256 {
            return Err(changed("SHA-256", path, &self.sha256, sum));
        }
        Ok(())
    }
}

/// The SHA-256 of `data` in lower-case hexadecimal digits.
pub(crate) fn sha256(data: &[u8]) -> String {
    hexadecimal(&Sha256::digest(data))
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |four: u8| char::from(b"0123456789abcdef"[usize::from(four & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// What a mutex guards; a thread that panicked leaves nothing half done here.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn root(folder: &Path) -> Result<PathBuf> {
    let missing = |what: &str| Error::new(Kind::BundleMissing, what).at(folder.display());
    if folder.is_file() {
        return Err(missing("a bundle is a folder, and this is a file"));
    }
    if !folder.is_dir() {
        return Err(missing("there is no bundle here").expected("a folder with bundle.json"));
    }
    if fs::symlink_metadata(folder.join("bundle.json")).is_err() {
        let error = missing("this folder is not a bundle").expected("bundle.json in it");
        let inner = folder.join("bundle");
        let is_run = inner.join("bundle.json").is_file();
        return Err(if is_run { error.fix(inner.display()) } else { error });
    }
    folder.canonicalize().map_err(|error| missing("there is no bundle here").found(error))
}

/// bundle.json, which is what bundle.sha256 says.
fn document(root: &Path) -> Result<Vec<u8>> {
    let data = read_own(root, "bundle.json", MAX_JSON_BYTES)?;
    if fs::symlink_metadata(root.join("bundle.sha256")).is_err() {
        return Err(Error::new(Kind::BundleFiles, "the bundle lacks a file")
            .at(root.display())
            .expected("bundle.sha256"));
    }
    let line = read_own(root, "bundle.sha256", 200)?;
    let right = format!("{}  bundle.json\n", sha256(&data));
    if line != right.as_bytes() {
        return Err(Error::new(Kind::BundleChanged, "bundle.json is not the file that bundle.sha256 names")
            .at(root.join("bundle.json").display())
            .expected(line.escape_ascii())
            .found(right.trim_end())
            .fix(FETCH));
    }
    Ok(data)
}

fn check_trust(root: &Path, data: &[u8], trust: &Path) -> Result<()> {
    if fs::symlink_metadata(root.join("bundle.sig")).is_err() {
        return Err(Error::new(Kind::Signature, "the bundle is not signed")
            .at(root.display())
            .expected(format!("signed by the key in {}", trust.display())));
    }
    let signature = read_own(root, "bundle.sig", MAX_SIGNATURE_BYTES)?;
    #[cfg(feature = "signatures")]
    return signature::check(data, &signature, trust);
    #[cfg(not(feature = "signatures"))]
    {
        let _ = (data, signature);
        Err(Error::input("this build checks no signatures").fix("cargo build --release --features signatures"))
    }
}

/// bundle.json or a file that speaks of it: plain, and not larger than such a file can be.
fn read_own(root: &Path, name: &str, limit: usize) -> Result<Vec<u8>> {
    let path = root.join(name);
    status(root, name)?;
    let mut data = Vec::new();
    let stream = File::open(&path).and_then(|file| file.take(limit as u64 + 1).read_to_end(&mut data));
    stream.map_err(|error| unreadable(&path, &error))?;
    if data.len() > limit {
        return Err(Error::invalid("a file is too large")
            .at(path.display())
            .expected(format!("at most {limit} bytes")));
    }
    Ok(data)
}

/// The files and the folders under `root`, as POSIX paths; anything else is refused.
fn scan(root: &Path) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let (mut files, mut folders) = (BTreeSet::new(), BTreeSet::new());
    let mut waiting = vec![String::new()];
    while let Some(prefix) = waiting.pop() {
        let here = root.join(&prefix);
        for entry in fs::read_dir(&here).map_err(|error| unreadable(&here, &error))? {
            let entry = entry.map_err(|error| unreadable(&here, &error))?;
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type().map_err(|error| unreadable(&here, &error))?;
            if kind.is_dir() {
                waiting.push(format!("{path}/"));
                folders.insert(path);
            } else if kind.is_file() {
                files.insert(path);
            } else {
                return Err(not_plain(root, &path));
            }
            if files.len() + folders.len() > MAX_ENTRIES {
                return Err(Error::new(Kind::BundleFiles, "too many files for a bundle").at(root.display()));
            }
        }
    }
    Ok((files, folders))
}

fn status(root: &Path, path: &str) -> Result<fs::Metadata> {
    let whole = root.join(path);
    let status = fs::symlink_metadata(&whole).map_err(|error| unreadable(&whole, &error))?;
    if status.is_file() { Ok(status) } else { Err(not_plain(root, path)) }
}

fn not_plain(root: &Path, path: &str) -> Error {
    Error::new(Kind::BundleFiles, "a bundle holds plain files and folders only")
        .at(root.display())
        .found(format!("a link or device: {}", json::quoted(path)))
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::new(Kind::BundleFiles, "a file of the bundle cannot be read").at(path.display()).found(error)
}

fn changed(what: &str, path: &Path, expected: &str, found: &str) -> Error {
    Error::new(Kind::BundleChanged, format!("a file of the bundle has changed: its {what} is not the recorded one"))
        .at(path.display())
        .expected(expected)
        .found(found)
        .fix(FETCH)
}
