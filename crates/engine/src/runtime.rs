//! Finds and loads the ONNX Runtime library, once in a process.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::EngineError;

#[cfg(target_os = "macos")]
const LIBRARY: &str = "libonnxruntime.dylib";
#[cfg(target_os = "windows")]
const LIBRARY: &str = "onnxruntime.dll";
#[cfg(not(any(target_os = "macos", target_os = "windows")))]
const LIBRARY: &str = "libonnxruntime.so";

/// The loaded ONNX Runtime. Clones share it.
#[derive(Clone, Debug)]
pub struct Runtime {
    pub(super) environment: ort::environment::Environment,
    path: PathBuf,
}

// ONNX Runtime allows one environment in a process, and none after that one is gone: it is kept for
// good.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Loads the library, or returns the one already loaded. With `ORT_DYLIB_PATH` set it tries
    /// that path alone. Otherwise it looks for an installed one, `../lib/restain` from the
    /// executable, then for `.deps/onnxruntime/lib` under the working directory, under the
    /// executable's directory and those above it, and then asks the system's loader.
    ///
    /// # Errors
    /// When no library is found, or the one found cannot be loaded.
    pub fn load() -> Result<Self, EngineError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "both programs and all tests find the same library by the field's own variable"
        )]
        let named = std::env::var_os("ORT_DYLIB_PATH");
        match named.filter(|path| !path.is_empty()) {
            // The only path tried: falling back to another version would be a surprise.
            Some(path) => Self::load_from(Path::new(&path)),
            None => Self::once(|| {
                let places = places();
                let found = places
                    .iter()
                    .find(|path| path.is_file())
                    .cloned()
                    .unwrap_or_else(|| PathBuf::from(LIBRARY));
                Self::open(&found).map_err(|error| error.after(places))
            }),
        }
    }

    /// Loads this library, or returns the one already loaded.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub fn load_from(library: &Path) -> Result<Self, EngineError> {
        Self::once(|| Self::open(library))
    }

    fn once(open: impl FnOnce() -> Result<Self, EngineError>) -> Result<Self, EngineError> {
        let mut loaded = LOADED.lock().expect("nothing panics while the runtime is being loaded");
        if let Some(runtime) = &*loaded {
            return Ok(runtime.clone());
        }
        let runtime = open()?;
        tracing::debug!(library = %runtime.path.display(), "loaded ONNX Runtime");
        Ok(loaded.insert(runtime).clone())
    }

    /// Returns one line, with its end, about the library that [`Runtime::load`] finds, for
    /// `--version`.
    pub fn describe() -> String {
        match Self::load() {
            Ok(runtime) => {
                // The file that a link names has the version in its name.
                let real = runtime.path.canonicalize().unwrap_or(runtime.path);
                format!("ONNX Runtime {}\n", real.display())
            }
            Err(error) => format!("ONNX Runtime not found: {error}\n"),
        }
    }

    /// Returns the path of the loaded library.
    pub fn library(&self) -> &Path {
        &self.path
    }

    /// Returns the build of ONNX Runtime: another build may differ in the last bits of a result.
    pub fn build(&self) -> &'static str {
        ort::info()
    }

    fn open(library: &Path) -> Result<Self, EngineError> {
        let refused = |source: Box<dyn std::error::Error + Send + Sync>| EngineError::Library {
            library: library.to_owned(),
            tried: Vec::new(),
            source,
        };
        let builder = ort::init_from(library).map_err(|source| refused(Box::new(source)))?;
        let environment =
            builder.with_name("restain").build().map_err(|source| refused(Box::new(source)))?;
        Ok(Self { environment, path: library.to_owned() })
    }
}

fn places() -> Vec<PathBuf> {
    let working = std::env::current_dir().ok();
    let executable = std::env::current_exe().ok();
    // PREFIX/bin/restain and PREFIX/lib/restain, as `make install` puts them.
    let prefix = executable.iter().filter_map(|path| path.parent()?.parent());
    let installed = prefix.map(|prefix| prefix.join("lib/restain"));
    let above = executable.iter().flat_map(|path| path.ancestors().skip(1));
    let checkouts = working.iter().map(PathBuf::as_path).chain(above);
    let directories = installed.chain(checkouts.map(|above| above.join(".deps/onnxruntime/lib")));
    directories.map(|directory| directory.join(LIBRARY)).collect()
}
