//! Compiles the C++ of this crate, and lets its tests find libtorch where it was linked from, without LD_LIBRARY_PATH.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo gives a build script its values in variables"
)]

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
        native(&libtorch);
    }
}

/// The trainer's C++, against libtorch's headers and with the flags that torch-sys compiles with.
fn native(libtorch: &str) {
    const SOURCES: [&str; 2] = ["src/native/gloo.cc", "src/native/adamw.cc"];
    // Headers that libtorch's include and its distribution lacks; gloo.cc says why empty ones do.
    const MISSING: [&str; 5] =
        ["algorithm", "common/error", "context", "rendezvous/store", "transport/device"];
    println!("cargo:rerun-if-changed=src/native");
    println!("cargo:rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for header in MISSING {
        let path = out.join(format!("gloo/{header}.h"));
        std::fs::create_dir_all(path.parent().expect("a folder of OUT_DIR"))
            .expect("OUT_DIR can be written to");
        std::fs::write(path, "").expect("OUT_DIR can be written to");
    }
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(out)
        .include(format!("{libtorch}/include"))
        .include(format!("{libtorch}/include/torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .files(SOURCES)
        .compile("restain_native");
}
