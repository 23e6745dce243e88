//! Generates the gRPC services from `proto/`; for the trainer, compiles its C++ and lets it find libtorch where it was
//! linked from, without LD_LIBRARY_PATH.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    #[cfg(feature = "serve")]
    services();
    #[cfg(feature = "train")]
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
        native(&libtorch);
    }
}

/// The trainer's C++, against libtorch's headers and with the flags that torch-sys compiles with.
#[cfg(feature = "train")]
fn native(libtorch: &str) {
    const SOURCES: [&str; 2] = ["src/train/native/gloo.cc", "src/train/native/adamw.cc"];
    // Headers that libtorch's include and its distribution lacks; gloo.cc says why empty ones do.
    const MISSING: [&str; 5] =
        ["algorithm", "common/error", "context", "rendezvous/store", "transport/device"];
    println!("cargo:rerun-if-changed=src/train/native");
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

/// Messages, servers and clients in Rust, `descriptors.bin` for reflection, and `calls.rs`, the paths. In Rust alone: no protoc is needed.
#[cfg(feature = "serve")]
fn services() {
    const FILES: [&str; 2] =
        ["proto/restain/v1/restain.proto", "proto/inference/grpc_service.proto"];
    // Messages that the Open Inference Protocol has as JSON too, under the same names.
    const JSON: [&str; 12] = [
        "ServerMetadataResponse",
        "ModelMetadataResponse",
        "ModelConfig",
        "ModelInput",
        "ModelOutput",
        "ModelParameter",
        "ModelStatisticsResponse",
        "ModelStatistics",
        "InferStatistics",
        "InferBatchStatistics",
        "StatisticDuration",
        "RepositoryIndexResponse.ModelIndex",
    ];
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"]).expect("the directory proto is there");
    compiler.include_source_info(true).include_imports(true);
    if let Err(error) = compiler.open_files(FILES) {
        panic!("{error:?}");
    }
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    std::fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())
        .expect("OUT_DIR can be written to");
    let mut calls = Vec::new();
    for file in &compiler.file_descriptor_set().file {
        for service in &file.service {
            calls.extend(
                service.method.iter().map(|method| {
                    format!("/{}.{}/{}", file.package(), service.name(), method.name())
                }),
            );
        }
    }
    std::fs::write(out.join("calls.rs"), format!("&{calls:?}")).expect("OUT_DIR can be written to");
    let mut code =
        tonic_prost_build::configure().bytes(".").btree_map(".inference").build_transport(false);
    for message in JSON {
        code = code.type_attribute(format!(".inference.{message}"), "#[derive(serde::Serialize)]");
    }
    for tensor in ["ModelInput", "ModelOutput"] {
        let named = r#"#[serde(serialize_with = "crate::serve::oip::data_type")]"#;
        code = code.field_attribute(format!(".inference.{tensor}.data_type"), named);
    }
    code.compile_fds(compiler.file_descriptor_set()).expect("OUT_DIR can be written to");
}
