//! The Open Inference Protocol, version 2, as KServe and Triton speak it, over HTTP (with the extension for binary tensors)
//! and gRPC: whoever has a client of theirs has one of ours. Bodies and messages become one `infer::Infer`, what is said of
//! a model is one message of `proto/inference` that HTTP writes as JSON, and the work is the pipeline's.
//!
//! Inputs: `TILES`, `UINT8 [n, H, W, 3]`, or `BYTES [n]` with a PNG, JPEG, WebP or TIFF in each element; `KEYS`, `UINT8 [m, 32]`,
//! of tiles that were sent before, which stand behind the others; `REFERENCES`, as `TILES`. Outputs: `VARIANTS`,
//! `UINT8 [n, K, H, W, 3]`; `STYLE_IDS`, `BYTES [n, K]`; `TILE_KEYS`, `UINT8 [n, 32]`. The request JSON of POST /v1/augment comes
//! as request parameters, by the names of its query string.
//!
//! Not here: shared memory, which would let a caller name memory of this machine; traces and log settings; sequences.
//! They are refused by name. The routes stand in no OpenAPI document of ours: their specification is the protocol's.

pub(crate) mod body;
mod data;
mod encoding;
mod grpc;
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

use axum::Router;
use proto::grpc_inference_service_server::{GrpcInferenceServiceServer, SERVICE_NAME};
use serde::Serializer;

use super::rpc::GrpcServices;
use crate::serve::app::App;

/// Paths of calls with a stream of requests.
const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// Adds the service to those of other transports.
pub fn add_to(services: &mut GrpcServices, app: Arc<App>) {
    // The body of a call is measured as it comes, by the server's own limit.
    let server = GrpcInferenceServiceServer::new(grpc::Service::new(app))
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX);
    services.routes = std::mem::take(&mut services.routes).add_service(server);
    services.names.push(SERVICE_NAME);
    services.streams.push(STREAM);
}

/// Everything under /v2.
pub fn router() -> Router<Arc<App>> {
    routes::router()
}

/// JSON has an enum's name where a message has its number.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn data_type<S: Serializer>(number: &i32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(proto::DataType::try_from(*number).unwrap_or_default().as_str_name())
}
