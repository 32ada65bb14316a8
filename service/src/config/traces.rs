//! Whether and how traces are exported: OpenTelemetry's standard environment variables.
//!
//! Only what decides that is read here; endpoint, headers, timeouts, sampler and queue sizes are
//! read by the SDK from the same environment.

/// How spans travel to the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceProtocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP with protobuf bodies.
    HttpProtobuf,
}

impl TraceProtocol {
    /// As in `OTEL_EXPORTER_OTLP_PROTOCOL`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
        }
    }
}

/// An export of traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL`, else `OTEL_EXPORTER_OTLP_PROTOCOL`, else HTTP.
    pub protocol: TraceProtocol,
    /// `OTEL_SERVICE_NAME`; none: from `OTEL_RESOURCE_ATTRIBUTES`, else `reranker`.
    pub service_name: Option<String>,
}

impl Traces {
    /// What the process's environment asks for; none without an endpoint.
    ///
    /// # Errors
    /// If the protocol is not one that is spoken here.
    pub fn from_env() -> Result<Option<Self>, String> {
        Self::read(|name| std::env::var(name).ok())
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        // The specification takes an empty variable for one that is not set.
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| Some((name, variable(name)?)))
        };
        let endpoint = first(["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]);
        let disabled = variable("OTEL_SDK_DISABLED")
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
        let exporter = variable("OTEL_TRACES_EXPORTER");
        if endpoint.is_none() || disabled || exporter.is_some_and(|name| name.trim() == "none") {
            return Ok(None);
        }
        let protocol = first(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]);
        let protocol = match protocol.as_ref().map(|(name, value)| (name, value.trim())) {
            None | Some((_, "http/protobuf")) => TraceProtocol::HttpProtobuf,
            Some((_, "grpc")) => TraceProtocol::Grpc,
            Some((name, other)) => {
                return Err(format!("{name} `{other}` is not one of grpc, http/protobuf"));
            }
        };
        Ok(Some(Self { protocol, service_name: variable("OTEL_SERVICE_NAME") }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Traces>, String> {
        Traces::read(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn protocol(variables: &[(&str, &str)]) -> Option<TraceProtocol> {
        read(variables).expect("is understood").map(|traces| traces.protocol)
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");

    /// A cluster that sets these variables for every workload would get no traces, or a process that
    /// tries to reach a collector that nobody asked for.
    #[test]
    fn the_standard_variables_decide() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), Ok(None));
        assert_eq!(read(&[ENDPOINT, ("OTEL_SDK_DISABLED", "True")]), Ok(None));
        assert_eq!(read(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]), Ok(None));
        let off = ("OTEL_SDK_DISABLED", "false");
        assert_eq!(protocol(&[ENDPOINT, off]), Some(TraceProtocol::HttpProtobuf));
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        assert_eq!(protocol(&[ENDPOINT, grpc]), Some(TraceProtocol::Grpc));
        let traces = [
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4318/v1/traces"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
            grpc,
        ];
        assert_eq!(protocol(&traces), Some(TraceProtocol::HttpProtobuf));
    }

    /// Traces would silently go nowhere.
    #[test]
    fn an_unknown_protocol_is_refused() {
        let error = read(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]);
        let text = "OTEL_EXPORTER_OTLP_PROTOCOL `http/json` is not one of grpc, http/protobuf";
        assert_eq!(error, Err(text.to_owned()));
    }
}
