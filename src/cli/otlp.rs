//! Spans of requests, passes and calls, for a collector of OpenTelemetry: only where the program was built for it
//! (feature `otlp`), and somebody says where the collector is.
//!
//! A span tells what was done and how long it took. Its fields are numbers, names of calls and of objects, and ids of
//! clients: nothing that a client sent, and nothing that it was told.

use tracing_subscriber::layer::Layer;

use crate::config::Observe;

/// A layer over whatever is below it.
type Boxed<S> = Option<Box<dyn Layer<S> + Send + Sync>>;

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum OtlpError {
    #[cfg(not(feature = "otlp"))]
    #[error("observe.otlp_endpoint: this program was built without the feature 'otlp': write null")]
    NotBuilt,
    #[cfg(feature = "otlp")]
    #[error("'{endpoint}' is no address of a collector")]
    Exporter {
        endpoint: String,
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
}

#[cfg(not(feature = "otlp"))]
mod built {
    use super::{Boxed, Observe, OtlpError};

    /// Nothing is left to be sent.
    pub(in crate::cli) struct Guard;

    impl Guard {
        pub(in crate::cli) fn end(self) {}
    }

    pub(in crate::cli) fn layer<S: tracing::Subscriber>(observe: &Observe) -> Result<(Boxed<S>, Guard), OtlpError> {
        if observe.otlp_endpoint.is_some() { Err(OtlpError::NotBuilt) } else { Ok((None, Guard)) }
    }
}

#[cfg(feature = "otlp")]
mod built {
    use std::env;
    use std::time::Duration;

    use opentelemetry::trace::TracerProvider;
    use opentelemetry_otlp::{SpanExporter, WithExportConfig};
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::filter::filter_fn;
    use tracing_subscriber::layer::Layer;
    use tracing_subscriber::registry::LookupSpan;

    use super::{Boxed, Observe, OtlpError};
    use crate::metrics::calls::SPANS;

    /// How long a stop waits for what is left to be sent.
    const LAST: Duration = Duration::from_secs(3);

    /// What is left to be sent.
    pub(in crate::cli) struct Guard(Option<SdkTracerProvider>);

    impl Guard {
        /// Sends it, while the runtime still runs.
        pub(in crate::cli) fn end(self) {
            if let Some(Err(error)) = self.0.as_ref().map(|provider| provider.shutdown_with_timeout(LAST)) {
                tracing::warn!(%error, "the last spans were not sent");
            }
        }
    }

    /// To the collector that the configuration names, else to the one that the standard variables name (`OTEL_…`, which
    /// say all the rest too). Called on a runtime, which the connection belongs to.
    pub(in crate::cli) fn layer<S>(observe: &Observe) -> Result<(Boxed<S>, Guard), OtlpError>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let named = || set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| set("OTEL_EXPORTER_OTLP_ENDPOINT"));
        let disabled = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let Some(endpoint) = observe.otlp_endpoint.clone().or_else(named).filter(|_| !disabled) else {
            return Ok((None, Guard(None)));
        };
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(&endpoint).build();
        let exporter = exporter.map_err(|source| OtlpError::Exporter { endpoint, source })?;
        let mut resource = Resource::builder();
        if set("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("anweddol");
        }
        let provider =
            SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter).build();
        let tracer = provider.tracer("anweddol");
        let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false);
        let layer = layer.with_filter(filter_fn(|span| span.target() == SPANS));
        Ok((Some(layer.boxed()), Guard(Some(provider))))
    }
}

pub(super) use built::{Guard, layer};
