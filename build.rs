//! Generates the gRPC services from `proto/`.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo gives a build script its values in variables"
)]

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    services();
}

/// Messages, servers and clients in Rust, `descriptors.bin` for reflection, and `calls.rs`, each call's path and whether
/// its client streams. In Rust alone: no protoc is needed.
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
            calls.extend(service.method.iter().map(|method| {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                (path, method.client_streaming())
            }));
        }
    }
    std::fs::write(out.join("calls.rs"), format!("&{calls:?}")).expect("OUT_DIR can be written to");
    let mut code =
        tonic_prost_build::configure().bytes(".").btree_map(".inference").build_transport(false);
    for message in JSON {
        code = code.type_attribute(format!(".inference.{message}"), "#[derive(serde::Serialize)]");
    }
    for tensor in ["ModelInput", "ModelOutput"] {
        let named = r#"#[serde(serialize_with = "crate::serve::transport::oip::data_type")]"#;
        code = code.field_attribute(format!(".inference.{tensor}.data_type"), named);
    }
    code.compile_fds(compiler.file_descriptor_set()).expect("OUT_DIR can be written to");
}
