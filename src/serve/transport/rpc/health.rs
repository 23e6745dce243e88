//! `grpc.health.v1`: the server's stage of life, for each service by name.

use std::sync::Arc;

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};

use crate::serve::app::App;
use crate::serve::runtime::lifecycle::Stage;

/// The service, and a task that keeps it up to date until the server ends.
pub(super) fn service(
    app: &Arc<App>,
    names: Vec<&'static str>,
) -> HealthServer<impl Health + use<>> {
    let (mut health, service) = tonic_health::server::health_reporter();
    // Held weakly: the task must not keep alive what it waits for the end of.
    let (mut stages, server) = (app.lifecycle.stages(), Arc::downgrade(app));
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
                // Ends the streams of watchers.
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
    service
}
