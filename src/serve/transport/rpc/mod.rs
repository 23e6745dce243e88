//! What is around every gRPC service: memory lent for what comes in, a watch on who does not take what goes out, errors as
//! statuses, health, reflection, metrics and log. The services themselves are transports (`grpc`, `oip`); what they have
//! in common stands here, because transports do not know each other.

mod deadline;
mod door;
mod memory_limit;
mod middleware;
mod status;
mod stream;
mod write_timeout;
mod zero_copy;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};

pub(crate) use deadline::timeout_ms;
pub(crate) use memory_limit::{Message, Messages};
pub(crate) use status::status;
pub(crate) use stream::{Calls, answers};
pub(crate) use write_timeout::ResponsePermits;
pub(crate) use zero_copy::ZeroCopyFields;

use crate::serve::app::App;
use crate::serve::middleware::request_id;
use crate::serve::runtime::lifecycle::Stage;

/// Every file of `proto/`, for reflection.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The services of the transports.
#[derive(Default)]
pub struct GrpcServices {
    pub routes: Routes,
    /// Theirs, as `package.Service`: health is told by name.
    pub names: Vec<&'static str>,
    /// Paths of calls with a stream of requests: when the house is full they wait, and others are refused.
    pub streams: Vec<&'static str>,
}

/// A router of `services`, health and reflection. The task that tells health ends with the server.
pub(crate) fn router(app: Arc<App>, services: GrpcServices) -> Router {
    let GrpcServices { routes, names, streams } = services;
    let (mut health, service) = tonic_health::server::health_reporter();
    // ResponsePermits weakly: the task must not keep alive what it waits for the end of.
    let (mut stages, server) = (app.lifecycle.stages(), Arc::downgrade(&app));
    tokio::spawn(async move {
        loop {
            let stage = *stages.borrow_and_update();
            let status = match stage {
                Stage::Ready => ServingStatus::Serving,
                Stage::Loading | Stage::Draining | Stage::Closed => ServingStatus::NotServing,
            };
            for name in names.iter().chain(&[""]) {
                health.set_service_status(*name, status).await;
            }
            if stage == Stage::Closed {
                // Who watches is let go, and sees that nobody is here any more.
                for name in names.iter().chain(&[""]) {
                    health.clear_service_status(name).await;
                }
            }
            if let Some(app) = server.upgrade() {
                app.lifecycle.published(stage);
            }
            if stages.changed().await.is_err() {
                return;
            }
        }
    });
    let reflection = || {
        let all = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS);
        all.register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let built = "the descriptors were made by the build of this very program";
    let around = move |State(app): State<Arc<App>>, request: Request, next: Next| {
        let stream = streams.contains(&request.uri().path());
        middleware::around(app, stream, request, next)
    };
    routes
        .add_service(service)
        .add_service(reflection().build_v1().expect(built))
        // What grpcurl and others of its age ask for.
        .add_service(reflection().build_v1alpha().expect(built))
        .into_axum_router()
        .layer(from_fn_with_state(Arc::clone(&app), door::guard))
        .layer(CatchPanicLayer::custom(status::from_panic))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(from_fn_with_state(app, around))
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(from_fn(request_id::validate_request_id))
}
