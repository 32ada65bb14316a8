//! The figures of a run, as a table and as JSON.

use super::Options;
use super::load::{Length, Plan};
use super::statistics::{Counts, Pace, Percentiles, Summary};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// One JSON object; times in milliseconds, `null` where there was nothing to measure.
pub(super) fn json(options: &Options, payload: &str, summary: &Summary) -> Value {
    let Options { protocol, url, plan, .. } = options;
    let Plan { pace, seed, warmup, timeout, max_outstanding, .. } = plan;
    let (rate, clients) = match *pace {
        Pace::Open { per_second } => (Some(per_second), None),
        Pace::Closed { clients } => (None, Some(clients)),
    };
    let Counts { answered, refused, timeouts, errors, abandoned, not_sent, documents, tokens } =
        summary.counts;
    json!({
        "protocol": protocol.to_string(),
        "url": url,
        "payload": payload,
        "rate": rate,
        "clients": clients,
        "seed": seed,
        "warmup_seconds": warmup.as_secs_f64(),
        "timeout_seconds": timeout.as_secs_f64(),
        "max_outstanding": max_outstanding,
        "seconds": summary.seconds,
        "requests": {
            "sent": summary.counts.sent(),
            "answered": answered,
            "refused": refused,
            "timeouts": timeouts,
            "errors": errors,
            "abandoned": abandoned,
            "not_sent": not_sent,
        },
        "refused_by_status": summary.refused,
        "errors_by_reason": summary.errors,
        "total_documents": documents,
        "total_tokens": tokens,
        "requests_per_second": summary.requests_per_second,
        "documents_per_second": summary.documents_per_second,
        "tokens_per_second": summary.tokens_per_second,
        "latency_ms": summary.latency.map(percentiles_json),
        "service_time_ms": summary.service_time.map(percentiles_json),
        "refused_latency_ms": summary.refusal.map(percentiles_json),
    })
}

fn percentiles_json(percentiles: Percentiles) -> Value {
    let Percentiles { p50, p90, p99, p99_9, max } = percentiles;
    json!({"p50": p50, "p90": p90, "p99": p99, "p99_9": p99_9, "max": max})
}

/// The table for people.
pub(super) fn write_table(
    out: &mut impl Write,
    options: &Options,
    payload: &str,
    summary: &Summary,
) -> io::Result<()> {
    let Options { protocol, url, plan, .. } = options;
    let pace = match plan.pace {
        Pace::Open { per_second } => format!("open loop at {per_second} requests/s"),
        Pace::Closed { clients } => format!("closed loop of {clients} clients"),
    };
    let length = match plan.length {
        Length::Time(_) => format!("{:.1} s", summary.seconds),
        Length::Requests(requests) => format!("{requests} requests in {:.1} s", summary.seconds),
    };
    let warmup = plan.warmup.as_secs_f64();
    writeln!(
        out,
        "{protocol} {url}, {pace}, {payload}, {length} after {warmup:.1} s of warm-up\n"
    )?;
    let Counts { answered, refused, timeouts, errors, abandoned, not_sent, .. } = summary.counts;
    let rows = [
        ("sent", summary.counts.sent(), None),
        ("answered", answered, None),
        ("refused", refused, Some(&summary.refused)),
        ("timeouts", timeouts, None),
        ("errors", errors, Some(&summary.errors)),
        ("abandoned", abandoned, None),
        ("not sent", not_sent, None),
    ];
    for (name, count, reasons) in rows {
        let reasons = reasons.map(reasons_text).unwrap_or_default();
        writeln!(out, "{}", format!("{name:18}{count:>10}  {reasons}").trim_end())?;
    }
    let Summary { requests_per_second, documents_per_second, tokens_per_second, .. } = *summary;
    writeln!(out, "\n{:18}{requests_per_second:>10.1}", "requests/s")?;
    writeln!(out, "{:18}{documents_per_second:>10.1}", "documents/s")?;
    writeln!(out, "{:18}{tokens_per_second:>10.0}", "tokens/s")?;
    let header = ["p50", "p90", "p99", "p99.9", "max"];
    writeln!(out, "\n{:18}{}", "milliseconds", header.map(|name| format!("{name:>10}")).concat())?;
    for (name, percentiles) in [
        ("latency", summary.latency),
        ("service time", summary.service_time),
        ("refused", summary.refusal),
    ] {
        let figures = percentiles.map_or([None; 5], |percentiles| {
            let Percentiles { p50, p90, p99, p99_9, max } = percentiles;
            [p50, p90, p99, p99_9, max].map(Some)
        });
        let cell = |figure: Option<f64>| match figure {
            Some(figure) => format!("{figure:>10.2}"),
            None => format!("{:>10}", "-"),
        };
        writeln!(out, "{name:18}{}", figures.map(cell).concat())?;
    }
    Ok(())
}

/// `429: 12, 503: 1`
fn reasons_text(reasons: &BTreeMap<String, u64>) -> String {
    let entries = reasons.iter().map(|(reason, count)| format!("{reason}: {count}"));
    entries.collect::<Vec<_>>().join(", ")
}
