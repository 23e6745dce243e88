//! The protocol over gRPC: the calls, one after the other.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::FuturesOrdered;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::infer::{self, Arrival};
use super::proto::grpc_inference_service_server::GrpcInferenceService;
use super::{message, model, output, proto, repository};
use crate::serve::access::Ticket;
use crate::serve::app::App;
use crate::serve::error::Error;
use crate::serve::pipeline::answer::Timings;
use crate::serve::transport::rpc::{
    self, Calls, Message, Messages, ResponsePermits, ZeroCopyFields, status, timeout_ms,
};

/// The number of ModelInferResponse's field of that name.
const RAW_OUTPUT_CONTENTS: u32 = 6;

pub(super) struct Service {
    app: Arc<App>,
}

impl Service {
    pub(super) fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    type ModelStreamInferStream =
        Pin<Box<dyn Stream<Item = Result<proto::ModelStreamInferResponse, Status>> + Send>>;

    async fn server_live(
        &self,
        _: Request<proto::ServerLiveRequest>,
    ) -> Answer<proto::ServerLiveResponse> {
        Ok(Response::new(proto::ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<proto::ServerReadyRequest>,
    ) -> Answer<proto::ServerReadyResponse> {
        Ok(Response::new(proto::ServerReadyResponse { ready: self.app.is_ready().is_ok() }))
    }

    async fn model_ready(
        &self,
        request: Request<proto::ModelReadyRequest>,
    ) -> Answer<proto::ModelReadyResponse> {
        let proto::ModelReadyRequest { name, version } = request.into_inner();
        Ok(Response::new(proto::ModelReadyResponse {
            ready: model::is_ready(&self.app, &name, &version).is_ok(),
        }))
    }

    async fn server_metadata(
        &self,
        _: Request<proto::ServerMetadataRequest>,
    ) -> Answer<proto::ServerMetadataResponse> {
        Ok(Response::new(model::server()))
    }

    async fn model_metadata(
        &self,
        request: Request<proto::ModelMetadataRequest>,
    ) -> Answer<proto::ModelMetadataResponse> {
        let proto::ModelMetadataRequest { name, version } = request.into_inner();
        model::metadata(&self.app, &name, &version).map(Response::new).map_err(status)
    }

    async fn model_infer(
        &self,
        request: Request<proto::ModelInferRequest>,
    ) -> Answer<proto::ModelInferResponse> {
        let message = Messages::of(&request).take();
        let (metadata, _, request) = request.into_parts();
        let deadline_ms = timeout_ms(&metadata, None);
        let received = message.received;
        let mut made =
            infer(&self.app, request, deadline_ms, message, false).await.map_err(status)?;
        let raw = std::mem::take(&mut made.response.raw_output_contents);
        let tail = raw
            .into_iter()
            .fold(ZeroCopyFields::default(), |tail, bytes| tail.field(RAW_OUTPUT_CONTENTS, bytes));
        let mut response = made.held.with_tail(made.response, tail);
        // As over HTTP: what differs from run to run is in the head.
        if let Ok(timing) = made.timings.server_timing(received.elapsed()).parse() {
            response.metadata_mut().insert("server-timing", timing);
        }
        Ok(response)
    }

    async fn model_stream_infer(
        &self,
        request: Request<tonic::Streaming<proto::ModelInferRequest>>,
    ) -> Answer<Self::ModelStreamInferStream> {
        self.app.pipeline().map_err(status)?;
        let (messages, held) = (Messages::of(&request), ResponsePermits::default());
        let deadline_ms = timeout_ms(request.metadata(), None);
        let app = Arc::clone(&self.app);
        let ticket = request.extensions().get::<Ticket>().copied().unwrap_or_default();
        let calls = Calls {
            ticket,
            app: Arc::clone(&app),
            requests: request.into_inner(),
            messages,
            held: held.clone(),
        };
        let work = move |request, message| one(Arc::clone(&app), request, deadline_ms, message);
        let answers = rpc::answers::<_, _, _, FuturesOrdered<_>>(calls, work);
        Ok(held.with(Box::pin(answers)))
    }

    async fn model_config(
        &self,
        request: Request<proto::ModelConfigRequest>,
    ) -> Answer<proto::ModelConfigResponse> {
        let proto::ModelConfigRequest { name, version } = request.into_inner();
        let config = model::config(&self.app, &name, &version).map_err(status)?;
        Ok(Response::new(proto::ModelConfigResponse { config: Some(config) }))
    }

    async fn model_statistics(
        &self,
        request: Request<proto::ModelStatisticsRequest>,
    ) -> Answer<proto::ModelStatisticsResponse> {
        let proto::ModelStatisticsRequest { name, version } = request.into_inner();
        model::statistics(&self.app, &name, &version).map(Response::new).map_err(status)
    }

    async fn repository_index(
        &self,
        request: Request<proto::RepositoryIndexRequest>,
    ) -> Answer<proto::RepositoryIndexResponse> {
        let proto::RepositoryIndexRequest { repository_name, ready } = request.into_inner();
        repository::check_name(&repository_name).map_err(status)?;
        let models = repository::index(&self.app, ready).await.map_err(status)?;
        Ok(Response::new(proto::RepositoryIndexResponse { models }))
    }

    async fn repository_model_load(
        &self,
        request: Request<proto::RepositoryModelLoadRequest>,
    ) -> Answer<proto::RepositoryModelLoadResponse> {
        let proto::RepositoryModelLoadRequest { repository_name, model_name, parameters } =
            request.into_inner();
        repository::check_name(&repository_name).map_err(status)?;
        repository::load(&self.app, &model_name, parameters.keys().map(String::as_str))
            .await
            .map_err(status)?;
        Ok(Response::new(proto::RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<proto::RepositoryModelUnloadRequest>,
    ) -> Answer<proto::RepositoryModelUnloadResponse> {
        let proto::RepositoryModelUnloadRequest { repository_name, model_name, .. } =
            request.into_inner();
        repository::check_name(&repository_name).map_err(status)?;
        repository::unload(&self.app, &model_name).await.map_err(status)?;
        Ok(Response::new(proto::RepositoryModelUnloadResponse {}))
    }
}

/// A request's answer, and what it needs until it is sent.
struct Made {
    response: proto::ModelInferResponse,
    held: ResponsePermits,
    timings: Timings,
}

async fn infer(
    app: &App,
    mut request: proto::ModelInferRequest,
    deadline_ms: Option<u64>,
    message: Message,
    in_stream: bool,
) -> Result<Made, Error> {
    let id = std::mem::take(&mut request.id);
    let message::Asked { infer, wanted } = message::read(request, in_stream)?;
    let Message { permit, tenant, received } = message;
    let answer =
        infer::infer(app, infer, Arrival { permit, tenant, received, deadline_ms }).await?;
    let (answer, tensors) = output::tensors(app, answer, wanted).await?;
    let held = ResponsePermits::new(answer.permits.clone());
    let response = message::write(id, &answer, &tensors, in_stream);
    Ok(Made { response, held, timings: answer.timings })
}

/// One request of a stream. What is wrong with it ends nothing else.
async fn one(
    app: Arc<App>,
    request: proto::ModelInferRequest,
    deadline_ms: Option<u64>,
    message: Message,
) -> (proto::ModelStreamInferResponse, ResponsePermits) {
    let (id, model_name, model_version) =
        (request.id.clone(), request.model_name.clone(), request.model_version.clone());
    match infer(&app, request, deadline_ms, message, true).await {
        Ok(Made { response, held, .. }) => (
            proto::ModelStreamInferResponse {
                error_message: String::new(),
                infer_response: Some(response),
            },
            held,
        ),
        Err(error) => {
            let response = proto::ModelInferResponse {
                model_name,
                model_version,
                id,
                ..proto::ModelInferResponse::default()
            };
            (
                proto::ModelStreamInferResponse {
                    error_message: error.to_string(),
                    infer_response: Some(response),
                },
                ResponsePermits::default(),
            )
        }
    }
}
