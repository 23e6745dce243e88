//! Lets the programs of this crate find libtorch where it was linked from, without LD_LIBRARY_PATH.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo gives a build script its values in variables"
)]

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    }
}
