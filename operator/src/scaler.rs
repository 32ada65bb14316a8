//! KEDA's external scaler: the figures of the autoscaler, for those who scale by KEDA.
//!
//! KEDA divides each sum by its target and takes the larger result, as the policy does. What is not known is an error,
//! never a zero, which KEDA would scale down on.

use crate::autoscale::policy::{Figures, Settings};
use crate::autoscale::scaling::{Reference, Scaling};
use crate::crd::RerankerDeployment;
use crate::resources::SCALER_NAME;
use crate::validate::{Reranker, validate};
use futures::Stream;
use futures::stream::{self, BoxStream, StreamExt};
use kube::runtime::reflector::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use wire::external_scaler_server::{ExternalScaler, ExternalScalerServer};
use wire::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec,
    MetricValue, ScaledObjectRef,
};

mod wire {
    #![expect(
        unreachable_pub,
        clippy::allow_attributes,
        clippy::pedantic,
        reason = "generated code"
    )]
    tonic::include_proto!("externalscaler");
}

/// Seconds of work that wait.
const BACKLOG: &str = "backlog-seconds";
/// Pods that are busy.
const BUSY: &str = "busy-pods";
/// Time between two looks of a stream.
const LOOK: Duration = Duration::from_secs(1);

/// What KEDA asks.
#[derive(Clone)]
pub struct Scaler {
    scopes: Vec<(Arc<Scaling>, Store<RerankerDeployment>)>,
}

impl Scaler {
    /// A scaler of the objects of these namespaces.
    pub fn new(scopes: Vec<(Arc<Scaling>, Store<RerankerDeployment>)>) -> Self {
        Self { scopes }
    }

    fn find(&self, asked: &ScaledObjectRef) -> Result<(Reranker, Option<Figures>), Status> {
        let name = asked.scaler_metadata.get(SCALER_NAME).ok_or_else(|| {
            Status::invalid_argument(format!("the trigger's metadata has no `{SCALER_NAME}`"))
        })?;
        let reference = Reference::new(name).within(&asked.namespace);
        for (scaling, objects) in &self.scopes {
            if let Some(object) = objects.get(&reference) {
                let reranker = validate(&object)
                    .map_err(|invalid| Status::failed_precondition(invalid.to_string()))?;
                // Without pods nothing waits and nothing is busy.
                let figures = if reranker.replicas == Some(0) {
                    Some(Figures::default())
                } else {
                    scaling.figures(&reference)
                };
                return Ok((reranker, figures));
            }
        }
        Err(Status::not_found(format!("no RerankerDeployment `{reference}` is watched")))
    }

    fn is_active(&self, asked: &ScaledObjectRef) -> Result<bool, Status> {
        let (_, figures) = self.find(asked)?;
        let figures = figures.ok_or_else(unknown)?;
        Ok(figures.backlog > 0.0 || figures.busy > 0.01)
    }
}

fn unknown() -> Status {
    Status::unavailable("the load is not known: no pod answers")
}

/// The value, at once and whenever it changes; errors end the stream, and KEDA opens another.
fn changes(
    scaler: Scaler,
    asked: ScaledObjectRef,
) -> impl Stream<Item = Result<IsActiveResponse, Status>> {
    let looks = stream::unfold(None, move |before: Option<bool>| {
        let (scaler, asked) = (scaler.clone(), asked.clone());
        async move {
            loop {
                match scaler.is_active(&asked) {
                    Ok(now) if before == Some(now) => tokio::time::sleep(LOOK).await,
                    Ok(now) => return Some((Ok(IsActiveResponse { result: now }), Some(now))),
                    Err(error) if before.is_none() => return Some((Err(error), Some(false))),
                    Err(_) => return None,
                }
            }
        }
    });
    looks.boxed()
}

#[tonic::async_trait]
impl ExternalScaler for Scaler {
    type StreamIsActiveStream = BoxStream<'static, Result<IsActiveResponse, Status>>;

    async fn is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<IsActiveResponse>, Status> {
        let result = Scaler::is_active(self, request.get_ref())?;
        Ok(Response::new(IsActiveResponse { result }))
    }

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        Ok(Response::new(changes(self.clone(), request.into_inner()).boxed()))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let (reranker, _) = self.find(request.get_ref())?;
        let settings = Settings::of(&reranker);
        let spec = |name: &str, target: f64| MetricSpec {
            metric_name: name.to_owned(),
            target_size: 0,
            target_size_float: target,
        };
        let metric_specs =
            vec![spec(BACKLOG, settings.target_backlog), spec(BUSY, settings.target_busy)];
        Ok(Response::new(GetMetricSpecResponse { metric_specs }))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let GetMetricsRequest { scaled_object_ref, metric_name } = request.into_inner();
        let (_, figures) = self.find(&scaled_object_ref.unwrap_or_default())?;
        let figures = figures.ok_or_else(unknown)?;
        let value = match metric_name.as_str() {
            BACKLOG => figures.backlog,
            BUSY => figures.busy,
            other => {
                return Err(Status::invalid_argument(format!(
                    "`{other}` is not {BACKLOG} or {BUSY}"
                )));
            }
        };
        let value = MetricValue { metric_name, metric_value: 0, metric_value_float: value };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }
}

/// Answers KEDA until `stop`.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    scaler: Scaler,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    tonic::transport::Server::builder()
        .add_service(ExternalScalerServer::new(scaler))
        .serve_with_incoming_shutdown(
            tokio_stream::wrappers::TcpListenerStream::new(listener),
            stop.cancelled_owned(),
        )
        .await
}
