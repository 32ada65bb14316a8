//! Health, reflection and error details: what gRPC tools expect of a server.

use anyhow::{Context, Result};
use reranker_proto::v1::RerankRequest;
use reranker_tests::server::{Running, random};
use reranker_tests::until;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_types::StatusExt;

/// Load balancers would send calls to a server that loads, or none to one that is ready.
#[tokio::test]
async fn health_follows_the_models() -> Result<()> {
    let server = Running::start(Vec::new(), &[]).await?;
    let client = HealthClient::new(server.channel().await?);
    let status = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        client.clone().check(request).await.map(|response| response.get_ref().status())
    };
    let services = ["", "reranker.v1.Reranker"];
    for service in services {
        assert_eq!(status(service).await?, ServingStatus::NotServing, "`{service}`");
    }
    server.app.serve_models(vec![random("m", 1).await?]);
    for service in services {
        until("the service is healthy", async || {
            status(service).await.is_ok_and(|status| status == ServingStatus::Serving)
        })
        .await;
    }
    let unknown = status("reranker.v1.Other").await.expect_err("there is no such service");
    assert_eq!(unknown.code(), Code::NotFound);
    Ok(())
}

/// grpcurl without a copy of the contract is the README's first call.
#[tokio::test]
async fn reflection_lists_the_service_and_its_contract() -> Result<()> {
    let server = Running::start(Vec::new(), &[]).await?;
    let mut client = ServerReflectionClient::new(server.channel().await?);
    let ask =
        |request| ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let questions = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("reranker.v1.RerankRequest".to_owned())),
    ];
    let mut answers =
        client.server_reflection_info(tokio_stream::iter(questions)).await?.into_inner();
    let mut next = async || -> Result<MessageResponse> {
        let answer = answers.message().await?.context("an answer")?;
        answer.message_response.context("with content")
    };
    let MessageResponse::ListServicesResponse(list) = next().await? else {
        anyhow::bail!("not a list")
    };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in
        ["reranker.v1.Reranker", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]
    {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    let MessageResponse::FileDescriptorResponse(files) = next().await? else {
        anyhow::bail!("not a file")
    };
    assert_eq!(files.file_descriptor_proto.len(), 1);
    Ok(())
}

/// What is for tools would be a way to keep the server busy and its memory full.
#[tokio::test]
async fn what_reflection_is_asked_is_bounded() -> Result<()> {
    let server = Running::start(Vec::new(), &[]).await?;
    let mut client = ServerReflectionClient::new(server.channel().await?);
    let question = |bytes| ServerReflectionRequest {
        host: "x".repeat(bytes),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    // tonic's reflection ends a call quietly whose messages are refused.
    for (count, bytes, most) in [(1, 5_000, 0), (80, 1_000, 65), (50, 1_000, 50)] {
        let questions = tokio_stream::iter(vec![question(bytes); count]);
        let mut answers = client.server_reflection_info(questions).await?.into_inner();
        let mut answered = 0;
        while answers.message().await.is_ok_and(|answer| answer.is_some()) {
            answered += 1;
        }
        assert!(answered <= most, "{answered} of {count} with {bytes} bytes");
        assert!(answered == count || most < count, "{answered} of {count} within the limit");
    }
    Ok(())
}

/// A program can point at the wrong field only if the details name it.
#[tokio::test]
async fn invalid_fields_are_named_in_the_details() -> Result<()> {
    let server = Running::start(vec![random("m", 1).await?], &[]).await?;
    let mut client = server.grpc().await?;
    let request = RerankRequest { top_n: Some(0), latency: 9, ..RerankRequest::default() };
    let status = client.rerank(request).await.expect_err("two fields are wrong");
    assert_eq!(status.code(), Code::InvalidArgument);
    let details = status.get_details_bad_request().context("a BadRequest")?;
    let fields: Vec<(&str, &str)> = details
        .field_violations
        .iter()
        .map(|violation| (violation.field.as_str(), violation.description.as_str()))
        .collect();
    let expected = [
        ("top_n", "Input should be greater than or equal to 1"),
        ("latency", "Input should be 'fast' or 'slow'"),
    ];
    assert_eq!(fields, expected);
    Ok(())
}

/// Bytes that are no message are the caller's mistake; INTERNAL would page the wrong team.
#[tokio::test]
async fn a_message_that_does_not_parse_is_invalid() -> Result<()> {
    let server = Running::start(vec![random("m", 1).await?], &[]).await?;
    // A frame of 4 bytes: field 2, the query, 2 bytes long, not UTF-8.
    let frame = [0, 0, 0, 0, 4, 0x12, 2, 0xff, 0xfe];
    let client = reqwest::Client::builder().http2_prior_knowledge().build()?;
    let response = client
        .post(format!("http://{}/reranker.v1.Reranker/Rerank", server.addresses.grpc))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(frame.to_vec())
        .send()
        .await?;
    assert_eq!(response.headers()["grpc-status"], (Code::InvalidArgument as i32).to_string());
    Ok(())
}
