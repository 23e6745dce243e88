//! The Open Inference Protocol, version 2, as KServe and Triton speak it, over HTTP (with the
//! extension for binary tensors) and gRPC, so that their clients work with this server. Bodies and
//! messages become one `infer::Infer`, the description of a model is one message of
//! `proto/inference` that HTTP writes as JSON, and the work is the pipeline's.
//!
//! Inputs: `TILES`, `UINT8 [n, H, W, 3]`, or `BYTES [n]` with a PNG, JPEG, WebP or TIFF in each
//! element; `KEYS`, `UINT8 [m, 32]`, of tiles that were sent before, which stand behind the others;
//! `REFERENCES`, as `TILES`. Outputs: `VARIANTS`, `UINT8 [n, K, H, W, 3]`, or `BYTES [n, K]` with a
//! PNG in each element when tiles are of several sizes; `STYLE_IDS`, `BYTES [n, K]`; `TILE_KEYS`,
//! `UINT8 [n, 32]`; `FIDELITY`, `FP32 [n]`. The request JSON of POST /v1/augment comes as request
//! parameters, by the names of its query string.
//!
//! Fields and parameters of other servers are ignored (`ignored`): clients write them to every
//! server.
//!
//! Not here: shared memory, which would let a caller name memory of this machine; traces and log
//! settings; sequences. They are refused by name. The routes stand in no OpenAPI document of ours:
//! their specification is the protocol's.

pub(crate) mod body;
mod data;
mod encoding;
mod grpc;
mod ignored;
mod infer;
pub(crate) mod input;
pub(crate) mod message;
mod model;
mod output;
pub(crate) mod parameters;
mod refusal;
mod repository;
mod routes;

/// The messages, the server's trait, and a client.
pub mod proto {
    tonic::include_proto!("inference");
}

use std::sync::Arc;

use proto::grpc_inference_service_server::{GrpcInferenceServiceServer, SERVICE_NAME};
use serde::Serializer;

use super::errors as e;
use super::rpc::{GrpcServices, call};
use crate::serve::access::Scope::{Augment, Metrics, Models};
use crate::serve::app::App;
use crate::serve::error::ErrorKind;
use crate::serve::middleware::route::Observed::{Fully, Quietly};
use crate::serve::middleware::route::Permission::{Needs, Public};
use crate::serve::middleware::route::{Route, Routes};

// The errors of operations, which both wires have.
const OF_SERVER: &[&[ErrorKind]] = &[e::MESSAGE];
const OF_MODEL: &[&[ErrorKind]] = &[e::SERVING, e::PATH, e::MODEL, e::MESSAGE];
const OF_INDEX: &[&[ErrorKind]] = &[e::SERVING, e::BODY, e::MESSAGE];
const OF_LOAD: &[&[ErrorKind]] = &[e::SERVING, e::PATH, e::BODY, e::LOAD, e::MESSAGE];
const OF_UNLOAD: &[&[ErrorKind]] = &[e::SERVING, e::PATH, e::BODY, e::UNLOAD, e::MESSAGE];
const OF_INFER: &[&[ErrorKind]] =
    &[e::SERVING, e::PATH, e::BODY, e::TILES, e::KEYS, e::AUGMENT, e::MODEL];

/// The calls over gRPC.
const CALLS: &[Route] = &[
    call("/inference.GRPCInferenceService/ServerLive", Public, Quietly, OF_SERVER),
    call("/inference.GRPCInferenceService/ServerReady", Public, Quietly, OF_SERVER),
    call("/inference.GRPCInferenceService/ModelReady", Needs(Augment), Fully, OF_MODEL),
    call("/inference.GRPCInferenceService/ServerMetadata", Needs(Augment), Fully, OF_SERVER),
    call("/inference.GRPCInferenceService/ModelMetadata", Needs(Augment), Fully, OF_MODEL),
    call("/inference.GRPCInferenceService/ModelInfer", Needs(Augment), Fully, OF_INFER),
    call("/inference.GRPCInferenceService/ModelStreamInfer", Needs(Augment), Fully, OF_INFER),
    call("/inference.GRPCInferenceService/ModelConfig", Needs(Augment), Fully, OF_MODEL),
    call("/inference.GRPCInferenceService/ModelStatistics", Needs(Metrics), Fully, OF_MODEL),
    call("/inference.GRPCInferenceService/RepositoryIndex", Needs(Augment), Fully, OF_INDEX),
    call("/inference.GRPCInferenceService/RepositoryModelLoad", Needs(Models), Fully, OF_LOAD),
    call("/inference.GRPCInferenceService/RepositoryModelUnload", Needs(Models), Fully, OF_UNLOAD),
];

/// Adds the service to those of other transports.
pub(crate) fn add_to(services: &mut GrpcServices, app: Arc<App>) {
    // The body of a call is measured as it comes, by the server's own limit.
    let server = GrpcInferenceServiceServer::new(grpc::Service::new(app))
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX);
    services.routes = std::mem::take(&mut services.routes).add_service(server);
    services.names.push(SERVICE_NAME);
    services.calls.extend_from_slice(CALLS);
}

/// Everything under /v2.
pub(crate) fn routes() -> Routes {
    routes::routes()
}

/// JSON has an enum's name where a message has its number.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn data_type<S: Serializer>(number: &i32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(proto::DataType::try_from(*number).unwrap_or_default().as_str_name())
}
