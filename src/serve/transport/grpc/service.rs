//! The calls, one after the other.

use std::pin::Pin;
use std::sync::Arc;

use prost::Message as _;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::augment::augment;
use super::proto::restain_server::Restain;
use super::{answer, ask, proto, stream};
use crate::serve::access::Ticket;
use crate::serve::app::App;
use crate::serve::pipeline::{AddStyles, Request as PipelineRequest};
use crate::serve::transport::rpc::{
    Calls, Message, Messages, ResponsePermits, ZeroCopyFields, status, timeout_ms,
};

/// The number of AugmentResponse's field `pixels`.
const PIXELS: u32 = 7;

pub(super) struct Service {
    app: Arc<App>,
}

impl Service {
    pub(super) fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl Restain for Service {
    type AugmentStreamStream =
        Pin<Box<dyn Stream<Item = Result<proto::AugmentStreamResponse, Status>> + Send>>;

    async fn augment(
        &self,
        request: Request<proto::AugmentRequest>,
    ) -> Result<Response<proto::AugmentResponse>, Status> {
        let (metadata, message, request) = parts(request);
        let (mut answer, held) = augment(&self.app, request, timeout_ms(&metadata, None), message)
            .await
            .map_err(status)?;
        let pixels = std::mem::take(&mut answer.pixels);
        Ok(held.with_tail(answer, ZeroCopyFields::default().field(PIXELS, pixels)))
    }

    async fn augment_stream(
        &self,
        request: Request<tonic::Streaming<proto::AugmentStreamRequest>>,
    ) -> Result<Response<Self::AugmentStreamStream>, Status> {
        self.app.pipeline().map_err(status)?;
        let messages = Messages::of(&request);
        let held = ResponsePermits::default();
        let deadline = timeout_ms(request.metadata(), None);
        let ticket = request.extensions().get::<Ticket>().copied().unwrap_or_default();
        let calls = Calls {
            ticket,
            app: Arc::clone(&self.app),
            requests: request.into_inner(),
            messages,
            held: held.clone(),
        };
        let answers = stream::answers(calls, deadline);
        Ok(held.with(Box::pin(answers)))
    }

    async fn encode(
        &self,
        request: Request<proto::EncodeRequest>,
    ) -> Result<Response<proto::EncodeResponse>, Status> {
        let (metadata, message, request) = parts(request);
        let pipeline = self.app.pipeline().map_err(status)?;
        let (mut ask, tiles) = ask::encode(request).map_err(status)?;
        ask.timeout_ms = timeout_ms(&metadata, ask.timeout_ms);
        let Message { permit, tenant, received } = message;
        let references = Vec::new();
        let request = PipelineRequest { ask, tiles, references, received, permit, tenant };
        let mut encodings = pipeline.encode(request).await.map_err(status)?;
        let held = ResponsePermits::new(std::mem::take(&mut encodings.permits));
        let answer = self
            .app
            .cpu
            .run(move || answer::encoded(&encodings, received.elapsed()))
            .await
            .map_err(status)?;
        Ok(held.with(answer))
    }

    async fn list_styles(
        &self,
        request: Request<proto::ListStylesRequest>,
    ) -> Result<Response<proto::ListStylesResponse>, Status> {
        let model = ask::text(request.into_inner().model);
        let model = self
            .app
            .pipeline()
            .and_then(|pipeline| pipeline.models.find(model.as_deref()))
            .map_err(status)?;
        let styles = answer::styles(&model, &model.styles.offer());
        // Held until the reader has taken it.
        let permit = self.app.admission.admit_list(styles.encoded_len() as u64).map_err(status)?;
        Ok(ResponsePermits::new(vec![permit]).with(styles))
    }

    async fn add_styles(
        &self,
        request: Request<proto::AddStylesRequest>,
    ) -> Result<Response<proto::AddStylesResponse>, Status> {
        let (metadata, message, request) = parts(request);
        let pipeline = self.app.pipeline().map_err(status)?;
        let (mut ask, tiles) = ask::add_styles(request).map_err(status)?;
        ask.timeout_ms = timeout_ms(&metadata, None);
        let domain = ask.domain.clone();
        let Message { permit, tenant, received } = message;
        let request = AddStyles { ask, tiles, received, permit, tenant };
        let model = pipeline.add_styles(request).await.map_err(status)?;
        let offer = model.styles.offer();
        let place = offer.find_domain("domain", &domain).map_err(status)?;
        Ok(Response::new(proto::AddStylesResponse {
            model: model.name().to_owned(),
            version: model.version().to_owned(),
            persistent: model.styles.is_persistent(),
            domain: Some(answer::domain(&offer, place)),
        }))
    }

    async fn add_slide(
        &self,
        request: Request<proto::AddSlideRequest>,
    ) -> Result<Response<proto::AddSlideResponse>, Status> {
        let (metadata, message, request) = parts(request);
        let pipeline = self.app.pipeline().map_err(status)?;
        let (mut ask, tiles) = ask::add_slide(request).map_err(status)?;
        ask.timeout_ms = timeout_ms(&metadata, ask.timeout_ms);
        let Message { permit, tenant, received } = message;
        let references = Vec::new();
        let request = PipelineRequest { ask, tiles, references, received, permit, tenant };
        let added = pipeline.add_slide(request).await.map_err(status)?;
        Ok(Response::new(answer::slide(added)))
    }
}

fn parts<T>(request: Request<T>) -> (tonic::metadata::MetadataMap, Message, T) {
    let message = Messages::of(&request).take();
    let (metadata, _, request) = request.into_parts();
    (metadata, message, request)
}
