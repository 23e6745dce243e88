//! Finding and loading the ONNX Runtime library, once in a process.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::EngineError;

#[cfg(target_os = "macos")]
const LIBRARY: &str = "libonnxruntime.dylib";
#[cfg(target_os = "windows")]
const LIBRARY: &str = "onnxruntime.dll";
#[cfg(not(any(target_os = "macos", target_os = "windows")))]
const LIBRARY: &str = "libonnxruntime.so";

/// ONNX Runtime, loaded. Clones share it.
#[derive(Clone, Debug)]
pub struct Runtime {
    pub(super) environment: ort::environment::Environment,
    path: PathBuf,
}

// ONNX Runtime allows one environment in a process, and none after that one is gone: it is kept for good.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Loads the library, or hands out the one already loaded. Looked for at `ORT_DYLIB_PATH`; then in
    /// `.deps/onnxruntime/lib` under the working directory and under the executable's directory and those above it;
    /// then wherever the system's loader finds it.
    pub fn load() -> Result<Self, EngineError> {
        let mut loaded = LOADED.lock().expect("nothing panics while the runtime is being loaded");
        if let Some(runtime) = &*loaded {
            return Ok(runtime.clone());
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "both programs and all tests find the same library by the field's own variable"
        )]
        let named = std::env::var_os("ORT_DYLIB_PATH");
        let runtime = match named.filter(|path| !path.is_empty()) {
            // A path that was asked for is the only one tried: another version in its place would be a surprise.
            Some(path) => Self::open(Path::new(&path))?,
            None => {
                let places = places();
                let found = places
                    .iter()
                    .find(|path| path.is_file())
                    .cloned()
                    .unwrap_or_else(|| PathBuf::from(LIBRARY));
                Self::open(&found).map_err(|error| error.after(places))?
            }
        };
        tracing::debug!(library = %runtime.path.display(), "loaded ONNX Runtime");
        Ok(loaded.insert(runtime).clone())
    }

    /// The library that was loaded.
    pub fn library(&self) -> &Path {
        &self.path
    }

    /// Which build of ONNX Runtime it is: another may compute other last bits.
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
    let above = executable.iter().flat_map(|path| path.ancestors().skip(1));
    let directories = working.iter().map(PathBuf::as_path).chain(above);
    directories.map(|directory| directory.join(".deps/onnxruntime/lib").join(LIBRARY)).collect()
}
