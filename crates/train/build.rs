//! Generates the ONNX messages from `proto/onnx.proto`, and lets the programs of this crate find
//! libtorch where it was linked from, without LD_LIBRARY_PATH.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo gives a build script its values in variables"
)]

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=proto/onnx.proto");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    }
    onnx();
}

/// Writes `onnx.rs` into OUT_DIR. protox parses the file in Rust: no protoc is needed.
fn onnx() {
    let files = protox::compile(["onnx.proto"], ["proto"]).unwrap_or_else(|e| panic!("{e:?}"));
    prost_build::Config::new().compile_fds(files).expect("OUT_DIR can be written to");
}
