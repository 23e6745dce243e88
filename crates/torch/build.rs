//! Compiles the C++ of this crate, and lets its tests find libtorch where it was linked from,
//! without LD_LIBRARY_PATH. Crates that compile C++ of their own find `caught.h` under
//! `DEP_RESTAIN_NATIVE_INCLUDE`.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo gives a build script its values in variables"
)]

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo::metadata=include={}/src/native", env!("CARGO_MANIFEST_DIR"));
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
        native(&libtorch);
    }
}

/// The trainer's C++, against libtorch's headers and with the flags that torch-sys compiles with.
fn native(libtorch: &str) {
    println!("cargo:rerun-if-changed=src/native");
    println!("cargo:rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(format!("{libtorch}/include"))
        .include(format!("{libtorch}/include/torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .file("src/native/adamw.cc")
        .compile("restain_native");
}
