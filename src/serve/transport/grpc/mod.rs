//! gRPC: `restain.v1.Restain`, as `proto/restain/v1` describes it. Messages become what the
//! pipeline takes, and its answers messages; the work is the pipeline's, and what is around every
//! call is `rpc`'s.

mod answer;
pub(crate) mod ask;
mod augment;
mod service;
mod stream;

/// The messages, the server's trait, and a client.
pub mod proto {
    tonic::include_proto!("restain.v1");
}

use std::sync::Arc;

use proto::restain_server::{RestainServer, SERVICE_NAME};
use service::Service;

use super::errors as e;
use super::rpc::{GrpcServices, call};
use crate::serve::access::Scope::{Augment, Styles};
use crate::serve::app::App;
use crate::serve::error::ErrorKind;
use crate::serve::middleware::route::Observed::Fully;
use crate::serve::middleware::route::Permission::Needs;
use crate::serve::middleware::route::Route;

const OF_AUGMENT: &[&[ErrorKind]] = &[e::SERVING, e::BODY, e::TILES, e::KEYS, e::AUGMENT, e::MODEL];
const OF_ENCODE: &[&[ErrorKind]] = &[e::SERVING, e::BODY, e::TILES, e::KEYS, e::MODEL];
const OF_LIST: &[&[ErrorKind]] = &[e::SERVING, e::BODY, e::MODEL, e::MESSAGE];
const OF_ADD: &[&[ErrorKind]] = &[e::SERVING, e::BODY, e::TILES, e::KEYS, e::ADD_STYLES, e::MODEL];
const OF_SLIDE: &[&[ErrorKind]] = &[e::SERVING, e::BODY, e::TILES, e::KEYS, e::ADD_SLIDE, e::MODEL];

/// The calls of the service.
const CALLS: &[Route] = &[
    call("/restain.v1.Restain/Augment", Needs(Augment), Fully, OF_AUGMENT),
    call("/restain.v1.Restain/AugmentStream", Needs(Augment), Fully, OF_AUGMENT),
    call("/restain.v1.Restain/Encode", Needs(Augment), Fully, OF_ENCODE),
    call("/restain.v1.Restain/ListStyles", Needs(Augment), Fully, OF_LIST),
    call("/restain.v1.Restain/AddStyles", Needs(Styles), Fully, OF_ADD),
    call("/restain.v1.Restain/AddSlide", Needs(Styles), Fully, OF_SLIDE),
];

/// Adds the service to those of other transports.
pub(crate) fn add_to(services: &mut GrpcServices, app: Arc<App>) {
    // The body of a call is measured as it comes, by the server's own limit.
    let server = RestainServer::new(Service::new(app))
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX);
    services.routes = std::mem::take(&mut services.routes).add_service(server);
    services.names.push(SERVICE_NAME);
    services.calls.extend_from_slice(CALLS);
}
