//! Generates the gRPC services from `proto/`.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo gives a build script its values in variables"
)]

use protox::prost_reflect::prost_types::field_descriptor_proto::Type;
use protox::prost_reflect::prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto,
};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    services();
}

/// Messages, servers and clients in Rust, `descriptors.bin` for reflection, and `calls.rs`, each
/// call's path and whether its client streams. In Rust alone: no protoc is needed.
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
    let messages = messages(&compiler.file_descriptor_set().file);
    std::fs::write(out.join("messages.rs"), messages).expect("OUT_DIR can be written to");
    let mut code = tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".inference")
        .build_transport(false)
        .codec_path("crate::serve::transport::rpc::BoundedCodec");
    for message in JSON {
        code = code.type_attribute(format!(".inference.{message}"), "#[derive(serde::Serialize)]");
    }
    for tensor in ["ModelInput", "ModelOutput"] {
        let named = r#"#[serde(serialize_with = "crate::serve::transport::oip::data_type")]"#;
        code = code.field_attribute(format!(".inference.{tensor}.data_type"), named);
    }
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    code.compile_fds_with_config(compiler.file_descriptor_set(), config)
        .expect("OUT_DIR can be written to");
}

/// Every message as `(name, [(number of a field, what it is)])`, for fields that are messages or
/// bytes: what the server counts by before it decodes.
fn messages(files: &[FileDescriptorProto]) -> String {
    let mut all = Vec::new();
    for file in files {
        collect(file.package(), &file.message_type, &mut all);
    }
    let place = |name: &str| all.iter().position(|(other, _)| *other == name[1..]);
    let field = |field: &FieldDescriptorProto| match field.r#type() {
        Type::Bytes => Some(format!("({}, Bytes)", field.number())),
        Type::Message | Type::Group => {
            let place = place(field.type_name()).expect("a message's fields are of its files");
            Some(format!("({}, Inner({place}))", field.number()))
        }
        _ => None,
    };
    let message = |(name, message): &(String, &DescriptorProto)| {
        let fields: Vec<String> = message.field.iter().filter_map(field).collect();
        format!("({name:?}, &[{}])", fields.join(", "))
    };
    format!("&[{}]", all.iter().map(message).collect::<Vec<_>>().join(", "))
}

fn collect<'a>(
    within: &str,
    messages: &'a [DescriptorProto],
    all: &mut Vec<(String, &'a DescriptorProto)>,
) {
    for message in messages {
        let name = format!("{within}.{}", message.name());
        collect(&name, &message.nested_type, all);
        all.push((name, message));
    }
}
