//! gRPC: `restain.v1.Restain`, as `proto/restain/v1` describes it. Messages become what the pipeline takes, and its answers
//! messages; the work is the pipeline's, and what is around every call is `rpc`'s.

mod answer;
pub(crate) mod ask;
mod service;
mod stream;

/// The messages, the server's trait, and a client.
pub mod proto {
    tonic::include_proto!("restain.v1");
}

use std::sync::Arc;

use proto::restain_server::{RestainServer, SERVICE_NAME};
use service::Service;

use super::rpc::GrpcServices;
use crate::serve::app::App;

/// Paths of calls with a stream of requests.
const STREAM: &str = "/restain.v1.Restain/AugmentStream";

/// Adds the service to those of other transports.
pub fn add_to(services: &mut GrpcServices, app: Arc<App>) {
    // The body of a call is measured as it comes, by the server's own limit.
    let server = RestainServer::new(Service::new(app))
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX);
    services.routes = std::mem::take(&mut services.routes).add_service(server);
    services.names.push(SERVICE_NAME);
    services.streams.push(STREAM);
}
