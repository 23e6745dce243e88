//! Compiles `gloo.cc` against the headers of libtorch, and lets the tests of this crate find
//! libtorch where it was linked from, without LD_LIBRARY_PATH.
//!
//! The distribution of libtorch has the header of `c10d::ProcessGroupGloo` and exports the class,
//! but lacks the five headers of gloo itself that this header includes. It names gloo's types by
//! pointer only, and libtorch has no function that makes the process group without its header. So
//! empty files take the place of the five, and gloo.cc declares the names. Everything whose layout
//! matters comes from libtorch's own headers.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo passes a build script its input in variables"
)]

use std::path::{Path, PathBuf};

/// Headers that `ProcessGroupGloo.hpp` includes and the distribution of libtorch lacks.
const MISSING: [&str; 5] = [
    "gloo/algorithm.h",
    "gloo/common/error.h",
    "gloo/context.h",
    "gloo/rendezvous/store.h",
    "gloo/transport/device.h",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/native");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
        compile(Path::new(&libtorch));
    }
}

fn compile(libtorch: &Path) {
    let include = libtorch.join("include");
    let stand_ins = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for header in MISSING.iter().filter(|header| !include.join(header).exists()) {
        let path = stand_ins.join(header);
        std::fs::create_dir_all(path.parent().expect("a folder of OUT_DIR"))
            .expect("OUT_DIR can be written to");
        std::fs::write(path, "").expect("OUT_DIR can be written to");
    }
    let shared = std::env::var_os("DEP_RESTAIN_NATIVE_INCLUDE")
        .expect("restain-torch says where its C++ headers are");
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(stand_ins)
        .include(shared)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .file("src/native/gloo.cc")
        .compile("restain_collectives");
}
